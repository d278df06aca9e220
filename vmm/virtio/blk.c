/*
 * The virtio-blk device: features, configuration space and life. What is in the queues is the business of
 * queue_pool.c (taking chains) and blk_request.c (serving them). Called by the transport, in the device's
 * thread.
 */
#include "vmm/virtio/blk_internal.h"

#include "common/fd.h"
#include "vmm/snapshot.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define QUEUE_SIZE      256
#define SEGMENTS_MAX    (QUEUE_SIZE - 2) /* header and status have a descriptor each */
#define SEGMENT_BYTES   (1u << 20)
#define THREADS_DEFAULT 4
#define BIT(n)          (1ull << (n))

static struct virtio_blk *blk_of(const struct virtio_device *device)
{
    return (struct virtio_blk *)device;
}

static uint64_t blk_features(const struct virtio_device *device)
{
    const struct virtio_blk *blk = blk_of(device);
    uint64_t features = BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) |
                        BIT(VIRTIO_BLK_F_TOPOLOGY) | BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE);
    if (blk->options.queues > 1)
        features |= BIT(VIRTIO_BLK_F_MQ);
    if (blk->options.read_only)
        return features | BIT(VIRTIO_BLK_F_RO);
    return features | BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES);
}

/* §5.2.4 */
static void config_make(const struct virtio_blk *blk, struct virtio_blk_config *config)
{
    const struct blk_file *file = &blk->file;
    uint32_t block = file->block_bytes;
    *config = (struct virtio_blk_config){
        .capacity = htole64(atomic_load(&((struct virtio_blk *)blk)->capacity)),
        .size_max = htole32(SEGMENT_BYTES),
        .seg_max = htole32(SEGMENTS_MAX),
        .blk_size = htole32(block),
        .physical_block_exp = (uint8_t)__builtin_ctz(file->physical_block_bytes / block),
        .min_io_size = htole16((uint16_t)(file->io_min_bytes / block)),
        .opt_io_size = htole32(file->io_opt_bytes / block),
        .wce = atomic_load(&((struct virtio_blk *)blk)->writeback),
        .num_queues = htole16((uint16_t)blk->options.queues),
        .max_discard_sectors = htole32(BLK_RANGE_SECTORS_MAX),
        .max_discard_seg = htole32(BLK_RANGES_MAX),
        .discard_sector_alignment = htole32(file->physical_block_bytes / BLK_SECTOR),
        .max_write_zeroes_sectors = htole32(BLK_RANGE_SECTORS_MAX),
        .max_write_zeroes_seg = htole32(BLK_RANGES_MAX),
        .write_zeroes_may_unmap = 1,
    };
}

static void blk_config_read(const struct virtio_device *device, uint32_t offset, void *to, uint32_t length)
{
    struct virtio_blk_config config;
    config_make(blk_of(device), &config);
    memcpy(to, (const char *)&config + offset, length);
}

/* §5.2.5: only the cache's mode is the driver's. */
static void blk_config_write(struct virtio_device *device, uint32_t offset, const void *from, uint32_t length)
{
    uint8_t value;
    if (offset != offsetof(struct virtio_blk_config, wce) || length != sizeof(value))
        return;
    memcpy(&value, from, sizeof(value));
    atomic_store(&blk_of(device)->writeback, value != 0);
}

/* The queues are served while the device is active and not paused (a restore activates a paused device). */
static int serve_if_due(struct virtio_blk *blk)
{
    return blk->active && !blk->paused ? queue_pool_open(blk->pool) : 0;
}

static int blk_activate(struct virtio_device *device, uint64_t features)
{
    struct virtio_blk *blk = blk_of(device);
    blk->active = true;
    atomic_store(&blk->features, features);
    int err = serve_if_due(blk);
    if (err)
        blk->active = false;
    return err;
}

