/*
 * The namespace's changes: see network_follow.h. Runs in the monitor's loop.
 */
#include "shim/network_follow.h"

#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "shim/netlink.h"
#include "shim/network_internal.h"
#include "shim/vmm_control.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Changes come in bursts: an interface, its addresses, its routes. */
#define SETTLE_MS 20

#define NOTICE_BYTES 8192

static const struct network_interface *wanted_link(const struct network_snapshot *snapshot, uint32_t index)
{
    const struct network_interface *link = network_snapshot_find(snapshot, index);
    return link && network_wants(link, NULL) == 1 ? link : NULL;
}

static void update_remove_gone(struct network *network, const struct network_snapshot *snapshot)
{
    for (size_t i = network->count; i-- > 0;) {
        if (wanted_link(snapshot, network->nics[i].interface))
            continue;
        log_info("interface gone name=%s index=%u", network->nics[i].name, network->nics[i].interface);
        network->leaving[network->leaving_count++] = network->nics[i].interface;
        network_remove_nic(network, i);
    }
}

static int update_attach(struct network *network, const struct network_interface *link, int sandbox_fd,
                         struct error *err)
{
    struct vmm_net net;
    char device[VMM_DEVICE_NAME_BYTES];
    if (network->leaving_count + network->count >= NETWORK_INTERFACES_MAX)
        return error_set(err, 0, "interface %s: too many", link->name);
    if (network_add_nic(network, link, &net, err) < 0)
        return -1;
    int result = vmm_control_attach_net(sandbox_fd, &net, device, err);
    network_tap_close(&net);
    struct network_nic *nic = &network->nics[network->count - 1];
    if (result == 0 && !(nic->device = strdup(device)))
        result = error_set(err, ENOMEM, "NIC");
    if (result < 0) {
        network_remove_nic(network, network->count - 1);
        return error_wrap(err, "interface %s", link->name);
    }
    log_info("interface attached name=%s index=%u device=%s", link->name, link->index, device);
    return 0;
}

/* A NIC that is there follows in what the host has to do for it. */
static int update_nic(struct network *network, struct network_nic *nic, const struct network_interface *link,
                      struct error *err)
{
    network_set_local(network, nic, link);
    if (nic->mtu == link->mtu)
        return 0;
    if (network_tap_set_mtu(nic->tap, link->mtu, network->socket, err) < 0)
        return error_wrap(err, "interface %s: MTU", link->name);
    nic->mtu = link->mtu;
    return 0;
}

static int update_link(struct network *network, const struct network_interface *link, int sandbox_fd,
                       struct error *err)
{
    int wanted = network_wants(link, err);
    if (wanted <= 0)
        return wanted;
    for (size_t i = 0; i < network->count; i++) {
        if (network->nics[i].interface == link->index)
            return update_nic(network, &network->nics[i], link, err);
    }
    return update_attach(network, link, sandbox_fd, err);
}

/* Everything is tried; the first error is told. */
static int update_links(struct network *network, const struct network_snapshot *snapshot, int sandbox_fd,
                        struct error *err)
{
    int result = 0;
    for (size_t i = 0; i < snapshot->count; i++) {
        struct error own;
        if (update_link(network, &snapshot->interfaces[i], sandbox_fd, &own) < 0 && result == 0) {
            result = -1;
            if (err)
                *err = own;
        }
    }
    return result;
}

int network_update(struct network *network, int sandbox_fd, json_t **params, struct error *err)
{
    struct network_snapshot snapshot;
    *params = NULL;
    int result = network_snapshot_take(&snapshot, network->socket, err);
    if (result == 0) {
        update_remove_gone(network, &snapshot);
        result = update_links(network, &snapshot, sandbox_fd, err);
        json_t *described = network_describe_snapshot(network, &snapshot, err);
        bool nothing = !network->described && network->count == 0;
        if (!described)
            result = -1;
        else if (!nothing && !(network->described && json_equal(described, network->described)))
            *params = json_incref(described);
        json_decref(network->described);
        network->described = nothing ? NULL : json_incref(described);
        json_decref(described);
    }
    network_snapshot_fini(&snapshot);
    return result;
}

void network_told(struct network *network, int sandbox_fd, const json_t *result)
{
    for (size_t i = 0; i < network->leaving_count; i++) {
        struct error err;
        /* An agent that could not let go loses the NIC all the same: there is nothing behind it any more. */
        if (vmm_control_detach_net(sandbox_fd, network->leaving[i], !result, &err) < 0 &&
            vmm_control_detach_net(sandbox_fd, network->leaving[i], true, &err) < 0)
            log_warn("NIC not detached index=%u: %s", network->leaving[i], err.text);
    }
    network->leaving_count = 0;
}

/* --- In the loop
 * ---------------------------------------------------------------------------------------------- */

static void follow_settle(struct network *network)
{
    const struct itimerspec soon = {.it_value.tv_nsec = SETTLE_MS * 1000000L};
    timerfd_settime(network->timer.fd, 0, &soon, NULL);
}

static void follow_noticed(struct watch *watch, uint32_t events)
{
    struct network *network = watch->arg;
    char buffer[NOTICE_BYTES];
    (void)events;
    /* What is said does not matter, nor that something was lost (ENOBUFS): all is read again. */
    while (recv(watch->fd, buffer, sizeof(buffer), MSG_DONTWAIT) >= 0 || errno == EINTR || errno == ENOBUFS)
        ;
    follow_settle(network);
}

static void follow_update(struct network *network)
{
    struct error err;
    json_t *params = NULL;
    if (network->telling) {
        network->again = true;
        return;
    }
    if (network_update(network, network->sandbox_fd, &params, &err) < 0)
        log_warn("network: %s", err.text);
    if (!params)
        return;
    if (network->tell(network->tell_arg, params, &err) < 0)
        log_warn("network: %s", err.text);
    else
        network->telling = true;
}

static void follow_settled(struct watch *watch, uint32_t events)
{
    struct network *network = watch->arg;
    uint64_t expirations;
    (void)events;
    if (read(watch->fd, &expirations, sizeof(expirations)) == sizeof(expirations))
        follow_update(network);
}

void network_follow_told(struct network *network, const json_t *result, const struct error *failure)
{
    network->telling = false;
    if (!result)
        log_warn("network: %s", failure->text);
    network_told(network, network->sandbox_fd, result);
    if (network->again) {
        network->again = false;
        follow_settle(network);
    }
}

int network_follow(struct network *network, struct loop *loop, int sandbox_fd, network_tell_fn tell,
                   void *arg, struct error *err)
{
    if (!network->events)
        return 0; /* the sandbox's owner follows */
    network->sandbox_fd = sandbox_fd;
    network->tell = tell;
    network->tell_arg = arg;
    network->notices =
        (struct watch){.fd = mnl_socket_get_fd(network->events), .fn = follow_noticed, .arg = network};
    network->timer = (struct watch){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
                                    .fn = follow_settled,
                                    .arg = network};
    if (network->timer.fd < 0)
        return error_set(err, errno, "timer");
    int failed = loop_add(loop, &network->timer, EPOLLIN);
    if (!failed)
        failed = loop_add(loop, &network->notices, EPOLLIN);
    if (failed)
        return error_set(err, -failed, "event loop");
    network->loop = loop;
    return 0;
}

void network_unfollow(struct network *network)
{
    if (network->loop) {
        loop_del(network->loop, &network->notices);
        loop_del(network->loop, &network->timer);
    }
    network->loop = NULL;
    fd_close(&network->timer.fd);
}
