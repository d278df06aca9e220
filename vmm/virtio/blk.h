/*
 * virtio-blk (virtio 1.2 §5.2) over a raw file or a block device of the host.
 *
 * Requests are served by threads of the device's own with preadv and its kin, so that a slow disk holds up
 * nobody else. Not by io_uring: what a ring does no system call filter sees, many hosts forbid it
 * (kernel.io_uring_disabled, container filters), and the threads already have as many requests under way as
 * there are threads.
 */
#ifndef HUSK_VMM_VIRTIO_BLK_H
#define HUSK_VMM_VIRTIO_BLK_H

#include "common/error.h"

#include <linux/virtio_blk.h>
#include <stdbool.h>
#include <stdint.h>

#define VIRTIO_BLK_QUEUES_MAX  16u
#define VIRTIO_BLK_THREADS_MAX 16u

struct loop;
struct virtio_device;

struct virtio_blk_options {
    int fd;         /* regular file or block device, opened read-only if and only if read_only */
    bool read_only; /* told to the guest; what enforces it is the descriptor */
    bool direct;    /* around the host's page cache */
    char serial[VIRTIO_BLK_ID_BYTES + 1]; /* how the guest tells its disks apart; may be empty */
    unsigned queues;                      /* 1 to VIRTIO_BLK_QUEUES_MAX */
    unsigned threads;                     /* requests under way at most, 1 to VIRTIO_BLK_THREADS_MAX */
    uint64_t bytes_per_s, ops_per_s;      /* 0: no limit */
    int (*thread_start)(void *arg);       /* in each thread before it takes anything of the guest; or NULL */
    void *thread_start_arg;
};

/* fd -1, one queue, four threads, no limits. */
void virtio_blk_options_init(struct virtio_blk_options *options);

/* The fd is the device's from here on, also on failure. NULL with err: not a file of these kinds, of less
 * than a sector, or opened otherwise than read_only says. */
struct virtio_device *virtio_blk_new(struct loop *loop, const struct virtio_blk_options *options,
                                     struct error *err);
/* Starts the threads, before the guest runs or before the device is attached; from a thread whose system call
 * filter allows what theirs does. 0 or -errno. */
int virtio_blk_start(struct virtio_device *device);

const char *virtio_blk_serial(const struct virtio_device *device);

/* Looks at the file's size again and tells the guest if it changed. 0 with *bytes, or -errno. From the
 * device's thread. */
int virtio_blk_refresh(struct virtio_device *device, uint64_t *bytes);
/* Changes the limits; 0: none. Any thread. */
void virtio_blk_set_limits(struct virtio_device *device, uint64_t bytes_per_s, uint64_t ops_per_s);

#endif