static void blk_reset(struct virtio_device *device)
{
    struct virtio_blk *blk = blk_of(device);
    blk->active = false;
    queue_pool_close(blk->pool);
    atomic_store(&blk->features, 0);
    atomic_store(&blk->writeback, 1);
}

static void blk_pause(struct virtio_device *device)
{
    blk_of(device)->paused = true;
    queue_pool_close(blk_of(device)->pool);
}

static void blk_resume(struct virtio_device *device)
{
    struct virtio_blk *blk = blk_of(device);
    blk->paused = false;
    if (serve_if_due(blk))
        device->transport->broken(device->transport);
    if (blk->capacity_news)
        device->transport->config_changed(device->transport);
    blk->capacity_news = false;
}

static int blk_save(const struct virtio_device *device, struct snapshot_writer *writer)
{
    struct virtio_blk *blk = blk_of(device);
    snapshot_put_u64(writer, atomic_load(&blk->capacity));
    snapshot_put_u8(writer, atomic_load(&blk->writeback));
    snapshot_put_u32(writer, blk->file.block_bytes);
    /* What the guest wrote last is in the file for whoever opens it next. */
    return blk->options.read_only ? 0 : blk_file_flush(&blk->file);
}

static int blk_restore(struct virtio_device *device, struct snapshot_reader *reader)
{
    struct virtio_blk *blk = blk_of(device);
    uint64_t capacity = snapshot_get_u64(reader);
    uint8_t writeback = snapshot_get_u8(reader);
    uint32_t block_bytes = snapshot_get_u32(reader);
    int err = snapshot_reader_error(reader);
    if (err)
        return err;
    if (writeback > 1 || block_bytes != blk->file.block_bytes)
        return -EPROTO;
    atomic_store(&blk->writeback, writeback);
    /* A file that has another size by now: the guest is told, its requests are checked against the new one.
     */
    blk->capacity_news = capacity != atomic_load(&blk->capacity);
    return 0;
}

static unsigned blk_statistics(const struct virtio_device *device, struct virtio_statistic *rows,
                               unsigned max)
{
    struct blk_counts *counts = &blk_of(device)->counts;
    const struct virtio_statistic all[] = {
        {"reads", atomic_load(&counts->reads)},     {"read-bytes", atomic_load(&counts->read_bytes)},
        {"writes", atomic_load(&counts->writes)},   {"write-bytes", atomic_load(&counts->write_bytes)},
        {"flushes", atomic_load(&counts->flushes)}, {"discards", atomic_load(&counts->discards)},
        {"errors", atomic_load(&counts->errors)},
    };
    unsigned count = sizeof(all) / sizeof(all[0]);
    if (count > max)
        count = max;
    memcpy(rows, all, count * sizeof(all[0]));
    return count;
}

static void blk_free(struct virtio_device *device)
{
    struct virtio_blk *blk = blk_of(device);
    queue_pool_free(blk->pool);
    blk_file_fini(&blk->file);
    blk_limit_fini(&blk->limit);
    free(blk);
}

static const struct virtio_device_ops blk_ops = {
    .name = "blk",
    .id = VIRTIO_ID_BLOCK,
    .features = blk_features,
    .config_size = offsetof(struct virtio_blk_config, max_secure_erase_sectors),
    .config_read = blk_config_read,
    .config_write = blk_config_write,
    .activate = blk_activate,
    .reset = blk_reset,
    .pause = blk_pause,
    .resume = blk_resume,
    .save = blk_save,
    .restore = blk_restore,
    .statistics = blk_statistics,
    .free = blk_free,
};

void virtio_blk_options_init(struct virtio_blk_options *options)
{
    *options = (struct virtio_blk_options){.fd = -1, .queues = 1, .threads = THREADS_DEFAULT};
}

