/*
 * The pod's network: see network.h. Trust: config.json is foreign; the namespace and its interfaces are the
 * engine's and the kernel's.
 */
#include "shim/network.h"

#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "shim/netlink.h"
#include "shim/network_internal.h"
#include "shim/network_local.h"
#include "shim/network_namespace.h"

#include <errno.h>
#include <linux/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NETWORK_FILE           "network.json"
#define NETWORK_FILE_BYTES_MAX 8192
/* More pairs than this cost memory and gain nothing: a flow stays with one. */
#define QUEUE_PAIRS_MAX 8

static bool link_is_tap_of_ours(const struct network_interface *link)
{
    return strcmp(link->kind, "tun") == 0 &&
           strncmp(link->name, NETWORK_TAP_PREFIX, strlen(NETWORK_TAP_PREFIX)) == 0;
}

int network_wants(const struct network_interface *link, struct error *err)
{
    static const unsigned char no_mac[ETH_ALEN];
    bool up = link->flags & IFF_UP;
    /* What belongs to a bridge or bond of the namespace talks through that. */
    if ((link->flags & IFF_LOOPBACK) || link_is_tap_of_ours(link) || link->master)
        return 0;
    /* The kernel puts devices of its own into every namespace (sit0, tunl0, gretap0): down, until someone
     * uses them. */
    if (link->hardware != ARPHRD_ETHER || memcmp(link->mac, no_mac, ETH_ALEN) == 0) {
        if (up)
            return error_say(err, EOPNOTSUPP, "interface %s: only Ethernet can be carried over to the guest",
                             link->name);
        return 0;
    }
    /* The traffic of the lower one goes to the guest, so the upper one would get none. */
    if (link->lower && strcmp(link->kind, "veth") != 0)
        return error_say(err, EOPNOTSUPP,
                         "interface %s: a %s on another interface of the same network namespace can't be "
                         "carried over to the guest",
                         link->name, link->kind);
    return 1;
}

int network_add_nic(struct network *network, const struct network_interface *link, struct vmm_net *net,
                    struct error *err)
{
    struct network_nic *nic = &network->nics[network->count];
    *nic = (struct network_nic){.interface = link->index, .mtu = link->mtu};
    memcpy(nic->name, link->name, sizeof(nic->name));
    if (network->count == NETWORK_INTERFACES_MAX)
        return error_set(err, 0, "more than %d interfaces", NETWORK_INTERFACES_MAX);
    if (network_tap_open(link, network->queue_pairs, network->socket, net, &nic->tap, err) < 0)
        return -1;
    if (network_redirect_add(link->index, nic->tap, network->socket, err) < 0) {
        network_tap_close(net);
        return error_wrap(err, "interface %s", link->name);
    }
    network->count++;
    struct error own = {0};
    nic->local = network_local_add_tap(nic->tap, network->socket, &own) == 0;
    if (!nic->local)
        log_info("interface %s: not reached from within its network namespace: %s", link->name, own.text);
    network_set_local(network, nic, link);
    log_debug("nic interface=%s index=%u tap=%u queues=%u vhost=%d", link->name, link->index, nic->tap,
              net->queues, net->vhost);
    return 0;
}

void network_set_local(struct network *network, struct network_nic *nic, const struct network_interface *link)
{
    struct error err;
    if (nic->local && network_local_set(link, nic->addresses, nic->tap, network->socket, &err) < 0)
        log_warn("interface %s: %s", link->name, err.text);
    json_decref(nic->addresses);
    nic->addresses = json_incref(link->addresses);
}

void network_remove_nic(struct network *network, size_t at)
{
    struct network_nic *nic = &network->nics[at];
    network_redirect_remove(nic->interface, network->socket);
    if (nic->local)
        network_local_restore(nic->interface, nic->addresses, network->socket);
    json_decref(nic->addresses);
    free(nic->device);
    network->count--;
    memmove(&network->nics[at], &network->nics[at + 1], (network->count - at) * sizeof(network->nics[0]));
}

static const struct network_nic *network_find_nic(const struct network *network, uint32_t interface)
{
    for (size_t i = 0; i < network->count; i++) {
        if (network->nics[i].interface == interface)
            return &network->nics[i];
    }
    return NULL;
}

