/*
 * Threads that serve queues of a virtio device: they wait for kicks themselves, take chains, have them served
 * and give them back.
 *
 * Each thread waits on the ioeventfds of all the pool's queues with EPOLLEXCLUSIVE, so a kick wakes one idle
 * thread and no dispatcher stands between; a thread that blocks in a system call holds up nobody while
 * another is idle. A queue's lock is held only around its ring. While a thread is idle the driver's kicks
 * stay on; when all are busy they are off, since each looks again when it has done.
 *
 * Trust boundary: what a chain holds is the business of `serve`; of the ring this knows that it may be broken
 * at any time. open and close are the device's thread's. For devices with requests that may block (blk.c,
 * fs/virtio_fs.c).
 */
#ifndef HUSK_VMM_VIRTIO_QUEUE_POOL_H
#define HUSK_VMM_VIRTIO_QUEUE_POOL_H

#include "vmm/virtio/device.h"

#include <stdbool.h>
#include <stdint.h>

struct queue_pool;

/* What one thread serves with. */
struct queue_pool_seat {
    void *context;
    struct virtio_chain *chain; /* in the context: where the thread puts the chain it took */
};

struct queue_pool_config {
    const char *name;                      /* of the threads: NAME-0 .. */
    unsigned first_queue, queues, threads; /* the device's queues that it serves; at least 1 and 1 */
    /* In each new thread, before it takes anything of the guest: fills the seat. 0 or -errno. */
    int (*begin)(void *owner, struct queue_pool_seat *seat);
    /* After the thread's end, or after a begin that failed. */
    void (*end)(struct queue_pool_seat *seat);
    /* Serves seat->chain; the pool pushes it afterwards. Any number of threads at once. */
    void (*serve)(struct queue_pool_seat *seat);
    /* How long the next chain has to wait (a rate limit); 0: take it. Any thread. May be NULL. */
    uint64_t (*wait_ns)(void *owner);
    void *owner;
    /* A thread that has served the last request looks for the next one for a while, with kicks off, if lately
     * the next one came soon: saves exits and wake-ups. */
    bool poll;
    /* For chains that nobody waits for: kicks are off for so long after the first, and the driver is notified
     * once for all. 0: served as they come. */
    unsigned collect_ms;
};

/* The config is copied. NULL with errno. */
struct queue_pool *queue_pool_new(struct virtio_device *device, const struct queue_pool_config *config);
/* Ends the threads. NULL is fine. */
void queue_pool_free(struct queue_pool *pool);

/* Starts the threads. 0, or -errno of the first that failed: then none runs. */
int queue_pool_start(struct queue_pool *pool);

/* From open to close the queues are served. open: 0; -EINVAL before start; other -errno. close returns when
 * no chain is in flight and no thread touches a queue. Both from the device's thread. */
int queue_pool_open(struct queue_pool *pool);
void queue_pool_close(struct queue_pool *pool);

#endif
