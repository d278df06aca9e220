/*
 * The files named on the command line, opened before the jail closes: "fd:N" is a descriptor inherited from
 * the shim, anything else a path.
 */
#ifndef HUSK_VMM_FILES_H
#define HUSK_VMM_FILES_H

#include "common/error.h"

#include "vmm/options.h"

#include <stdbool.h>

/* -1: not given. All CLOEXEC. */
struct files {
    int kvm, kernel, initrd, console, status, log;
    int shared;                      /* O_PATH directory */
    int vsock;                       /* a listening Unix socket */
    int control;                     /* a listening Unix socket of packets */
    bool vsock_named, control_named; /* we made it, at the options' path: unlink it in the end */
    struct virtio_net_options net[OPTIONS_NETS_MAX]; /* the options' own, with their descriptors */
    unsigned nets;
    int blk_fd[OPTIONS_BLKS_MAX]; /* of the options' disks */
    unsigned blks;
};

/* Opens what the options name, `console` at least as /dev/null. 0, or -1 with err naming option and file;
 * what was opened stays in files for files_close. */
int files_open(struct files *files, const struct options *options, struct error *err);

/* Closes every descriptor of the process but these and 0, 1, 2: nothing else was meant for us. 0 or -1. */
int files_close_others(const struct files *files, struct error *err);

void files_close(struct files *files);

#endif
