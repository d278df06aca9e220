/*
 * sandbox.network.set: see network.h. The old state and the new are lists of the same JSON; an entry that is
 * in one only is removed or added. What ends by itself (lifetimes) is set anew each time.
 */
#include "agent/network.h"

#include "agent/netlink.h"
#include "agent/network_link.h"
#include "agent/network_message.h"
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENTRIES_MAX 16384 /* routes, addresses, neighbours, rules: of each list */

/* An interface of the host's and the NIC that stands for it. */
struct binding {
    int64_t id;
    uint32_t index;
};

struct network {
    int socket;
    struct binding bindings[NETWORK_LINKS_MAX];
    size_t count;
    json_t *set; /* the last params, or NULL */
};

/* A request at work: the first error is kept, the rest is still done. */
struct change {
    struct network *network;
    struct error first;
    json_t *removed;
};

static void change_failed(struct change *change, const struct error *err)
{
    log_warn("network: %s", err->text);
    if (change->first.code == 0)
        change->first = *err;
}

static struct binding *binding_find(struct network *network, int64_t id)
{
    for (size_t i = 0; i < network->count; i++) {
        if (network->bindings[i].id == id)
            return &network->bindings[i];
    }
    return NULL;
}

static uint32_t index_find(void *arg, int64_t id)
{
    const struct binding *binding = binding_find(arg, id);
    return binding ? binding->index : 0;
}

static bool index_is_bound(const struct network *network, uint32_t index)
{
    for (size_t i = 0; i < network->count; i++) {
        if (network->bindings[i].index == index)
            return true;
    }
    return false;
}

/* The entry of `list` with that id, or NULL. */
static const json_t *interface_find(const json_t *list, int64_t id)
{
    const json_t *entry;
    for (size_t i = 0; (entry = json_array_get(list, i)) != NULL; i++) {
        if (json_integer_value(json_object_get(entry, "id")) == id)
            return entry;
    }
    return NULL;
}

static bool list_has(const json_t *list, const json_t *entry)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (json_equal(json_array_get(list, i), entry))
            return true;
    }
    return false;
}

/* --- Interfaces
 * ----------------------------------------------------------------------------------------------- */

static bool link_suits(const struct network *network, const struct network_link *link,
                       const struct network_wish *wish)
{
    if (index_is_bound(network, link->index) || link->loopback != wish->loopback)
        return false;
    return wish->loopback || memcmp(link->mac, wish->mac, ETH_ALEN) == 0;
}

/* Looks for a NIC that is to be the wish's. 1, 0 when there is none, or -1. */
static int network_find_link(const struct network *network, const struct network_wish *wish,
                             struct network_link *link, struct error *err)
{
    struct network_link links[NETWORK_LINKS_MAX] = {0};
    int count = network_links_list(network->socket, links, err);
    for (int i = 0; i < count; i++) {
        if (link_suits(network, &links[i], wish)) {
            *link = links[i];
            return 1;
        }
    }
    return count < 0 ? -1 : 0;
}

static int network_bind(struct network *network, const struct network_wish *wish, struct network_link *link,
                        struct error *err)
{
    int found = network_find_link(network, wish, link, err);
    if (found == 0 && wish->device) {
        if (slot_bind(wish->device, err) < 0)
            return error_wrap(err, "interface %s", wish->name);
        found = network_find_link(network, wish, link, err);
    }
    if (found == 0)
        return error_set(err, ENODEV, "interface %s: no NIC has its MAC", wish->name);
    if (found < 0 || network->count == NETWORK_LINKS_MAX)
        return found < 0 ? -1 : error_set(err, E2BIG, "interfaces");
    network->bindings[network->count++] = (struct binding){.id = wish->id, .index = link->index};
    return 0;
}

/* What an entry says but for its lists, for comparison. */
static json_t *interface_scalars(const json_t *entry)
{
    json_t *copy = json_copy((json_t *)(uintptr_t)entry);
    json_object_del(copy, "addresses");
    json_object_del(copy, "neighbours");
    return copy;
}

static int interface_set(struct network *network, const struct network_link *link,
                         const struct network_wish *wish, struct error *err)
{
    if (!wish->loopback && network_link_set(network->socket, link, wish, err) < 0)
        return -1;
    if (network_link_set_sysctls(wish, false, err) < 0)
        return -1;
    /* lo stays up: the guest's own is no matter of the pod's namespace. */
    if (!wish->loopback && network_link_set_up(network->socket, link->index, wish->up, err) < 0)
        return error_wrap(err, "interface %s", wish->name);
    return 0;
}

