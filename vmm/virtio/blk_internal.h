/*
 * Inside virtio-blk: what the device (blk.c) and its requests (blk_request.c) share. Nobody else includes
 * this.
 */
#ifndef HUSK_VMM_VIRTIO_BLK_INTERNAL_H
#define HUSK_VMM_VIRTIO_BLK_INTERNAL_H

#include "vmm/virtio/blk.h"
#include "vmm/virtio/blk_file.h"
#include "vmm/virtio/blk_limit.h"
#include "vmm/virtio/queue_pool.h"

#include <stdatomic.h>

#define BLK_SECTOR 512u
/* What one request may hold: Linux asks for no more, others get an error. */
#define BLK_RANGES_MAX        64u        /* of a discard */
#define BLK_RANGE_SECTORS_MAX (1u << 21) /* 1 GiB: a discard does not keep a thread for ever */

struct blk_counts {
    atomic_ullong reads, read_bytes, writes, write_bytes, flushes, discards, errors;
};

struct virtio_blk {
    struct virtio_device device; /* first */
    struct virtio_blk_options options;
    struct blk_file file;
    struct blk_limit limit;
    struct queue_pool *pool;
    struct blk_counts counts;
    /* Any thread. */
    _Atomic uint64_t capacity; /* sectors */
    _Atomic uint64_t features; /* accepted; 0 while inactive */
    _Atomic uint8_t writeback; /* the configuration's wce */
    /* The device's thread. */
    bool active, paused;
    bool capacity_news; /* to be announced at the resume */
};

/* One of the threads' own, for one request at a time. */
struct blk_context {
    struct virtio_blk *blk;
    struct log_limit limit;
    struct iovec iov[VIRTIO_CHAIN_MAX];
    struct virtio_chain chain;
};

/* Serves context->chain, whose status it writes. The caller pushes it. */
void blk_request_serve(struct blk_context *context);

#endif
