/*
 * Links: see network_link.h. Names from the host become parts of paths below /proc/sys and /sys: they are
 * checked for that where they are read.
 */
#include "agent/network_link.h"

#include "agent/netlink.h"
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/ethtool.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct link_list {
    struct network_link *links;
    int count;
};

static void link_take(const struct nlmsghdr *answer, void *arg)
{
    struct link_list *list = arg;
    const struct ifinfomsg *header = NLMSG_DATA(answer);
    const struct rtattr *name = netlink_find(answer, sizeof(*header), IFLA_IFNAME);
    const struct rtattr *mac = netlink_find(answer, sizeof(*header), IFLA_ADDRESS);
    if (answer->nlmsg_type != RTM_NEWLINK || list->count == NETWORK_LINKS_MAX || !name)
        return;
    struct network_link *link = &list->links[list->count++];
    *link = (struct network_link){.index = (uint32_t)header->ifi_index,
                                  .loopback = header->ifi_flags & IFF_LOOPBACK};
    snprintf(link->name, sizeof(link->name), "%.*s", (int)RTA_PAYLOAD(name), (const char *)RTA_DATA(name));
    if (mac && RTA_PAYLOAD(mac) == sizeof(link->mac))
        memcpy(link->mac, RTA_DATA(mac), sizeof(link->mac));
}

int network_links_list(int socket, struct network_link links[NETWORK_LINKS_MAX], struct error *err)
{
    struct netlink_message message;
    struct link_list list = {.links = links};
    netlink_start(&message, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
    int failed = netlink_dump(socket, &message, link_take, &list);
    return failed ? error_set(err, -failed, "list the network interfaces") : list.count;
}

/* One component of a path, and nothing that would lead elsewhere. */
static bool is_component(const char *text, size_t max)
{
    size_t length = strnlen(text, max + 1);
    return length > 0 && length <= max && !strchr(text, '/') && strcmp(text, ".") != 0 &&
           strcmp(text, "..") != 0;
}

static int wish_read_mac(struct network_wish *wish, const json_t *entry, struct error *err)
{
    const char *text = NULL;
    unsigned char *mac = wish->mac;
    if (json_require(json_get_string(entry, "interface", "mac", &text, err), "interface", "mac", err) < 0)
        return -1;
    if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
               &mac[5]) != ETH_ALEN)
        return error_set(err, 0, "interface.mac: '%.32s' is no Ethernet address", text);
    return 0;
}

int network_wish_read(struct network_wish *wish, const json_t *entry, struct error *err)
{
    static const char where[] = "interface";
    int64_t mtu = ETH_DATA_LEN, queue_length = 0;
    *wish = (struct network_wish){0};
    if (!json_is_object(entry))
        return error_set(err, 0, "interfaces: expected objects");
    if (json_require(json_get_int(entry, where, "id", 1, INT32_MAX, &wish->id, err), where, "id", err) < 0 ||
        json_require(json_get_string(entry, where, "name", &wish->name, err), where, "name", err) < 0 ||
        json_get_bool(entry, where, "loopback", &wish->loopback, err) < 0 ||
        json_get_bool(entry, where, "up", &wish->up, err) < 0 ||
        json_get_bool(entry, where, "noarp", &wish->noarp, err) < 0 ||
        json_get_int(entry, where, "mtu", 1, INT32_MAX, &mtu, err) < 0 ||
        json_get_int(entry, where, "queue_length", 0, INT32_MAX, &queue_length, err) < 0 ||
        json_get_string(entry, where, "device", &wish->device, err) < 0 ||
        json_get_array(entry, where, "addresses", &wish->addresses, err) < 0 ||
        json_get_array(entry, where, "neighbours", &wish->neighbours, err) < 0 ||
        json_get_object(entry, where, "sysctls", &wish->sysctls, err) < 0)
        return -1;
    wish->mtu = (uint32_t)mtu;
    wish->queue_length = (uint32_t)queue_length;
    if (!is_component(wish->name, IFNAMSIZ - 1))
        return error_set(err, 0, "interface.name: '%.32s' can't be one", wish->name);
    if (wish->device && !slot_name_is_valid(wish->device))
        return error_set(err, 0, "interface.device: '%.64s' can't be one", wish->device);
    return wish->loopback ? 0 : wish_read_mac(wish, entry, err);
}

static int link_rename(int socket, uint32_t index, const char *name)
{
    struct netlink_message message;
    struct ifinfomsg *header = netlink_start(&message, RTM_SETLINK, 0, sizeof(*header));
    header->ifi_index = (int)index;
    netlink_put(&message, IFLA_IFNAME, name, strlen(name) + 1);
    return netlink_call(socket, &message);
}

/* The NIC that the kernel has called so is another interface's, and gets that one's name in its turn. */
static int link_free_name(int socket, const struct network_link *link, const char *name)
{
    struct network_link links[NETWORK_LINKS_MAX] = {0};
    char other[IFNAMSIZ];
    int count = network_links_list(socket, links, NULL);
    for (int i = 0; i < count; i++) {
        if (strcmp(links[i].name, name) != 0 || links[i].index == link->index)
            continue;
        snprintf(other, sizeof(other), "nic%u", links[i].index);
        return link_rename(socket, links[i].index, other);
    }
    return 0;
}

