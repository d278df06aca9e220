/*
 * The virtio-mmio transport where it meets the device's thread: activation, reset, kicks, pause, snapshots.
 *
 * A vCPU thread that writes the status holds the transport's lock and waits in loop_call until the device's
 * thread has done its part. That thread never takes the lock, so the two cannot wait for each other. Called
 * by mmio.c, and by the machine for pauses and snapshots.
 */
#include "vmm/virtio/mmio_internal.h"

#include "common/fd.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <sys/epoll.h>

#define MMIO_SECTION         "virtio-mmio"
#define MMIO_STATE_VERSION   1
#define DEVICE_STATE_VERSION 1

void mmio_on_kick(struct watch *watch, uint32_t events)
{
    (void)events;
    struct virtio_mmio *mmio = watch->arg;
    unsigned index =
        (unsigned)((struct mmio_queue *)((char *)watch - offsetof(struct mmio_queue, kick)) - mmio->queue);
    uint64_t count;
    if (read(watch->fd, &count, sizeof(count)) < 0)
        return;
    /* A kick before DRIVER_OK means nothing: activation kicks every queue itself. */
    if (mmio->active && virtqueue_started(mmio->device->queue[index]))
        mmio->device->ops->kick(mmio->device, index);
}

/* Work for the device's thread, and what came of it. */
struct crossing {
    struct virtio_mmio *mmio;
    struct snapshot_writer *writer;
    struct snapshot_reader *reader;
    uint32_t instance;
    int err;
};

static int cross(struct crossing *crossing, void (*fn)(void *arg))
{
    int err = loop_call(crossing->mmio->device->loop, fn, crossing);
    return err ? err : crossing->err;
}

static void unwatch_kicks(struct virtio_mmio *mmio)
{
    if (!mmio->device->ops->kick)
        return;
    for (unsigned i = 0; i < mmio->device->queue_count; i++)
        loop_del(mmio->device->loop, &mmio->queue[i].kick);
}

static int watch_kicks(struct virtio_mmio *mmio)
{
    if (!mmio->device->ops->kick)
        return 0; /* the device's own threads wait */
    for (unsigned i = 0; i < mmio->device->queue_count; i++) {
        int err = loop_add(mmio->device->loop, &mmio->queue[i].kick, EPOLLIN);
        if (err) {
            unwatch_kicks(mmio);
            return err;
        }
    }
    return 0;
}

static void watch_kicks_there(void *arg)
{
    struct crossing *crossing = arg;
    crossing->err = watch_kicks(crossing->mmio);
}

int mmio_watch_kicks(struct virtio_mmio *mmio)
{
    struct crossing crossing = {.mmio = mmio};
    return cross(&crossing, watch_kicks_there);
}

static void unwatch_kicks_there(void *arg)
{
    struct crossing *crossing = arg;
    unwatch_kicks(crossing->mmio);
}

void mmio_unwatch_kicks(struct virtio_mmio *mmio)
{
    struct crossing crossing = {.mmio = mmio};
    cross(&crossing, unwatch_kicks_there);
}

static void stop_queues(struct virtio_mmio *mmio)
{
    for (unsigned i = 0; i < mmio->device->queue_count; i++) {
        if (mmio->device->queue[i])
            virtqueue_stop(mmio->device->queue[i]);
    }
}

static int start_queues(struct virtio_mmio *mmio)
{
    for (unsigned i = 0; i < mmio->device->queue_count; i++) {
        if (!mmio->queue[i].ready)
            continue;
        int err = virtqueue_start(mmio->device->queue[i], &mmio->queue[i].config, mmio->driver_features);
        if (err) {
            log_limited(&mmio->device->broken_limit, "virtio: device=%s queue=%u cannot start: %s",
                        mmio->device->ops->name, i, strerror(-err));
            stop_queues(mmio);
            return err;
        }
    }
    return 0;
}

/* Kicks every queue: chains may have come before anybody listened. */
static void kick_all(struct virtio_mmio *mmio)
{
    for (unsigned i = 0; i < mmio->device->queue_count; i++)
        mmio_kick(mmio, i);
}

static void activate_there(void *arg)
{
    struct crossing *crossing = arg;
    struct virtio_mmio *mmio = crossing->mmio;
    crossing->err = start_queues(mmio);
    if (crossing->err)
        return;
    crossing->err = mmio->device->ops->activate(mmio->device, mmio->driver_features);
    if (crossing->err) {
        log_limited(&mmio->device->broken_limit, "virtio: device=%s not activated: %s",
                    mmio->device->ops->name, strerror(-crossing->err));
        stop_queues(mmio);
        return;
    }
    mmio->active = true;
    kick_all(mmio);
}

