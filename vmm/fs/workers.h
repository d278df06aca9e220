/*
 * The file server's threads: they wait for kicks themselves, take chains, serve them and give them back.
 *
 * One thread serves the high-priority queue (forgets), the others all request queues. Each waits on the
 * queues' ioeventfds with EPOLLEXCLUSIVE, so a kick wakes one idle thread and no dispatcher stands between;
 * a thread that blocks in a system call holds up nobody while another is idle. A queue's lock is held only
 * around its ring.
 *
 * Two things save VM exits and wake-ups. A thread that has served the last request looks for the next one for
 * a while, with kicks off, if lately the next one came soon. And forgets, which nobody waits for, are
 * collected for FORGET_DELAY_MS.
 */
#ifndef HUSK_VMM_FS_WORKERS_H
#define HUSK_VMM_FS_WORKERS_H

#include "vmm/fs/fuse_server.h"
#include "vmm/virtio/device.h"

struct fs_workers;

/* For the device's queues: queue 0 is the high-priority one. `threads` serve the others (at least 1). NULL
 * with errno. */
struct fs_workers *fs_workers_new(struct fs_server *server, struct virtio_device *device, unsigned threads);
/* Ends the threads. */
void fs_workers_free(struct fs_workers *workers);

/* Starts the threads; each calls `start` (may be NULL) before anything else is taken from the guest. 0, or
 * -errno of the first that failed: then none runs. */
int fs_workers_start(struct fs_workers *workers, int (*start)(void *arg), void *arg);

/* From open to close the queues are served. open: 0; -EINVAL before start; other -errno. close returns when
 * no chain is in flight and no thread touches a queue. Both from the device's thread. */
int fs_workers_open(struct fs_workers *workers);
void fs_workers_close(struct fs_workers *workers);

#endif
