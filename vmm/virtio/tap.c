/* The ioctls of a tap: see tap.h. Called by net.c and net_control.c. */
#include "vmm/virtio/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define FLAGS_NEEDED (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
/* More than a tap's queue holds (500 by default). */
#define DRAIN_PACKETS_MAX 4096

int tap_init(int fd, bool multi_queue, struct error *err)
{
    struct ifreq request = {.ifr_flags = 0};
    int header_bytes = sizeof(struct virtio_net_hdr_v1), little = 1;
    if (ioctl(fd, TUNGETIFF, &request) < 0)
        return error_set(err, errno, "not a tap's descriptor");
    unsigned flags = (unsigned short)request.ifr_flags;
    if ((flags & FLAGS_NEEDED) != FLAGS_NEEDED || (multi_queue && !(flags & IFF_MULTI_QUEUE)))
        return error_set(err, 0, "tap %.16s lacks one of IFF_TAP, IFF_NO_PI, IFF_VNET_HDR%s",
                         request.ifr_name, multi_queue ? ", IFF_MULTI_QUEUE" : "");
    if (ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0 || ioctl(fd, TUNSETVNETLE, &little) < 0)
        return error_set(err, errno, "tap %.16s: header", request.ifr_name);
    int status = fcntl(fd, F_GETFL);
    if (status < 0 || fcntl(fd, F_SETFL, status | O_NONBLOCK) < 0)
        return error_set(err, errno, "tap %.16s: O_NONBLOCK", request.ifr_name);
    int rc = tap_set_offloads(fd, 0);
    if (rc == 0)
        rc = tap_set_filter(fd, NULL, 0, true);
    return rc < 0 ? error_set(err, -rc, "tap %.16s", request.ifr_name) : 0;
}

unsigned tap_known_offloads(int fd)
{
    static const unsigned attempts[] = {
        TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_USO4 | TUN_F_USO6, /* Linux 6.2 */
        TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
    };
    for (unsigned i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        if (tap_set_offloads(fd, attempts[i]) < 0)
            continue;
        tap_set_offloads(fd, 0);
        return attempts[i];
    }
    return 0;
}

int tap_set_offloads(int fd, unsigned offloads)
{
    return ioctl(fd, TUNSETOFFLOAD, (unsigned long)offloads) < 0 ? -errno : 0;
}

int tap_set_attached(int fd, bool attached)
{
    struct ifreq request = {.ifr_flags = (short)(attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE)};
    if (ioctl(fd, TUNSETQUEUE, &request) == 0)
        return 0;
    /* EINVAL: it is so already, as far as a well-made tap goes. */
    return errno == EINVAL ? 0 : -errno;
}

int tap_set_filter(int fd, const uint8_t (*addresses)[ETH_ALEN], unsigned count, bool all_groups)
{
    union {
        struct tun_filter head;
        uint8_t room[sizeof(struct tun_filter) + TAP_FILTER_MAX * ETH_ALEN];
    } filter = {.head = {.flags = all_groups ? TUN_FLT_ALLMULTI : 0}};
    if (count > TAP_FILTER_MAX)
        return -ENOSPC;
    filter.head.count = (uint16_t)count;
    if (count > 0)
        memcpy(filter.head.addr, addresses, (size_t)count * ETH_ALEN);
    return ioctl(fd, TUNSETTXFILTER, &filter) < 0 ? -errno : 0;
}

void tap_drain(int fd)
{
    uint8_t
        start[sizeof(struct virtio_net_hdr_v1) + ETH_HLEN]; /* a read takes the whole packet all the same */
    struct iovec part = {start, sizeof(start)};
    for (unsigned i = 0; i < DRAIN_PACKETS_MAX && readv(fd, &part, 1) > 0; i++)
        ;
}
