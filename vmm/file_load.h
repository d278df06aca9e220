/*
 * Reading a file into guest memory, whole or with a reason.
 *
 * Used by the loading thread (loader.h), for kernel and initrd. The file may hold anything: its bytes are not
 * looked at. Faulting the pages in from user space first, in blocks of 2 MiB, keeps the mappings' lock free
 * for the threads that build the machine and lets the guest start 0.1 to 0.2 s earlier where nested paging is
 * emulated, but its agent answers no earlier there (four comparisons, 22 boots each): so that is left out.
 */
#ifndef HUSK_VMM_FILE_LOAD_H
#define HUSK_VMM_FILE_LOAD_H

#include <stdint.h>

/* Reads `bytes` bytes of the file from `offset` on to `to`, which need not be aligned. 0, -errno of pread(2),
 * or -ENODATA when the file ends before that; what was read until then stays. Any thread. */
int file_load(int fd, void *to, uint64_t bytes, uint64_t offset);

#endif
