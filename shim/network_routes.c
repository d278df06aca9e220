/*
 * Dumps of routes and rules: see network_routes.h. An attribute that would change where packets go and has no
 * counterpart in the protocol is an error that names it; one that only tells of state is left out.
 */
#include "shim/network_routes.h"

#include "common/json.h"
#include "shim/netlink.h"
#include "shim/network_json.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

/* The default rules (fib4_rules_init, fib6_rules_init of the kernel). */
#define PRIORITY_LOCAL   0
#define PRIORITY_MAIN    32766
#define PRIORITY_DEFAULT 32767

struct dump {
    json_t *list;
    struct error said; /* by the callback, which knows more than the errno */
};

static int dump_refuse(struct dump *dump, const char *what, const char *name, const char *why)
{
    error_set(&dump->said, EOPNOTSUPP, "%s %s: %s", what, name, why);
    errno = EOPNOTSUPP;
    return MNL_CB_ERROR;
}

/* RTA_VIA: a gateway of the other family (an IPv6 router for IPv4). */
static void set_via(json_t *object, const struct nlattr *attribute)
{
    const struct rtvia *via = mnl_attr_get_payload(attribute);
    size_t bytes = mnl_attr_get_payload_len(attribute);
    if (bytes > sizeof(*via))
        network_json_set_bytes(object, "gateway", via->rtvia_family, via->rtvia_addr, bytes - sizeof(*via));
}

/* The pairs [RTAX_*, value] of a route's metrics. */
static void set_metrics(json_t *object, const struct nlattr *metrics)
{
    const struct nlattr *attribute;
    json_t *pairs = json_array();
    netlink_for_each_nested(attribute, metrics)
    {
        if (mnl_attr_get_payload_len(attribute) == sizeof(uint32_t) &&
            mnl_attr_get_type(attribute) != RTAX_CC_ALGO)
            json_array_append_new(pairs, json_pack("[i, I]", mnl_attr_get_type(attribute),
                                                   (json_int_t)mnl_attr_get_u32(attribute)));
    }
    json_object_set_new(object, "metrics", pairs);
}

/* RTA_MULTIPATH: struct rtnexthop, each with attributes of its own. -1 for one that can't be carried over. */
static int set_nexthops(json_t *object, int family, const struct nlattr *multipath)
{
    json_t *list = json_array();
    const char *at = mnl_attr_get_payload(multipath);
    size_t left = mnl_attr_get_payload_len(multipath);
    json_object_set_new(object, "nexthops", list);
    while (left >= sizeof(struct rtnexthop)) {
        const struct rtnexthop *hop = (const void *)at;
        const struct nlattr *attribute;
        if (hop->rtnh_len < sizeof(*hop) || hop->rtnh_len > left)
            break;
        json_t *entry = json_pack("{s:i, s:i, s:i}", "interface", hop->rtnh_ifindex, "weight",
                                  hop->rtnh_hops + 1, "flags", hop->rtnh_flags & RTNH_F_ONLINK);
        json_array_append_new(list, entry);
        netlink_for_each_in(attribute, at + sizeof(*hop), hop->rtnh_len - sizeof(*hop))
        {
            if (mnl_attr_get_type(attribute) == RTA_GATEWAY)
                network_json_set_address(entry, "gateway", family, attribute);
            else if (mnl_attr_get_type(attribute) == RTA_VIA)
                set_via(entry, attribute);
            else if (mnl_attr_get_type(attribute) == RTA_ENCAP_TYPE)
                return -1;
        }
        size_t step = RTNH_ALIGN(hop->rtnh_len);
        if (step > left)
            break;
        at += step;
        left -= step;
    }
    return 0;
}

/* What the guest's kernel makes itself when it gets the addresses, or must not be given. */
static bool route_is_automatic(const struct rtmsg *header, uint32_t table)
{
    if (header->rtm_flags & (RTM_F_CLONED | RTNH_F_UNRESOLVED))
        return true;
    if (header->rtm_type == RTN_MULTICAST || header->rtm_type == RTN_ANYCAST ||
        header->rtm_type == RTN_BROADCAST)
        return true;
    return table == RT_TABLE_LOCAL && header->rtm_protocol == RTPROT_KERNEL;
}

static void set_expiry(json_t *object, const struct nlattr *attribute)
{
    struct rta_cacheinfo info;
    if (mnl_attr_get_payload_len(attribute) < sizeof(info))
        return;
    memcpy(&info, mnl_attr_get_payload(attribute), sizeof(info));
    if (info.rta_expires > 0) /* in USER_HZ */
        json_object_set_new(object, "expires_s", json_integer(info.rta_expires / 100));
}

