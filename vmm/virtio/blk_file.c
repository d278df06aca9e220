/* Operations on a disk's file: see blk_file.h. */
#include "vmm/virtio/blk_file.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define SECTOR          512u
#define BOUNCE_BYTES    (256u << 10)
#define ZEROES_BYTES    (64u << 10)
#define BLOCK_BYTES_MAX 65536u

/* What the kernel tells of a block device's blocks. */
static int device_describe(struct blk_file *file)
{
    int logical = 0;
    unsigned physical = 0, io_min = 0, io_opt = 0;
    if (ioctl(file->fd, BLKSSZGET, &logical) < 0)
        return -errno;
    /* These three only help: a device that knows none of them answers 0 or fails. */
    if (ioctl(file->fd, BLKPBSZGET, &physical) < 0)
        physical = 0;
    if (ioctl(file->fd, BLKIOMIN, &io_min) < 0)
        io_min = 0;
    if (ioctl(file->fd, BLKIOOPT, &io_opt) < 0)
        io_opt = 0;
    if (logical < (int)SECTOR || logical > (int)BLOCK_BYTES_MAX)
        return -EINVAL;
    file->block_bytes = (uint32_t)logical;
    file->physical_block_bytes = physical > file->block_bytes ? physical : file->block_bytes;
    file->io_min_bytes = io_min;
    file->io_opt_bytes = io_opt;
    return 0;
}

/* A regular file takes any bytes, but around the page cache only whole blocks of what it lies on: a page is a
 * multiple of all there are. */
static void regular_describe(struct blk_file *file, const struct stat *stat)
{
    uint32_t page = 4096;
    file->block_bytes = SECTOR;
    file->physical_block_bytes =
        stat->st_blksize >= SECTOR && stat->st_blksize <= (blksize_t)page ? (uint32_t)stat->st_blksize : page;
    if (file->direct)
        file->block_bytes = file->physical_block_bytes = page;
    if (file->physical_block_bytes & (file->physical_block_bytes - 1))
        file->physical_block_bytes = page;
}

static int access_check(int fd, bool read_only, struct error *err)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return error_set(err, errno, "disk");
    if (flags & O_PATH)
        return error_set(err, EBADF, "disk: a descriptor without access");
    if (read_only && (flags & O_ACCMODE) != O_RDONLY)
        return error_set(err, 0, "disk: read-only, but the descriptor may write");
    if (!read_only && (flags & O_ACCMODE) != O_RDWR)
        return error_set(err, 0, "disk: writable, but the descriptor may not read and write");
    return flags;
}

static int file_describe(struct blk_file *file, bool read_only, struct error *err)
{
    struct stat stat;
    int flags = access_check(file->fd, read_only, err);
    if (flags < 0)
        return -1;
    if (fstat(file->fd, &stat) < 0)
        return error_set(err, errno, "disk");
    if (!S_ISREG(stat.st_mode) && !S_ISBLK(stat.st_mode))
        return error_set(err, 0, "disk: neither a regular file nor a block device");
    if (file->direct && fcntl(file->fd, F_SETFL, flags | O_DIRECT) < 0)
        return error_set(err, errno, "disk: around the page cache");
    file->device = S_ISBLK(stat.st_mode);
    if (!file->device) {
        regular_describe(file, &stat);
    } else {
        int rc = device_describe(file);
        if (rc < 0)
            return error_set(err, -rc, "disk: block device %u:%u", major(stat.st_rdev), minor(stat.st_rdev));
    }
    file->memory_align = file->direct ? file->block_bytes : 1;
    return 0;
}

int blk_file_init(struct blk_file *file, int fd, bool read_only, bool direct, struct error *err)
{
    *file = (struct blk_file){.fd = fd, .direct = direct};
    if (file_describe(file, read_only, err) == 0)
        return 0;
    blk_file_fini(file);
    return -1;
}

void blk_file_fini(struct blk_file *file)
{
    fd_close(&file->fd);
}

int blk_file_size(const struct blk_file *file, uint64_t *bytes)
{
    struct stat stat;
    if (file->device)
        return ioctl(file->fd, BLKGETSIZE64, bytes) < 0 ? -errno : 0;
    if (fstat(file->fd, &stat) < 0)
        return -errno;
    *bytes = (uint64_t)stat.st_size;
    return 0;
}

/* Moves *iov over `bytes` that are done. */
static void iov_advance(struct iovec **iov, unsigned *count, size_t bytes)
{
    while (*count > 0 && bytes >= (*iov)->iov_len) {
        bytes -= (*iov)->iov_len;
        (*iov)++;
        (*count)--;
    }
    if (*count > 0) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + bytes;
        (*iov)->iov_len -= bytes;
    }
}