/* The name that a bound interface has now. */
static int network_current_link(const struct network *network, uint32_t index, struct network_link *link,
                                struct error *err)
{
    struct network_link links[NETWORK_LINKS_MAX] = {0};
    int count = network_links_list(network->socket, links, err);
    for (int i = 0; i < count; i++) {
        if (links[i].index == index) {
            *link = links[i];
            return 0;
        }
    }
    return count < 0 ? -1 : error_set(err, ENODEV, "interface %u", index);
}

static void interface_remove(struct change *change, size_t at)
{
    struct network *network = change->network;
    struct network_link link = {0};
    struct error err = {0};
    char device[SLOT_NAME_BYTES];
    if (network_current_link(network, network->bindings[at].index, &link, &err) < 0 ||
        (!link.loopback && network_device_unbind(link.name, device, &err) < 0))
        change_failed(change, &err);
    else if (!link.loopback)
        json_array_append_new(change->removed, json_string(device));
    network->bindings[at] = network->bindings[--network->count];
}

static int address_add(struct network *network, uint32_t index, const json_t *entry, struct error *err)
{
    struct netlink_message message;
    /* Nobody asks whether an address is taken that was in use on the host already. The flag is there for the
     * start only: written again without it, the address looks as on the host. */
    if (network_message_address(&message, RTM_NEWADDR, index, entry, IFA_F_NODAD, err) < 0)
        return -1;
    int failed = netlink_call(network->socket, &message);
    if (!failed && network_message_address(&message, RTM_NEWADDR, index, entry, 0, err) == 0)
        failed = netlink_call(network->socket, &message);
    return failed
               ? error_set(err, -failed, "address %s", json_string_value(json_object_get(entry, "address")))
               : 0;
}

static bool routes_have_connected(const json_t *routes, int64_t id, const char *destination)
{
    const json_t *route;
    for (size_t i = 0; (route = json_array_get(routes, i)) != NULL; i++) {
        const char *text = json_string_value(json_object_get(route, "destination"));
        if (json_integer_value(json_object_get(route, "interface")) == id && text &&
            strcmp(text, destination) == 0)
            return true;
    }
    return false;
}

/* The kernel makes a route for an address's network; where the host's namespace has it no more, it goes here
 * too. */
static void address_drop_connected(struct change *change, int64_t id, const json_t *entry,
                                   const json_t *routes)
{
    char destination[64];
    struct error err = {0};
    struct netlink_message message;
    struct network_indices indices = {.find = index_find, .arg = change->network};
    if (network_message_connected(entry, destination, sizeof(destination), &err) != 1 ||
        routes_have_connected(routes, id, destination))
        return;
    cleanup_json json_t *route =
        json_pack("{s:s, s:I, s:i, s:i}", "destination", destination, "interface", (json_int_t)id, "protocol",
                  RTPROT_KERNEL, "scope", RT_SCOPE_NOWHERE);
    if (route && network_message_route(&message, RTM_DELROUTE, route, &indices, &err) == 0)
        netlink_call(change->network->socket, &message);
}

static bool address_is_same(const json_t *a, const json_t *b)
{
    static const char *const key[] = {"address", "prefix", "peer"};
    for (size_t i = 0; i < sizeof(key) / sizeof(key[0]); i++) {
        const json_t *value_a = json_object_get(a, key[i]), *value_b = json_object_get(b, key[i]);
        if ((value_a || value_b) && !(value_a && value_b && json_equal(value_a, value_b)))
            return false;
    }
    return true;
}

static bool addresses_have(const json_t *list, const json_t *entry)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (address_is_same(json_array_get(list, i), entry))
            return true;
    }
    return false;
}

