/*
 * A transport where it meets the device's thread: activation, reset, kicks, pause, snapshots.
 *
 * A vCPU thread that writes the status holds the transport's lock and waits in loop_call until the device's
 * thread has done its part. That thread never takes the lock, so the two cannot wait for each other. Called
 * by transport.c, and by the machine for pauses and snapshots.
 */
#include "vmm/virtio/transport_core.h"

#include "common/fd.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <string.h>
#include <sys/epoll.h>

#define DEVICE_STATE_VERSION 1

void core_on_kick(struct watch *watch, uint32_t events)
{
    (void)events;
    struct transport_core *core = watch->arg;
    unsigned index =
        (unsigned)((struct transport_queue *)((char *)watch - offsetof(struct transport_queue, kick)) -
                   core->queue);
    uint64_t count;
    if (read(watch->fd, &count, sizeof(count)) < 0)
        return;
    /* A kick before DRIVER_OK means nothing: activation kicks every queue itself. */
    if (core->active && virtqueue_started(core->device->queue[index]))
        core->device->ops->kick(core->device, index);
}

/* Work for the device's thread, and what came of it. */
struct crossing {
    struct transport_core *core;
    struct snapshot_writer *writer;
    struct snapshot_reader *reader;
    uint32_t instance;
    int err;
};

static int cross(struct crossing *crossing, void (*fn)(void *arg))
{
    int err = loop_call(crossing->core->device->loop, fn, crossing);
    return err ? err : crossing->err;
}

static void unwatch_kicks(struct transport_core *core)
{
    if (!core->device->ops->kick)
        return;
    for (unsigned i = 0; i < core->device->queue_count; i++)
        loop_del(core->device->loop, &core->queue[i].kick);
}

static int watch_kicks(struct transport_core *core)
{
    if (!core->device->ops->kick)
        return 0; /* the device's own threads wait */
    for (unsigned i = 0; i < core->device->queue_count; i++) {
        int err = loop_add(core->device->loop, &core->queue[i].kick, EPOLLIN);
        if (err) {
            unwatch_kicks(core);
            return err;
        }
    }
    return 0;
}

static void watch_kicks_there(void *arg)
{
    struct crossing *crossing = arg;
    crossing->err = watch_kicks(crossing->core);
}

int core_watch_kicks(struct transport_core *core)
{
    struct crossing crossing = {.core = core};
    return cross(&crossing, watch_kicks_there);
}

static void unwatch_kicks_there(void *arg)
{
    struct crossing *crossing = arg;
    unwatch_kicks(crossing->core);
}

void core_unwatch_kicks(struct transport_core *core)
{
    struct crossing crossing = {.core = core};
    cross(&crossing, unwatch_kicks_there);
}

static void stop_queues(struct transport_core *core)
{
    for (unsigned i = 0; i < core->device->queue_count; i++) {
        if (core->device->queue[i])
            virtqueue_stop(core->device->queue[i]);
    }
}

static int start_queues(struct transport_core *core)
{
    for (unsigned i = 0; i < core->device->queue_count; i++) {
        if (!core->queue[i].ready)
            continue;
        int err = virtqueue_start(core->device->queue[i], &core->queue[i].config, core->driver_features);
        if (err) {
            log_limited(&core->device->broken_limit, "virtio: device=%s queue=%u cannot start: %s",
                        core->device->ops->name, i, strerror(-err));
            stop_queues(core);
            return err;
        }
    }
    return 0;
}

/* Kicks every queue: chains may have come before anybody listened. */
static void kick_all(struct transport_core *core)
{
    for (unsigned i = 0; i < core->device->queue_count; i++)
        core_kick(core, i);
}

static void activate_there(void *arg)
{
    struct crossing *crossing = arg;
    struct transport_core *core = crossing->core;
    crossing->err = start_queues(core);
    if (crossing->err)
        return;
    crossing->err = core->device->ops->activate(core->device, core->driver_features);
    if (crossing->err) {
        log_limited(&core->device->broken_limit, "virtio: device=%s not activated: %s",
                    core->device->ops->name, strerror(-crossing->err));
        stop_queues(core);
        return;
    }
    core->active = true;
    kick_all(core);
}

void core_activate(struct transport_core *core)
{
    struct crossing crossing = {.core = core};
    if (cross(&crossing, activate_there))
        core->transport.broken(&core->transport);
}

