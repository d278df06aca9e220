/*
 * What a disk is on the host: a raw file or a block device, and the operations on it. Offsets and lengths are
 * checked against the size by the caller; the file may shrink meanwhile, which is an I/O error then.
 */
#ifndef HUSK_VMM_VIRTIO_BLK_FILE_H
#define HUSK_VMM_VIRTIO_BLK_FILE_H

#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct blk_file {
    int fd;
    bool device; /* a block device; else a regular file */
    bool direct;
    uint32_t block_bytes;                /* logical: what reads and writes are multiples of */
    uint32_t physical_block_bytes;       /* a power of 2 times as much */
    uint32_t io_min_bytes, io_opt_bytes; /* 0: unknown */
    uint32_t memory_align;               /* of buffers, with direct */
};

/* Takes fd, also on failure. 0, or -1 with err. */
int blk_file_init(struct blk_file *file, int fd, bool read_only, bool direct, struct error *err);
void blk_file_fini(struct blk_file *file);

/* The size now. 0 or -errno. */
int blk_file_size(const struct blk_file *file, uint64_t *bytes);

/* The following give 0 or -errno. Any thread. */

/* Reads (writes) exactly the bytes of iov, which is used up. With sync the data is durable when it returns.
 */
int blk_file_read(const struct blk_file *file, struct iovec *iov, unsigned count, uint64_t offset);
int blk_file_write(const struct blk_file *file, struct iovec *iov, unsigned count, uint64_t offset,
                   bool sync);
int blk_file_flush(const struct blk_file *file);
/* -EOPNOTSUPP where file system or device cannot. */
int blk_file_discard(const struct blk_file *file, uint64_t offset, uint64_t bytes);
/* With unmap the blocks may be given back. */
int blk_file_write_zeroes(const struct blk_file *file, uint64_t offset, uint64_t bytes, bool unmap);

#endif