/* Whether the agent is told of an interface: of those with a NIC, and of lo for what was added to it. */
static bool network_describes(const struct network *network, const struct network_interface *link)
{
    return (link->flags & IFF_LOOPBACK) || network_find_nic(network, link->index);
}

static json_t *describe_interface(const struct network *network, const struct network_interface *link)
{
    const struct network_nic *nic = network_find_nic(network, link->index);
    json_t *object =
        json_pack("{s:I, s:s, s:b, s:I, s:O, s:O, s:O}", "id", (json_int_t)link->index, "name", link->name,
                  "up", (link->flags & IFF_UP) != 0, "mtu", (json_int_t)link->mtu, "addresses",
                  link->addresses, "neighbours", link->neighbours, "sysctls", link->sysctls);
    if (!object || !nic) {
        json_object_set_new(object, "loopback", json_true());
        return object;
    }
    char mac[3 * ETH_ALEN];
    snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", link->mac[0], link->mac[1], link->mac[2],
             link->mac[3], link->mac[4], link->mac[5]);
    json_object_set_new(object, "mac", json_string(mac));
    json_object_set_new(object, "noarp", json_boolean(link->flags & IFF_NOARP));
    json_object_set_new(object, "queue_length", json_integer(link->queue_length));
    if (nic->device)
        json_object_set_new(object, "device", json_string(nic->device));
    return object;
}

/* Whether all that a route names is known to the agent. */
static bool route_is_described(const struct network *network, const struct network_snapshot *snapshot,
                               const json_t *route)
{
    json_t *hop, *index = json_object_get(route, "interface");
    size_t i;
    const struct network_interface *link =
        index ? network_snapshot_find(snapshot, (uint32_t)json_integer_value(index)) : NULL;
    if (index && (!link || !network_describes(network, link)))
        return false;
    json_array_foreach(json_object_get(route, "nexthops"), i, hop)
    {
        if (!route_is_described(network, snapshot, hop))
            return false;
    }
    return true;
}

json_t *network_describe_snapshot(const struct network *network, const struct network_snapshot *snapshot,
                                  struct error *err)
{
    json_t *interfaces = json_array(), *routes = json_array(), *route;
    size_t i;
    for (size_t at = 0; at < snapshot->count; at++) {
        if (network_describes(network, &snapshot->interfaces[at]))
            json_array_append_new(interfaces, describe_interface(network, &snapshot->interfaces[at]));
    }
    json_array_foreach(snapshot->routes, i, route)
    {
        if (route_is_described(network, snapshot, route))
            json_array_append(routes, route);
    }
    json_t *object =
        json_pack("{s:o, s:o, s:O}", "interfaces", interfaces, "routes", routes, "rules", snapshot->rules);
    if (!object)
        error_set(err, ENOMEM, "network");
    return object;
}

/* For network_clean: which namespace holds redirections of ours. One without a path ends with the sandbox. */
static int network_record(const char *path, int container_fd, struct error *err)
{
    struct stat status;
    if (!path)
        return 0;
    if (stat("/proc/thread-self/ns/net", &status) < 0)
        return error_set(err, errno, "own network namespace");
    cleanup_json json_t *object = json_pack("{s:s, s:I, s:I}", "path", path, "device",
                                            (json_int_t)status.st_dev, "inode", (json_int_t)status.st_ino);
    cleanup_free char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    if (!text)
        return error_set(err, ENOMEM, NETWORK_FILE);
    int result = fd_write_file_atomic(container_fd, NETWORK_FILE, text, strlen(text), 0600);
    return result < 0 ? error_set(err, -result, "write " NETWORK_FILE) : 0;
}

/* All interfaces, as they are now, get their NICs. */
static int network_fill(struct network *network, struct error *err)
{
    struct network_snapshot snapshot;
    int result = network_snapshot_take(&snapshot, network->socket, err);
    for (size_t i = 0; result == 0 && i < snapshot.count; i++) {
        const struct network_interface *link = &snapshot.interfaces[i];
        if (link_is_tap_of_ours(link)) {
            result = error_say(err, EBUSY,
                               "the network namespace belongs to another sandbox (its tap %s is there)",
                               link->name);
            break;
        }
        int wanted = network_wants(link, err);
        result = wanted < 0 ? -1 : 0;
        if (wanted == 1 && network->started == VMM_NETS_MAX)
            result = error_set(err, 0, "more than %u interfaces", VMM_NETS_MAX);
        else if (wanted == 1 && network_add_nic(network, link, &network->vmm_nets[network->started], err) < 0)
            result = -1;
        else if (wanted == 1)
            network->started++;
    }
    network_snapshot_fini(&snapshot);
    return result;
}