static void reset_there(void *arg)
{
    struct crossing *crossing = arg;
    struct transport_core *core = crossing->core;
    if (core->active)
        core->device->ops->reset(core->device);
    core->active = false;
    stop_queues(core);
}

void core_reset(struct transport_core *core)
{
    struct crossing crossing = {.core = core};
    if (cross(&crossing, reset_there)) {
        /* Out of memory: the status stays, by which the driver sees that the device did not reset. */
        log_err("virtio: device=%s not reset: out of memory", core->device->ops->name);
        return;
    }
    core->status = 0;
    core->driver_features = 0;
    core->device_features_sel = core->driver_features_sel = core->queue_sel = 0;
    for (unsigned i = 0; i < core->device->queue_count; i++) {
        core->queue[i].ready = false;
        core->queue[i].config = (struct virtqueue_config){0};
    }
    atomic_store(&core->needs_reset, false);
    core->bus->reset(core);
}

static void pause_there(void *arg)
{
    struct crossing *crossing = arg;
    struct transport_core *core = crossing->core;
    if (core->paused)
        return;
    unwatch_kicks(core);
    if (core->device->ops->pause)
        core->device->ops->pause(core->device);
    core->paused = true;
}

void virtio_transport_pause(struct virtio_transport *transport)
{
    struct transport_core *core = (struct transport_core *)transport;
    struct crossing crossing = {.core = core};
    pthread_mutex_lock(&core->lock);
    if (cross(&crossing, pause_there))
        log_err("virtio: device=%s not paused: out of memory", core->device->ops->name);
    pthread_mutex_unlock(&core->lock);
}

static void resume_there(void *arg)
{
    struct crossing *crossing = arg;
    struct transport_core *core = crossing->core;
    if (!core->paused)
        return;
    crossing->err = watch_kicks(core);
    if (crossing->err)
        return;
    core->paused = false;
    if (core->device->ops->resume)
        core->device->ops->resume(core->device);
    kick_all(core);
    core->bus->resume(core);
}

void virtio_transport_resume(struct virtio_transport *transport)
{
    struct transport_core *core = (struct transport_core *)transport;
    struct crossing crossing = {.core = core};
    pthread_mutex_lock(&core->lock);
    int err = cross(&crossing, resume_there);
    if (err) {
        log_err("virtio: device=%s not resumed: %s", core->device->ops->name, strerror(-err));
        core->transport.broken(&core->transport);
    }
    pthread_mutex_unlock(&core->lock);
}

static int save_transport(const struct transport_core *core, struct snapshot_writer *writer)
{
    snapshot_put_u32(writer, core->device->queue_count);
    snapshot_put_u8(writer, core->status);
    snapshot_put_u8(writer, core->active);
    snapshot_put_u8(writer, atomic_load(&core->needs_reset));
    snapshot_put_u64(writer, core->driver_features);
    snapshot_put_u32(writer, core->device_features_sel);
    snapshot_put_u32(writer, core->driver_features_sel);
    snapshot_put_u32(writer, core->queue_sel);
    int err = core->bus->save(core, writer);
    if (err)
        return err;
    snapshot_put_u32(writer, atomic_load(&core->config_generation));
    for (unsigned i = 0; i < core->device->queue_count; i++) {
        const struct transport_queue *queue = &core->queue[i];
        snapshot_put_u8(writer, queue->ready);
        snapshot_put_u16(writer, queue->config.size);
        snapshot_put_u64(writer, queue->config.desc);
        snapshot_put_u64(writer, queue->config.avail);
        snapshot_put_u64(writer, queue->config.used);
        if (!core->active || !queue->ready)
            continue;
        err = virtqueue_save(core->device->queue[i], writer);
        if (err)
            return err;
    }
    return 0;
}

static void save_there(void *arg)
{
    struct crossing *crossing = arg;
    struct transport_core *core = crossing->core;
    if (!core->paused) {
        crossing->err = -EBUSY;
        return;
    }
    snapshot_section_begin(crossing->writer, crossing->core->bus->section, crossing->instance,
                           crossing->core->bus->section_version);
    crossing->err = save_transport(core, crossing->writer);
    snapshot_section_end(crossing->writer);
    if (crossing->err)
        return;
    snapshot_section_begin(crossing->writer, core->device->ops->name, crossing->instance,
                           DEVICE_STATE_VERSION);
    crossing->err = core->device->ops->save(core->device, crossing->writer);
    snapshot_section_end(crossing->writer);
}