static int transfer(const struct blk_file *file, struct iovec *iov, unsigned count, uint64_t offset,
                    bool write, int flags)
{
    iov_advance(&iov, &count, 0);
    while (count > 0) {
        int batch = count < IOV_MAX ? (int)count : IOV_MAX;
        ssize_t done = write ? pwritev2(file->fd, iov, batch, (off_t)offset, flags)
                             : preadv2(file->fd, iov, batch, (off_t)offset, 0);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? -errno : -EIO; /* the file is shorter than it was */
        offset += (uint64_t)done;
        iov_advance(&iov, &count, (size_t)done);
    }
    return 0;
}

static bool iov_aligned(const struct blk_file *file, const struct iovec *iov, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (((uintptr_t)iov[i].iov_base | iov[i].iov_len) % file->memory_align)
            return false;
    }
    return true;
}

/* Copies between the iov, which it moves over, and memory. */
static size_t iov_copy(struct iovec **iov, unsigned *count, char *memory, size_t bytes, bool out)
{
    size_t done = 0;
    while (*count > 0 && done < bytes) {
        size_t piece = (*iov)->iov_len < bytes - done ? (*iov)->iov_len : bytes - done;
        if (out)
            memcpy((*iov)->iov_base, memory + done, piece);
        else
            memcpy(memory + done, (*iov)->iov_base, piece);
        done += piece;
        iov_advance(iov, count, piece);
    }
    return done;
}

/* For buffers that the page cache would take but the device does not: through an aligned one. */
static int transfer_bounced(const struct blk_file *file, struct iovec *iov, unsigned count, uint64_t offset,
                            bool write, int flags)
{
    size_t left = 0;
    for (unsigned i = 0; i < count; i++)
        left += iov[i].iov_len;
    cleanup_free char *bounce = aligned_alloc(file->memory_align, BOUNCE_BYTES);
    if (!bounce)
        return -ENOMEM;
    int rc = 0;
    while (rc == 0 && left > 0) {
        size_t bytes = left < BOUNCE_BYTES ? left : BOUNCE_BYTES;
        struct iovec piece = {bounce, bytes};
        if (write)
            iov_copy(&iov, &count, bounce, bytes, false);
        rc = transfer(file, &piece, 1, offset, write, flags);
        if (rc == 0 && !write)
            iov_copy(&iov, &count, bounce, bytes, true);
        offset += bytes;
        left -= bytes;
    }
    return rc;
}

int blk_file_read(const struct blk_file *file, struct iovec *iov, unsigned count, uint64_t offset)
{
    if (!iov_aligned(file, iov, count))
        return transfer_bounced(file, iov, count, offset, false, 0);
    return transfer(file, iov, count, offset, false, 0);
}

int blk_file_write(const struct blk_file *file, struct iovec *iov, unsigned count, uint64_t offset, bool sync)
{
    int flags = sync ? RWF_DSYNC : 0;
    if (!iov_aligned(file, iov, count))
        return transfer_bounced(file, iov, count, offset, true, flags);
    return transfer(file, iov, count, offset, true, flags);
}

int blk_file_flush(const struct blk_file *file)
{
    return fdatasync(file->fd) < 0 ? -errno : 0;
}

static int file_allocate(const struct blk_file *file, int mode, uint64_t offset, uint64_t bytes)
{
    int rc;
    do {
        rc = fallocate(file->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
    } while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

int blk_file_discard(const struct blk_file *file, uint64_t offset, uint64_t bytes)
{
    uint64_t range[2] = {offset, bytes};
    if (!file->device)
        return file_allocate(file, FALLOC_FL_PUNCH_HOLE, offset, bytes);
    return ioctl(file->fd, BLKDISCARD, range) < 0 ? -errno : 0;
}

static int write_zeroes_by_hand(const struct blk_file *file, uint64_t offset, uint64_t bytes)
{
    cleanup_free char *zeroes = aligned_alloc(BLOCK_BYTES_MAX, ZEROES_BYTES);
    if (!zeroes)
        return -ENOMEM;
    memset(zeroes, 0, ZEROES_BYTES);
    int rc = 0;
    while (rc == 0 && bytes > 0) {
        struct iovec piece = {zeroes, bytes < ZEROES_BYTES ? (size_t)bytes : ZEROES_BYTES};
        offset += piece.iov_len;
        bytes -= piece.iov_len;
        rc = transfer(file, &piece, 1, offset - piece.iov_len, true, 0);
    }
    return rc;
}

int blk_file_write_zeroes(const struct blk_file *file, uint64_t offset, uint64_t bytes, bool unmap)
{
    /* fallocate does the same on block devices as on files. */
    int rc = unmap ? file_allocate(file, FALLOC_FL_PUNCH_HOLE, offset, bytes) : -EOPNOTSUPP;
    if (rc == -EOPNOTSUPP)
        rc = file_allocate(file, FALLOC_FL_ZERO_RANGE, offset, bytes);
    return rc == -EOPNOTSUPP ? write_zeroes_by_hand(file, offset, bytes) : rc;
}
