/*
 * virtio-balloon: see balloon.h.
 *
 * Trust boundary: page numbers, lengths and statistics are the guest's. A page number outside RAM is skipped,
 * and a buffer is only ever given back within RAM, so the worst a guest can do is to lose its own data. What
 * is done in one turn is capped, since each page may cost a system call.
 *
 * The queues (§5.5.2): a queue whose feature was not accepted does not exist. Linux counts existing queues
 * only, so that reportingq, 4 in the specification, is its queue 3 here; the one that was started counts.
 */
#include "vmm/virtio/balloon.h"

#include "vmm/snapshot.h"
#include "vmm/virtio/device.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { INFLATEQ, DEFLATEQ, STATSQ, REPORTINGQ_DENSE, REPORTINGQ, QUEUES };

#define QUEUE_SIZE 128
/* Linux inflates by 256 pages and reports 32 ranges a request. What a request holds beyond this is left as it
 * is: the host just does not get it back. */
#define PAGES_PER_REQUEST  1024u
#define RANGES_PER_REQUEST 64u
#define REQUESTS_PER_TURN  8u

#define BIT(n) (1ull << (n))
#define FEATURES                                                                                             \
    (BIT(VIRTIO_BALLOON_F_STATS_VQ) | BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) |                                 \
     BIT(VIRTIO_BALLOON_F_PAGE_POISON) | BIT(VIRTIO_BALLOON_F_REPORTING))

struct virtio_balloon {
    struct virtio_device device; /* first */
    const struct guest_memory *memory;
    /* The configuration space: written by vCPU threads and this one. */
    _Atomic uint32_t target, actual, poison;

    uint64_t features; /* accepted; 0 while inactive */
    uint64_t returned_bytes;
    struct log_limit limit;

    bool statistics_held; /* the driver's buffer waits here until new statistics are wanted (§5.5.6.3) */
    bool statistics_wanted;
    void (*statistics_done)(void *arg);
    void *statistics_arg;
    struct virtio_balloon_statistics statistics;
    struct virtio_chain statistics_chain;
    struct virtio_chain chain;
};

static struct virtio_balloon *balloon_of(struct virtio_device *device)
{
    return (struct virtio_balloon *)device;
}

static uint64_t balloon_features(const struct virtio_device *device)
{
    (void)device;
    return FEATURES;
}

static void balloon_config_read(const struct virtio_device *device, uint32_t offset, void *to,
                                uint32_t length)
{
    struct virtio_balloon *balloon = balloon_of((struct virtio_device *)device);
    struct virtio_balloon_config config = {.num_pages = htole32(atomic_load(&balloon->target)),
                                           .actual = htole32(atomic_load(&balloon->actual)),
                                           .poison_val = htole32(atomic_load(&balloon->poison))};
    memcpy(to, (const char *)&config + offset, length);
}

/* §5.5.4: the driver writes `actual` and `poison_val`, whole. */
static void balloon_config_write(struct virtio_device *device, uint32_t offset, const void *from,
                                 uint32_t length)
{
    struct virtio_balloon *balloon = balloon_of(device);
    uint32_t value;
    if (length != sizeof(value))
        return;
    memcpy(&value, from, sizeof(value));
    if (offset == offsetof(struct virtio_balloon_config, actual))
        atomic_store(&balloon->actual, le32toh(value));
    else if (offset == offsetof(struct virtio_balloon_config, poison_val))
        atomic_store(&balloon->poison, le32toh(value));
}

static bool accepted(const struct virtio_balloon *balloon, unsigned feature)
{
    return balloon->features >> feature & 1;
}

static int balloon_activate(struct virtio_device *device, uint64_t features)
{
    balloon_of(device)->features = features;
    return 0;
}

static void give_back(struct virtio_balloon *balloon, void *hva, uint64_t bytes)
{
    int rc = guest_memory_discard(balloon->memory, hva, bytes);
    if (rc < 0)
        log_limited(&balloon->limit, "balloon: %llu bytes not given back: %s", (unsigned long long)bytes,
                    strerror(-rc));
    else
        balloon->returned_bytes += bytes;
}

