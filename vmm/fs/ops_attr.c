/*
 * Attributes: getattr, statx, setattr, readlink, access. Handlers of fuse_dispatch.c's table.
 *
 * The guest's kernel has checked that the caller may; what the change implies (bits cleared by chown, write
 * and truncate) is left to the host's kernel.
 */
#include "vmm/fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* statx of the request's inode, by the open file `fh` if use_fh: it may have lost its name. */
static int stat_request(struct fs_request *request, bool use_fh, uint64_t fh, struct statx *stx)
{
    struct fs_server *server = request->server;
    struct fs_handle *handle = use_fh ? fs_handle_get(&server->handles, fh, false) : NULL;
    if (!handle)
        return fs_inode_stat(&server->table, request->inode, stx);
    int err = statx(handle->fd, "", AT_EMPTY_PATH, FS_STATX_MASK, stx) < 0 ? -errno : 0;
    fs_handle_put(&server->handles, handle);
    return err;
}

int fs_op_getattr(struct fs_request *request)
{
    const struct fuse_getattr_in *in = request->in;
    struct statx stx;
    int err = stat_request(request, in->getattr_flags & FUSE_GETATTR_FH, in->fh, &stx);
    return err ? err : fs_reply_attr(request, &stx);
}

static struct fuse_sx_time sx_time(const struct statx_timestamp *time)
{
    return (struct fuse_sx_time){.tv_sec = time->tv_sec, .tv_nsec = time->tv_nsec};
}

int fs_op_statx(struct fs_request *request)
{
    const struct fuse_statx_in *in = request->in;
    struct statx stx;
    int err = stat_request(request, in->getattr_flags & FUSE_GETATTR_FH, in->fh, &stx);
    if (err)
        return err;
    struct fuse_entry_out valid;
    fs_entry_fill(request->server, 0, NULL, &valid);
    struct fuse_statx_out out = {.attr_valid = valid.attr_valid};
    out.stat = (struct fuse_statx){
        .mask = stx.stx_mask & (STATX_BASIC_STATS | STATX_BTIME),
        .blksize = stx.stx_blksize,
        /* Whether it is a mount's root is the guest's own to say. */
        .attributes = stx.stx_attributes & ~(uint64_t)STATX_ATTR_MOUNT_ROOT,
        .attributes_mask = stx.stx_attributes_mask & ~(uint64_t)STATX_ATTR_MOUNT_ROOT,
        .nlink = stx.stx_nlink,
        .uid = stx.stx_uid,
        .gid = stx.stx_gid,
        .mode = stx.stx_mode,
        .ino = stx.stx_ino,
        .size = stx.stx_size,
        .blocks = stx.stx_blocks,
        .atime = sx_time(&stx.stx_atime),
        .btime = sx_time(&stx.stx_btime),
        .ctime = sx_time(&stx.stx_ctime),
        .mtime = sx_time(&stx.stx_mtime),
        .rdev_major = stx.stx_rdev_major,
        .rdev_minor = stx.stx_rdev_minor,
    };
    return fs_reply(request, &out, sizeof(out));
}

/* What a setattr works on: "N" in /proc/self/fd and the fd N, of the open file or O_PATH. */
struct target {
    int fd;
    char number[16];
    struct fs_handle *handle; /* NULL: fd is the inode's O_PATH fd */
};

static int target_get(struct fs_request *request, bool use_fh, uint64_t fh, struct target *target)
{
    struct fs_server *server = request->server;
    target->handle = use_fh ? fs_handle_get(&server->handles, fh, false) : NULL;
    target->fd = target->handle ? target->handle->fd : fs_path_get(&server->table, request->inode);
    if (target->fd < 0)
        return target->fd;
    snprintf(target->number, sizeof(target->number), "%d", target->fd);
    return 0;
}

static void target_put(struct fs_request *request, struct target *target)
{
    if (target->handle)
        fs_handle_put(&request->server->handles, target->handle);
    else
        fs_path_put(&request->server->table, request->inode);
}

static int set_size(struct fs_request *request, const struct fuse_setattr_in *in, const struct target *target)
{
    if (!S_ISREG(request->inode->type))
        return S_ISDIR(request->inode->type) ? -EISDIR : -EINVAL;
    int err = fs_creds_fsetid(&request->context->creds, !(in->valid & FATTR_KILL_SUIDGID));
    if (err)
        return err;
    if (target->handle && (target->handle->flags & O_ACCMODE) != O_RDONLY)
        return ftruncate(target->fd, (off_t)in->size) < 0 ? -errno : 0;
    int fd = fs_server_open(request->server, request->inode, O_WRONLY);
    if (fd < 0)
        return fd;
    err = ftruncate(fd, (off_t)in->size) < 0 ? -errno : 0;
    close(fd);
    return err;
}

