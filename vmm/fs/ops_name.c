/*
 * Names: looking up, removing, renaming, linking. Handlers of fuse_dispatch.c's table.
 *
 * Trust boundary: fs_request_name lets one component through; it is resolved below the parent's O_PATH fd and
 * never followed.
 */
#include "vmm/fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static int stat_name(int dir_fd, const char *name, struct statx *stx)
{
    return statx(dir_fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, FS_STATX_MASK, stx) < 0 ? -errno : 0;
}

int fs_enter_name(struct fs_request *request, int dir_fd, const char *name)
{
    struct fs_server *server = request->server;
    struct statx stx;
    int err = stat_name(dir_fd, name, &stx);
    if (err)
        return err;
    uint64_t nodeid;
    err = fs_inode_enter(&server->table, request->inode, name, &stx, -1, &nodeid);
    if (err)
        return err;
    err = fs_reply_entry(request, nodeid, &stx);
    if (err)
        fs_inode_forget(&server->table, nodeid, 1);
    return err;
}

int fs_op_lookup(struct fs_request *request)
{
    struct fs_server *server = request->server;
    const char *name;
    int err = fs_request_name(request, &name);
    if (err)
        return err;
    int dir_fd = fs_path_get(&server->table, request->inode);
    if (dir_fd < 0)
        return dir_fd;
    err = fs_enter_name(request, dir_fd, name);
    fs_path_put(&server->table, request->inode);
    /* When the tree is the guest's alone, that a name is missing may be remembered like a name that is there:
     * an entry with nodeid 0. */
    if (err == -ENOENT && server->cache == FS_CACHE_ALWAYS)
        err = fs_reply_entry(request, 0, NULL);
    return err;
}

static int remove_name(struct fs_request *request, int flags)
{
    struct fs_table *table = &request->server->table;
    const char *name;
    int err = fs_request_name(request, &name);
    if (err)
        return err;
    int dir_fd = fs_path_get(table, request->inode);
    if (dir_fd < 0)
        return dir_fd;
    struct fs_victim victim;
    err = fs_victim_hold(table, request->inode, dir_fd, name, &victim);
    if (!err && unlinkat(dir_fd, name, flags) < 0)
        err = -errno;
    fs_victim_release(table, &victim, err == 0);
    fs_path_put(table, request->inode);
    return err;
}

int fs_op_unlink(struct fs_request *request)
{
    return remove_name(request, 0);
}

int fs_op_rmdir(struct fs_request *request)
{
    return remove_name(request, AT_REMOVEDIR);
}

/* Renames and brings the records of the inodes up to date. */
static int rename_at(struct fs_table *table, struct fs_inode *from, int from_fd, const char *from_name,
                     struct fs_inode *to, int to_fd, const char *to_name, unsigned flags)
{
    struct statx moved, exchanged;
    int err = stat_name(from_fd, from_name, &moved);
    if (err)
        return err;
    struct fs_victim victim = {.inode = NULL};
    if (flags & RENAME_EXCHANGE)
        err = stat_name(to_fd, to_name, &exchanged);
    else if (!(flags & RENAME_NOREPLACE))
        err = fs_victim_hold(table, to, to_fd, to_name, &victim);
    if (err && (err != -ENOENT || flags & RENAME_EXCHANGE))
        return err;
    err = syscall(SYS_renameat2, from_fd, from_name, to_fd, to_name, flags) < 0 ? -errno : 0;
    /* Two names of one inode: rename(2) does nothing and both names stay. */
    bool same = victim.inode && fs_inode_is(table, victim.inode, &moved);
    fs_victim_release(table, &victim, err == 0 && !same);
    if (!err)
        fs_inode_moved(table, &moved, to, to_name);
    if (!err && flags & RENAME_EXCHANGE)
        fs_inode_moved(table, &exchanged, from, from_name);
    return err;
}

static int rename_request(struct fs_request *request, uint64_t newdir, unsigned flags)
{
    struct fs_table *table = &request->server->table;
    const char *from_name, *to_name;
    int err = fs_request_name(request, &from_name);
    if (!err)
        err = fs_request_name(request, &to_name);
    if (err)
        return err;
    struct fs_inode *to = fs_inode_get(table, newdir);
    if (!to)
        return -ESTALE;
    int from_fd = fs_path_get(table, request->inode);
    int to_fd = fs_path_get(table, to);
    err = from_fd < 0 ? from_fd : to_fd < 0 ? to_fd : 0;
    if (!err)
        err = rename_at(table, request->inode, from_fd, from_name, to, to_fd, to_name, flags);
    if (from_fd >= 0)
        fs_path_put(table, request->inode);
    if (to_fd >= 0)
        fs_path_put(table, to);
    fs_inode_put(table, to);
    return err;
}

int fs_op_rename(struct fs_request *request)
{
    const struct fuse_rename_in *in = request->in;
    return rename_request(request, in->newdir, 0);
}

int fs_op_rename2(struct fs_request *request)
{
    const struct fuse_rename2_in *in = request->in;
    if (in->flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
        return -EINVAL;
    return rename_request(request, in->newdir, in->flags);
}

int fs_op_link(struct fs_request *request)
{
    struct fs_table *table = &request->server->table;
    const struct fuse_link_in *in = request->in;
    const char *name;
    int err = fs_request_name(request, &name);
    if (err)
        return err;
    struct fs_inode *old = fs_inode_get(table, in->oldnodeid);
    if (!old)
        return -ESTALE;
    int dir_fd = fs_path_get(table, request->inode);
    int old_fd = fs_path_get(table, old);
    err = dir_fd < 0 ? dir_fd : old_fd < 0 ? old_fd : 0;
    if (!err) {
        /* By the magic link, because AT_EMPTY_PATH wants CAP_DAC_READ_SEARCH in the first user namespace. */
        char number[16];
        snprintf(number, sizeof(number), "%d", old_fd);
        if (linkat(request->server->proc_self_fd, number, dir_fd, name, AT_SYMLINK_FOLLOW) < 0)
            err = -errno;
    }
    if (!err)
        err = fs_enter_name(request, dir_fd, name);
    if (dir_fd >= 0)
        fs_path_put(table, request->inode);
    if (old_fd >= 0)
        fs_path_put(table, old);
    fs_inode_put(table, old);
    return err;
}
