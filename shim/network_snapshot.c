/*
 * Dumps of a network namespace: see network_snapshot.h. Links and what hangs on them are here, routes and
 * rules in network_routes.c.
 */
#include "shim/network_snapshot.h"

#include "common/fd.h"
#include "common/json.h"
#include "shim/netlink.h"
#include "shim/network_json.h"
#include "shim/network_routes.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

/* What a dump's callback works on. */
struct dump {
    struct network_snapshot *snapshot;
    struct error *err;
};

struct sysctl_row {
    uint16_t index; /* IPV4_DEVCONF_*, DEVCONF_* */
    const char *name;
};

/* What decides how an interface talks and listens. Not here: what no container would miss (limits, timers),
 * and what concerns only the host's own stack. */
static const struct sysctl_row ipv4_sysctls[] = {
    {IPV4_DEVCONF_FORWARDING, "forwarding"},
    {IPV4_DEVCONF_PROXY_ARP, "proxy_arp"},
    {IPV4_DEVCONF_ACCEPT_REDIRECTS, "accept_redirects"},
    {IPV4_DEVCONF_SECURE_REDIRECTS, "secure_redirects"},
    {IPV4_DEVCONF_SEND_REDIRECTS, "send_redirects"},
    {IPV4_DEVCONF_RP_FILTER, "rp_filter"},
    {IPV4_DEVCONF_ACCEPT_SOURCE_ROUTE, "accept_source_route"},
    {IPV4_DEVCONF_LOG_MARTIANS, "log_martians"},
    {IPV4_DEVCONF_ARPFILTER, "arp_filter"},
    {IPV4_DEVCONF_ARP_ANNOUNCE, "arp_announce"},
    {IPV4_DEVCONF_ARP_IGNORE, "arp_ignore"},
    {IPV4_DEVCONF_PROMOTE_SECONDARIES, "promote_secondaries"},
    {IPV4_DEVCONF_ARP_ACCEPT, "arp_accept"},
    {IPV4_DEVCONF_ARP_NOTIFY, "arp_notify"},
    {IPV4_DEVCONF_ACCEPT_LOCAL, "accept_local"},
    {IPV4_DEVCONF_SRC_VMARK, "src_valid_mark"},
    {IPV4_DEVCONF_ROUTE_LOCALNET, "route_localnet"},
    {IPV4_DEVCONF_BC_FORWARDING, "bc_forwarding"},
};

static const struct sysctl_row ipv6_sysctls[] = {
    {DEVCONF_DISABLE_IPV6, "disable_ipv6"},
    {DEVCONF_FORWARDING, "forwarding"},
    {DEVCONF_ACCEPT_RA, "accept_ra"},
    {DEVCONF_ACCEPT_REDIRECTS, "accept_redirects"},
    {DEVCONF_AUTOCONF, "autoconf"},
    {DEVCONF_DAD_TRANSMITS, "dad_transmits"},
    {DEVCONF_ACCEPT_DAD, "accept_dad"},
    {DEVCONF_USE_TEMPADDR, "use_tempaddr"},
    {DEVCONF_ACCEPT_RA_DEFRTR, "accept_ra_defrtr"},
    {DEVCONF_ACCEPT_RA_PINFO, "accept_ra_pinfo"},
    {DEVCONF_PROXY_NDP, "proxy_ndp"},
    {DEVCONF_ACCEPT_SOURCE_ROUTE, "accept_source_route"},
    {DEVCONF_NDISC_NOTIFY, "ndisc_notify"},
    {DEVCONF_KEEP_ADDR_ON_DOWN, "keep_addr_on_down"},
    {DEVCONF_ADDR_GEN_MODE, "addr_gen_mode"},
};

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

/* IFLA_INET_CONF holds value i at i - 1 (the first of IPV4_DEVCONF_* is 1), IFLA_INET6_CONF at i. */
static json_t *sysctls_read(const struct nlattr *conf, const struct sysctl_row *rows, size_t count,
                            uint16_t first)
{
    json_t *object = json_object();
    const uint8_t *values = conf ? mnl_attr_get_payload(conf) : NULL;
    size_t bytes = conf ? mnl_attr_get_payload_len(conf) : 0;
    for (size_t i = 0; i < count; i++) {
        int32_t value;
        size_t at = (size_t)(rows[i].index - first) * sizeof(value);
        if (at + sizeof(value) > bytes)
            continue;
        memcpy(&value, values + at, sizeof(value));
        json_object_set_new(object, rows[i].name, json_integer(value));
    }
    return object;
}

static const struct nlattr *attribute_find(const struct nlattr *nest, uint16_t type)
{
    const struct nlattr *at;
    if (!nest)
        return NULL;
    netlink_for_each_nested(at, nest)
    {
        if (mnl_attr_get_type(at) == type)
            return at;
    }
    return NULL;
}