void mmio_activate(struct virtio_mmio *mmio)
{
    struct crossing crossing = {.mmio = mmio};
    if (cross(&crossing, activate_there))
        mmio->transport.broken(&mmio->transport);
}

static void reset_there(void *arg)
{
    struct crossing *crossing = arg;
    struct virtio_mmio *mmio = crossing->mmio;
    if (mmio->active)
        mmio->device->ops->reset(mmio->device);
    mmio->active = false;
    stop_queues(mmio);
}

void mmio_reset(struct virtio_mmio *mmio)
{
    struct crossing crossing = {.mmio = mmio};
    if (cross(&crossing, reset_there)) {
        /* Out of memory: the status stays, by which the driver sees that the device did not reset. */
        log_err("virtio: device=%s not reset: out of memory", mmio->device->ops->name);
        return;
    }
    mmio->status = 0;
    mmio->driver_features = 0;
    mmio->device_features_sel = mmio->driver_features_sel = mmio->queue_sel = 0;
    for (unsigned i = 0; i < mmio->device->queue_count; i++) {
        mmio->queue[i].ready = false;
        mmio->queue[i].config = (struct virtqueue_config){0};
    }
    atomic_store(&mmio->needs_reset, false);
    atomic_store(&mmio->interrupt_status, 0);
}

static void pause_there(void *arg)
{
    struct crossing *crossing = arg;
    struct virtio_mmio *mmio = crossing->mmio;
    if (mmio->paused)
        return;
    unwatch_kicks(mmio);
    if (mmio->device->ops->pause)
        mmio->device->ops->pause(mmio->device);
    mmio->paused = true;
}

void virtio_mmio_pause(struct virtio_mmio *mmio)
{
    struct crossing crossing = {.mmio = mmio};
    pthread_mutex_lock(&mmio->lock);
    if (cross(&crossing, pause_there))
        log_err("virtio: device=%s not paused: out of memory", mmio->device->ops->name);
    pthread_mutex_unlock(&mmio->lock);
}

static void resume_there(void *arg)
{
    struct crossing *crossing = arg;
    struct virtio_mmio *mmio = crossing->mmio;
    if (!mmio->paused)
        return;
    crossing->err = watch_kicks(mmio);
    if (crossing->err)
        return;
    mmio->paused = false;
    if (mmio->device->ops->resume)
        mmio->device->ops->resume(mmio->device);
    kick_all(mmio);
    /* The line is edge-triggered: an edge from before the pause may be lost. Whether it was acknowledged is
     * not known of calls that are always told of; one too many is harmless. */
    if (atomic_load(&mmio->interrupt_status) || atomic_load(&mmio->calls_direct))
        mmio_interrupt(mmio, 0);
}

void virtio_mmio_resume(struct virtio_mmio *mmio)
{
    struct crossing crossing = {.mmio = mmio};
    pthread_mutex_lock(&mmio->lock);
    int err = cross(&crossing, resume_there);
    if (err) {
        log_err("virtio: device=%s not resumed: %s", mmio->device->ops->name, strerror(-err));
        mmio->transport.broken(&mmio->transport);
    }
    pthread_mutex_unlock(&mmio->lock);
}

static int save_transport(const struct virtio_mmio *mmio, struct snapshot_writer *writer)
{
    snapshot_put_u32(writer, mmio->device->queue_count);
    snapshot_put_u8(writer, mmio->status);
    snapshot_put_u8(writer, mmio->active);
    snapshot_put_u8(writer, atomic_load(&mmio->needs_reset));
    snapshot_put_u64(writer, mmio->driver_features);
    snapshot_put_u32(writer, mmio->device_features_sel);
    snapshot_put_u32(writer, mmio->driver_features_sel);
    snapshot_put_u32(writer, mmio->queue_sel);
    snapshot_put_u32(writer, atomic_load(&mmio->interrupt_status));
    snapshot_put_u32(writer, atomic_load(&mmio->config_generation));
    for (unsigned i = 0; i < mmio->device->queue_count; i++) {
        const struct mmio_queue *queue = &mmio->queue[i];
        snapshot_put_u8(writer, queue->ready);
        snapshot_put_u16(writer, queue->config.size);
        snapshot_put_u64(writer, queue->config.desc);
        snapshot_put_u64(writer, queue->config.avail);
        snapshot_put_u64(writer, queue->config.used);
        if (!mmio->active || !queue->ready)
            continue;
        int err = virtqueue_save(mmio->device->queue[i], writer);
        if (err)
            return err;
    }
    return 0;
}

