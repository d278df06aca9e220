/*
 * Addresses, neighbours, routes and rules for rtnetlink: see network_message.h. Numbers are the kernel's own,
 * so they are checked for their width only: the kernel judges them.
 */
#include "agent/network_message.h"

#include "common/json.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_ether.h>
#include <linux/neighbour.h>
#include <stdio.h>
#include <string.h>

#define METRICS_MAX  32 /* more than there are RTAX_* */
#define NEXTHOPS_MAX 64

struct address {
    int family; /* AF_INET or AF_INET6 */
    size_t length;
    unsigned char bytes[sizeof(struct in6_addr)];
    unsigned prefix; /* of a prefix */
};

static int address_parse(const char *text, struct address *address)
{
    address->family = strchr(text, ':') ? AF_INET6 : AF_INET;
    address->length = address->family == AF_INET6 ? sizeof(struct in6_addr) : sizeof(struct in_addr);
    return inet_pton(address->family, text, address->bytes) == 1 ? 0 : -1;
}

/* entry[key] as an address: 1, 0 when absent, -1 with err filled. */
static int get_address(const json_t *entry, const char *where, const char *key, struct address *address,
                       struct error *err)
{
    const char *text = NULL;
    int got = json_get_string(entry, where, key, &text, err);
    if (got == 1 && address_parse(text, address) < 0)
        return error_set(err, 0, "%s.%s: '%.64s' is no address", where, key, text);
    return got;
}

/* entry[key] as "address/length". */
static int get_prefix(const json_t *entry, const char *where, const char *key, struct address *address,
                      struct error *err)
{
    const char *text = NULL;
    char copy[INET6_ADDRSTRLEN + 8], *slash = NULL, *end = NULL;
    int got = json_get_string(entry, where, key, &text, err);
    if (got <= 0)
        return got;
    if (snprintf(copy, sizeof(copy), "%s", text) < (int)sizeof(copy) && (slash = strchr(copy, '/')) != NULL) {
        *slash++ = '\0';
        unsigned long length = strtoul(slash, &end, 10);
        if (address_parse(copy, address) == 0 && end != slash && !*end && length <= 8 * address->length) {
            address->prefix = (unsigned)length;
            return 1;
        }
    }
    return error_set(err, 0, "%s.%s: '%.64s' is no prefix", where, key, text);
}

static int get_u32(const json_t *entry, const char *where, const char *key, uint32_t max, uint32_t *out,
                   struct error *err)
{
    uint64_t value = 0;
    int got = json_get_u64(entry, where, key, max, &value, err);
    if (got == 1)
        *out = (uint32_t)value;
    return got;
}

static int get_u8(const json_t *entry, const char *where, const char *key, uint8_t *out, struct error *err)
{
    uint32_t value = 0;
    int got = get_u32(entry, where, key, UINT8_MAX, &value, err);
    if (got == 1)
        *out = (uint8_t)value;
    return got;
}

static void put_address(struct netlink_message *message, uint16_t type, const struct address *address)
{
    netlink_put(message, type, address->bytes, address->length);
}

/* entry[key], if present, as a u32 attribute. */
static int put_u32(struct netlink_message *message, uint16_t type, const json_t *entry, const char *where,
                   const char *key, struct error *err)
{
    uint32_t value = 0;
    int got = get_u32(entry, where, key, UINT32_MAX, &value, err);
    if (got == 1)
        netlink_put_u32(message, type, value);
    return got < 0 ? -1 : 0;
}

/* entry[key], if present, as an attribute: an address of the family. */
static int put_given_address(struct netlink_message *message, uint16_t type, const json_t *entry,
                             const char *where, const char *key, int family, struct error *err)
{
    struct address address = {0};
    int got = get_address(entry, where, key, &address, err);
    if (got == 1 && address.family != family)
        return error_set(err, 0, "%s.%s: wrong family", where, key);
    if (got == 1)
        put_address(message, type, &address);
    return got < 0 ? -1 : 0;
}

