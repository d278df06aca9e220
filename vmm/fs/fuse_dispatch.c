/*
 * From a chain to a handler: the table of opcodes, what each one's request must hold, and the reply's frame.
 *
 * Trust boundary: this is where the guest's bytes are copied and measured; a handler runs only when its
 * structure is complete, its nodeid known and the session initialised. Called by the workers.
 */
#include "vmm/fs/ops.h"

#include <errno.h>
#include <string.h>

enum op_flags {
    OP_NODE = 1,     /* about an inode: request->inode is it */
    OP_STREAM = 2,   /* only the structure is copied; the rest is read from the chain by the handler */
    OP_SILENT = 4,   /* has no reply */
    OP_ANYTIME = 8,  /* also before FUSE_INIT */
    OP_SETXATTR = 16 /* its structure's size was negotiated */
};

struct op {
    const char *name;
    int (*handler)(struct fs_request *request);
    uint16_t size; /* of the structure that follows the header */
    uint16_t flags;
};

static const struct op ops[] = {
    [FUSE_LOOKUP] = {"lookup", fs_op_lookup, 0, OP_NODE},
    [FUSE_FORGET] = {"forget", fs_op_forget, sizeof(struct fuse_forget_in), OP_SILENT},
    [FUSE_GETATTR] = {"getattr", fs_op_getattr, sizeof(struct fuse_getattr_in), OP_NODE},
    [FUSE_SETATTR] = {"setattr", fs_op_setattr, sizeof(struct fuse_setattr_in), OP_NODE},
    [FUSE_READLINK] = {"readlink", fs_op_readlink, 0, OP_NODE},
    [FUSE_SYMLINK] = {"symlink", fs_op_symlink, 0, OP_NODE},
    [FUSE_MKNOD] = {"mknod", fs_op_mknod, sizeof(struct fuse_mknod_in), OP_NODE},
    [FUSE_MKDIR] = {"mkdir", fs_op_mkdir, sizeof(struct fuse_mkdir_in), OP_NODE},
    [FUSE_UNLINK] = {"unlink", fs_op_unlink, 0, OP_NODE},
    [FUSE_RMDIR] = {"rmdir", fs_op_rmdir, 0, OP_NODE},
    [FUSE_RENAME] = {"rename", fs_op_rename, sizeof(struct fuse_rename_in), OP_NODE},
    [FUSE_LINK] = {"link", fs_op_link, sizeof(struct fuse_link_in), OP_NODE},
    [FUSE_OPEN] = {"open", fs_op_open, sizeof(struct fuse_open_in), OP_NODE},
    [FUSE_READ] = {"read", fs_op_read, sizeof(struct fuse_read_in), 0},
    [FUSE_WRITE] = {"write", fs_op_write, sizeof(struct fuse_write_in), OP_STREAM},
    [FUSE_STATFS] = {"statfs", fs_op_statfs, 0, OP_NODE},
    [FUSE_RELEASE] = {"release", fs_op_release, sizeof(struct fuse_release_in), 0},
    [FUSE_FSYNC] = {"fsync", fs_op_fsync, sizeof(struct fuse_fsync_in), 0},
    [FUSE_SETXATTR] = {"setxattr", fs_op_setxattr, sizeof(struct fuse_setxattr_in), OP_NODE | OP_SETXATTR},
    [FUSE_GETXATTR] = {"getxattr", fs_op_getxattr, sizeof(struct fuse_getxattr_in), OP_NODE},
    [FUSE_LISTXATTR] = {"listxattr", fs_op_listxattr, sizeof(struct fuse_getxattr_in), OP_NODE},
    [FUSE_REMOVEXATTR] = {"removexattr", fs_op_removexattr, 0, OP_NODE},
    [FUSE_FLUSH] = {"flush", fs_op_flush, sizeof(struct fuse_flush_in), 0},
    [FUSE_INIT] = {"init", fs_op_init, offsetof(struct fuse_init_in, flags2), OP_ANYTIME},
    [FUSE_OPENDIR] = {"opendir", fs_op_opendir, sizeof(struct fuse_open_in), OP_NODE},
    [FUSE_READDIR] = {"readdir", fs_op_readdir, sizeof(struct fuse_read_in), 0},
    [FUSE_RELEASEDIR] = {"releasedir", fs_op_releasedir, sizeof(struct fuse_release_in), 0},
    [FUSE_FSYNCDIR] = {"fsyncdir", fs_op_fsyncdir, sizeof(struct fuse_fsync_in), 0},
    /* Not offered in FUSE_INIT, so the guest's kernel keeps the locks itself. Locks kept here would be seen
     * by other sandboxes on a shared volume, but virtio-fs has no way to interrupt a request: a process that
     * waits for such a lock could not be killed. */
    [FUSE_GETLK] = {"getlk", fs_op_unsupported, 0, 0},
    [FUSE_SETLK] = {"setlk", fs_op_unsupported, 0, 0},
    [FUSE_SETLKW] = {"setlkw", fs_op_unsupported, 0, 0},
    [FUSE_ACCESS] = {"access", fs_op_access, sizeof(struct fuse_access_in), OP_NODE},
    [FUSE_CREATE] = {"create", fs_op_create, sizeof(struct fuse_create_in), OP_NODE},
    [FUSE_INTERRUPT] = {"interrupt", fs_op_interrupt, sizeof(struct fuse_interrupt_in), OP_SILENT},
    [FUSE_BMAP] = {"bmap", fs_op_unsupported, 0, 0},
    [FUSE_DESTROY] = {"destroy", fs_op_destroy, 0, OP_ANYTIME},
    [FUSE_IOCTL] = {"ioctl", fs_op_ioctl, sizeof(struct fuse_ioctl_in), 0},
    [FUSE_POLL] = {"poll", fs_op_unsupported, 0, 0},
    [FUSE_NOTIFY_REPLY] = {"notify-reply", fs_op_unsupported, 0, 0},
    [FUSE_BATCH_FORGET] = {"batch-forget", fs_op_batch_forget, sizeof(struct fuse_batch_forget_in),
                           OP_SILENT | OP_STREAM},
    [FUSE_FALLOCATE] = {"fallocate", fs_op_fallocate, sizeof(struct fuse_fallocate_in), 0},
    [FUSE_READDIRPLUS] = {"readdirplus", fs_op_readdirplus, sizeof(struct fuse_read_in), 0},
    [FUSE_RENAME2] = {"rename2", fs_op_rename2, sizeof(struct fuse_rename2_in), OP_NODE},
    [FUSE_LSEEK] = {"lseek", fs_op_lseek, sizeof(struct fuse_lseek_in), 0},
    [FUSE_COPY_FILE_RANGE] = {"copy-file-range", fs_op_copy_file_range,
                              sizeof(struct fuse_copy_file_range_in), 0},
    [FUSE_SETUPMAPPING] = {"setupmapping", fs_op_unsupported, 0, 0},
    [FUSE_REMOVEMAPPING] = {"removemapping", fs_op_unsupported, 0, 0},
    [FUSE_SYNCFS] = {"syncfs", fs_op_syncfs, sizeof(struct fuse_syncfs_in), OP_NODE},
    [FUSE_TMPFILE] = {"tmpfile", fs_op_tmpfile, sizeof(struct fuse_create_in), OP_NODE},
    [FUSE_STATX] = {"statx", fs_op_statx, sizeof(struct fuse_statx_in), OP_NODE},
};