/* §5.5.6: an array of page numbers. Neighbours are given back together. */
static void inflate(struct virtio_balloon *balloon, struct virtio_chain *chain)
{
    const uint64_t page = 1u << VIRTIO_BALLOON_PFN_SHIFT;
    uint8_t *run = NULL;
    uint64_t run_bytes = 0;
    __le32 number;
    for (unsigned i = 0; i < PAGES_PER_REQUEST; i++) {
        if (virtio_chain_read(chain, &number, sizeof(number)) < sizeof(number))
            break;
        gpa_t gpa = (gpa_t)le32toh(number) << VIRTIO_BALLOON_PFN_SHIFT;
        uint8_t *hva = guest_memory_at(balloon->memory, gpa, page);
        if (!hva)
            continue;
        if (run && hva == run + run_bytes) {
            run_bytes += page;
        } else if (run && hva + page == run) {
            run = hva;
            run_bytes += page;
        } else {
            if (run)
                give_back(balloon, run, run_bytes);
            run = hva;
            run_bytes = page;
        }
    }
    if (run)
        give_back(balloon, run, run_bytes);
}

/* §5.5.6.7: the buffers themselves are what is free. With PAGE_POISON the driver finds its pages filled with
 * poison_val again, which fresh pages are only if that is 0. */
static void report(struct virtio_balloon *balloon, struct virtio_chain *chain)
{
    struct iovec iov[VIRTIO_CHAIN_MAX];
    if (accepted(balloon, VIRTIO_BALLOON_F_PAGE_POISON) && atomic_load(&balloon->poison) != 0)
        return;
    unsigned count = virtio_chain_in_iov(chain, SIZE_MAX, iov);
    for (unsigned i = 0; i < count && i < RANGES_PER_REQUEST; i++)
        give_back(balloon, iov[i].iov_base, iov[i].iov_len);
}

static void statistics_take(struct virtio_balloon *balloon, struct virtio_chain *chain)
{
    struct virtio_balloon_statistics *statistics = &balloon->statistics;
    struct virtio_balloon_stat stat;
    *statistics = (struct virtio_balloon_statistics){.present = 0};
    for (unsigned i = 0; i < 2 * VIRTIO_BALLOON_S_NR; i++) {
        if (virtio_chain_read(chain, &stat, sizeof(stat)) < sizeof(stat))
            break;
        unsigned tag = le16toh(stat.tag);
        if (tag >= VIRTIO_BALLOON_S_NR)
            continue; /* of a later specification */
        statistics->present |= 1u << tag;
        statistics->value[tag] = le64toh(stat.val);
    }
}

/* Gives the held buffer back: the driver fills it anew and offers it again. */
static void statistics_ask(struct virtio_balloon *balloon)
{
    struct virtqueue *queue = balloon->device.queue[STATSQ];
    if (!balloon->statistics_held || !balloon->statistics_wanted)
        return;
    balloon->statistics_held = false;
    virtqueue_push(queue, &balloon->statistics_chain);
    virtqueue_notify(queue);
}

/* One buffer is the driver's, and it is held here most of the time. */
static void statistics_kick(struct virtio_balloon *balloon)
{
    struct virtqueue *queue = balloon->device.queue[STATSQ];
    int got = 0;
    for (unsigned i = 0; i < REQUESTS_PER_TURN; i++) {
        got = virtqueue_pop(queue, &balloon->chain);
        if (got <= 0)
            break;
        statistics_take(balloon, &balloon->chain);
        if (balloon->statistics_held) /* more buffers than §5.5.6.3 has: only the latest is held */
            virtqueue_push(queue, &balloon->statistics_chain);
        balloon->statistics_chain.head = balloon->chain.head;
        balloon->statistics_chain.in_written = 0;
        balloon->statistics_held = true;
        if (balloon->statistics_wanted) {
            balloon->statistics_wanted = false;
            if (balloon->statistics_done)
                balloon->statistics_done(balloon->statistics_arg);
        }
    }
    virtqueue_notify(queue);
    if (got < 0)
        virtio_device_broken(&balloon->device, STATSQ);
    else if (got > 0 || virtqueue_enable_kicks(queue))
        balloon->device.transport->kick_again(balloon->device.transport, STATSQ);
}

static void request_serve(struct virtio_balloon *balloon, unsigned index, struct virtio_chain *chain)
{
    if (index == INFLATEQ)
        inflate(balloon, chain);
    else if (index >= REPORTINGQ_DENSE)
        report(balloon, chain);
    /* DEFLATEQ: the guest takes pages back by touching them. */
}

