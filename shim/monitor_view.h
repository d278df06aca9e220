/*
 * The file system that a container's monitor shows as its own.
 *
 * state.pid is the monitor's, and callers enter its mount namespace to reach the container's files: `podman
 * cp` joins it and takes paths from its root. In the host's namespace they would read and write the host's
 * files. So the monitor lives in a namespace of its own whose root is the container's, with its volumes; what
 * only the guest has (tmpfs and the like) is an empty read-only directory there. /proc shows the container's
 * processes (proc_view.h), /dev is the host's, read-only.
 *
 * What a thread in the view opens by an absolute path lies in a tree that the container can change, so the
 * monitor's work is done by threads that have stayed outside (monitor_threads.h).
 */
#ifndef HUSK_SHIM_MONITOR_VIEW_H
#define HUSK_SHIM_MONITOR_VIEW_H

#include "common/error.h"
#include "shim/bundle.h"

/* The way back to the file system that the process had before: for what it has to undo there. */
struct monitor_home {
    int mounts_fd, root_fd; /* -1: it has not left */
};

/* Takes the calling thread, whose file system is its own alone, into a mount namespace with the bundle's tree
 * as its root. *fuse_fd is for proc_view_serve; -1 on a host without FUSE, whose own /proc is shown then. The
 * container is created, so that its mount points are there; a root without /proc and /dev is replaced by
 * an empty one. *home is to be closed by monitor_home_close, whatever the result. 0, or -1 with err filled:
 * then the process can only go back. */
int monitor_enter_view(const struct bundle *bundle, struct monitor_home *home, int *fuse_fd,
                       struct error *err);

/* Back. 0, also when it has not left, or -errno. */
int monitor_go_home(const struct monitor_home *home);

void monitor_home_close(struct monitor_home *home);

#endif