/* Whole blocks that there are now, in sectors. */
static int capacity_read(const struct virtio_blk *blk, uint64_t *sectors)
{
    uint64_t bytes;
    int rc = blk_file_size(&blk->file, &bytes);
    if (rc == 0)
        *sectors = (bytes - bytes % blk->file.block_bytes) / BLK_SECTOR;
    return rc;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t rate_wait_ns(void *owner)
{
    struct virtio_blk *blk = owner;
    return blk_limit_wait_ns(&blk->limit, now_ns());
}

static int seat_begin(void *owner, struct queue_pool_seat *seat)
{
    struct virtio_blk *blk = owner;
    struct blk_context *context = calloc(1, sizeof(*context));
    if (!context)
        return -ENOMEM;
    context->blk = blk;
    *seat = (struct queue_pool_seat){.context = context, .chain = &context->chain};
    return blk->options.thread_start ? blk->options.thread_start(blk->options.thread_start_arg) : 0;
}

static void seat_end(struct queue_pool_seat *seat)
{
    free(seat->context);
}

static void seat_serve(struct queue_pool_seat *seat)
{
    blk_request_serve(seat->context);
}

static int blk_init(struct virtio_blk *blk, struct loop *loop, struct error *err)
{
    uint64_t capacity = 0;
    int rc = capacity_read(blk, &capacity);
    if (rc < 0)
        return error_set(err, -rc, "disk: size");
    if (capacity == 0)
        return error_set(err, 0, "disk: empty");
    atomic_store(&blk->capacity, capacity);
    atomic_store(&blk->writeback, 1);
    blk->device = (struct virtio_device){
        .ops = &blk_ops, .loop = loop, .queue_count = blk->options.queues, .queue_size_max = QUEUE_SIZE};
    struct queue_pool_config pool = {.name = "blk",
                                     .queues = blk->options.queues,
                                     .threads = blk->options.threads,
                                     .begin = seat_begin,
                                     .end = seat_end,
                                     .serve = seat_serve,
                                     .wait_ns = rate_wait_ns,
                                     .owner = blk};
    blk->pool = queue_pool_new(&blk->device, &pool);
    return blk->pool ? 0 : error_set(err, errno, "disk: threads");
}

struct virtio_device *virtio_blk_new(struct loop *loop, const struct virtio_blk_options *options,
                                     struct error *err)
{
    struct virtio_blk *blk = calloc(1, sizeof(*blk));
    if (!blk || options->queues == 0 || options->queues > VIRTIO_BLK_QUEUES_MAX || options->threads == 0 ||
        options->threads > VIRTIO_BLK_THREADS_MAX) {
        error_set(err, blk ? EINVAL : ENOMEM, "disk");
        close(options->fd);
        free(blk);
        return NULL;
    }
    blk->options = *options;
    if (blk_file_init(&blk->file, options->fd, options->read_only, options->direct, err) < 0) {
        free(blk);
        return NULL;
    }
    blk_limit_init(&blk->limit);
    blk_limit_set(&blk->limit, options->bytes_per_s, options->ops_per_s, now_ns());
    if (blk_init(blk, loop, err) == 0)
        return &blk->device;
    blk_free(&blk->device);
    return NULL;
}

int virtio_blk_start(struct virtio_device *device)
{
    return queue_pool_start(blk_of(device)->pool);
}

const char *virtio_blk_serial(const struct virtio_device *device)
{
    return blk_of(device)->options.serial;
}

int virtio_blk_refresh(struct virtio_device *device, uint64_t *bytes)
{
    struct virtio_blk *blk = blk_of(device);
    uint64_t capacity = 0;
    int rc = capacity_read(blk, &capacity);
    if (rc < 0)
        return rc;
    if (atomic_exchange(&blk->capacity, capacity) != capacity) {
        if (blk->paused)
            blk->capacity_news = true;
        else
            device->transport->config_changed(device->transport);
    }
    *bytes = capacity * BLK_SECTOR;
    return 0;
}

void virtio_blk_set_limits(struct virtio_device *device, uint64_t bytes_per_s, uint64_t ops_per_s)
{
    blk_limit_set(&blk_of(device)->limit, bytes_per_s, ops_per_s, now_ns());
}