/* 0, or -1 when the attribute makes the route one that can't be carried over. */
static int route_set_attribute(json_t *route, const struct rtmsg *header, const struct nlattr *attribute)
{
    switch (mnl_attr_get_type(attribute)) {
    case RTA_OIF:
        json_object_set_new(route, "interface", json_integer(mnl_attr_get_u32(attribute)));
        return 0;
    case RTA_GATEWAY:
        network_json_set_address(route, "gateway", header->rtm_family, attribute);
        return 0;
    case RTA_VIA:
        set_via(route, attribute);
        return 0;
    case RTA_PREFSRC:
        network_json_set_address(route, "source", header->rtm_family, attribute);
        return 0;
    case RTA_SRC:
        network_json_set_prefix(route, "from", header->rtm_family, attribute, header->rtm_src_len);
        return 0;
    case RTA_PRIORITY:
        json_object_set_new(route, "metric", json_integer(mnl_attr_get_u32(attribute)));
        return 0;
    case RTA_PREF:
        json_object_set_new(route, "preference", json_integer(mnl_attr_get_u8(attribute)));
        return 0;
    case RTA_METRICS:
        set_metrics(route, attribute);
        return 0;
    case RTA_CACHEINFO:
        set_expiry(route, attribute);
        return 0;
    case RTA_MULTIPATH:
        return set_nexthops(route, header->rtm_family, attribute);
    case RTA_ENCAP_TYPE:
        return -1;
    default: /* RTA_DST, RTA_TABLE: read already; RTA_NH_ID: the next hop itself follows; the rest is state */
        return 0;
    }
}

static int route_take(const struct nlmsghdr *message, void *arg)
{
    struct dump *dump = arg;
    const struct rtmsg *header = mnl_nlmsg_get_payload(message);
    const struct nlattr *attribute, *destination = NULL;
    uint32_t table = header->rtm_table;
    if (header->rtm_family != AF_INET && header->rtm_family != AF_INET6)
        return MNL_CB_OK;
    netlink_for_each(attribute, message, sizeof(*header))
    {
        if (mnl_attr_get_type(attribute) == RTA_TABLE)
            table = mnl_attr_get_u32(attribute);
        else if (mnl_attr_get_type(attribute) == RTA_DST)
            destination = attribute;
    }
    if (route_is_automatic(header, table))
        return MNL_CB_OK;
    cleanup_json json_t *route =
        json_pack("{s:I, s:i, s:i, s:i, s:i, s:i}", "table", (json_int_t)table, "protocol",
                  header->rtm_protocol, "scope", header->rtm_scope, "type", header->rtm_type, "tos",
                  header->rtm_tos, "flags", header->rtm_flags & RTNH_F_ONLINK);
    network_json_set_prefix(route, "destination", header->rtm_family, destination, header->rtm_dst_len);
    netlink_for_each(attribute, message, sizeof(*header))
    {
        if (route_set_attribute(route, header, attribute) < 0)
            return dump_refuse(dump, "route", json_string_value(json_object_get(route, "destination")),
                               "encapsulation can't be carried over to the guest");
    }
    json_array_append(dump->list, route);
    return MNL_CB_OK;
}

static void set_range(json_t *rule, const char *key, const struct nlattr *attribute)
{
    struct fib_rule_port_range range;
    if (mnl_attr_get_payload_len(attribute) != sizeof(range))
        return;
    memcpy(&range, mnl_attr_get_payload(attribute), sizeof(range));
    json_object_set_new(rule, key, json_pack("[i, i]", range.start, range.end));
}

static void set_number(json_t *rule, const char *key, const struct nlattr *attribute)
{
    json_object_set_new(rule, key, json_integer(mnl_attr_get_u32(attribute)));
}

