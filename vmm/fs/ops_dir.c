/*
 * Directory listings. Handlers of fuse_dispatch.c's table.
 *
 * Offsets are the host directory's own (d_off), so a listing goes on where it was left even after a snapshot.
 * readdirplus tells each entry's attributes by one statx below the directory's fd and opens nothing.
 */
#include "vmm/fs/ops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* The entry at the cursor, reading more as needed; it is taken by entry_consume. NULL at the end, or with
 * *err set. */
static const struct dirent64 *entry_next(struct fs_handle *handle, int *err)
{
    struct fs_dir *dir = handle->dir;
    if (dir->at == dir->end) {
        ssize_t got = getdents64(handle->fd, dir->buffer, sizeof(dir->buffer));
        dir->at = dir->end = 0;
        if (got < 0)
            *err = -errno;
        if (got <= 0)
            return NULL;
        dir->end = (size_t)got;
    }
    return (const struct dirent64 *)(dir->buffer + dir->at);
}

static void entry_consume(struct fs_dir *dir, const struct dirent64 *entry)
{
    dir->at += entry->d_reclen;
    dir->position = entry->d_off;
}

static int seek_to(struct fs_handle *handle, uint64_t offset)
{
    struct fs_dir *dir = handle->dir;
    if (dir->position == (int64_t)offset)
        return 0;
    if (lseek(handle->fd, (off_t)offset, SEEK_SET) < 0)
        return -errno;
    dir->position = (int64_t)offset;
    dir->at = dir->end = 0;
    return 0;
}

static int reply_dirent(struct fs_request *request, const struct dirent64 *entry, size_t name_length)
{
    static const char zeros[8];
    struct fuse_dirent out = {.ino = entry->d_ino,
                              .off = (uint64_t)entry->d_off,
                              .namelen = (uint32_t)name_length,
                              .type = entry->d_type};
    size_t padding = FUSE_DIRENT_ALIGN(name_length) - name_length;
    int err = fs_reply(request, &out, FUSE_NAME_OFFSET);
    if (!err)
        err = fs_reply(request, entry->d_name, name_length);
    return err ? err : fs_reply(request, zeros, padding);
}

/* The entry's attributes before its name, counted as a lookup. What is gone meanwhile, "." and ".." have
 * nodeid 0: no attributes. */
static int reply_entry_of(struct fs_request *request, const struct fs_handle *handle, const char *name)
{
    struct fs_table *table = &request->server->table;
    struct fuse_entry_out out = {.nodeid = 0};
    struct statx stx;
    uint64_t nodeid;
    bool dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
    if (!dots && statx(handle->fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, FS_STATX_MASK, &stx) == 0 &&
        fs_inode_enter(table, handle->inode, name, &stx, -1, &nodeid) == 0)
        fs_entry_fill(request->server, nodeid, &stx, &out);
    return fs_reply(request, &out, sizeof(out));
}

static int list(struct fs_request *request, struct fs_handle *handle, uint64_t offset, size_t room, bool plus)
{
    bool any = false;
    int err = seek_to(handle, offset);
    while (!err) {
        const struct dirent64 *entry = entry_next(handle, &err);
        if (!entry)
            return any ? 0 : err; /* an error comes again with the next request */
        size_t name_length = strlen(entry->d_name);
        size_t size = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name_length);
        if (plus)
            size += sizeof(struct fuse_entry_out);
        if (size > room)
            return any ? 0 : -EINVAL;
        if (plus)
            err = reply_entry_of(request, handle, entry->d_name);
        if (!err)
            err = reply_dirent(request, entry, name_length);
        entry_consume(handle->dir, entry);
        room -= size;
        any = true;
    }
    return err;
}

static int list_request(struct fs_request *request, bool plus)
{
    struct fs_handles *handles = &request->server->handles;
    const struct fuse_read_in *in = request->in;
    struct fs_handle *handle = fs_handle_get(handles, in->fh, true);
    if (!handle)
        return -EBADF;
    size_t room = in->size < FS_MAX_WRITE ? in->size : FS_MAX_WRITE;
    if (room > request->chain->in_left)
        room = request->chain->in_left;
    pthread_mutex_lock(&handle->dir->lock);
    int err = list(request, handle, in->offset, room, plus);
    pthread_mutex_unlock(&handle->dir->lock);
    fs_handle_put(handles, handle);
    return err;
}

int fs_op_readdir(struct fs_request *request)
{
    return list_request(request, false);
}

int fs_op_readdirplus(struct fs_request *request)
{
    return list_request(request, true);
}
