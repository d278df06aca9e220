/*
 * virtio-fs (virtio 1.2 §5.11): the device, whose requests the FUSE server in this folder answers.
 *
 * The server shows the tree below root_fd, mounts within it included. The process has pivoted into that tree
 * before the guest runs: the server resolves one name at a time below O_PATH fds and never follows a link,
 * and the jail catches what would slip.
 *
 * What the jail must leave to the workers: the capabilities CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER,
 * FSETID, SETUID, SETGID, MKNOD, SETFCAP; SETPCAP too, or SECBIT_NO_SETUID_FIXUP already set; the system
 * calls that virtio_fs_syscalls lists; and fd_limit + 4 * workers + 64 fds.
 */
#ifndef HUSK_VMM_FS_VIRTIO_FS_H
#define HUSK_VMM_FS_VIRTIO_FS_H

#include <stdbool.h>

struct loop;
struct virtio_device;

/* What the guest may keep without asking:
 * none: nothing; every read and write comes here.
 * auto: names and attributes for a second, data until the file changes (as seen at open, or by size and
 *       mtime). For trees that others may change too.
 * always: everything, for ever; also that a name does not exist. For trees that only this guest changes. */
enum fs_cache { FS_CACHE_NONE, FS_CACHE_AUTO, FS_CACHE_ALWAYS };

struct virtio_fs_options {
    const char *tag;         /* 1 to 36 bytes */
    unsigned request_queues; /* 1 to 63 */
    unsigned workers;        /* threads that serve requests, at least 1; one more serves forgets */
    enum fs_cache cache;
    bool writeback; /* the guest may hold back written data; not with FS_CACHE_NONE, where it means nothing */
    unsigned fd_limit; /* fds for inodes and open files; beyond it idle inodes are closed and reopened */
    /* An open directory: /proc/self/fd of a procfs of the VMM's pid namespace, which need not be mounted any
     * more. O_PATH fds are reopened through it. The device's from here on. */
    int proc_self_fd;
    /* Called once at the start of each worker thread, after its own preparations (seccomp filter). May be
     * NULL. 0 or -errno. */
    int (*worker_start)(void *arg);
    void *worker_start_arg;
};

/* root_fd: a directory, O_PATH or open, the device's from here on like options->proc_self_fd (both also on
 * failure). Starts no thread before virtio_fs_start. NULL with errno: EINVAL for options out of range,
 * ENOTDIR, ENOMEM. */
struct virtio_device *virtio_fs_new(struct loop *loop, int root_fd, const struct virtio_fs_options *options);

/* Starts the workers; after the jail is closed, before the first vCPU runs, and attached to its transport. 0
 * or -errno of what a worker could not do. */
int virtio_fs_start(struct virtio_device *device);

#endif
