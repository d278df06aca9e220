/*
 * virtio-rng (virtio 1.2 §5.4): fills what the driver offers with the host's entropy.
 *
 * Trust boundary: the guest chooses how many buffers of which size it offers; one request and one turn are
 * capped, so that it cannot keep the I/O thread to itself. A short answer is within the specification.
 */
#include "vmm/virtio/rng.h"

#include "vmm/virtio/device.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <sys/random.h>

#define REQUEST_BYTES_MAX 65536
#define REQUESTS_PER_TURN 16
#define QUEUE_SIZE        64

struct virtio_rng {
    struct virtio_device device;
    struct virtio_chain chain;
    struct log_limit limit;
};

static uint64_t rng_features(const struct virtio_device *device)
{
    (void)device;
    return 0;
}

static int rng_activate(struct virtio_device *device, uint64_t features)
{
    (void)device;
    (void)features;
    return 0;
}

static void rng_fill(struct virtio_rng *rng, struct virtio_chain *chain)
{
    struct iovec iov[VIRTIO_CHAIN_MAX];
    unsigned count = virtio_chain_in_iov(chain, REQUEST_BYTES_MAX, iov);
    for (unsigned i = 0; i < count; i++) {
        ssize_t got = getrandom(iov[i].iov_base, iov[i].iov_len, 0);
        if (got < 0 && errno != EINTR)
            log_limited(&rng->limit, "rng: getrandom: errno=%d", errno);
        if (got > 0)
            virtio_chain_in_skip(chain, (size_t)got);
        if (got < (ssize_t)iov[i].iov_len)
            return; /* the driver asks again for the rest */
    }
}

static void rng_kick(struct virtio_device *device, unsigned index)
{
    struct virtio_rng *rng = (struct virtio_rng *)device;
    struct virtqueue *queue = device->queue[index];
    unsigned served = 0;
    int got = 0;
    do {
        while (served < REQUESTS_PER_TURN && (got = virtqueue_pop(queue, &rng->chain)) > 0) {
            rng_fill(rng, &rng->chain);
            virtqueue_push(queue, &rng->chain);
            served++;
        }
    } while (served < REQUESTS_PER_TURN && got == 0 && virtqueue_enable_kicks(queue));
    virtqueue_notify(queue);
    if (got < 0)
        virtio_device_broken(device, index);
    else if (served == REQUESTS_PER_TURN)
        device->transport->kick_again(device->transport, index);
}

static void rng_reset(struct virtio_device *device)
{
    (void)device; /* nothing outlives a kick */
}

static int rng_save(const struct virtio_device *device, struct snapshot_writer *writer)
{
    (void)device; /* no state: a restored guest gets fresh entropy */
    (void)writer;
    return 0;
}

static int rng_restore(struct virtio_device *device, struct snapshot_reader *reader)
{
    (void)device;
    (void)reader;
    return 0;
}

static void rng_free(struct virtio_device *device)
{
    free((struct virtio_rng *)device);
}

static const struct virtio_device_ops rng_ops = {
    .name = "rng",
    .id = VIRTIO_ID_RNG,
    .features = rng_features,
    .activate = rng_activate,
    .kick = rng_kick,
    .reset = rng_reset,
    .save = rng_save,
    .restore = rng_restore,
    .free = rng_free,
};

struct virtio_device *virtio_rng_new(struct loop *loop)
{
    struct virtio_rng *rng = calloc(1, sizeof(*rng));
    if (!rng)
        return NULL;
    rng->device =
        (struct virtio_device){.ops = &rng_ops, .loop = loop, .queue_count = 1, .queue_size_max = QUEUE_SIZE};
    return &rng->device;
}
