/*
 * Opening and closing of files and directories, and their fsync. Handlers of fuse_dispatch.c's table.
 *
 * Trust boundary: the guest's open flags say what it wants to do with the file; only access mode, O_TRUNC and
 * O_NOATIME reach the host's open. O_APPEND and O_SYNC come with each write, because fcntl can change them.
 */
#include "vmm/fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int fs_open_flags(const struct fs_server *server, uint32_t guest_flags)
{
    int flags = (int)(guest_flags & (O_ACCMODE | O_TRUNC | O_NOATIME));
    /* With write-back the guest reads pages around what it writes. */
    if (server->flags & FUSE_WRITEBACK_CACHE && (flags & O_ACCMODE) == O_WRONLY)
        flags = (flags & ~O_ACCMODE) | O_RDWR;
    return flags;
}

/* A value that changes with the file's data: change time and size. */
static uint64_t data_version(int fd, const struct statx *known)
{
    struct statx stx;
    if (!known && statx(fd, "", AT_EMPTY_PATH, STATX_CTIME | STATX_SIZE, &stx) < 0)
        return 0;
    if (!known)
        known = &stx;
    uint64_t time = (uint64_t)known->stx_ctime.tv_sec * 1000000000 + known->stx_ctime.tv_nsec;
    return (time ^ known->stx_size * 0x9e3779b97f4a7c15ULL) | 1;
}

uint32_t fs_fopen_flags(struct fs_server *server, struct fs_inode *inode, int fd, const struct statx *stx)
{
    uint32_t flags = 0;
    if (!fs_inode_flush_matters(&server->table, inode, fd))
        flags |= FOPEN_NOFLUSH;
    switch (server->cache) {
    case FS_CACHE_NONE:
        flags |= FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
        break;
    case FS_CACHE_AUTO: /* close to open: cached data survives if the file did not change since the last open
                         */
        if (fs_inode_data_version(&server->table, inode, data_version(fd, stx)))
            flags |= FOPEN_KEEP_CACHE;
        break;
    case FS_CACHE_ALWAYS:
        flags |= FOPEN_KEEP_CACHE;
        break;
    }
    return flags;
}

int fs_op_open(struct fs_request *request)
{
    struct fs_server *server = request->server;
    const struct fuse_open_in *in = request->in;
    if (!S_ISREG(request->inode->type))
        return S_ISDIR(request->inode->type) ? -EISDIR : -EINVAL;
    int err = fs_creds_fsetid(&request->context->creds, !(in->open_flags & FUSE_OPEN_KILL_SUIDGID));
    if (err)
        return err;
    int flags = fs_open_flags(server, in->flags);
    int fd = fs_server_open(server, request->inode, flags);
    if (fd < 0)
        return fd;
    struct fuse_open_out out = {.open_flags = fs_fopen_flags(server, request->inode, fd, NULL)};
    err = fs_handle_open(&server->handles, request->inode, fd, flags & ~O_TRUNC, false, &out.fh);
    if (err)
        return err;
    err = fs_reply(request, &out, sizeof(out));
    if (err)
        fs_handle_release(&server->handles, out.fh, false);
    return err;
}

int fs_op_opendir(struct fs_request *request)
{
    struct fs_server *server = request->server;
    if (!S_ISDIR(request->inode->type))
        return -ENOTDIR;
    int fd = fs_server_open(server, request->inode, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return fd;
    struct fuse_open_out out = {.open_flags = 0};
    if (server->cache == FS_CACHE_ALWAYS)
        out.open_flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR;
    int err = fs_handle_open(&server->handles, request->inode, fd, O_RDONLY | O_DIRECTORY, true, &out.fh);
    if (err)
        return err;
    err = fs_reply(request, &out, sizeof(out));
    if (err)
        fs_handle_release(&server->handles, out.fh, true);
    return err;
}

int fs_op_release(struct fs_request *request)
{
    const struct fuse_release_in *in = request->in;
    return fs_handle_release(&request->server->handles, in->fh, false);
}

int fs_op_releasedir(struct fs_request *request)
{
    const struct fuse_release_in *in = request->in;
    return fs_handle_release(&request->server->handles, in->fh, true);
}

int fs_op_flush(struct fs_request *request)
{
    /* What close(2) would report, of network filesystems (see FOPEN_NOFLUSH above). */
    struct fs_handles *handles = &request->server->handles;
    const struct fuse_flush_in *in = request->in;
    struct fs_handle *handle = fs_handle_get(handles, in->fh, false);
    if (!handle)
        return -EBADF;
    int copy = fcntl(handle->fd, F_DUPFD_CLOEXEC, 0);
    int err = copy < 0 || close(copy) < 0 ? -errno : 0;
    fs_handle_put(handles, handle);
    return err;
}

static int sync_handle(struct fs_request *request, bool is_dir)
{
    struct fs_handles *handles = &request->server->handles;
    const struct fuse_fsync_in *in = request->in;
    struct fs_handle *handle = fs_handle_get(handles, in->fh, is_dir);
    if (!handle)
        return -EBADF;
    bool data_only = in->fsync_flags & FUSE_FSYNC_FDATASYNC;
    int err = (data_only ? fdatasync(handle->fd) : fsync(handle->fd)) < 0 ? -errno : 0;
    fs_handle_put(handles, handle);
    return err;
}

int fs_op_fsync(struct fs_request *request)
{
    return sync_handle(request, false);
}

int fs_op_fsyncdir(struct fs_request *request)
{
    return sync_handle(request, true);
}