static json_t *link_sysctls(const struct nlattr *families)
{
    const struct nlattr *ipv4 = attribute_find(attribute_find(families, AF_INET), IFLA_INET_CONF);
    const struct nlattr *ipv6 = attribute_find(attribute_find(families, AF_INET6), IFLA_INET6_CONF);
    return json_pack("{s:o, s:o}", "ipv4", sysctls_read(ipv4, ipv4_sysctls, ROWS(ipv4_sysctls), 1), "ipv6",
                     sysctls_read(ipv6, ipv6_sysctls, ROWS(ipv6_sysctls), 0));
}

static void text_copy(char *to, size_t size, const struct nlattr *attribute)
{
    size_t length = strnlen(mnl_attr_get_payload(attribute), mnl_attr_get_payload_len(attribute));
    length = length < size ? length : size - 1;
    memcpy(to, mnl_attr_get_payload(attribute), length);
    to[length] = '\0';
}

static void link_read_attribute(struct network_interface *link, const struct nlattr *attribute)
{
    const struct nlattr *kind;
    switch (mnl_attr_get_type(attribute)) {
    case IFLA_IFNAME:
        text_copy(link->name, sizeof(link->name), attribute);
        break;
    case IFLA_ADDRESS:
        if (mnl_attr_get_payload_len(attribute) == sizeof(link->mac))
            memcpy(link->mac, mnl_attr_get_payload(attribute), sizeof(link->mac));
        break;
    case IFLA_MTU:
        link->mtu = mnl_attr_get_u32(attribute);
        break;
    case IFLA_TXQLEN:
        link->queue_length = mnl_attr_get_u32(attribute);
        break;
    case IFLA_MASTER:
        link->master = mnl_attr_get_u32(attribute);
        break;
    case IFLA_LINK:
        link->lower = mnl_attr_get_u32(attribute);
        break;
    case IFLA_LINKINFO:
        kind = attribute_find(attribute, IFLA_INFO_KIND);
        if (kind)
            text_copy(link->kind, sizeof(link->kind), kind);
        break;
    case IFLA_AF_SPEC:
        json_decref(link->sysctls);
        link->sysctls = link_sysctls(attribute);
        break;
    default:
        break;
    }
}

static int link_take(const struct nlmsghdr *message, void *arg)
{
    struct dump *dump = arg;
    struct network_snapshot *snapshot = dump->snapshot;
    const struct ifinfomsg *header = mnl_nlmsg_get_payload(message);
    const struct nlattr *attribute;
    bool lower_elsewhere = false;
    if (snapshot->count == NETWORK_INTERFACES_MAX) {
        error_set(dump->err, 0, "more than %d interfaces", NETWORK_INTERFACES_MAX);
        errno = E2BIG;
        return MNL_CB_ERROR;
    }
    struct network_interface *link = &snapshot->interfaces[snapshot->count++];
    *link = (struct network_interface){.index = (uint32_t)header->ifi_index,
                                       .hardware = header->ifi_type,
                                       .flags = header->ifi_flags,
                                       .addresses = json_array(),
                                       .neighbours = json_array()};
    netlink_for_each(attribute, message, sizeof(*header))
    {
        lower_elsewhere |= mnl_attr_get_type(attribute) == IFLA_LINK_NETNSID;
        link_read_attribute(link, attribute);
    }
    /* An index of another namespace tells nothing here; a device that is its own lower one (tunnels) has
     * none. */
    if (lower_elsewhere || link->lower == link->index)
        link->lower = 0;
    return MNL_CB_OK;
}

static int address_take(const struct nlmsghdr *message, void *arg)
{
    struct dump *dump = arg;
    const struct ifaddrmsg *header = mnl_nlmsg_get_payload(message);
    struct network_interface *link = network_snapshot_find(dump->snapshot, header->ifa_index);
    const struct nlattr *attribute, *local = NULL, *address = NULL;
    uint32_t flags = header->ifa_flags;
    if (!link || (header->ifa_family != AF_INET && header->ifa_family != AF_INET6))
        return MNL_CB_OK;
    cleanup_json json_t *object =
        json_pack("{s:i, s:i}", "prefix", header->ifa_prefixlen, "scope", header->ifa_scope);
    netlink_for_each(attribute, message, sizeof(*header))
    {
        switch (mnl_attr_get_type(attribute)) {
        case IFA_LOCAL:
            local = attribute;
            break;
        case IFA_ADDRESS:
            address = attribute;
            break;
        case IFA_FLAGS:
            flags = mnl_attr_get_u32(attribute);
            break;
        case IFA_BROADCAST:
            network_json_set_address(object, "broadcast", header->ifa_family, attribute);
            break;
        case IFA_LABEL:
            json_object_set_new(object, "label", json_string(mnl_attr_get_str(attribute)));
            break;
        case IFA_RT_PRIORITY:
            json_object_set_new(object, "metric", json_integer(mnl_attr_get_u32(attribute)));
            break;
        case IFA_CACHEINFO:
            network_json_set_lifetimes(object, attribute);
            break;
        default:
            break;
        }
    }
    /* IPv4 has both, the local one being one's own; IPv6 has the local one only where there is a peer. */
    network_json_set_address(object, "address", header->ifa_family, local ? local : address);
    if (local && address)
        network_json_set_peer(object, header->ifa_family, local, address);
    /* The rest is state of this kernel's: the guest's comes to its own. */
    const uint32_t kept =
        IFA_F_NOPREFIXROUTE | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_MCAUTOJOIN | IFA_F_NODAD;
    json_object_set_new(object, "flags", json_integer(flags & kept));
    json_array_append(link->addresses, object);
    return MNL_CB_OK;
}