static void addresses_change(struct change *change, const struct network_wish *wish, uint32_t index,
                             const json_t *before, const json_t *routes)
{
    struct network *network = change->network;
    const json_t *old = json_object_get(before, "addresses"), *entry;
    struct netlink_message message;
    struct error err;
    for (size_t i = 0; (entry = json_array_get(old, i)) != NULL; i++) {
        if (!addresses_have(wish->addresses, entry) &&
            network_message_address(&message, RTM_DELADDR, index, entry, 0, &err) == 0)
            netlink_call(network->socket, &message); /* gone already: as it should be */
    }
    for (size_t i = 0; (entry = json_array_get(wish->addresses, i)) != NULL; i++) {
        if (list_has(old, entry) && !json_object_get(entry, "valid_s"))
            continue;
        if (address_add(network, index, entry, &err) < 0) {
            error_wrap(&err, "interface %s", wish->name);
            change_failed(change, &err);
        } else {
            address_drop_connected(change, wish->id, entry, routes);
        }
    }
}

static void neighbours_change(struct change *change, const struct network_wish *wish, uint32_t index,
                              const json_t *before)
{
    const json_t *old = json_object_get(before, "neighbours"), *entry;
    struct netlink_message message;
    struct error err;
    int failed = 0;
    for (size_t i = 0; (entry = json_array_get(old, i)) != NULL; i++) {
        if (!list_has(wish->neighbours, entry) &&
            network_message_neighbour(&message, RTM_DELNEIGH, index, entry, &err) == 0)
            netlink_call(change->network->socket, &message);
    }
    for (size_t i = 0; (entry = json_array_get(wish->neighbours, i)) != NULL; i++) {
        if (list_has(old, entry))
            continue;
        int built = network_message_neighbour(&message, RTM_NEWNEIGH, index, entry, &err);
        if (built == 0 && (failed = netlink_call(change->network->socket, &message)) != 0)
            built = error_set(&err, -failed, "interface %s: neighbour %s", wish->name,
                              json_string_value(json_object_get(entry, "address")));
        if (built < 0)
            change_failed(change, &err);
    }
}

static void interface_change(struct change *change, const json_t *entry, const json_t *routes)
{
    struct network *network = change->network;
    const json_t *before = interface_find(json_object_get(network->set, "interfaces"),
                                          json_integer_value(json_object_get(entry, "id")));
    struct network_wish wish;
    struct network_link link = {0};
    struct error err;
    if (network_wish_read(&wish, entry, &err) < 0) {
        change_failed(change, &err);
        return;
    }
    const struct binding *bound = binding_find(network, wish.id);
    cleanup_json json_t *scalars_before = before ? interface_scalars(before) : NULL;
    cleanup_json json_t *scalars = interface_scalars(entry);
    int result = bound ? network_current_link(network, bound->index, &link, &err)
                       : network_bind(network, &wish, &link, &err);
    if (result == 0 && (!scalars_before || !json_equal(scalars, scalars_before)))
        result = interface_set(network, &link, &wish, &err);
    if (result < 0) {
        change_failed(change, &err);
        return;
    }
    addresses_change(change, &wish, link.index, before, routes);
    neighbours_change(change, &wish, link.index, before);
    if (network_link_set_sysctls(&wish, true, &err) < 0)
        change_failed(change, &err);
}

/* --- Routes and rules
 * ----------------------------------------------------------------------------------------- */

static void route_send(struct change *change, uint16_t type, const json_t *entry)
{
    struct netlink_message message;
    struct network_indices indices = {.find = index_find, .arg = change->network};
    struct error err;
    int result = network_message_route(&message, type, entry, &indices, &err);
    int failed = result < 0 ? 0 : netlink_call(change->network->socket, &message);
    if (type == RTM_DELROUTE) /* gone with its interface or address */
        return;
    if (failed && failed != -EEXIST) /* the kernel made it itself */
        result =
            error_set(&err, -failed, "route %s", json_string_value(json_object_get(entry, "destination")));
    if (result < 0)
        change_failed(change, &err);
}

static bool route_is_direct(const json_t *route)
{
    return !json_object_get(route, "gateway") && !json_object_get(route, "nexthops");
}

/* A gateway can only be named once there is a route to it. */
static void routes_add(struct change *change, const json_t *old, const json_t *routes, bool direct)
{
    const json_t *entry;
    for (size_t i = 0; (entry = json_array_get(routes, i)) != NULL; i++) {
        if (route_is_direct(entry) == direct &&
            (!list_has(old, entry) || json_object_get(entry, "expires_s")))
            route_send(change, RTM_NEWROUTE, entry);
    }
}

