/*
 * The virtio-fs device: configuration space, queues and life. What is in the queues is the business of
 * queue_pool.c (taking chains) and fuse_dispatch.c (serving them). Called by the transport, in the device's
 * thread.
 */
#include "vmm/fs/virtio_fs.h"

#include "common/fd.h"
#include "vmm/fs/fuse_request.h"
#include "vmm/virtio/queue_pool.h"

#include <errno.h>
#include <linux/virtio_fs.h>
#include <linux/virtio_ids.h>
#include <string.h>

#define FORGET_DELAY_MS 2

struct virtio_fs {
    struct virtio_device device; /* first */
    struct virtio_fs_config config;
    struct fs_server server;
    struct queue_pool *forgets, *requests; /* queue 0, the high-priority one; all others */
    bool active, paused;                   /* the device's thread */
    int (*worker_start)(void *arg);
    void *worker_start_arg;
};

static struct virtio_fs *fs_of(struct virtio_device *device)
{
    return (struct virtio_fs *)device;
}

static uint64_t fs_features(const struct virtio_device *device)
{
    (void)device;
    return 0; /* no VIRTIO_FS_F_NOTIFICATION: Linux has no such queue */
}

static void fs_config_read(const struct virtio_device *device, uint32_t offset, void *to, uint32_t length)
{
    const struct virtio_fs *fs = (const struct virtio_fs *)device;
    memcpy(to, (const char *)&fs->config + offset, length);
}

/* The queues are served while the device is active and not paused (a restore activates a paused device). */
static int serve_if_due(struct virtio_fs *fs)
{
    if (!fs->active || fs->paused)
        return 0;
    int err = queue_pool_open(fs->forgets);
    if (!err)
        err = queue_pool_open(fs->requests);
    if (err)
        queue_pool_close(fs->forgets);
    return err;
}

static void stop_serving(struct virtio_fs *fs)
{
    queue_pool_close(fs->forgets);
    queue_pool_close(fs->requests);
}

static int fs_activate(struct virtio_device *device, uint64_t features)
{
    (void)features;
    struct virtio_fs *fs = fs_of(device);
    fs->active = true;
    int err = serve_if_due(fs);
    if (err)
        fs->active = false;
    return err;
}

static void fs_reset(struct virtio_device *device)
{
    struct virtio_fs *fs = fs_of(device);
    fs->active = false;
    stop_serving(fs);
    fs_server_clear(&fs->server);
}

static void fs_pause(struct virtio_device *device)
{
    fs_of(device)->paused = true;
    stop_serving(fs_of(device));
}

static void fs_resume(struct virtio_device *device)
{
    fs_of(device)->paused = false;
    if (serve_if_due(fs_of(device)))
        device->transport->broken(device->transport);
}

static int fs_save(const struct virtio_device *device, struct snapshot_writer *writer)
{
    return fs_server_save(&fs_of((struct virtio_device *)device)->server, writer);
}

static int fs_restore(struct virtio_device *device, struct snapshot_reader *reader)
{
    return fs_server_restore(&fs_of(device)->server, reader);
}

static void fs_free(struct virtio_device *device)
{
    struct virtio_fs *fs = fs_of(device);
    queue_pool_free(fs->forgets);
    queue_pool_free(fs->requests);
    fs_server_fini(&fs->server);
    free(fs);
}

static const struct virtio_device_ops fs_ops = {
    .name = "fs",
    .id = VIRTIO_ID_FS,
    .features = fs_features,
    .config_size = sizeof(struct virtio_fs_config),
    .config_read = fs_config_read,
    .activate = fs_activate,
    .reset = fs_reset,
    .pause = fs_pause,
    .resume = fs_resume,
    .save = fs_save,
    .restore = fs_restore,
    .free = fs_free,
};

static int seat_begin(void *owner, struct queue_pool_seat *seat)
{
    struct virtio_fs *fs = owner;
    struct fs_context *context = fs_context_new(&fs->server);
    if (!context)
        return -errno;
    *seat = (struct queue_pool_seat){.context = context, .chain = &context->chain};
    return fs->worker_start ? fs->worker_start(fs->worker_start_arg) : 0;
}

static void seat_end(struct queue_pool_seat *seat)
{
    fs_context_free(seat->context);
}

static void seat_serve(struct queue_pool_seat *seat)
{
    fs_request_serve(seat->context);
}

/* Forgets, which nobody waits for, have a thread of their own and are collected; requests are served as they
 * come. 0, or -1 with errno. */
static int pools_new(struct virtio_fs *fs, const struct virtio_fs_options *options)
{
    struct queue_pool_config config = {
        .begin = seat_begin, .end = seat_end, .serve = seat_serve, .owner = fs, .queues = 1, .threads = 1};
    config.name = "fs-forget";
    config.collect_ms = FORGET_DELAY_MS;
    fs->forgets = queue_pool_new(&fs->device, &config);
    if (!fs->forgets)
        return -1;
    config.name = "fs";
    config.collect_ms = 0;
    config.poll = true;
    config.first_queue = 1;
    config.queues = options->request_queues;
    config.threads = options->workers;
    fs->requests = queue_pool_new(&fs->device, &config);
    return fs->requests ? 0 : -1;
}

struct virtio_device *virtio_fs_new(struct loop *loop, int root_fd, const struct virtio_fs_options *options)
{
    size_t tag_length = strlen(options->tag);
    struct virtio_fs *fs = calloc(1, sizeof(*fs));
    int err = fs ? 0 : ENOMEM;
    if (tag_length == 0 || tag_length > sizeof(fs->config.tag) || options->workers == 0 ||
        options->request_queues == 0 || options->request_queues >= VIRTIO_DEVICE_QUEUES_MAX)
        err = EINVAL;
    if (err) {
        free(fs);
        close(root_fd);
        close(options->proc_self_fd);
        errno = err;
        return NULL;
    }
    memcpy(fs->config.tag, options->tag, tag_length);
    fs->config.num_request_queues = htole32(options->request_queues);
    fs->worker_start = options->worker_start;
    fs->worker_start_arg = options->worker_start_arg;
    fs->device = (struct virtio_device){.ops = &fs_ops,
                                        .loop = loop,
                                        .queue_count = 1 + options->request_queues,
                                        .queue_size_max = VIRTQUEUE_SIZE_MAX};
    err = -fs_server_init(&fs->server, root_fd, options);
    if (err) {
        free(fs);
        errno = err;
        return NULL;
    }
    if (pools_new(fs, options) == 0)
        return &fs->device;
    err = errno;
    fs_free(&fs->device);
    errno = err;
    return NULL;
}

int virtio_fs_start(struct virtio_device *device)
{
    struct virtio_fs *fs = fs_of(device);
    int err = queue_pool_start(fs->forgets);
    return err ? err : queue_pool_start(fs->requests);
}
