/*
 * A FUSE request: typed access to what the guest sent, and the reply.
 *
 * Trust boundary: the chain's bytes are the guest's and may change at any time. Header and arguments are
 * copied once, into the worker's memory, and only the copy is parsed; file data is moved straight between
 * the guest's memory and the file. The reply's header is reserved first and written last.
 */
#ifndef HUSK_VMM_FS_FUSE_REQUEST_H
#define HUSK_VMM_FS_FUSE_REQUEST_H

#include "vmm/fs/fuse_server.h"
#include "vmm/virtio/virtqueue.h"

#include <linux/fuse.h>
#if FUSE_KERNEL_MINOR_VERSION < 41
#error "linux/fuse.h is too old: install linux-libc-dev of bookworm-backports"
#endif

/* The largest arguments are those of setxattr: a name and 64 KiB of value. */
#define FS_XATTR_SIZE_MAX 65536
#define FS_ARGS_MAX       (FS_XATTR_SIZE_MAX + 4096)
/* init_out: one write, read or directory listing. */
#define FS_MAX_WRITE (1U << 20)
#define FS_MAX_PAGES (FS_MAX_WRITE / 4096)

/* What one thread needs to serve requests; about 170 KiB, of which little is ever touched. */
struct fs_context {
    struct fs_server *server;
    struct fs_creds creds;
    struct virtio_chain chain;
    struct iovec iov[VIRTIO_CHAIN_MAX];             /* file data in place */
    _Alignas(8) uint8_t args[FS_ARGS_MAX + 1];      /* + 1: a NUL of our own after the last string */
    _Alignas(8) uint8_t scratch[FS_XATTR_SIZE_MAX]; /* replies that are not in place */
    struct log_limit log_limit;
};

struct fs_request {
    struct fs_context *context;
    struct fs_server *server;
    struct virtio_chain *chain;
    struct fuse_in_header header; /* the copy */
    struct fs_inode *inode;       /* of header.nodeid, referenced, for opcodes about one */
    const void *in;               /* the opcode's structure, complete */
    size_t args_at, args_end;     /* cursor over the strings behind it, in context->args */
    size_t ext_at, ext_end;       /* extensions, in context->args */
};

/* Serves the request in context->chain: parses, runs the handler, writes the reply into the chain. After it
 * the chain is to be pushed. */
void fs_request_serve(struct fs_context *context);

/* The next string: a file name (one component, not "." or "..", at most 255 bytes). 0; -EINVAL for a name
 * that is none; -ENAMETOOLONG. */
int fs_request_name(struct fs_request *request, const char **name);
/* The next string, of at most `max` bytes. 0; -EINVAL; -ENAMETOOLONG. */
int fs_request_string(struct fs_request *request, size_t max, const char **string);
/* What is left behind the strings read so far. */
const void *fs_request_rest(const struct fs_request *request, size_t *length);
/* The supplementary group that the guest sent for a new file (FUSE_EXT_GROUPS), or (gid_t)-1. 0; -EINVAL. */
int fs_request_group(const struct fs_request *request, gid_t *group);

/* Appends to the reply. 0; -EINVAL when the guest left no room. */
int fs_reply(struct fs_request *request, const void *bytes, size_t length);
/* Appends at most `max` bytes of the file at `offset`, in place. 0 or -errno. */
int fs_reply_file(struct fs_request *request, int fd, uint64_t offset, size_t max);
/* fuse_entry_out of an inode entered as `nodeid`. */
int fs_reply_entry(struct fs_request *request, uint64_t nodeid, const struct statx *stx);
int fs_reply_attr(struct fs_request *request, const struct statx *stx);
void fs_entry_fill(struct fs_server *server, uint64_t nodeid, const struct statx *stx,
                   struct fuse_entry_out *entry);
void fs_attr_fill(const struct statx *stx, struct fuse_attr *attr);

/* Logs what a hostile guest may cause at will: limited. */
void fs_request_complain(struct fs_context *context, const char *what);

#endif