int network_message_address(struct netlink_message *message, uint16_t type, uint32_t index,
                            const json_t *entry, uint32_t extra_flags, struct error *err)
{
    static const char where[] = "address";
    struct ifaddrmsg *header =
        netlink_start(message, type, type == RTM_NEWADDR ? NLM_F_CREATE | NLM_F_REPLACE : 0, sizeof(*header));
    struct ifa_cacheinfo lifetimes = {.ifa_valid = UINT32_MAX, .ifa_prefered = UINT32_MAX};
    struct address own = {0}, peer;
    const char *label = NULL;
    uint32_t flags = 0;
    if (json_require(get_address(entry, where, "address", &own, err), where, "address", err) < 0 ||
        get_u8(entry, where, "prefix", &header->ifa_prefixlen, err) < 0 ||
        get_u8(entry, where, "scope", &header->ifa_scope, err) < 0 ||
        get_u32(entry, where, "flags", UINT32_MAX, &flags, err) < 0 ||
        get_u32(entry, where, "valid_s", UINT32_MAX, &lifetimes.ifa_valid, err) < 0 ||
        get_u32(entry, where, "preferred_s", UINT32_MAX, &lifetimes.ifa_prefered, err) < 0 ||
        json_get_string(entry, where, "label", &label, err) < 0)
        return -1;
    header->ifa_family = (uint8_t)own.family;
    header->ifa_index = index;
    peer = own;
    if (get_address(entry, where, "peer", &peer, err) < 0)
        return -1;
    put_address(message, IFA_LOCAL, &own);
    put_address(message, IFA_ADDRESS, &peer);
    netlink_put_u32(message, IFA_FLAGS, flags | extra_flags);
    netlink_put(message, IFA_CACHEINFO, &lifetimes, sizeof(lifetimes));
    if (label && own.family == AF_INET)
        netlink_put(message, IFA_LABEL, label, strlen(label) + 1);
    if (put_u32(message, IFA_RT_PRIORITY, entry, where, "metric", err) < 0)
        return -1;
    return put_given_address(message, IFA_BROADCAST, entry, where, "broadcast", AF_INET, err);
}

int network_message_connected(const json_t *entry, char *text, size_t size, struct error *err)
{
    struct address address = {0};
    uint32_t flags = 0, prefix = 0;
    char name[INET6_ADDRSTRLEN];
    if (json_require(get_address(entry, "address", "address", &address, err), "address", "address", err) <
            0 ||
        get_address(entry, "address", "peer", &address, err) < 0 ||
        get_u32(entry, "address", "flags", UINT32_MAX, &flags, err) < 0 ||
        get_u32(entry, "address", "prefix", (uint32_t)address.length * 8, &prefix, err) < 0)
        return -1;
    if ((flags & IFA_F_NOPREFIXROUTE) || (address.family == AF_INET && prefix == 32))
        return 0;
    for (unsigned bit = prefix; bit < 8 * address.length; bit++)
        address.bytes[bit / 8] = (unsigned char)(address.bytes[bit / 8] & ~(0x80u >> bit % 8));
    inet_ntop(address.family, address.bytes, name, sizeof(name));
    snprintf(text, size, "%s/%u", name, prefix);
    return 1;
}

int network_message_neighbour(struct netlink_message *message, uint16_t type, uint32_t index,
                              const json_t *entry, struct error *err)
{
    static const char where[] = "neighbour";
    struct ndmsg *header = netlink_start(
        message, type, type == RTM_NEWNEIGH ? NLM_F_CREATE | NLM_F_REPLACE : 0, sizeof(*header));
    struct address address = {0};
    const char *text = NULL;
    unsigned char mac[ETH_ALEN];
    if (json_require(get_address(entry, where, "address", &address, err), where, "address", err) < 0 ||
        get_u8(entry, where, "flags", &header->ndm_flags, err) < 0 ||
        json_require(json_get_string(entry, where, "mac", &text, err), where, "mac", err) < 0)
        return -1;
    if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
               &mac[5]) != ETH_ALEN)
        return error_set(err, 0, "neighbour.mac: '%.32s' is no Ethernet address", text);
    header->ndm_family = (uint8_t)address.family;
    header->ndm_ifindex = (int)index;
    header->ndm_state = NUD_PERMANENT;
    put_address(message, NDA_DST, &address);
    netlink_put(message, NDA_LLADDR, mac, sizeof(mac));
    return 0;
}

