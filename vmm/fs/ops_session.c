/*
 * The session: what FUSE_INIT negotiates, forgets, and requests about the filesystem as a whole. Handlers of
 * fuse_dispatch.c's table.
 */
#include "vmm/fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

/* The oldest protocol spoken: from 7.31 on all structures have the size that linux/fuse.h gives them, or are
 * negotiated by a flag. */
#define MINOR_OLDEST 31

/* What is asked of the guest's kernel, where it offers it:
 * - no FUSE_POSIX_LOCKS, FUSE_FLOCK_LOCKS: see FUSE_SETLK in fuse_dispatch.c;
 * - FUSE_DONT_MASK and FUSE_POSIX_ACL: umask or default ACL is the host filesystem's decision;
 * - FUSE_HANDLE_KILLPRIV_V2: so is the clearing of set-user-ID and file capabilities;
 * - FUSE_ALLOW_IDMAP: owners in requests are used only for new files, where the guest maps them;
 * - no FUSE_READDIRPLUS_AUTO: with it the guest lists all but a directory's first page without attributes,
 *   and find, tar or ls -l then ask for each by a lookup; an attribute costs one statx here, a lookup a
 *   request;
 * - no FUSE_EXPORT_SUPPORT: "." and ".." are not names. */
#define FLAGS_ALWAYS                                                                                         \
    (FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_DONT_MASK | FUSE_DO_READDIRPLUS |        \
     FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_POSIX_ACL | FUSE_ABORT_ERROR | FUSE_MAX_PAGES |            \
     FUSE_SUBMOUNTS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | FUSE_INIT_EXT | FUSE_CREATE_SUPP_GROUP | \
     FUSE_NO_EXPORT_SUPPORT | FUSE_ALLOW_IDMAP)

static uint64_t flags_wanted(const struct fs_server *server)
{
    uint64_t flags = FLAGS_ALWAYS;
    switch (server->cache) {
    case FS_CACHE_NONE: /* every open is direct I/O; shared mappings are what programs still need */
        flags |= FUSE_DIRECT_IO_ALLOW_MMAP;
        break;
    case FS_CACHE_AUTO: /* cached data goes when size or mtime change on the host */
        flags |= FUSE_AUTO_INVAL_DATA | FUSE_CACHE_SYMLINKS;
        break;
    case FS_CACHE_ALWAYS: /* the tree is the guest's alone */
        flags |= FUSE_EXPLICIT_INVAL_DATA | FUSE_CACHE_SYMLINKS;
        break;
    }
    if (server->writeback)
        flags |= FUSE_WRITEBACK_CACHE;
    return flags;
}

int fs_op_init(struct fs_request *request)
{
    struct fs_server *server = request->server;
    /* Before flags2 (7.36) the structure was shorter: what is missing is zero. */
    struct fuse_init_in in = {.major = 0};
    size_t length = request->args_end < sizeof(in) ? request->args_end : sizeof(in);
    memcpy(&in, request->in, length);
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION};
    if (in.major > FUSE_KERNEL_VERSION)
        return fs_reply(request, &out, FUSE_COMPAT_INIT_OUT_SIZE); /* it asks again with ours */
    if (in.major < FUSE_KERNEL_VERSION || in.minor < MINOR_OLDEST)
        return -EPROTO;
    if (atomic_load(&server->initialised))
        return -EBUSY;
    uint64_t offered = in.flags;
    if (in.flags & FUSE_INIT_EXT)
        offered |= (uint64_t)in.flags2 << 32;
    uint64_t flags = offered & flags_wanted(server);
    if (in.minor < out.minor)
        out.minor = in.minor;
    out.max_readahead = in.max_readahead;
    out.flags = (uint32_t)flags;
    out.flags2 = (uint32_t)(flags >> 32);
    out.max_background = 64; /* readahead and writeback requests under way */
    out.congestion_threshold = 48;
    out.max_write = FS_MAX_WRITE;
    out.max_pages = FS_MAX_PAGES;
    out.time_gran = 1;
    int err = fs_reply(request, &out, sizeof(out));
    if (err)
        return err;
    atomic_store(&server->flags, flags);
    atomic_store(&server->minor, out.minor);
    atomic_store(&server->initialised, true);
    return 0;
}

int fs_op_destroy(struct fs_request *request)
{
    fs_server_clear(request->server);
    return 0;
}

int fs_op_forget(struct fs_request *request)
{
    const struct fuse_forget_in *in = request->in;
    fs_inode_forget(&request->server->table, request->header.nodeid, in->nlookup);
    return 0;
}

int fs_op_batch_forget(struct fs_request *request)
{
    const struct fuse_batch_forget_in *in = request->in;
    /* The count is the guest's; what the chain holds bounds it. */
    struct fuse_forget_one one;
    uint32_t done = 0;
    while (done < in->count && virtio_chain_read(request->chain, &one, sizeof(one)) == sizeof(one)) {
        fs_inode_forget(&request->server->table, one.nodeid, one.nlookup);
        done++;
    }
    return done == in->count ? 0 : -EINVAL;
}

int fs_op_interrupt(struct fs_request *request)
{
    /* No request waits for anything but the host's filesystem, whose operations a signal does not interrupt
     * either. The interrupted request answers in its time, which FUSE allows. */
    (void)request;
    return 0;
}

int fs_op_statfs(struct fs_request *request)
{
    struct fs_table *table = &request->server->table;
    int fd = fs_path_get(table, request->inode);
    if (fd < 0)
        return fd;
    struct statfs fs;
    int err = fstatfs(fd, &fs) < 0 ? -errno : 0;
    fs_path_put(table, request->inode);
    if (err)
        return err;
    struct fuse_statfs_out out = {.st = {.blocks = fs.f_blocks,
                                         .bfree = fs.f_bfree,
                                         .bavail = fs.f_bavail,
                                         .files = fs.f_files,
                                         .ffree = fs.f_ffree,
                                         .bsize = (uint32_t)fs.f_bsize,
                                         .namelen = (uint32_t)fs.f_namelen,
                                         .frsize = (uint32_t)fs.f_frsize}};
    return fs_reply(request, &out, sizeof(out));
}

int fs_op_syncfs(struct fs_request *request)
{
    int fd = fs_server_open(request->server, request->inode, O_RDONLY);
    if (fd < 0)
        return fd;
    int err = syncfs(fd) < 0 ? -errno : 0;
    close(fd);
    return err;
}

int fs_op_ioctl(struct fs_request *request)
{
    (void)request;
    return -ENOTTY; /* what lsattr, chattr and cp take for "not on this filesystem" */
}

int fs_op_unsupported(struct fs_request *request)
{
    (void)request;
    return -ENOSYS;
}
