/* Setting up vhost-net: see vhost_net.h. Called by net_pair.c and net.c. */
#include "vmm/virtio/vhost_net.h"

#include "common/log.h"

#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

/* The negotiated features that are vhost's business: the rest is the tap's. All are offered to the driver, so
 * vhost must know all. */
#define FEATURES                                                                                             \
    (1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_RING_F_EVENT_IDX |    \
     1ULL << VIRTIO_NET_F_MRG_RXBUF)

static int control(int fd, unsigned long request, const void *argument)
{
    return ioctl(fd, request, argument) < 0 ? -errno : 0;
}

int vhost_net_init(int vhost_fd, struct error *err)
{
    uint64_t known = 0;
    if (ioctl(vhost_fd, VHOST_SET_OWNER, NULL) < 0 || ioctl(vhost_fd, VHOST_GET_FEATURES, &known) < 0)
        return error_set(err, errno, "vhost-net");
    if ((known & FEATURES) != FEATURES)
        return error_set(err, 0, "vhost-net knows features 0x%llx only, 0x%llx are needed",
                         (unsigned long long)known, (unsigned long long)FEATURES);
    return 0;
}

static int set_memory(int vhost_fd, const struct guest_memory *memory)
{
    union {
        struct vhost_memory head;
        uint8_t
            room[sizeof(struct vhost_memory) + GUEST_MEMORY_REGIONS_MAX * sizeof(struct vhost_memory_region)];
    } table = {.head = {.nregions = memory->regions}};
    for (unsigned i = 0; i < memory->regions; i++)
        table.head.regions[i] =
            (struct vhost_memory_region){.guest_phys_addr = memory->region[i].gpa,
                                         .memory_size = memory->region[i].size,
                                         .userspace_addr = (uintptr_t)memory->region[i].hva};
    return control(vhost_fd, VHOST_SET_MEM_TABLE, &table);
}

static int set_queue(const struct vhost_net_pair *pair, unsigned index)
{
    struct virtqueue_rings rings;
    virtqueue_get_rings(pair->queue[index], &rings);
    struct vhost_vring_state size = {.index = index, .num = rings.size},
                             base = {.index = index, .num = virtqueue_position(pair->queue[index])};
    struct vhost_vring_addr address = {.index = index,
                                       .desc_user_addr = (uintptr_t)rings.desc,
                                       .avail_user_addr = (uintptr_t)rings.avail,
                                       .used_user_addr = (uintptr_t)rings.used};
    struct vhost_vring_file kick = {.index = index, .fd = pair->kick_fd[index]},
                            call = {.index = index, .fd = pair->call_fd[index]},
                            error = {.index = index, .fd = pair->error_fd[index]};
    int err = control(pair->vhost_fd, VHOST_SET_VRING_NUM, &size);
    if (!err)
        err = control(pair->vhost_fd, VHOST_SET_VRING_BASE, &base);
    if (!err)
        err = control(pair->vhost_fd, VHOST_SET_VRING_ADDR, &address);
    if (!err)
        err = control(pair->vhost_fd, VHOST_SET_VRING_ERR, &error);
    if (!err)
        err = control(pair->vhost_fd, VHOST_SET_VRING_CALL, &call);
    if (!err)
        err = control(pair->vhost_fd, VHOST_SET_VRING_KICK, &kick);
    return err;
}

/* tap_fd -1 takes the queue out of service and waits until nothing of it is in flight. */
static int set_backend(int vhost_fd, unsigned index, int tap_fd)
{
    struct vhost_vring_file backend = {.index = index, .fd = tap_fd};
    return control(vhost_fd, VHOST_NET_SET_BACKEND, &backend);
}

int vhost_net_start(const struct vhost_net_pair *pair)
{
    uint64_t features = pair->features & FEATURES;
    int err = control(pair->vhost_fd, VHOST_SET_FEATURES, &features);
    if (!err)
        err = set_memory(pair->vhost_fd, pair->memory);
    for (unsigned i = 0; i < 2 && !err; i++)
        err = set_queue(pair, i);
    for (unsigned i = 0; i < 2 && !err; i++)
        err = set_backend(pair->vhost_fd, i, pair->tap_fd);
    if (err)
        vhost_net_stop(pair->vhost_fd, pair->queue);
    return err;
}

void vhost_net_stop(int vhost_fd, struct virtqueue *const queues[2])
{
    for (unsigned i = 0; i < 2; i++) {
        struct vhost_vring_state base = {.index = i};
        struct vhost_vring_file none = {.index = i, .fd = VHOST_FILE_UNBIND};
        int err = set_backend(vhost_fd, i, -1);
        if (!err)
            err = control(vhost_fd, VHOST_GET_VRING_BASE, &base);
        if (!err)
            err = control(vhost_fd, VHOST_SET_VRING_KICK, &none);
        if (err)
            log_err("vhost-net: queue=%u not stopped: %s", i, strerror(-err));
        else
            virtqueue_set_position(queues[i], (uint16_t)base.num);
    }
}