/* The interface and the gateway of a route or of one of its next hops. `index` is 0 where none is named. */
static int get_hop(const json_t *entry, const struct network_indices *indices, uint32_t *index,
                   struct address *gateway, int *has_gateway, struct error *err)
{
    int64_t id = 0;
    int got = json_get_int(entry, "route", "interface", 1, INT32_MAX, &id, err);
    if (got < 0)
        return -1;
    *index = got ? indices->find(indices->arg, id) : 0;
    if (got && *index == 0)
        return error_set(err, ENODEV, "route.interface: %lld", (long long)id);
    *has_gateway = get_address(entry, "route", "gateway", gateway, err);
    return *has_gateway < 0 ? -1 : 0;
}

/* RTA_GATEWAY, or RTA_VIA where the gateway is of the other family. */
static void put_gateway(struct netlink_message *message, int family, const struct address *gateway)
{
    char buffer[sizeof(struct rtvia) + sizeof(struct in6_addr)];
    struct rtvia *via = (void *)buffer;
    if (gateway->family == family) {
        put_address(message, RTA_GATEWAY, gateway);
        return;
    }
    via->rtvia_family = (__kernel_sa_family_t)gateway->family;
    memcpy(via->rtvia_addr, gateway->bytes, gateway->length);
    netlink_put(message, RTA_VIA, via, sizeof(*via) + gateway->length);
}

static int put_nexthops(struct netlink_message *message, int family, const json_t *entry,
                        const struct network_indices *indices, struct error *err)
{
    json_t *list = NULL, *hop;
    size_t i;
    int got = json_get_array(entry, "route", "nexthops", &list, err);
    if (got <= 0)
        return got;
    if (json_array_size(list) > NEXTHOPS_MAX)
        return error_set(err, E2BIG, "route.nexthops");
    size_t nest = netlink_nest(message, RTA_MULTIPATH);
    json_array_foreach(list, i, hop)
    {
        struct rtnexthop header = {.rtnh_len = sizeof(header)};
        struct address gateway = {0};
        uint32_t index, weight = 1;
        int has_gateway = 0;
        if (!json_is_object(hop))
            return error_set(err, 0, "route.nexthops: expected objects");
        if (get_hop(hop, indices, &index, &gateway, &has_gateway, err) < 0 ||
            get_u32(hop, "route", "weight", UINT8_MAX + 1, &weight, err) < 0 ||
            get_u8(hop, "route", "flags", &header.rtnh_flags, err) < 0)
            return -1;
        header.rtnh_hops = (unsigned char)(weight - 1);
        header.rtnh_ifindex = (int)index;
        size_t start = message->header.nlmsg_len;
        struct rtnexthop *placed = netlink_append(message, &header, sizeof(header));
        if (has_gateway)
            put_gateway(message, family, &gateway);
        if (placed)
            placed->rtnh_len = (unsigned short)(message->header.nlmsg_len - start);
    }
    netlink_end(message, nest);
    return 0;
}

