/*
 * The configuration of a sandbox: /etc/husk/husk.conf, husk.conf.d/ beside it, and the container's
 * annotations, over built-in defaults.
 *
 * One table row names a setting everywhere: its key in the files, its annotations (io.husk.*, and Kata's
 * where one exists), its range. The files are root's and may set everything; annotations come from whoever
 * writes pod manifests and may set only what a row allows. An unknown key, or an io.husk annotation that is
 * unknown or not allowed, is an error that names it.
 */
#ifndef HUSK_SHIM_CONFIG_H
#define HUSK_SHIM_CONFIG_H

#include "common/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define CONFIG_DIR_DEFAULT "/etc/husk"

struct config {
    char *vmm;       /* path of husk-vmm */
    char *kernel;    /* path of the guest's ELF kernel */
    char *initramfs; /* path of the guest's initramfs */
    uint64_t vcpus;  /* without a limit of CPU time, or stated by an annotation */
    bool vcpus_stated;
    uint64_t vcpus_max;  /* ceiling; 0: see vm_size.h */
    uint64_t memory_mib; /* without a limit of memory, or stated by an annotation */
    bool memory_stated;
    uint64_t memory_min_mib;     /* floor of what is made from a limit */
    uint64_t memory_max_mib;     /* ceiling; 0: the host's memory */
    uint64_t guest_overhead_mib; /* of a VM beside its container: kernel and agent */
    uint64_t vmm_overhead_mib;   /* of a VMM beside its guest's memory */
    uint64_t vmm_overhead_cpu;   /* of a VMM beside its vCPUs: percent of one CPU */
    char *kernel_params;         /* appended to the VMM's own, or NULL */
    char *fs_cache;              /* none, auto or always */
    bool fs_writeback;
    bool hugepages;
    bool prefault;
    char *cpu_mask;           /* CPU features taken from the guest, comma-separated, or NULL */
    uint64_t agent_timeout_s; /* from the VMM's start to the agent's answer */
    uint64_t stop_timeout_s;  /* from the request to shut down to the VMM's end */
};

/* Sets the defaults, with files found beside husk's own binary or else in the system's places, then reads
 * DIR/husk.conf and DIR/husk.conf.d/ *.conf in alphabetical order; missing files are fine. 0, or -1 with err
 * filled ("FILE:LINE: ..."). Undone by config_fini, also after a failure. */
int config_load(struct config *config, const char *dir, struct error *err);

/* Applies a container's annotations (an object of strings, or NULL). 0, or -1 with err filled. */
int config_apply_annotations(struct config *config, const json_t *annotations, struct error *err);

void config_fini(struct config *config);

#endif
