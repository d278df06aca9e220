/*
 * Taps and redirections: see network_tap.h. Called by network.c, in the monitor, which is in the pod's
 * network namespace: /dev/net/tun makes its interfaces where the opener is.
 */
#include "shim/network_tap.h"

#include "common/fd.h"
#include "common/log.h"
#include "shim/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <linux/tc_act/tc_skbedit.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/ioctl.h>

/* After the filters that others may have there (a policy's, say), whose default priorities begin at 49152 and
 * go down: a packet that they drop is not redirected. */
#define FILTER_PRIORITY    60000u
#define EXCEPTION_PRIORITY (FILTER_PRIORITY - 1)
#define FILTER_PARENT      TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) /* the same hook of either qdisc */
#define IP_DESTINATION_AT  16                                       /* in the IPv4 header */

/* One queue of a tap. The name is the kernel's choice for the first, and given for the others. */
static int tap_open_queue(char name[IFNAMSIZ], bool multiqueue, struct error *err)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    const int header_bytes = sizeof(struct virtio_net_hdr_mrg_rxbuf), little_endian = 1;
    cleanup_fd int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, errno, "open /dev/net/tun");
    if (multiqueue)
        request.ifr_flags |= IFF_MULTI_QUEUE;
    memcpy(request.ifr_name, name, IFNAMSIZ);
    /* virtio 1.2 §5.1.6: the header is little-endian whatever the machine, and has num_buffers. */
    if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0 ||
        ioctl(fd, TUNSETVNETLE, &little_endian) < 0)
        return error_set(err, errno, "make a tap");
    memcpy(name, request.ifr_name, IFNAMSIZ);
    return take_fd(&fd);
}

/* Hosts without vhost-net are served by the VMM's own data path. */
static int tap_open_vhost(void)
{
    int fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT && errno != ENXIO && errno != ENODEV)
        log_warn("vhost-net not used: %s", strerror(errno));
    return fd;
}

static int tap_open_queues(const struct network_interface *link, unsigned pairs, struct vmm_net *net,
                           char name[IFNAMSIZ], struct error *err)
{
    *net = (struct vmm_net){.id = link->index, .vhost = true};
    memcpy(net->mac, link->mac, sizeof(net->mac));
    for (unsigned i = 0; i < VMM_NET_QUEUES_MAX; i++)
        net->tap[i] = net->vhost_net[i] = -1;
    for (; net->queues < pairs; net->queues++) {
        net->tap[net->queues] = tap_open_queue(name, pairs > 1, err);
        if (net->tap[net->queues] < 0)
            return -1;
        net->vhost_net[net->queues] = net->vhost ? tap_open_vhost() : -1;
        net->vhost = net->vhost_net[net->queues] >= 0;
    }
    return 0;
}

/* IFLA_AF_SPEC { AF_INET6 { IFLA_INET6_ADDR_GEN_MODE none } }: a link-local address of the tap's own would
 * make the host's kernel speak to the guest (router solicitations, duplicate detection). */
