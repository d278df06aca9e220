/*
 * What an x86-64 Linux kernel finds in memory at its 64-bit entry point (Documentation/arch/x86/boot.rst,
 * "64-bit boot protocol"): zero page, e820 map, command line, initrd, and the setup_data chain with device
 * tree and random seed; and the GDT and identity page tables it starts on.
 */
#ifndef HUSK_VMM_BOOT_X86_H
#define HUSK_VMM_BOOT_X86_H

#include "common/error.h"
#include "vmm/guest_memory.h"

struct boot_initrd {
    gpa_t gpa;
    uint64_t bytes; /* 0: none */
};

/* Reads the initrd (a regular file; fd is the caller's) as high as it fits into low RAM above kernel_end.
 * 0, or -1 with err. */
int boot_initrd_load(int fd, const struct guest_memory *memory, gpa_t kernel_end, struct boot_initrd *initrd,
                     struct error *err);

struct boot_config {
    const char *cmdline; /* shorter than LAYOUT_CMDLINE_MAX */
    struct boot_initrd initrd;
    const void *device_tree; /* flattened */
    size_t device_tree_bytes;
    unsigned regions; /* so many of the memory's first ones are RAM at boot; 0: all */
};

/* Writes all boot structures. 0, or -1 with err (a command line or tree too long, no entropy). */
int boot_structures_write(const struct guest_memory *memory, const struct boot_config *config,
                          struct error *err);

/* Puts the boot vCPU at `entry` in 64-bit mode on the structures above. 0 or -errno. */
int boot_vcpu_set_entry(int vcpu_fd, gpa_t entry);

#endif