/* 0, or -1 when the attribute makes the rule one that can't be carried over. */
static int rule_set_attribute(json_t *rule, const struct fib_rule_hdr *header, const struct nlattr *attribute)
{
    switch (mnl_attr_get_type(attribute)) {
    case FRA_PRIORITY:
        set_number(rule, "priority", attribute);
        return 0;
    case FRA_TABLE:
        set_number(rule, "table", attribute);
        return 0;
    case FRA_DST:
        network_json_set_prefix(rule, "to", header->family, attribute, header->dst_len);
        return 0;
    case FRA_SRC:
        network_json_set_prefix(rule, "from", header->family, attribute, header->src_len);
        return 0;
    case FRA_IIFNAME:
        json_object_set_new(rule, "input", json_string(mnl_attr_get_str(attribute)));
        return 0;
    case FRA_OIFNAME:
        json_object_set_new(rule, "output", json_string(mnl_attr_get_str(attribute)));
        return 0;
    case FRA_FWMARK:
        set_number(rule, "mark", attribute);
        return 0;
    case FRA_FWMASK:
        set_number(rule, "mask", attribute);
        return 0;
    case FRA_GOTO:
        set_number(rule, "goto", attribute);
        return 0;
    case FRA_SUPPRESS_PREFIXLEN:
        if (mnl_attr_get_u32(attribute) != UINT32_MAX)
            set_number(rule, "suppress_prefix", attribute);
        return 0;
    case FRA_PROTOCOL:
        json_object_set_new(rule, "protocol", json_integer(mnl_attr_get_u8(attribute)));
        return 0;
    case FRA_IP_PROTO:
        json_object_set_new(rule, "ip_protocol", json_integer(mnl_attr_get_u8(attribute)));
        return 0;
    case FRA_SPORT_RANGE:
        set_range(rule, "source_ports", attribute);
        return 0;
    case FRA_DPORT_RANGE:
        set_range(rule, "destination_ports", attribute);
        return 0;
    case FRA_SUPPRESS_IFGROUP:
        return mnl_attr_get_u32(attribute) == UINT32_MAX ? 0 : -1;
    case FRA_L3MDEV:
        return mnl_attr_get_u8(attribute) ? -1 : 0;
    case FRA_TUN_ID:
    case FRA_UID_RANGE:
    case FRA_FLOW:
        return -1;
    default:
        return 0;
    }
}

static bool rule_is_default(const json_t *rule)
{
    json_int_t priority = json_integer_value(json_object_get(rule, "priority"));
    json_int_t table = json_integer_value(json_object_get(rule, "table"));
    if (json_object_get(rule, "from") || json_object_get(rule, "to") || json_object_get(rule, "mark") ||
        json_object_get(rule, "input") || json_object_get(rule, "output"))
        return false;
    return (priority == PRIORITY_LOCAL && table == RT_TABLE_LOCAL) ||
           (priority == PRIORITY_MAIN && table == RT_TABLE_MAIN) ||
           (priority == PRIORITY_DEFAULT && table == RT_TABLE_DEFAULT);
}

static int rule_take(const struct nlmsghdr *message, void *arg)
{
    struct dump *dump = arg;
    const struct fib_rule_hdr *header = mnl_nlmsg_get_payload(message);
    const struct nlattr *attribute;
    char number[16];
    if (header->family != AF_INET && header->family != AF_INET6)
        return MNL_CB_OK;
    cleanup_json json_t *rule = json_pack(
        "{s:i, s:i, s:i, s:i, s:i}", "family", header->family == AF_INET ? 4 : 6, "action", header->action,
        "table", header->table, "tos", header->tos, "flags", (int)(header->flags & FIB_RULE_INVERT));
    netlink_for_each(attribute, message, sizeof(*header))
    {
        if (rule_set_attribute(rule, header, attribute) == 0)
            continue;
        snprintf(number, sizeof(number), "%lld",
                 (long long)json_integer_value(json_object_get(rule, "priority")));
        return dump_refuse(dump, "routing rule", number,
                           "what it selects by can't be carried over to the guest");
    }
    if (!rule_is_default(rule))
        json_array_append(dump->list, rule);
    return MNL_CB_OK;
}

static void dump_restart(void *arg)
{
    struct dump *dump = arg;
    json_array_clear(dump->list);
}

static int dump_list(json_t **list, struct mnl_socket *socket, uint16_t type, size_t header_bytes,
                     mnl_cb_t take, struct error *err)
{
    char buffer[NETLINK_REQUEST_BYTES];
    struct dump dump = {.list = json_array()};
    *list = dump.list;
    if (!dump.list)
        return error_set(err, ENOMEM, "routes");
    netlink_start(buffer, type, 0, header_bytes);
    int result = netlink_dump(socket, buffer, take, dump_restart, &dump, err);
    if (result < 0 && dump.said.code && err)
        *err = dump.said;
    return result;
}

int network_routes_read(json_t **routes, struct mnl_socket *socket, struct error *err)
{
    return dump_list(routes, socket, RTM_GETROUTE, sizeof(struct rtmsg), route_take, err);
}

int network_rules_read(json_t **rules, struct mnl_socket *socket, struct error *err)
{
    return dump_list(rules, socket, RTM_GETRULE, sizeof(struct fib_rule_hdr), rule_take, err);
}
