/*
 * The FUSE server: one shared tree, its inodes and handles, and the session that FUSE_INIT negotiated.
 *
 * It knows nothing of virtio but the chain a request comes in. Any number of threads serve requests at once,
 * each with a context of its own.
 */
#ifndef HUSK_VMM_FS_FUSE_SERVER_H
#define HUSK_VMM_FS_FUSE_SERVER_H

#include "common/log.h"
#include "vmm/fs/creds.h"
#include "vmm/fs/handle.h"
#include "vmm/fs/inode.h"
#include "vmm/fs/virtio_fs.h"

#include <stdatomic.h>

struct fs_context;
struct snapshot_reader;
struct snapshot_writer;

struct fs_server {
    enum fs_cache cache;
    bool writeback; /* offered */
    int proc_self_fd;
    struct fs_table table;
    struct fs_handles handles;
    atomic_bool initialised;
    _Atomic uint64_t flags; /* FUSE_* flags of init_out */
    atomic_uint minor;
};

/* root_fd and options->proc_self_fd are the server's from here on, also on failure. 0 or -errno. */
int fs_server_init(struct fs_server *server, int root_fd, const struct virtio_fs_options *options);
void fs_server_fini(struct fs_server *server);
/* The end of a session (FUSE_DESTROY, device reset): all inodes and handles go, those in use by a request
 * with that request. */
void fs_server_clear(struct fs_server *server);

/* A context for the calling thread, which becomes a server thread (see fs_creds_init). NULL with errno. */
struct fs_context *fs_context_new(struct fs_server *server);
void fs_context_free(struct fs_context *context);

/* Opens an inode that is a file or a directory, and nothing else, for reading or writing. `flags` without
 * O_CREAT. The fd or -errno: -EINVAL for other kinds. */
int fs_server_open(struct fs_server *server, struct fs_inode *inode, int flags);

/* Inodes as (nodeid, parent, name), handles as (fh, inode, flags). No request may be running. 0; -ESTALE when
 * a file that the guest still uses has no name any more (logged); -ENOMEM. */
int fs_server_save(struct fs_server *server, struct snapshot_writer *writer);
/* Into a fresh server. 0; -EPROTO; -ENOENT and other errors of opening what is missing here (logged). */
int fs_server_restore(struct fs_server *server, struct snapshot_reader *reader);

#endif