void fs_request_complain(struct fs_context *context, const char *what)
{
    log_limited(&context->log_limit, "virtio-fs: %s", what);
}

static const struct op *op_find(uint32_t opcode)
{
    if (opcode >= sizeof(ops) / sizeof(ops[0]) || !ops[opcode].handler)
        return NULL;
    return &ops[opcode];
}

/* Copies structure, strings and extensions into context->args and sets the cursors. */
static int args_copy(struct fs_request *request, const struct op *op)
{
    struct fs_context *context = request->context;
    size_t header_size = sizeof(request->header);
    if (request->header.len < header_size || request->header.len - header_size > request->chain->out_left)
        return -EINVAL;
    size_t length = request->header.len - header_size;
    size_t size = op->size;
    if (op->flags & OP_SETXATTR && !(request->server->flags & FUSE_SETXATTR_EXT))
        size = FUSE_COMPAT_SETXATTR_IN_SIZE;
    if (length < size)
        return -EINVAL;
    size_t copied = op->flags & OP_STREAM ? size : length;
    if (copied > FS_ARGS_MAX)
        return -E2BIG;
    virtio_chain_read(request->chain, context->args, copied);
    size_t extensions = (size_t)request->header.total_extlen * 8;
    if (extensions > copied - size)
        return -EINVAL;
    request->in = context->args;
    request->args_at = size;
    request->args_end = copied - extensions;
    request->ext_at = request->args_end;
    request->ext_end = copied;
    return 0;
}

static int op_run(struct fs_request *request, const struct op *op)
{
    struct fs_server *server = request->server;
    if (!op)
        return -ENOSYS;
    if (!(op->flags & OP_ANYTIME) && !atomic_load(&server->initialised))
        return -EIO;
    int err = args_copy(request, op);
    if (err)
        return err;
    if (!(op->flags & OP_NODE))
        return op->handler(request);
    request->inode = fs_inode_get(&server->table, request->header.nodeid);
    if (!request->inode)
        return -ESTALE;
    err = op->handler(request);
    fs_inode_put(&server->table, request->inode);
    return err;
}

/* Writes the reply's header into the room kept for it. An error has no payload: what a handler had appended
 * by then lies in the guest's memory but is not part of the reply. */
static void reply_finish(struct fs_request *request, const struct iovec *room, unsigned pieces, int err)
{
    struct fuse_out_header out = {.error = err, .unique = request->header.unique};
    if (err)
        request->chain->in_written = sizeof(out);
    out.len = (uint32_t)request->chain->in_written;
    size_t done = 0;
    for (unsigned i = 0; i < pieces; i++) {
        memcpy(room[i].iov_base, (const char *)&out + done, room[i].iov_len);
        done += room[i].iov_len;
    }
}

void fs_request_serve(struct fs_context *context)
{
    struct virtio_chain *chain = &context->chain;
    struct fs_request request = {.context = context, .server = context->server, .chain = chain};
    if (virtio_chain_read(chain, &request.header, sizeof(request.header)) < sizeof(request.header)) {
        fs_request_complain(context, "a request without a whole header");
        return;
    }
    const struct op *op = op_find(request.header.opcode);
    if (op && op->flags & OP_SILENT) {
        if (op_run(&request, op))
            fs_request_complain(context, "a malformed forget or interrupt");
        chain->in_written = 0;
        return;
    }
    if (chain->in_left < sizeof(struct fuse_out_header)) {
        fs_request_complain(context, "a request without room for a reply");
        return;
    }
    struct iovec room[sizeof(struct fuse_out_header)];
    unsigned pieces = virtio_chain_in_iov(chain, sizeof(struct fuse_out_header), room);
    virtio_chain_in_skip(chain, sizeof(struct fuse_out_header));
    int err = op_run(&request, op);
    if (log_level_get() >= LOG_LEVEL_DEBUG)
        log_debug("virtio-fs: op=%s nodeid=%llx unique=%llu error=%d", op ? op->name : "unknown",
                  (unsigned long long)request.header.nodeid, (unsigned long long)request.header.unique, err);
    reply_finish(&request, room, pieces, err);
}
