/* The FUSE server's life, its threads' contexts, and how it opens files: see fuse_server.h. */
#include "vmm/fs/fuse_server.h"

#include "common/fd.h"
#include "vmm/fs/fuse_request.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

int fs_server_init(struct fs_server *server, int root_fd, const struct virtio_fs_options *options)
{
    *server = (struct fs_server){.cache = options->cache,
                                 .writeback = options->writeback && options->cache != FS_CACHE_NONE,
                                 .proc_self_fd = options->proc_self_fd};
    int err = fs_table_init(&server->table, root_fd, options->fd_limit);
    if (err) {
        fd_close(&server->proc_self_fd);
        return err;
    }
    return fs_handles_init(&server->handles, &server->table);
}

void fs_server_clear(struct fs_server *server)
{
    atomic_store(&server->initialised, false);
    fs_handles_clear(&server->handles);
    fs_table_clear(&server->table);
}

void fs_server_fini(struct fs_server *server)
{
    fs_server_clear(server);
    fs_handles_fini(&server->handles);
    fs_table_fini(&server->table);
    fd_close(&server->proc_self_fd);
}

struct fs_context *fs_context_new(struct fs_server *server)
{
    struct fs_context *context = calloc(1, sizeof(*context));
    if (!context)
        return NULL;
    context->server = server;
    int err = fs_creds_init(&context->creds, server->proc_self_fd);
    if (err) {
        free(context);
        errno = -err;
        return NULL;
    }
    return context;
}

void fs_context_free(struct fs_context *context)
{
    free(context);
}

int fs_server_open(struct fs_server *server, struct fs_inode *inode, int flags)
{
    /* Devices, FIFOs and sockets of the shared tree belong to the guest's kernel; opening one here would
     * reach the host's (CVE-2020-35517). The O_PATH fd holds the very inode whose type is known: no name can
     * be exchanged between the check and the open. */
    if (!S_ISREG(inode->type) && !S_ISDIR(inode->type))
        return -EINVAL;
    int path_fd = fs_path_get(&server->table, inode);
    if (path_fd < 0)
        return path_fd;
    char number[16];
    snprintf(number, sizeof(number), "%d", path_fd);
    int fd = openat(server->proc_self_fd, number, flags | O_CLOEXEC | O_NOCTTY);
    int err = fd < 0 ? -errno : 0;
    fs_path_put(&server->table, inode);
    return err ? err : fd;
}
