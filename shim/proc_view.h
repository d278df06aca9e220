/*
 * The /proc that a container's monitor shows: the container's processes, which only the guest knows.
 *
 * Callers enter the mount namespace of state.pid and read /proc there (`podman top`, `nsenter -m ps`). With
 * another runtime that is the procfs of the container's pid namespace. Here it is a FUSE file system of the
 * same shape, which has the guest's files of it (container.proc of protocol.h): directories of processes with
 * the files that tools read, and a few of the guest as a whole. As in a procfs of a foreign pid namespace
 * there is no `self`. Nothing can be written, and links to namespaces can be read but not followed.
 *
 * Trust boundary: the kernel's requests are answered for whoever reads; contents come from the guest and are
 * handed on as bytes, at most PROC_FILE_BYTES_MAX of a file.
 */
#ifndef HUSK_SHIM_PROC_VIEW_H
#define HUSK_SHIM_PROC_VIEW_H

#include <jansson.h>

struct error;

/* What the file system asks for: container.proc's result for a path. New reference, or NULL with err filled:
 * err->code is what the reader gets. */
typedef json_t *(*proc_view_ask)(void *arg, const char *path, struct error *err);

/* Makes the file system. *fuse_fd is for proc_view_serve; the mount, attached nowhere, is the result. Both
 * are the caller's. -errno when the host has no FUSE. */
int proc_view_mount(int *fuse_fd);

/* Answers until the file system is gone from every mount namespace. Not in a thread that looks into it. */
void proc_view_serve(int fuse_fd, proc_view_ask ask, void *arg);

#endif
