/* Reading a request's strings and extensions, writing a reply: see fuse_request.h. Called by the handlers. */
#include "vmm/fs/fuse_request.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/uio.h>

int fs_request_string(struct fs_request *request, size_t max, const char **string)
{
    const char *start = (const char *)request->context->args + request->args_at;
    size_t left = request->args_end - request->args_at;
    const char *end = memchr(start, '\0', left);
    if (!end)
        return -EINVAL;
    size_t length = (size_t)(end - start);
    if (length > max)
        return -ENAMETOOLONG;
    request->args_at += length + 1;
    *string = start;
    return 0;
}

int fs_request_name(struct fs_request *request, const char **name)
{
    int err = fs_request_string(request, NAME_MAX, name);
    if (err)
        return err;
    if (!**name || strchr(*name, '/') || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0)
        return -EINVAL;
    return 0;
}

const void *fs_request_rest(const struct fs_request *request, size_t *length)
{
    *length = request->args_end - request->args_at;
    return request->context->args + request->args_at;
}

int fs_request_group(const struct fs_request *request, gid_t *group)
{
    *group = (gid_t)-1;
    const uint8_t *at = request->context->args + request->ext_at;
    size_t left = request->ext_end - request->ext_at;
    while (left > 0) {
        struct fuse_ext_header header;
        if (left < sizeof(header))
            return -EINVAL;
        memcpy(&header, at, sizeof(header));
        if (header.size < sizeof(header) || FUSE_REC_ALIGN((size_t)header.size) > left)
            return -EINVAL;
        struct {
            struct fuse_ext_header header;
            uint32_t nr_groups;
            uint32_t group;
        } groups;
        if (header.type == FUSE_EXT_GROUPS && header.size >= sizeof(groups)) {
            memcpy(&groups, at, sizeof(groups));
            if (groups.nr_groups == 1)
                *group = groups.group;
        }
        at += FUSE_REC_ALIGN((size_t)header.size);
        left -= FUSE_REC_ALIGN((size_t)header.size);
    }
    return 0;
}

int fs_reply(struct fs_request *request, const void *bytes, size_t length)
{
    return virtio_chain_write(request->chain, bytes, length) == length ? 0 : -EINVAL;
}

int fs_reply_file(struct fs_request *request, int fd, uint64_t offset, size_t max)
{
    struct iovec *iov = request->context->iov;
    unsigned count = virtio_chain_in_iov(request->chain, max, iov);
    if (count == 0)
        return 0;
    ssize_t got;
    do {
        got = preadv(fd, iov, (int)count, (off_t)offset);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    virtio_chain_in_skip(request->chain, (size_t)got);
    return 0;
}

/* How long the guest may believe what it was told, in seconds. */
static uint64_t valid_seconds(const struct fs_server *server)
{
    switch (server->cache) {
    case FS_CACHE_NONE:
        return 0;
    case FS_CACHE_AUTO:
        return 1;
    case FS_CACHE_ALWAYS:
        return 86400;
    }
    return 0;
}

void fs_attr_fill(const struct statx *stx, struct fuse_attr *attr)
{
    /* The kernel's 32-bit device number: 20 bits of minor around 12 of major. */
    uint32_t minor = stx->stx_rdev_minor;
    *attr = (struct fuse_attr){
        .ino = stx->stx_ino,
        .size = stx->stx_size,
        .blocks = stx->stx_blocks,
        .atime = (uint64_t)stx->stx_atime.tv_sec,
        .mtime = (uint64_t)stx->stx_mtime.tv_sec,
        .ctime = (uint64_t)stx->stx_ctime.tv_sec,
        .atimensec = stx->stx_atime.tv_nsec,
        .mtimensec = stx->stx_mtime.tv_nsec,
        .ctimensec = stx->stx_ctime.tv_nsec,
        .mode = stx->stx_mode,
        .nlink = stx->stx_nlink,
        .uid = stx->stx_uid,
        .gid = stx->stx_gid,
        .rdev = (minor & 0xff) | stx->stx_rdev_major << 8 | (minor & ~0xffU) << 12,
        .blksize = stx->stx_blksize,
    };
}

void fs_entry_fill(struct fs_server *server, uint64_t nodeid, const struct statx *stx,
                   struct fuse_entry_out *entry)
{
    uint64_t valid = valid_seconds(server);
    *entry = (struct fuse_entry_out){.nodeid = nodeid, .entry_valid = valid, .attr_valid = valid};
    if (!stx)
        return;
    fs_attr_fill(stx, &entry->attr);
    /* Linux gives submounts no POSIX ACLs and no id mapping (6.12: their superblock lacks SB_POSIXACL and has
     * SB_I_NOIDMAP). A container's root, and what is to be id-mapped, needs them more than a device number of
     * its own, so it stays in the main superblock. */
    if (server->flags & FUSE_SUBMOUNTS && S_ISDIR(stx->stx_mode) &&
        stx->stx_attributes & STATX_ATTR_MOUNT_ROOT && !fs_inode_wants_superblock(&server->table, nodeid))
        entry->attr.flags |= FUSE_ATTR_SUBMOUNT;
}

int fs_reply_entry(struct fs_request *request, uint64_t nodeid, const struct statx *stx)
{
    struct fuse_entry_out entry;
    fs_entry_fill(request->server, nodeid, stx, &entry);
    return fs_reply(request, &entry, sizeof(entry));
}

int fs_reply_attr(struct fs_request *request, const struct statx *stx)
{
    struct fuse_attr_out out = {.attr_valid = valid_seconds(request->server)};
    fs_attr_fill(stx, &out.attr);
    return fs_reply(request, &out, sizeof(out));
}