static struct network *network_new(struct error *err)
{
    struct network *network = calloc(1, sizeof(*network));
    if (network)
        network->runtime_fd = network->timer.fd = -1;
    else
        error_set(err, ENOMEM, "network");
    return network;
}

struct network *network_open(const json_t *spec, int container_fd, unsigned queue_pairs, struct error *err)
{
    const char *path = NULL;
    struct network *network = network_new(err);
    if (!network)
        return NULL;
    network->queue_pairs = queue_pairs < QUEUE_PAIRS_MAX ? queue_pairs : QUEUE_PAIRS_MAX;
    if (network_namespace_find(spec, &path, err) == 0) {
        network->runtime_fd = network_namespace_enter(path, err);
        if (network->runtime_fd >= 0 && network_record(path, container_fd, err) == 0 &&
            (network->events = netlink_listen(err)) != NULL &&
            (network->socket = netlink_open(err)) != NULL && network_fill(network, err) == 0)
            return network;
    }
    network_close(network);
    return NULL;
}

struct network *network_join(const json_t *spec, struct error *err)
{
    const char *path = NULL;
    struct network *network = network_new(err);
    if (network && network_namespace_find(spec, &path, err) == 0) {
        network->runtime_fd = network_namespace_enter(path, err);
        if (network->runtime_fd >= 0)
            return network;
    }
    network_close(network);
    return NULL;
}

int network_runtime_fd(const struct network *network)
{
    return network->runtime_fd;
}

const struct vmm_net *network_nics(const struct network *network, unsigned *count)
{
    *count = network->started;
    return network->vmm_nets;
}

void network_release_nics(struct network *network)
{
    for (size_t i = 0; i < network->started; i++)
        network_tap_close(&network->vmm_nets[i]);
    network->started = 0;
}

void network_close(struct network *network)
{
    if (!network)
        return;
    network_unfollow(network);
    network_release_nics(network);
    while (network->count > 0)
        network_remove_nic(network, network->count - 1);
    if (network->events)
        mnl_socket_close(network->events);
    if (network->socket)
        mnl_socket_close(network->socket);
    fd_close(&network->runtime_fd);
    json_decref(network->described);
    free(network);
}

/* The namespace that NETWORK_FILE tells of, if its path still leads to it. fd, the caller's, or -1. */
static int network_reopen(int container_fd)
{
    cleanup_free char *text = NULL;
    const char *path = NULL;
    uint64_t device = 0, inode = 0;
    struct stat status;
    ssize_t length = fd_read_file_at(container_fd, NETWORK_FILE, NETWORK_FILE_BYTES_MAX, &text);
    if (length < 0)
        return -1;
    cleanup_json json_t *object = json_parse_object(text, (size_t)length, NULL);
    if (!object || json_get_string(object, "", "path", &path, NULL) != 1 ||
        json_get_u64(object, "", "device", UINT64_MAX, &device, NULL) != 1 ||
        json_get_u64(object, "", "inode", UINT64_MAX, &inode, NULL) != 1)
        return -1;
    cleanup_fd int fd = network_namespace_open(path, NULL);
    if (fd < 0 || fstat(fd, &status) < 0 || status.st_dev != device || status.st_ino != inode)
        return -1;
    return take_fd(&fd);
}

void network_clean(int container_fd)
{
    struct network_snapshot snapshot;
    cleanup_fd int fd = network_reopen(container_fd);
    struct mnl_socket *socket = fd < 0 ? NULL : netlink_open_in(fd, NULL);
    if (!socket)
        return;
    /* The interfaces come first: a route that can't be read must not keep them from being cleaned. */
    network_snapshot_take(&snapshot, socket, NULL);
    for (size_t i = 0; i < snapshot.count; i++) {
        const struct network_interface *link = &snapshot.interfaces[i];
        network_redirect_remove(link->index, socket);
        if (network_wants(link, NULL) == 1)
            network_local_restore(link->index, link->addresses, socket);
    }
    network_snapshot_fini(&snapshot);
    mnl_socket_close(socket);
}
