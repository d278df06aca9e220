/*
 * Loading an uncompressed x86-64 Linux kernel (ELF vmlinux) into guest RAM.
 *
 * Trust boundary: the file may be anything. Every header field is checked against the file and against RAM
 * before a byte is placed, and each refusal names its reason.
 */
#ifndef HUSK_VMM_ELF_KERNEL_H
#define HUSK_VMM_ELF_KERNEL_H

#include "common/error.h"
#include "vmm/guest_memory.h"

#include <stdbool.h>

struct elf_kernel {
    gpa_t entry; /* startup_64, a physical address inside a loaded segment */
    gpa_t end;   /* the first byte above all segments, bss included */
};

/* Loads every PT_LOAD segment of the file to its physical address; bss is left to the RAM's zeroes. The
 * segments are read into RAM, which takes huge pages; with `map`, whole pages of the file are mapped
 * copy-on-write over RAM where alignment allows, so that sandboxes share the host's page cache. Reading is
 * the default: a boot then touches 4 MiB more but takes a third of the host's time in page faults (1.1 s
 * against 3.4 s where nested paging is emulated). fd: a regular file, the caller's. 0, or -1 with err; guest
 * RAM is then unspecified. */
int elf_kernel_load(int fd, const struct guest_memory *memory, bool map, struct elf_kernel *kernel,
                    struct error *err);

#endif