int virtio_transport_save(struct virtio_transport *transport, struct snapshot_writer *writer,
                          uint32_t instance)
{
    struct transport_core *core = (struct transport_core *)transport;
    struct crossing crossing = {.core = core, .writer = writer, .instance = instance};
    pthread_mutex_lock(&core->lock);
    int err = cross(&crossing, save_there);
    pthread_mutex_unlock(&core->lock);
    return err;
}

/* The registers; an active transport's queues are started with their cursors. */
static int restore_transport(struct transport_core *core, struct snapshot_reader *reader, bool *active)
{
    if (snapshot_get_u32(reader) != core->device->queue_count)
        return -EPROTO;
    core->status = snapshot_get_u8(reader);
    *active = snapshot_get_u8(reader);
    atomic_store(&core->needs_reset, snapshot_get_u8(reader) != 0);
    core->driver_features = snapshot_get_u64(reader);
    core->device_features_sel = snapshot_get_u32(reader);
    core->driver_features_sel = snapshot_get_u32(reader);
    core->queue_sel = snapshot_get_u32(reader);
    int err = core->bus->restore(core, reader);
    if (err)
        return err;
    atomic_store(&core->config_generation, snapshot_get_u32(reader));
    /* A host that offers less than the one before cannot serve a driver that was promised more. */
    bool settled = core->status & VIRTIO_CONFIG_S_FEATURES_OK;
    if ((*active && !(core->status & VIRTIO_CONFIG_S_DRIVER_OK)) ||
        (settled && core->driver_features & ~core_features(core)))
        return -EPROTO;
    for (unsigned i = 0; i < core->device->queue_count; i++) {
        struct transport_queue *queue = &core->queue[i];
        queue->ready = snapshot_get_u8(reader) != 0;
        queue->config.size = snapshot_get_u16(reader);
        queue->config.desc = snapshot_get_u64(reader);
        queue->config.avail = snapshot_get_u64(reader);
        queue->config.used = snapshot_get_u64(reader);
        if (!*active || !queue->ready)
            continue;
        err = snapshot_reader_error(reader);
        if (!err)
            err = virtqueue_start(core->device->queue[i], &queue->config, core->driver_features);
        if (!err)
            err = virtqueue_restore(core->device->queue[i], reader);
        if (err)
            return err;
    }
    return snapshot_section_finish(reader);
}

static int restore_device(struct transport_core *core, struct snapshot_reader *reader, uint32_t instance,
                          bool active)
{
    uint32_t version;
    struct virtio_device *device = core->device;
    if (active) {
        int err = device->ops->activate(device, core->driver_features);
        if (err)
            return err;
        core->active = true;
    }
    int err = snapshot_section_open(reader, device->ops->name, instance, DEVICE_STATE_VERSION, &version);
    if (!err)
        err = device->ops->restore(device, reader);
    return err ? err : snapshot_section_finish(reader);
}

static void restore_there(void *arg)
{
    struct crossing *crossing = arg;
    struct transport_core *core = crossing->core;
    uint32_t version;
    bool active = false;
    if (core->active || core->status) {
        crossing->err = -EBUSY;
        return;
    }
    pause_there(crossing);
    int err = snapshot_section_open(crossing->reader, crossing->core->bus->section, crossing->instance,
                                    crossing->core->bus->section_version, &version);
    if (!err)
        err = restore_transport(core, crossing->reader, &active);
    if (!err)
        err = restore_device(core, crossing->reader, crossing->instance, active);
    crossing->err = err;
}

int virtio_transport_restore(struct virtio_transport *transport, struct snapshot_reader *reader,
                             uint32_t instance)
{
    struct transport_core *core = (struct transport_core *)transport;
    struct crossing crossing = {.core = core, .reader = reader, .instance = instance};
    pthread_mutex_lock(&core->lock);
    int err = cross(&crossing, restore_there);
    if (err && err != -EBUSY)
        core_reset(core); /* half of a state is none */
    if (core->bus->restored)
        core->bus->restored(core);
    pthread_mutex_unlock(&core->lock);
    return err;
}
