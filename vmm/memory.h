/*
 * Guest RAM: reserving it, backing it with the pages asked for, and giving it to KVM.
 *
 * RAM is one private mapping, cut at the hole below 4 GiB: [0, 3 GiB) and, above 4 GiB, the rest. Pages exist
 * only once the guest touches them. What the guest may be given later (virtio-mem) is a mapping of its own
 * and the last region: reserved address space, in its memory slot from the start since slots are dear to
 * change while the guest runs, and no RAM of the boot's.
 */
#ifndef HUSK_VMM_MEMORY_H
#define HUSK_VMM_MEMORY_H

#include "common/error.h"
#include "vmm/guest_memory.h"

#include <stdbool.h>

struct memory_options {
    uint64_t bytes;        /* a multiple of 1 MiB */
    uint64_t bytes_max;    /* with what may be plugged later; at most bytes: nothing may */
    bool hugepages;        /* from hugetlbfs' pool of 2 MiB pages; bytes is then a multiple of 2 MiB */
    bool prefault;         /* all of it before the guest starts */
    bool transparent_huge; /* let the host use transparent huge pages; else 4 KiB pages */
};

struct memory {
    struct guest_memory map; /* what devices get */
    uint8_t *base;
    uint64_t bytes;
    unsigned boot_regions; /* the map's first ones: RAM at boot */
    /* The region for later; no bytes: there is none. */
    uint8_t *pluggable;
    gpa_t pluggable_gpa;
    uint64_t pluggable_bytes; /* of the region: rounded up to what guests plug at once */
    uint64_t pluggable_max;   /* of memory */
};

/* Reserves the RAM. 0, or -1 with err; the memory is then as if memory_fini had been called. */
int memory_init(struct memory *memory, const struct memory_options *options, struct error *err);

/* Touches all pages now, if options ask for it. After the kernel was loaded, whose pages may be mapped from
 * its file. 0 or -1. */
int memory_prefault(const struct memory *memory, const struct memory_options *options, struct error *err);

/* Tells KVM of the RAM, one slot a region, slot numbers from 0. Before the irqchip and any ioeventfd: later
 * slot changes wait for readers of the VM's busses. 0 or -1. */
int memory_register(const struct memory *memory, int vm_fd, struct error *err);

void memory_fini(struct memory *memory);

#endif