/* No link-local address of the kernel's choice: those that there are to be come with the addresses. */
static void put_no_ipv6_address(struct netlink_message *message)
{
    const uint8_t mode = IN6_ADDR_GEN_MODE_NONE;
    size_t families = netlink_nest(message, IFLA_AF_SPEC);
    size_t ipv6 = netlink_nest(message, AF_INET6);
    netlink_put(message, IFLA_INET6_ADDR_GEN_MODE, &mode, sizeof(mode));
    netlink_end(message, ipv6);
    netlink_end(message, families);
}

int network_link_set(int socket, const struct network_link *link, const struct network_wish *wish,
                     struct error *err)
{
    struct netlink_message message;
    int failed = 0;
    if (strcmp(link->name, wish->name) != 0) {
        failed = link_free_name(socket, link, wish->name);
        if (!failed)
            failed = link_rename(socket, link->index, wish->name);
    }
    if (failed)
        return error_set(err, -failed, "interface %s: name", wish->name);
    struct ifinfomsg *header = netlink_start(&message, RTM_SETLINK, 0, sizeof(*header));
    header->ifi_index = (int)link->index;
    header->ifi_change = IFF_NOARP;
    header->ifi_flags = wish->noarp ? IFF_NOARP : 0;
    netlink_put_u32(&message, IFLA_MTU, wish->mtu);
    netlink_put_u32(&message, IFLA_TXQLEN, wish->queue_length);
    if (memcmp(link->mac, wish->mac, ETH_ALEN) != 0)
        netlink_put(&message, IFLA_ADDRESS, wish->mac, ETH_ALEN);
    failed = netlink_call(socket, &message);
    if (failed)
        return error_set(err, -failed, "interface %s: MTU %u", wish->name, wish->mtu);
    header = netlink_start(&message, RTM_SETLINK, 0, sizeof(*header));
    header->ifi_index = (int)link->index;
    put_no_ipv6_address(&message);
    /* No IPv6 on it (an MTU below 1280): nothing to be kept from. */
    failed = netlink_call(socket, &message);
    if (failed && failed != -EAFNOSUPPORT && failed != -ENODEV && failed != -EINVAL)
        return error_set(err, -failed, "interface %s: IPv6", wish->name);
    return 0;
}

int network_link_set_up(int socket, uint32_t index, bool up, struct error *err)
{
    struct netlink_message message;
    struct ifinfomsg *header = netlink_start(&message, RTM_SETLINK, 0, sizeof(*header));
    header->ifi_index = (int)index;
    header->ifi_change = IFF_UP;
    header->ifi_flags = up ? IFF_UP : 0;
    int failed = netlink_call(socket, &message);
    return failed ? error_set(err, -failed, "set %s", up ? "up" : "down") : 0;
}

static int sysctl_write(const char *family, const char *interface, const char *name, json_int_t value)
{
    char path[PATH_MAX], text[32];
    snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, interface, name);
    int length = snprintf(text, sizeof(text), "%lld", (long long)value);
    cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, (size_t)length) != length)
        return -errno;
    return 0;
}

int network_link_set_sysctls(const struct network_wish *wish, bool late, struct error *err)
{
    static const char *const families[] = {"ipv4", "ipv6"};
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        json_t *values = NULL, *value;
        const char *name;
        if (json_get_object(wish->sysctls, "sysctls", families[i], &values, err) < 0)
            return -1;
        json_object_foreach(values, name, value)
        {
            if (!is_component(name, NAME_MAX) || !json_is_integer(value))
                return error_set(err, 0, "interface %s: sysctls.%s.%.64s: expected a number", wish->name,
                                 families[i], name);
            if (late != (strcmp(name, "addr_gen_mode") == 0))
                continue;
            int failed = sysctl_write(families[i], wish->name, name, json_integer_value(value));
            /* What the host's kernel has and the guest's has not, the guest's does without. */
            if (failed && failed != -ENOENT)
                return error_set(err, -failed, "interface %s: sysctl %s.%s", wish->name, families[i], name);
        }
    }
    return 0;
}

int network_device_unbind(const char *name, char slot[SLOT_NAME_BYTES], struct error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "/sys/class/net/%s/device", name);
    return slot_unbind(path, slot, err);
}

/* virtio-net looks at the processors once, when it is probed. */
static void link_use_cpus(int fd, const char *name, unsigned cpus)
{
    struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
    struct ifreq request = {.ifr_data = (void *)&channels};
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (ioctl(fd, SIOCETHTOOL, &request) < 0)
        return;
    unsigned wanted = cpus < channels.max_combined ? cpus : channels.max_combined;
    if (wanted == 0 || wanted == channels.combined_count)
        return;
    channels.cmd = ETHTOOL_SCHANNELS;
    channels.combined_count = wanted;
    if (ioctl(fd, SIOCETHTOOL, &request) < 0)
        log_warn("queues of %s: %s", name, strerror(errno));
}

void network_links_use_cpus(int socket_fd, unsigned cpus)
{
    struct network_link links[NETWORK_LINKS_MAX] = {0};
    int count = network_links_list(socket_fd, links, NULL);
    cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (int i = 0; fd >= 0 && i < count; i++) {
        if (!links[i].loopback)
            link_use_cpus(fd, links[i].name, cpus);
    }
}
