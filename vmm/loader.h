/*
 * Reading kernel and initrd into guest memory, in a thread of its own while the machine is built around it.
 *
 * Reading takes as long as all else between husk-vmm's start and the guest's first instruction. The thread
 * has the files' descriptors, guest memory and nothing else: it is confined before it looks at the files,
 * which may hold anything (elf_kernel.h).
 */
#ifndef HUSK_VMM_LOADER_H
#define HUSK_VMM_LOADER_H

#include "common/error.h"
#include "vmm/boot_x86.h"
#include "vmm/elf_kernel.h"
#include "vmm/guest_memory.h"

#include <stdbool.h>

struct loader;

struct loader_config {
    int kernel_fd;
    int initrd_fd;   /* -1: none */
    bool map_kernel; /* see elf_kernel_load */
    /* In the thread, first of all: name, privileges, seccomp. May be NULL. 0 or -errno. */
    int (*thread_start)(void);
};

struct loaded {
    struct elf_kernel kernel;
    struct boot_initrd initrd; /* no bytes: there is none */
};

/* Starts to read. The descriptors stay the caller's and open, and `memory` unchanged, until loader_finish or
 * loader_free. NULL with err. */
struct loader *loader_new(const struct loader_config *config, const struct guest_memory *memory,
                          struct error *err);
/* Waits for the end and frees the loader. 0 with *loaded, or -1 with err: what was wrong with the files. */
int loader_finish(struct loader *loader, struct loaded *loaded, struct error *err);
/* The same, when nobody wants the outcome. NULL is fine. */
void loader_free(struct loader *loader);

#endif
