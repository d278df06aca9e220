/*
 * The virtio-fs device: configuration space, queues and life. What is in the queues is the business of
 * workers.c (taking chains) and fuse_dispatch.c (serving them). Called by the transport, in the device's
 * thread.
 */
#include "vmm/fs/virtio_fs.h"

#include "common/fd.h"
#include "vmm/fs/workers.h"

#include <errno.h>
#include <linux/virtio_fs.h>
#include <linux/virtio_ids.h>
#include <string.h>

struct virtio_fs {
    struct virtio_device device; /* first */
    struct virtio_fs_config config;
    struct fs_server server;
    struct fs_workers *workers;
    bool active, paused; /* the device's thread */
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
    return fs->active && !fs->paused ? fs_workers_open(fs->workers) : 0;
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
    fs_workers_close(fs->workers);
    fs_server_clear(&fs->server);
}

static void fs_pause(struct virtio_device *device)
{
    fs_of(device)->paused = true;
    fs_workers_close(fs_of(device)->workers);
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
    fs_workers_free(fs->workers);
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
    fs->workers = fs_workers_new(&fs->server, &fs->device, options->workers);
    if (!fs->workers) {
        err = errno;
        fs_server_fini(&fs->server);
        free(fs);
        errno = err;
        return NULL;
    }
    return &fs->device;
}

int virtio_fs_start(struct virtio_device *device)
{
    struct virtio_fs *fs = fs_of(device);
    return fs_workers_start(fs->workers, fs->worker_start, fs->worker_start_arg);
}
