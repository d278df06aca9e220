/*
 * A queue pair's life: made with its tap, started when the driver may use it, stopped for good or for a
 * pause. See net_internal.h for whose thread it is in.
 *
 * Each pair has a loop of its own (shared where there are more pairs than threads), so that a slow system
 * call for one connection holds up neither other pairs nor vsock. Kicks and the tap are watched as edges:
 * what is there is looked for again and again until there is nothing, and an eventfd need not be read.
 */
#include "vmm/virtio/net_internal.h"

#include "common/fd.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

static void on_rx_kick(struct watch *watch, uint32_t events)
{
    struct net_pair *pair = watch->arg;
    (void)events;
    net_count(&pair->count.kicks, 1);
    net_rx_run(pair);
}

static void on_tx_kick(struct watch *watch, uint32_t events)
{
    struct net_pair *pair = watch->arg;
    (void)events;
    net_count(&pair->count.kicks, 1);
    net_tx_run(pair);
}

static void on_tap(struct watch *watch, uint32_t events)
{
    struct net_pair *pair = watch->arg;
    if (events & EPOLLOUT && pair->tx_blocked) {
        pair->tx_blocked = false;
        net_tx_run(pair);
    }
    if (events & (EPOLLIN | EPOLLERR))
        net_rx_run(pair);
}

/* In the device's thread: vhost met a ring that it cannot go on with. */
static void on_vhost_error(struct watch *watch, uint32_t events)
{
    struct net_pair *pair = watch->arg;
    unsigned index = 2 * pair->index + (watch == &pair->vhost_error[1]);
    uint64_t count;
    (void)events;
    if (read(watch->fd, &count, sizeof(count)) < 0)
        return;
    virtqueue_break(pair->net->device.queue[index], "vhost-net says so");
    virtio_device_broken(&pair->net->device, index);
}

struct net_pair *net_pair_new(struct virtio_net *net, unsigned index, struct loop *loop, int tap_fd,
                              int vhost_fd)
{
    struct net_pair *pair = calloc(1, sizeof(*pair));
    if (!pair) {
        fd_close(&tap_fd);
        fd_close(&vhost_fd);
        return NULL;
    }
    pair->net = net;
    pair->index = index;
    pair->attached = true;
    pair->loop = loop;
    pair->tap_fd = tap_fd;
    pair->vhost_fd = vhost_fd;
    pair->rx_kick = pair->tx_kick = pair->tap = (struct watch){.fd = -1};
    for (unsigned i = 0; i < 2; i++)
        pair->vhost_error[i] = (struct watch){.fd = -1, .fn = on_vhost_error, .arg = pair};
    for (unsigned i = 0; i < 2 && vhost_fd >= 0; i++) {
        pair->vhost_error[i].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (pair->vhost_error[i].fd < 0) {
            net_pair_free(pair);
            return NULL;
        }
    }
    return pair;
}

void net_pair_free(struct net_pair *pair)
{
    if (!pair)
        return;
    fd_close(&pair->tap_fd);
    fd_close(&pair->vhost_fd);
    for (unsigned i = 0; i < 2; i++)
        fd_close(&pair->vhost_error[i].fd);
    free(pair);
}

struct pair_call {
    struct net_pair *pair;
    int err;
};

static void unwatch_there(void *arg)
{
    struct net_pair *pair = ((struct pair_call *)arg)->pair;
    loop_del(pair->loop, &pair->rx_kick);
    loop_del(pair->loop, &pair->tx_kick);
    loop_del(pair->loop, &pair->tap);
    net_rx_stop(pair);
    pair->tx_blocked = false;
}

/* In the pair's thread. */
static void watch_there(void *arg)
{
    struct pair_call *call = arg;
    struct net_pair *pair = call->pair;
    const int *kick_fd = pair->net->device.kick_fd + 2 * (size_t)pair->index;
    pair->features = pair->net->features;
    pair->rx_kick = (struct watch){.fd = kick_fd[0], .fn = on_rx_kick, .arg = pair};
    pair->tx_kick = (struct watch){.fd = kick_fd[1], .fn = on_tx_kick, .arg = pair};
    pair->tap = (struct watch){.fd = pair->tap_fd, .fn = on_tap, .arg = pair};
    call->err = loop_add(pair->loop, &pair->rx_kick, EPOLLIN | EPOLLET);
    if (!call->err)
        call->err = loop_add(pair->loop, &pair->tx_kick, EPOLLIN | EPOLLET);
    if (!call->err)
        call->err = loop_add(pair->loop, &pair->tap, EPOLLIN | EPOLLOUT | EPOLLET);
    if (call->err)
        unwatch_there(call);
}

static int start_vhost(struct net_pair *pair)
{
    struct virtio_device *device = &pair->net->device;
    struct vhost_net_pair vhost = {.vhost_fd = pair->vhost_fd,
                                   .tap_fd = pair->tap_fd,
                                   .features = pair->net->features,
                                   .memory = pair->net->memory};
    for (unsigned i = 0; i < 2; i++) {
        vhost.queue[i] = device->queue[2 * pair->index + i];
        vhost.call_fd[i] = device->call_fd[2 * pair->index + i];
        vhost.kick_fd[i] = device->kick_fd[2 * pair->index + i];
        vhost.error_fd[i] = pair->vhost_error[i].fd;
        int err = loop_add(device->loop, &pair->vhost_error[i], EPOLLIN);
        if (err) {
            loop_del(device->loop, &pair->vhost_error[0]);
            return err;
        }
    }
    int err = vhost_net_start(&vhost);
    for (unsigned i = 0; i < 2 && err; i++)
        loop_del(device->loop, &pair->vhost_error[i]);
    return err;
}

int net_pair_start(struct net_pair *pair)
{
    struct virtio_device *device = &pair->net->device;
    struct pair_call call = {.pair = pair};
    if (pair->running || !virtqueue_started(device->queue[2 * pair->index]) ||
        !virtqueue_started(device->queue[2 * pair->index + 1]))
        return 0;
    int err = pair->attached ? 0 : tap_set_attached(pair->tap_fd, true);
    if (!err && pair->vhost_fd >= 0)
        err = start_vhost(pair);
    else if (!err && !(err = loop_call(pair->loop, watch_there, &call)))
        err = call.err;
    if (err) {
        log_err("virtio-net: pair=%u not started: %s", pair->index, strerror(-err));
        return err;
    }
    pair->running = pair->attached = true;
    /* Chains may have come before anybody looked. */
    device->transport->kick_again(device->transport, 2 * pair->index);
    device->transport->kick_again(device->transport, 2 * pair->index + 1);
    return 0;
}

void net_pair_stop(struct net_pair *pair)
{
    struct virtio_device *device = &pair->net->device;
    if (!pair->running)
        return;
    pair->running = false;
    if (pair->vhost_fd >= 0) {
        struct virtqueue *queues[2] = {device->queue[2 * pair->index], device->queue[2 * pair->index + 1]};
        vhost_net_stop(pair->vhost_fd, queues);
        for (unsigned i = 0; i < 2; i++)
            loop_del(device->loop, &pair->vhost_error[i]);
        return;
    }
    struct pair_call call = {.pair = pair};
    while (loop_call(pair->loop, unwatch_there, &call) < 0)
        sched_yield(); /* out of memory: but whoever stops a pair must know that it stands */
}
