/*
 * Rate limits of a disk: two token buckets, bytes and operations per second. A bucket may go into debt: a
 * request begins while there is a token left and pays all of its price, so that large requests pass too and
 * the rate holds on average. Any thread.
 */
#ifndef HUSK_VMM_VIRTIO_BLK_LIMIT_H
#define HUSK_VMM_VIRTIO_BLK_LIMIT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct blk_bucket {
    uint64_t rate; /* tokens a second; 0: no limit */
    int64_t level; /* tokens; at most a tenth of a second's */
    uint64_t at_ns;
};

struct blk_limit {
    pthread_mutex_t lock;
    atomic_bool on; /* any limit: without one the lock is not taken */
    struct blk_bucket bytes, ops;
};

void blk_limit_init(struct blk_limit *limit);
void blk_limit_fini(struct blk_limit *limit);
void blk_limit_set(struct blk_limit *limit, uint64_t bytes_per_s, uint64_t ops_per_s, uint64_t now_ns);
/* How long the next request has to wait; 0: it may begin. */
uint64_t blk_limit_wait_ns(struct blk_limit *limit, uint64_t now_ns);
/* One operation of so many bytes has begun. */
void blk_limit_charge(struct blk_limit *limit, uint64_t bytes);

#endif
