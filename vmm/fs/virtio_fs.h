/*
 * virtio-fs (virtio 1.2 §5.11): the device, whose requests the FUSE server in this folder answers.
 *
 * The server shows the tree below root_fd. The process has pivoted into that tree before the guest runs: the
 * server resolves one name at a time below O_PATH fds and never follows a link, and the jail catches what
 * would slip.
 */
#ifndef HUSK_VMM_FS_VIRTIO_FS_H
#define HUSK_VMM_FS_VIRTIO_FS_H
#include <stdbool.h>
struct loop;
struct virtio_device;

enum fs_cache { FS_CACHE_NONE, FS_CACHE_AUTO, FS_CACHE_ALWAYS };

struct virtio_fs_options {
    const char *tag;         /* at most 36 bytes */
    unsigned request_queues; /* at least 1 */
    unsigned workers;        /* threads that serve requests */
    enum fs_cache cache;
    bool writeback;
    unsigned fd_limit; /* fds the server may hold; beyond it inodes are closed and reopened */
    /* Called once at the start of each worker thread (seccomp filter, name). May be NULL. 0 or -errno. */
    int (*worker_start)(void *arg);
    void *worker_start_arg;
};

/* root_fd: O_PATH directory, the device's from here on (also on failure). Starts no thread before
 * virtio_fs_start. NULL with errno. */
struct virtio_device *virtio_fs_new(struct loop *loop, int root_fd, const struct virtio_fs_options *options);
/* Starts the workers; after the jail is closed, before the first vCPU runs. 0 or -errno. */
int virtio_fs_start(struct virtio_device *device);
#endif