static void save_there(void *arg)
{
    struct crossing *crossing = arg;
    struct virtio_mmio *mmio = crossing->mmio;
    if (!mmio->paused) {
        crossing->err = -EBUSY;
        return;
    }
    snapshot_section_begin(crossing->writer, MMIO_SECTION, crossing->instance, MMIO_STATE_VERSION);
    crossing->err = save_transport(mmio, crossing->writer);
    snapshot_section_end(crossing->writer);
    if (crossing->err)
        return;
    snapshot_section_begin(crossing->writer, mmio->device->ops->name, crossing->instance,
                           DEVICE_STATE_VERSION);
    crossing->err = mmio->device->ops->save(mmio->device, crossing->writer);
    snapshot_section_end(crossing->writer);
}

int virtio_mmio_save(struct virtio_mmio *mmio, struct snapshot_writer *writer, uint32_t instance)
{
    struct crossing crossing = {.mmio = mmio, .writer = writer, .instance = instance};
    pthread_mutex_lock(&mmio->lock);
    int err = cross(&crossing, save_there);
    pthread_mutex_unlock(&mmio->lock);
    return err;
}

/* The registers; an active transport's queues are started with their cursors. */
static int restore_transport(struct virtio_mmio *mmio, struct snapshot_reader *reader, bool *active)
{
    if (snapshot_get_u32(reader) != mmio->device->queue_count)
        return -EPROTO;
    mmio->status = snapshot_get_u8(reader);
    *active = snapshot_get_u8(reader);
    atomic_store(&mmio->needs_reset, snapshot_get_u8(reader) != 0);
    mmio->driver_features = snapshot_get_u64(reader);
    mmio->device_features_sel = snapshot_get_u32(reader);
    mmio->driver_features_sel = snapshot_get_u32(reader);
    mmio->queue_sel = snapshot_get_u32(reader);
    atomic_store(&mmio->interrupt_status, snapshot_get_u32(reader));
    atomic_store(&mmio->config_generation, snapshot_get_u32(reader));
    /* A host that offers less than the one before cannot serve a driver that was promised more. */
    bool settled = mmio->status & VIRTIO_CONFIG_S_FEATURES_OK;
    if ((*active && !(mmio->status & VIRTIO_CONFIG_S_DRIVER_OK)) ||
        (settled && mmio->driver_features & ~mmio_features(mmio)))
        return -EPROTO;
    for (unsigned i = 0; i < mmio->device->queue_count; i++) {
        struct mmio_queue *queue = &mmio->queue[i];
        queue->ready = snapshot_get_u8(reader) != 0;
        queue->config.size = snapshot_get_u16(reader);
        queue->config.desc = snapshot_get_u64(reader);
        queue->config.avail = snapshot_get_u64(reader);
        queue->config.used = snapshot_get_u64(reader);
        if (!*active || !queue->ready)
            continue;
        int err = snapshot_reader_error(reader);
        if (!err)
            err = virtqueue_start(mmio->device->queue[i], &queue->config, mmio->driver_features);
        if (!err)
            err = virtqueue_restore(mmio->device->queue[i], reader);
        if (err)
            return err;
    }
    return snapshot_section_finish(reader);
}

static int restore_device(struct virtio_mmio *mmio, struct snapshot_reader *reader, uint32_t instance,
                          bool active)
{
    uint32_t version;
    struct virtio_device *device = mmio->device;
    if (active) {
        int err = device->ops->activate(device, mmio->driver_features);
        if (err)
            return err;
        mmio->active = true;
    }
    int err = snapshot_section_open(reader, device->ops->name, instance, DEVICE_STATE_VERSION, &version);
    if (!err)
        err = device->ops->restore(device, reader);
    return err ? err : snapshot_section_finish(reader);
}

static void restore_there(void *arg)
{
    struct crossing *crossing = arg;
    struct virtio_mmio *mmio = crossing->mmio;
    uint32_t version;
    bool active = false;
    if (mmio->active || mmio->status) {
        crossing->err = -EBUSY;
        return;
    }
    pause_there(crossing);
    int err = snapshot_section_open(crossing->reader, MMIO_SECTION, crossing->instance, MMIO_STATE_VERSION,
                                    &version);
    if (!err)
        err = restore_transport(mmio, crossing->reader, &active);
    if (!err)
        err = restore_device(mmio, crossing->reader, crossing->instance, active);
    crossing->err = err;
}

int virtio_mmio_restore(struct virtio_mmio *mmio, struct snapshot_reader *reader, uint32_t instance)
{
    struct crossing crossing = {.mmio = mmio, .reader = reader, .instance = instance};
    pthread_mutex_lock(&mmio->lock);
    int err = cross(&crossing, restore_there);
    if (err && err != -EBUSY)
        mmio_reset(mmio); /* half of a state is none */
    mmio_page_update(mmio);
    pthread_mutex_unlock(&mmio->lock);
    return err;
}