/* A route without what changes by itself. */
static bool routes_have(const json_t *list, const json_t *route)
{
    cleanup_json json_t *lasting = json_copy((json_t *)(uintptr_t)route);
    json_object_del(lasting, "expires_s");
    for (size_t i = 0; i < json_array_size(list); i++) {
        cleanup_json json_t *other = json_copy(json_array_get(list, i));
        json_object_del(other, "expires_s");
        if (json_equal(lasting, other))
            return true;
    }
    return false;
}

static void routes_change(struct change *change, const json_t *routes)
{
    const json_t *old = json_object_get(change->network->set, "routes"), *entry;
    for (size_t i = 0; (entry = json_array_get(old, i)) != NULL; i++) {
        if (!routes_have(routes, entry))
            route_send(change, RTM_DELROUTE, entry);
    }
    routes_add(change, old, routes, true);
    routes_add(change, old, routes, false);
}

static void rule_send(struct change *change, uint16_t type, const json_t *entry)
{
    struct netlink_message message;
    struct error err;
    int result = network_message_rule(&message, type, entry, &err);
    int failed = result < 0 ? 0 : netlink_call(change->network->socket, &message);
    if (type == RTM_NEWRULE && failed && failed != -EEXIST)
        result = error_set(&err, -failed, "routing rule %lld",
                           (long long)json_integer_value(json_object_get(entry, "priority")));
    if (result < 0)
        change_failed(change, &err);
}

static void rules_change(struct change *change, const json_t *rules)
{
    const json_t *old = json_object_get(change->network->set, "rules"), *entry;
    for (size_t i = 0; (entry = json_array_get(old, i)) != NULL; i++) {
        if (!list_has(rules, entry))
            rule_send(change, RTM_DELRULE, entry);
    }
    for (size_t i = 0; (entry = json_array_get(rules, i)) != NULL; i++) {
        if (!list_has(old, entry))
            rule_send(change, RTM_NEWRULE, entry);
    }
}

/* --- The request
 * ---------------------------------------------------------------------------------------------- */

/* Arrays of objects, none longer than a real network's. */
static int params_get_list(const json_t *params, const char *key, json_t **list, struct error *err)
{
    int got = json_get_array(params, "", key, list, err);
    if (got == 1 && json_array_size(*list) > ENTRIES_MAX)
        return error_set(err, E2BIG, "%s", key);
    for (size_t i = 0; got == 1 && i < json_array_size(*list); i++) {
        if (!json_is_object(json_array_get(*list, i)))
            return error_set(err, 0, "%s[%zu]: expected an object", key, i);
    }
    return got < 0 ? -1 : 0;
}

static struct network *network_new(struct error *err)
{
    struct network *network = calloc(1, sizeof(*network));
    if (!network) {
        error_set(err, ENOMEM, "network");
        return NULL;
    }
    network->socket = netlink_open();
    if (network->socket < 0) {
        error_set(err, -network->socket, "netlink socket");
        free(network);
        return NULL;
    }
    return network;
}

int network_set(struct network **network, const json_t *params, json_t **removed, struct error *err)
{
    json_t *interfaces = NULL, *routes = NULL, *rules = NULL;
    if (params_get_list(params, "interfaces", &interfaces, err) < 0 ||
        params_get_list(params, "routes", &routes, err) < 0 ||
        params_get_list(params, "rules", &rules, err) < 0)
        return -1;
    if (!*network && !(*network = network_new(err)))
        return -1;
    struct change change = {.network = *network, .removed = json_array()};
    for (size_t i = (*network)->count; i-- > 0;) {
        if (!interface_find(interfaces, (*network)->bindings[i].id))
            interface_remove(&change, i);
    }
    for (size_t i = 0; i < json_array_size(interfaces); i++)
        interface_change(&change, json_array_get(interfaces, i), routes);
    routes_change(&change, routes);
    rules_change(&change, rules);
    json_decref((*network)->set);
    (*network)->set = json_deep_copy(params);
    *removed = change.removed;
    if (change.first.code == 0)
        return 0;
    *err = change.first;
    json_decref(take_ptr(removed));
    return -1;
}

void network_use_cpus(const struct network *network, unsigned cpus)
{
    if (network)
        network_links_use_cpus(network->socket, cpus);
}

void network_free(struct network *network)
{
    if (!network)
        return;
    close(network->socket);
    json_decref(network->set);
    free(network);
}