/* Pairs [RTAX_*, value]. */
static int put_metrics(struct netlink_message *message, const json_t *entry, struct error *err)
{
    json_t *pairs = NULL, *pair;
    size_t i;
    int got = json_get_array(entry, "route", "metrics", &pairs, err);
    if (got <= 0)
        return got;
    if (json_array_size(pairs) > METRICS_MAX)
        return error_set(err, E2BIG, "route.metrics");
    size_t nest = netlink_nest(message, RTA_METRICS);
    json_array_foreach(pairs, i, pair)
    {
        json_int_t metric = json_integer_value(json_array_get(pair, 0));
        json_int_t value = json_integer_value(json_array_get(pair, 1));
        if (json_array_size(pair) != 2 || metric < 1 || metric > RTAX_MAX || value < 0 || value > UINT32_MAX)
            return error_set(err, 0, "route.metrics[%zu]: expected a metric and its value", i);
        netlink_put_u32(message, (uint16_t)metric, (uint32_t)value);
    }
    netlink_end(message, nest);
    return 0;
}

static int put_route_options(struct netlink_message *message, struct rtmsg *header, const json_t *entry,
                             struct error *err)
{
    static const char where[] = "route";
    struct address from = {0};
    uint8_t preference = 0;
    int got = get_prefix(entry, where, "from", &from, err);
    if (got == 1) {
        header->rtm_src_len = (uint8_t)from.prefix;
        put_address(message, RTA_SRC, &from);
    }
    int preferred = get_u8(entry, where, "preference", &preference, err);
    if (preferred == 1)
        netlink_put(message, RTA_PREF, &preference, sizeof(preference));
    if (got < 0 || preferred < 0 ||
        put_given_address(message, RTA_PREFSRC, entry, where, "source", header->rtm_family, err) < 0 ||
        put_u32(message, RTA_PRIORITY, entry, where, "metric", err) < 0 ||
        put_u32(message, RTA_EXPIRES, entry, where, "expires_s", err) < 0)
        return -1;
    return put_metrics(message, entry, err);
}

int network_message_route(struct netlink_message *message, uint16_t type, const json_t *entry,
                          const struct network_indices *indices, struct error *err)
{
    static const char where[] = "route";
    /* Several routes may differ in nothing but their next hop: each is added behind those before it. */
    struct rtmsg *header =
        netlink_start(message, type, type == RTM_NEWROUTE ? NLM_F_CREATE | NLM_F_APPEND : 0, sizeof(*header));
    struct address destination = {0}, gateway = {0};
    uint32_t table = RT_TABLE_MAIN, index = 0, flags = 0;
    int has_gateway = 0;
    if (json_require(get_prefix(entry, where, "destination", &destination, err), where, "destination", err) <
            0 ||
        get_u32(entry, where, "table", UINT32_MAX, &table, err) < 0 ||
        get_u32(entry, where, "flags", UINT32_MAX, &flags, err) < 0 ||
        get_u8(entry, where, "protocol", &header->rtm_protocol, err) < 0 ||
        get_u8(entry, where, "scope", &header->rtm_scope, err) < 0 ||
        get_u8(entry, where, "type", &header->rtm_type, err) < 0 ||
        get_u8(entry, where, "tos", &header->rtm_tos, err) < 0 ||
        get_hop(entry, indices, &index, &gateway, &has_gateway, err) < 0)
        return -1;
    header->rtm_family = (uint8_t)destination.family;
    header->rtm_dst_len = (uint8_t)destination.prefix;
    header->rtm_flags = flags;
    header->rtm_table = table <= UINT8_MAX ? (uint8_t)table : RT_TABLE_UNSPEC;
    netlink_put_u32(message, RTA_TABLE, table);
    if (destination.prefix > 0)
        put_address(message, RTA_DST, &destination);
    if (index)
        netlink_put_u32(message, RTA_OIF, index);
    if (has_gateway)
        put_gateway(message, destination.family, &gateway);
    if (put_nexthops(message, destination.family, entry, indices, err) < 0)
        return -1;
    return put_route_options(message, header, entry, err);
}