static void put_no_ipv6_address(struct nlmsghdr *message)
{
    struct nlattr *families = mnl_attr_nest_start(message, IFLA_AF_SPEC);
    struct nlattr *ipv6 = mnl_attr_nest_start(message, AF_INET6);
    mnl_attr_put_u8(message, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
    mnl_attr_nest_end(message, ipv6);
    mnl_attr_nest_end(message, families);
}

static int tap_set_up(uint32_t index, const struct network_interface *link, struct mnl_socket *socket,
                      struct error *err)
{
    char buffer[NETLINK_REQUEST_BYTES];
    struct ifinfomsg *header = netlink_start(buffer, RTM_SETLINK, 0, sizeof(*header));
    struct nlmsghdr *message = (void *)buffer;
    header->ifi_index = (int)index;
    header->ifi_flags = header->ifi_change = IFF_NOARP;
    /* Without ARP the host's own packets (network_local.h) are sent to the device's address: the guest's. */
    mnl_attr_put(message, IFLA_ADDRESS, sizeof(link->mac), link->mac);
    mnl_attr_put_u32(message, IFLA_MTU, link->mtu);
    mnl_attr_put_u32(message, IFLA_TXQLEN, link->queue_length ? link->queue_length : 1000);
    if (link->mtu >= IPV6_MIN_MTU)
        put_no_ipv6_address(message);
    if (netlink_request(socket, buffer, err) < 0)
        return error_wrap(err, "set the tap up");
    header = netlink_start(buffer, RTM_SETLINK, 0, sizeof(*header));
    header->ifi_index = (int)index;
    header->ifi_flags = header->ifi_change = IFF_UP;
    return netlink_request(socket, buffer, err) < 0 ? error_wrap(err, "set the tap up") : 0;
}

int network_tap_open(const struct network_interface *link, unsigned pairs, struct mnl_socket *socket,
                     struct vmm_net *net, uint32_t *index, struct error *err)
{
    char name[IFNAMSIZ] = NETWORK_TAP_PREFIX "%d";
    if (tap_open_queues(link, pairs, net, name, err) == 0) {
        *index = if_nametoindex(name);
        if (*index == 0)
            error_set(err, errno, "tap %s", name);
        else if (tap_set_up(*index, link, socket, err) == 0)
            return 0;
    }
    network_tap_close(net);
    return error_wrap(err, "interface %s", link->name);
}

void network_tap_close(struct vmm_net *net)
{
    for (unsigned i = 0; i < VMM_NET_QUEUES_MAX; i++) {
        fd_close(&net->tap[i]);
        fd_close(&net->vhost_net[i]);
    }
    net->queues = 0;
}

int network_tap_set_mtu(uint32_t index, uint32_t mtu, struct mnl_socket *socket, struct error *err)
{
    char buffer[NETLINK_REQUEST_BYTES];
    struct ifinfomsg *header = netlink_start(buffer, RTM_SETLINK, 0, sizeof(*header));
    header->ifi_index = (int)index;
    mnl_attr_put_u32((void *)buffer, IFLA_MTU, mtu);
    return netlink_request(socket, buffer, err);
}

/* The qdisc that has the ingress hook. One that is there already (a network plugin's clsact) serves as well.
 */
static int redirect_add_qdisc(uint32_t interface, struct mnl_socket *socket, struct error *err)
{
    char buffer[NETLINK_REQUEST_BYTES];
    struct error own = {0};
    struct tcmsg *header = netlink_start(buffer, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, sizeof(*header));
    header->tcm_family = AF_UNSPEC;
    header->tcm_ifindex = (int)interface;
    header->tcm_parent = TC_H_INGRESS;
    header->tcm_handle = TC_H_MAKE(TC_H_INGRESS, 0);
    mnl_attr_put_strz((void *)buffer, TCA_KIND, "ingress");
    if (netlink_request(socket, buffer, &own) == 0 || own.code == EEXIST)
        return 0;
    return error_set(err, own.code, "ingress qdisc");
}

/* A request about a filter of ours on an interface: priority and protocol tell which. Without a kind: a
 * deletion takes either. */
static void filter_start(void *buffer, uint16_t type, uint16_t flags, uint32_t interface, uint32_t priority,
                         uint16_t protocol, const char *kind)
{
    struct tcmsg *header = netlink_start(buffer, type, flags, sizeof(*header));
    header->tcm_family = AF_UNSPEC;
    header->tcm_ifindex = (int)interface;
    header->tcm_parent = FILTER_PARENT;
    header->tcm_info = TC_H_MAKE(priority << 16, htons(protocol));
    if (kind)
        mnl_attr_put_strz(buffer, TCA_KIND, kind);
}

static void redirect_start(void *buffer, uint16_t type, uint16_t flags, uint32_t interface, const char *kind)
{
    filter_start(buffer, type, flags, interface, FILTER_PRIORITY, ETH_P_ALL, kind);
}

/* The list of one action, up to its options, which are the caller's to fill. */
struct action {
    struct nlattr *list, *first, *options;
};

static struct action action_start(struct nlmsghdr *message, uint16_t type, const char *kind)
{
    struct action action;
    action.list = mnl_attr_nest_start(message, type);
    action.first = mnl_attr_nest_start(message, 1);
    mnl_attr_put_strz(message, TCA_ACT_KIND, kind);
    action.options = mnl_attr_nest_start(message, TCA_ACT_OPTIONS);
    return action;
}

static void action_end(struct nlmsghdr *message, const struct action *action)
{
    mnl_attr_nest_end(message, action->options);
    mnl_attr_nest_end(message, action->first);
    mnl_attr_nest_end(message, action->list);
}

/* mirred egress redirect dev `to` */
static void put_redirect(struct nlmsghdr *message, uint16_t type, uint32_t to)
{
    const struct tc_mirred mirred = {.action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = to};
    struct action action = action_start(message, type, "mirred");
    mnl_attr_put(message, TCA_MIRRED_PARMS, sizeof(mirred), &mirred);
    action_end(message, &action);
}

/* skbedit ptype host pass */
static void put_to_host(struct nlmsghdr *message, uint16_t type)
{
    const struct tc_skbedit skbedit = {.action = TC_ACT_OK};
    struct action action = action_start(message, type, "skbedit");
    mnl_attr_put(message, TCA_SKBEDIT_PARMS, sizeof(skbedit), &skbedit);
    mnl_attr_put_u16(message, TCA_SKBEDIT_PTYPE, PACKET_HOST);
    action_end(message, &action);
}

/* The selector of u32 with one key; any packet matches one of zeroes. */
static void put_u32_key(struct nlmsghdr *message, const struct tc_u32_key *key)
{
    _Alignas(struct tc_u32_sel) char bytes[sizeof(struct tc_u32_sel) + sizeof(*key)] = {0};
    struct tc_u32_sel *selector = (void *)bytes;
    selector->flags = TC_U32_TERMINAL;
    selector->nkeys = 1;
    selector->keys[0] = *key;
    mnl_attr_put(message, TCA_U32_SEL, sizeof(bytes), bytes);
}

static int redirect_add_matchall(uint32_t from, uint32_t to, struct mnl_socket *socket, struct error *err)
{
    char buffer[NETLINK_REQUEST_BYTES];
    redirect_start(buffer, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, from, "matchall");
    struct nlattr *options = mnl_attr_nest_start((void *)buffer, TCA_OPTIONS);
    put_redirect((void *)buffer, TCA_MATCHALL_ACT, to);
    mnl_attr_nest_end((void *)buffer, options);
    return netlink_request(socket, buffer, err);
}

/* The same by the older classifier. */
static int redirect_add_u32(uint32_t from, uint32_t to, struct mnl_socket *socket, struct error *err)
{
    char buffer[NETLINK_REQUEST_BYTES];
    const struct tc_u32_key any = {0};
    redirect_start(buffer, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, from, "u32");
    struct nlattr *options = mnl_attr_nest_start((void *)buffer, TCA_OPTIONS);
    put_u32_key((void *)buffer, &any);
    put_redirect((void *)buffer, TCA_U32_ACT, to);
    mnl_attr_nest_end((void *)buffer, options);
    return netlink_request(socket, buffer, err);
}

/* Debian's kernels have both classifiers; small kernels often have only u32. */
static int redirect_add_filter(uint32_t from, uint32_t to, struct mnl_socket *socket, struct error *err)
{
    struct error own = {0};
    if (redirect_add_matchall(from, to, socket, &own) == 0)
        return 0;
    if (own.code == ENOENT && redirect_add_u32(from, to, socket, &own) == 0)
        return 0;
    return error_say(err, own.code, "filter: %s", own.text);
}

/* What is left by a sandbox that was killed together with its monitor points at a tap that is gone: it goes
 * first. */
static int redirect_add_half(uint32_t from, uint32_t to, struct mnl_socket *socket, struct error *err)
{
    if (redirect_add_qdisc(from, socket, err) < 0)
        return -1;
    char buffer[NETLINK_REQUEST_BYTES];
    redirect_start(buffer, RTM_DELTFILTER, 0, from, NULL);
    netlink_request(socket, buffer, NULL);
    return redirect_add_filter(from, to, socket, err);
}

int network_redirect_add(uint32_t interface, uint32_t tap, struct mnl_socket *socket, struct error *err)
{
    if (redirect_add_half(tap, interface, socket, err) == 0 &&
        redirect_add_half(interface, tap, socket, err) == 0)
        return 0;
    network_redirect_remove(interface, socket);
    return error_wrap(err, "redirect");
}

int network_redirect_except(uint32_t tap, uint32_t address, struct mnl_socket *socket, struct error *err)
{
    char buffer[NETLINK_REQUEST_BYTES];
    const struct tc_u32_key to = {.mask = UINT32_MAX, .val = address, .off = IP_DESTINATION_AT};
    filter_start(buffer, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, tap, EXCEPTION_PRIORITY, ETH_P_IP, "u32");
    struct nlattr *options = mnl_attr_nest_start((void *)buffer, TCA_OPTIONS);
    put_u32_key((void *)buffer, &to);
    put_to_host((void *)buffer, TCA_U32_ACT);
    mnl_attr_nest_end((void *)buffer, options);
    return netlink_request(socket, buffer, err) == 0 ? 0 : error_wrap(err, "filter");
}

static int filter_count(const struct nlmsghdr *message, void *arg)
{
    unsigned *count = arg;
    if (message->nlmsg_type == RTM_NEWTFILTER)
        (*count)++;
    return MNL_CB_OK;
}

static void filter_count_restart(void *arg)
{
    unsigned *count = arg;
    *count = 0;
}

void network_redirect_remove(uint32_t interface, struct mnl_socket *socket)
{
    char buffer[NETLINK_REQUEST_BYTES];
    unsigned others = 0;
    redirect_start(buffer, RTM_DELTFILTER, 0, interface, NULL);
    if (netlink_request(socket, buffer, NULL) < 0)
        return; /* there was none of ours */
    struct tcmsg *header = netlink_start(buffer, RTM_GETTFILTER, 0, sizeof(*header));
    header->tcm_ifindex = (int)interface;
    header->tcm_parent = FILTER_PARENT;
    if (netlink_dump(socket, buffer, filter_count, filter_count_restart, &others, NULL) < 0 || others > 0)
        return;
    /* Only ours, of kind "ingress": someone's clsact has another kind, and the kernel then refuses. */
    header = netlink_start(buffer, RTM_DELQDISC, 0, sizeof(*header));
    header->tcm_ifindex = (int)interface;
    header->tcm_parent = TC_H_INGRESS;
    header->tcm_handle = TC_H_MAKE(TC_H_INGRESS, 0);
    mnl_attr_put_strz((void *)buffer, TCA_KIND, "ingress");
    netlink_request(socket, buffer, NULL);
}
