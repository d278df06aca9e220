/*
 * husk-vmm's command line. One table (options.c) drives parsing and --help.
 *
 * The caller is trusted (the shim, or a person): checks here are for clear messages.
 */
#ifndef HUSK_VMM_OPTIONS_H
#define HUSK_VMM_OPTIONS_H

#include "common/error.h"
#include "common/log.h"
#include "vmm/fs/virtio_fs.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/net.h"

#include <stdbool.h>
#include <stdio.h>

#define OPTIONS_NETS_MAX 8u
#define OPTIONS_BLKS_MAX 8u

/* Strings point into argv. NULL: not given. Files are "fd:N" or a path (see files.h). */
struct options {
    const char *id;
    unsigned cpus, cpus_max;             /* cpus_max 0: not given */
    unsigned memory_mib, memory_max_mib; /* memory_max_mib 0: not given */
    const char *kernel, *initrd, *cmdline;
    const char *kvm, *vsock, *shared, *console, *status, *log, *control;
    const char *cpu_mask;
    bool hugepages, prefault, small_pages, map_kernel, no_balloon;
    enum fs_cache fs_cache;
    bool fs_writeback;
    unsigned fs_workers;
    struct virtio_net_options net[OPTIONS_NETS_MAX];
    unsigned nets;
    struct virtio_blk_options blk[OPTIONS_BLKS_MAX];
    unsigned blks;
    unsigned slots; /* placeholders for devices that come later */
    enum log_level log_level;
    bool stats;
    bool help, version;
};

/* Fills options from argv and defaults. 0, or -1 with err naming the option. */
int options_parse(struct options *options, int argc, char **argv, struct error *err);

/* Prints the usage text made from the table. */
void options_print_help(FILE *to);

#endif
