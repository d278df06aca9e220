/*
 * Starting husk-vmm: a child in a pid namespace of its own that gets every file it needs as an open fd.
 */
#ifndef HUSK_SHIM_VMM_PROCESS_H
#define HUSK_SHIM_VMM_PROCESS_H

#include "common/error.h"
#include "shim/config.h"
#include "shim/host_disks.h"
#include "shim/process_id.h"
#include "shim/vm_size.h"
#include "shim/vmm_net.h"

/* Open files handed to the VMM; all are the caller's and kept open. */
struct vmm_files {
    int kernel;
    int initramfs;
    int vsock;                  /* listening Unix socket */
    int console;                /* the guest's kernel log */
    int status;                 /* how the VM ended: one JSON line */
    int log;                    /* the VMM's own log, also its stderr */
    int control;                /* listening socket: vmm_control_listen */
    const struct vmm_net *nets; /* network devices from the start; at most VMM_NETS_MAX */
    unsigned net_count;
    const struct host_disks *disks;
    const int *disk_fds; /* theirs */
};

/* A child that has been cloned but waits for vmm_process_go before it executes the VMM. */
struct vmm_process {
    struct process_id id;
    int pidfd;   /* the caller's; its parent waits with waitid(P_PIDFD) */
    int go_fd;   /* a byte written here lets it run; closing it ends it */
    int exec_fd; /* where it tells that it could not execute the VMM */
};

/* Clones the child: the caller writes down who it is before it may run, so that no VMM exists that nobody
 * knows of. Single-threaded callers only. 0, or -1 with err filled. */
int vmm_process_clone(const struct config *config, const char *id, const struct vm_size *size,
                      const struct vmm_files *files, struct vmm_process *out, struct error *err);

/* Lets the child run and waits for its execve. 0, or -1 with err filled. Closes go_fd and exec_fd. */
int vmm_process_go(struct vmm_process *process, const struct config *config, struct error *err);

#endif