static struct timespec time_wanted(uint32_t valid, uint32_t set, uint32_t now, uint64_t seconds,
                                   uint32_t nanoseconds)
{
    if (valid & now)
        return (struct timespec){.tv_nsec = UTIME_NOW};
    if (valid & set) /* a guest's out-of-range value must not turn into UTIME_NOW or UTIME_OMIT */
        return (struct timespec){.tv_sec = (time_t)seconds,
                                 .tv_nsec = nanoseconds < 1000000000 ? (long)nanoseconds : -1};
    return (struct timespec){.tv_nsec = UTIME_OMIT};
}

static int set_times(const struct fuse_setattr_in *in, const struct target *target)
{
    struct timespec times[2] = {
        time_wanted(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
        time_wanted(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec),
    };
    return utimensat(target->fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int set_mode(struct fs_request *request, const struct fuse_setattr_in *in, const struct target *target)
{
    if (S_ISLNK(request->inode->type))
        return -EOPNOTSUPP;
    int err = fs_creds_fsetid(&request->context->creds, true);
    if (err)
        return err;
    if (fchmodat(request->server->proc_self_fd, target->number, in->mode & 07777, 0) < 0)
        return -errno;
    return 0;
}

/* In the order that leaves what one system call would: chown clears bits that an explicit mode sets, and
 * truncation changes times that explicit times set. FATTR_CTIME is the host's to set. */
static int set_all(struct fs_request *request, const struct fuse_setattr_in *in, const struct target *target)
{
    int err = 0;
    if (in->valid & (FATTR_UID | FATTR_GID)) {
        uid_t uid = in->valid & FATTR_UID ? in->uid : (uid_t)-1;
        gid_t gid = in->valid & FATTR_GID ? in->gid : (gid_t)-1;
        if (fchownat(target->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
            return -errno;
    }
    if (in->valid & FATTR_MODE)
        err = set_mode(request, in, target);
    if (!err && in->valid & FATTR_SIZE)
        err = set_size(request, in, target);
    if (!err && in->valid & (FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW))
        err = set_times(in, target);
    return err;
}

int fs_op_setattr(struct fs_request *request)
{
    const struct fuse_setattr_in *in = request->in;
    struct target target;
    int err = target_get(request, in->valid & FATTR_FH, in->fh, &target);
    if (err)
        return err;
    struct statx stx;
    err = set_all(request, in, &target);
    if (!err && statx(target.fd, "", AT_EMPTY_PATH, FS_STATX_MASK, &stx) < 0)
        err = -errno;
    target_put(request, &target);
    return err ? err : fs_reply_attr(request, &stx);
}

int fs_op_readlink(struct fs_request *request)
{
    struct fs_table *table = &request->server->table;
    if (!S_ISLNK(request->inode->type))
        return -EINVAL;
    int fd = fs_path_get(table, request->inode);
    if (fd < 0)
        return fd;
    char *target = (char *)request->context->scratch;
    ssize_t length = readlinkat(fd, "", target, PATH_MAX);
    int err = length < 0 ? -errno : 0;
    fs_path_put(table, request->inode);
    return err ? err : fs_reply(request, target, (size_t)length);
}

int fs_op_access(struct fs_request *request)
{
    /* The guest's kernel checks permissions itself (default_permissions) and does not ask. Who asks all the
     * same gets the host's answer for that user, without supplementary groups, which no request tells. */
    const struct fuse_access_in *in = request->in;
    struct fs_table *table = &request->server->table;
    struct fs_creds *creds = &request->context->creds;
    if (in->mask & ~(uint32_t)(R_OK | W_OK | X_OK))
        return -EINVAL;
    int fd = fs_path_get(table, request->inode);
    if (fd < 0)
        return fd;
    int err = fs_creds_enter(creds, request->header.uid, request->header.gid, (gid_t)-1);
    if (!err) {
        err = fs_creds_dac(creds, request->header.uid == 0);
        if (!err && syscall(SYS_faccessat2, fd, "", in->mask, AT_EMPTY_PATH | AT_EACCESS) < 0)
            err = -errno;
        int restored = fs_creds_dac(creds, true);
        fs_creds_leave(creds);
        err = err ? err : restored;
    }
    fs_path_put(table, request->inode);
    return err;
}
