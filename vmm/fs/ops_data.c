/*
 * File data: read, write, fallocate, copy_file_range, lseek. Handlers of fuse_dispatch.c's table.
 *
 * Payload never passes through a buffer here: preadv and pwritev work on the guest's own memory.
 */
#include "vmm/fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

/* One copy_file_range may keep a worker busy; the caller in the guest goes on after a short one. */
#define COPY_MAX (64ULL << 20)

int fs_op_read(struct fs_request *request)
{
    struct fs_handles *handles = &request->server->handles;
    const struct fuse_read_in *in = request->in;
    struct fs_handle *handle = fs_handle_get(handles, in->fh, false);
    if (!handle)
        return -EBADF;
    size_t size = in->size < FS_MAX_WRITE ? in->size : FS_MAX_WRITE;
    int err = fs_reply_file(request, handle->fd, in->offset, size);
    fs_handle_put(handles, handle);
    return err;
}

/* O_APPEND and O_SYNC as the guest's file has them now. Pages written back go where they belong whatever the
 * file they were found by was opened with. */
static int write_flags(const struct fuse_write_in *in)
{
    int flags = 0;
    if (in->write_flags & FUSE_WRITE_CACHE)
        return 0;
    if (in->flags & O_APPEND)
        flags |= RWF_APPEND;
    if ((in->flags & O_SYNC) == O_SYNC)
        flags |= RWF_SYNC;
    else if (in->flags & O_DSYNC)
        flags |= RWF_DSYNC;
    return flags;
}

int fs_op_write(struct fs_request *request)
{
    struct fs_handles *handles = &request->server->handles;
    const struct fuse_write_in *in = request->in;
    if (in->size > FS_MAX_WRITE || in->size > request->chain->out_left || in->offset > INT64_MAX)
        return -EINVAL;
    /* The host clears set-user-ID, set-group-ID and file capabilities as for any writer without CAP_FSETID.
     */
    int err = fs_creds_fsetid(&request->context->creds, !(in->write_flags & FUSE_WRITE_KILL_SUIDGID));
    if (err)
        return err;
    struct fs_handle *handle = fs_handle_get(handles, in->fh, false);
    if (!handle)
        return -EBADF;
    struct iovec *iov = request->context->iov;
    unsigned count = virtio_chain_out_iov(request->chain, in->size, iov);
    ssize_t done;
    do {
        done = pwritev2(handle->fd, iov, (int)count, (off_t)in->offset, write_flags(in));
    } while (done < 0 && errno == EINTR);
    err = done < 0 ? -errno : 0;
    fs_handle_put(handles, handle);
    if (err)
        return err;
    struct fuse_write_out out = {.size = (uint32_t)done};
    return fs_reply(request, &out, sizeof(out));
}

int fs_op_fallocate(struct fs_request *request)
{
    struct fs_handles *handles = &request->server->handles;
    const struct fuse_fallocate_in *in = request->in;
    /* The request does not tell whether the caller has CAP_FSETID: only root is believed to. */
    int err = fs_creds_fsetid(&request->context->creds, request->header.uid == 0);
    if (err)
        return err;
    struct fs_handle *handle = fs_handle_get(handles, in->fh, false);
    if (!handle)
        return -EBADF;
    if (fallocate(handle->fd, (int)in->mode, (off_t)in->offset, (off_t)in->length) < 0)
        err = -errno;
    fs_handle_put(handles, handle);
    return err;
}

int fs_op_copy_file_range(struct fs_request *request)
{
    struct fs_handles *handles = &request->server->handles;
    const struct fuse_copy_file_range_in *in = request->in;
    if (in->flags || in->off_in > INT64_MAX || in->off_out > INT64_MAX)
        return -EINVAL;
    int err = fs_creds_fsetid(&request->context->creds, request->header.uid == 0);
    if (err)
        return err;
    struct fs_handle *from = fs_handle_get(handles, in->fh_in, false);
    struct fs_handle *to = fs_handle_get(handles, in->fh_out, false);
    struct fuse_write_out out = {.size = 0};
    if (from && to) {
        off_t from_at = (off_t)in->off_in, to_at = (off_t)in->off_out;
        size_t length = in->len < COPY_MAX ? (size_t)in->len : COPY_MAX;
        ssize_t done = copy_file_range(from->fd, &from_at, to->fd, &to_at, length, 0);
        err = done < 0 ? -errno : 0;
        out.size = done < 0 ? 0 : (uint32_t)done;
    } else {
        err = -EBADF;
    }
    if (from)
        fs_handle_put(handles, from);
    if (to)
        fs_handle_put(handles, to);
    return err ? err : fs_reply(request, &out, sizeof(out));
}

int fs_op_lseek(struct fs_request *request)
{
    struct fs_handles *handles = &request->server->handles;
    const struct fuse_lseek_in *in = request->in;
    /* What a guest with write-back has not written yet looks like a hole from here, and its kernel asks all
     * the same: told ENOSYS once, it takes the whole file for data. */
    if (request->server->flags & FUSE_WRITEBACK_CACHE)
        return -ENOSYS;
    /* The file's position is the guest's own; only what the host knows better is asked here. */
    if (in->whence != SEEK_DATA && in->whence != SEEK_HOLE && in->whence != SEEK_END)
        return -EINVAL;
    struct fs_handle *handle = fs_handle_get(handles, in->fh, false);
    if (!handle)
        return -EBADF;
    off_t offset = lseek(handle->fd, (off_t)in->offset, (int)in->whence);
    int err = offset < 0 ? -errno : 0;
    fs_handle_put(handles, handle);
    struct fuse_lseek_out out = {.offset = (uint64_t)offset};
    return err ? err : fs_reply(request, &out, sizeof(out));
}