static void balloon_kick(struct virtio_device *device, unsigned index)
{
    struct virtio_balloon *balloon = balloon_of(device);
    struct virtqueue *queue = device->queue[index];
    unsigned served = 0;
    int got = 0;
    /* Without statistics the third existing queue reports (§5.5.2, as Linux counts). */
    bool dense = index == STATSQ && !accepted(balloon, VIRTIO_BALLOON_F_STATS_VQ);
    if (index == STATSQ && !dense) {
        statistics_kick(balloon);
        return;
    }
    do {
        while (served < REQUESTS_PER_TURN && (got = virtqueue_pop(queue, &balloon->chain)) > 0) {
            request_serve(balloon, dense ? REPORTINGQ_DENSE : index, &balloon->chain);
            virtqueue_push(queue, &balloon->chain);
            served++;
        }
    } while (served < REQUESTS_PER_TURN && got == 0 && virtqueue_enable_kicks(queue));
    virtqueue_notify(queue);
    if (got < 0)
        virtio_device_broken(device, index);
    else if (served == REQUESTS_PER_TURN)
        device->transport->kick_again(device->transport, index);
}

static void balloon_reset(struct virtio_device *device)
{
    struct virtio_balloon *balloon = balloon_of(device);
    balloon->features = 0;
    balloon->statistics_held = balloon->statistics_wanted = false;
    /* §5.5.5: a new driver finds an empty balloon; `target` stays what the host wants. */
    atomic_store(&balloon->actual, 0);
    atomic_store(&balloon->poison, 0);
}

/* The held buffer goes back into its ring, to be taken anew after the resume. */
static void balloon_pause(struct virtio_device *device)
{
    struct virtio_balloon *balloon = balloon_of(device);
    if (balloon->statistics_held)
        virtqueue_unpop(device->queue[STATSQ], &balloon->statistics_chain);
    balloon->statistics_held = false;
}

static int balloon_save(const struct virtio_device *device, struct snapshot_writer *writer)
{
    struct virtio_balloon *balloon = balloon_of((struct virtio_device *)device);
    snapshot_put_u32(writer, atomic_load(&balloon->target));
    snapshot_put_u32(writer, atomic_load(&balloon->actual));
    snapshot_put_u32(writer, atomic_load(&balloon->poison));
    return 0;
}

static int balloon_restore(struct virtio_device *device, struct snapshot_reader *reader)
{
    struct virtio_balloon *balloon = balloon_of(device);
    atomic_store(&balloon->target, snapshot_get_u32(reader));
    atomic_store(&balloon->actual, snapshot_get_u32(reader));
    atomic_store(&balloon->poison, snapshot_get_u32(reader));
    return snapshot_reader_error(reader);
}

static void balloon_free(struct virtio_device *device)
{
    free(balloon_of(device));
}

static const struct virtio_device_ops balloon_ops = {
    .name = "balloon",
    .id = VIRTIO_ID_BALLOON,
    .features = balloon_features,
    .config_size = sizeof(struct virtio_balloon_config),
    .config_read = balloon_config_read,
    .config_write = balloon_config_write,
    .activate = balloon_activate,
    .kick = balloon_kick,
    .reset = balloon_reset,
    .pause = balloon_pause,
    .save = balloon_save,
    .restore = balloon_restore,
    .free = balloon_free,
};

struct virtio_device *virtio_balloon_new(struct loop *loop, const struct guest_memory *memory)
{
    struct virtio_balloon *balloon = calloc(1, sizeof(*balloon));
    if (!balloon)
        return NULL;
    balloon->memory = memory;
    balloon->device = (struct virtio_device){
        .ops = &balloon_ops, .loop = loop, .queue_count = QUEUES, .queue_size_max = QUEUE_SIZE};
    return &balloon->device;
}

void virtio_balloon_set_target(struct virtio_device *device, uint32_t pages)
{
    if (atomic_exchange(&balloon_of(device)->target, pages) != pages)
        device->transport->config_changed(device->transport);
}

uint32_t virtio_balloon_get_actual(const struct virtio_device *device)
{
    return atomic_load(&balloon_of((struct virtio_device *)device)->actual);
}

int virtio_balloon_request_statistics(struct virtio_device *device, void (*done)(void *arg), void *arg)
{
    struct virtio_balloon *balloon = balloon_of(device);
    if (!accepted(balloon, VIRTIO_BALLOON_F_STATS_VQ))
        return -ENODEV;
    if (balloon->statistics_wanted)
        return -EBUSY;
    balloon->statistics_wanted = true;
    balloon->statistics_done = done;
    balloon->statistics_arg = arg;
    statistics_ask(balloon);
    return 0;
}

const struct virtio_balloon_statistics *virtio_balloon_get_statistics(const struct virtio_device *device)
{
    return &balloon_of((struct virtio_device *)device)->statistics;
}

uint64_t virtio_balloon_get_returned_bytes(const struct virtio_device *device)
{
    return balloon_of((struct virtio_device *)device)->returned_bytes;
}