static int put_ports(struct netlink_message *message, uint16_t type, const json_t *entry, const char *key,
                     struct error *err)
{
    json_t *pair = NULL;
    int got = json_get_array(entry, "rule", key, &pair, err);
    if (got <= 0)
        return got;
    json_int_t first = json_integer_value(json_array_get(pair, 0));
    json_int_t last = json_integer_value(json_array_get(pair, 1));
    if (json_array_size(pair) != 2 || first < 0 || last > UINT16_MAX || first > last)
        return error_set(err, 0, "rule.%s: expected two ports", key);
    struct fib_rule_port_range range = {.start = (uint16_t)first, .end = (uint16_t)last};
    netlink_put(message, type, &range, sizeof(range));
    return 0;
}

/* The prefixes that a rule selects by. */
static int put_rule_prefix(struct netlink_message *message, uint16_t type, const json_t *entry,
                           const char *key, int family, uint8_t *length, struct error *err)
{
    struct address address = {0};
    int got = get_prefix(entry, "rule", key, &address, err);
    if (got <= 0)
        return got;
    if (address.family != family)
        return error_set(err, 0, "rule.%s: wrong family", key);
    *length = (uint8_t)address.prefix;
    put_address(message, type, &address);
    return 0;
}

static int put_rule_name(struct netlink_message *message, uint16_t type, const json_t *entry, const char *key,
                         struct error *err)
{
    const char *name = NULL;
    int got = json_get_string(entry, "rule", key, &name, err);
    if (got == 1)
        netlink_put(message, type, name, strlen(name) + 1);
    return got < 0 ? -1 : 0;
}

static int put_u8(struct netlink_message *message, uint16_t type, const json_t *entry, const char *key,
                  struct error *err)
{
    uint8_t value = 0;
    int got = get_u8(entry, "rule", key, &value, err);
    if (got == 1)
        netlink_put(message, type, &value, sizeof(value));
    return got < 0 ? -1 : 0;
}

int network_message_rule(struct netlink_message *message, uint16_t type, const json_t *entry,
                         struct error *err)
{
    static const char where[] = "rule";
    static const struct {
        const char *key;
        uint16_t type;
    } numbers[] = {{"priority", FRA_PRIORITY}, {"table", FRA_TABLE},
                   {"mark", FRA_FWMARK},       {"mask", FRA_FWMASK},
                   {"goto", FRA_GOTO},         {"suppress_prefix", FRA_SUPPRESS_PREFIXLEN}};
    struct fib_rule_hdr *header =
        netlink_start(message, type, type == RTM_NEWRULE ? NLM_F_CREATE | NLM_F_EXCL : 0, sizeof(*header));
    int64_t family = 0;
    if (json_require(json_get_int(entry, where, "family", 4, 6, &family, err), where, "family", err) < 0 ||
        get_u8(entry, where, "action", &header->action, err) < 0 ||
        get_u8(entry, where, "tos", &header->tos, err) < 0 ||
        get_u32(entry, where, "flags", UINT32_MAX, &header->flags, err) < 0)
        return -1;
    if (family != 4 && family != 6)
        return error_set(err, 0, "rule.family: 4 or 6 was expected");
    header->family = family == 6 ? AF_INET6 : AF_INET;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (put_u32(message, numbers[i].type, entry, where, numbers[i].key, err) < 0)
            return -1;
    }
    if (put_rule_prefix(message, FRA_SRC, entry, "from", header->family, &header->src_len, err) < 0 ||
        put_rule_prefix(message, FRA_DST, entry, "to", header->family, &header->dst_len, err) < 0 ||
        put_rule_name(message, FRA_IIFNAME, entry, "input", err) < 0 ||
        put_rule_name(message, FRA_OIFNAME, entry, "output", err) < 0 ||
        put_u8(message, FRA_PROTOCOL, entry, "protocol", err) < 0 ||
        put_u8(message, FRA_IP_PROTO, entry, "ip_protocol", err) < 0 ||
        put_ports(message, FRA_SPORT_RANGE, entry, "source_ports", err) < 0)
        return -1;
    return put_ports(message, FRA_DPORT_RANGE, entry, "destination_ports", err);
}
