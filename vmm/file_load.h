/*
 * Reading a file into guest memory that nobody has touched yet.
 *
 * Used by the loading thread (loader.h), for kernel and initrd. The file may hold anything: its bytes are not
 * looked at.
 */
#ifndef HUSK_VMM_FILE_LOAD_H
#define HUSK_VMM_FILE_LOAD_H

#include <stdint.h>

/* Reads `bytes` bytes of the file from `offset` on to `to`, which need not be aligned. 0, -errno of pread(2),
 * or -ENODATA when the file ends before that; what was read until then stays. Any thread. */
int file_load(int fd, void *to, uint64_t bytes, uint64_t offset);

#endif