/* Only the entries that someone has made by hand: the others the guest learns itself. */
static int neighbour_take(const struct nlmsghdr *message, void *arg)
{
    struct dump *dump = arg;
    const struct ndmsg *header = mnl_nlmsg_get_payload(message);
    struct network_interface *link = network_snapshot_find(dump->snapshot, (uint32_t)header->ndm_ifindex);
    const struct nlattr *attribute;
    if (!link || !(header->ndm_state & NUD_PERMANENT) ||
        (header->ndm_family != AF_INET && header->ndm_family != AF_INET6))
        return MNL_CB_OK;
    cleanup_json json_t *object = json_pack("{s:i}", "flags", header->ndm_flags & NTF_ROUTER);
    netlink_for_each(attribute, message, sizeof(*header))
    {
        if (mnl_attr_get_type(attribute) == NDA_DST)
            network_json_set_address(object, "address", header->ndm_family, attribute);
        else if (mnl_attr_get_type(attribute) == NDA_LLADDR)
            network_json_set_mac(object, "mac", attribute);
    }
    if (json_object_get(object, "address") && json_object_get(object, "mac"))
        json_array_append(link->neighbours, object);
    return MNL_CB_OK;
}

static void links_drop(struct network_snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->count; i++) {
        json_decref(snapshot->interfaces[i].sysctls);
        json_decref(snapshot->interfaces[i].addresses);
        json_decref(snapshot->interfaces[i].neighbours);
    }
    snapshot->count = 0;
}

static void restart_links(void *arg)
{
    links_drop(((struct dump *)arg)->snapshot);
}

static void restart_addresses(void *arg)
{
    struct network_snapshot *snapshot = ((struct dump *)arg)->snapshot;
    for (size_t i = 0; i < snapshot->count; i++)
        json_array_clear(snapshot->interfaces[i].addresses);
}

static void restart_neighbours(void *arg)
{
    struct network_snapshot *snapshot = ((struct dump *)arg)->snapshot;
    for (size_t i = 0; i < snapshot->count; i++)
        json_array_clear(snapshot->interfaces[i].neighbours);
}

static int snapshot_dump(struct dump *dump, struct mnl_socket *socket, uint16_t type, size_t header_bytes,
                         mnl_cb_t take, void (*restart)(void *arg))
{
    char buffer[NETLINK_REQUEST_BYTES];
    netlink_start(buffer, type, 0, header_bytes);
    struct error *err = dump->err;
    struct error said = {0}; /* by the callback, which knows more than the errno */
    dump->err = &said;
    int result = netlink_dump(socket, buffer, take, restart, dump, err);
    dump->err = err;
    if (result < 0 && said.code && err)
        *err = said;
    return result;
}

int network_snapshot_take(struct network_snapshot *snapshot, struct mnl_socket *socket, struct error *err)
{
    struct dump dump = {.snapshot = snapshot, .err = err};
    *snapshot = (struct network_snapshot){.interfaces =
                                              calloc(NETWORK_INTERFACES_MAX, sizeof(*snapshot->interfaces))};
    if (!snapshot->interfaces)
        return error_set(err, ENOMEM, "network snapshot");
    if (snapshot_dump(&dump, socket, RTM_GETLINK, sizeof(struct ifinfomsg), link_take, restart_links) < 0 ||
        snapshot_dump(&dump, socket, RTM_GETADDR, sizeof(struct ifaddrmsg), address_take, restart_addresses) <
            0 ||
        snapshot_dump(&dump, socket, RTM_GETNEIGH, sizeof(struct ndmsg), neighbour_take, restart_neighbours) <
            0)
        return error_wrap(err, "read the network namespace");
    if (network_routes_read(&snapshot->routes, socket, err) < 0 ||
        network_rules_read(&snapshot->rules, socket, err) < 0)
        return error_wrap(err, "read the network namespace");
    return 0;
}

void network_snapshot_fini(struct network_snapshot *snapshot)
{
    if (snapshot->interfaces)
        links_drop(snapshot);
    free(take_ptr(&snapshot->interfaces));
    json_decref(take_ptr(&snapshot->routes));
    json_decref(take_ptr(&snapshot->rules));
}

struct network_interface *network_snapshot_find(const struct network_snapshot *snapshot, uint32_t index)
{
    for (size_t i = 0; i < snapshot->count; i++) {
        if (snapshot->interfaces[i].index == index)
            return &snapshot->interfaces[i];
    }
    return NULL;
}
