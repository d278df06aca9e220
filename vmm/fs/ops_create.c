/*
 * New files: mknod, mkdir, symlink, create, tmpfile. Handlers of fuse_dispatch.c's table.
 *
 * A new file belongs to the caller in the guest: the thread takes its fsuid and fsgid for that one call. The
 * guest does not apply its umask (FUSE_DONT_MASK): the host does, or a default ACL in its place.
 */
#include "vmm/fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define RACES_MAX 4

/* Acts as the request's caller until fs_creds_leave. */
static int creator_enter(struct fs_request *request, uint32_t mode, uint32_t umask)
{
    struct fs_creds *creds = &request->context->creds;
    const struct fuse_in_header *header = &request->header;
    gid_t group = (gid_t)-1;
    int err = fs_request_group(request, &group);
    if (err)
        return err;
    /* Whether a new executable may be set-group-ID in a set-group-ID directory depends on the caller's groups
     * and CAP_FSETID (CVE-2022-0358). The guest's kernel has decided; the host decides again with what is
     * known here: a caller that is not root has no CAP_FSETID, and is in `group`. */
    bool set_gid = (mode & S_ISGID) && !S_ISDIR(mode);
    err = fs_creds_fsetid(creds, !set_gid || header->uid == 0);
    if (err)
        return err;
    fs_creds_umask(creds, umask);
    return fs_creds_enter(creds, header->uid, header->gid, set_gid ? group : (gid_t)-1);
}

/* Makes `name` by `make`, as the caller, and replies with its entry. */
static int create_entry(struct fs_request *request, const char *name, uint32_t mode, uint32_t umask,
                        int (*make)(int dir_fd, const char *name, const void *arg), const void *arg)
{
    struct fs_table *table = &request->server->table;
    int dir_fd = fs_path_get(table, request->inode);
    if (dir_fd < 0)
        return dir_fd;
    int err = creator_enter(request, mode, umask);
    if (!err) {
        err = make(dir_fd, name, arg) < 0 ? -errno : 0;
        fs_creds_leave(&request->context->creds);
    }
    if (!err)
        err = fs_enter_name(request, dir_fd, name);
    fs_path_put(table, request->inode);
    return err;
}

static int make_node(int dir_fd, const char *name, const void *arg)
{
    const struct fuse_mknod_in *in = arg;
    /* The kernel's 32-bit device number. */
    unsigned major = (in->rdev & 0xfff00) >> 8, minor = (in->rdev & 0xff) | (in->rdev >> 12 & 0xfff00);
    return mknodat(dir_fd, name, in->mode, makedev(major, minor));
}

int fs_op_mknod(struct fs_request *request)
{
    const struct fuse_mknod_in *in = request->in;
    const char *name;
    int err = fs_request_name(request, &name);
    return err ? err : create_entry(request, name, in->mode, in->umask, make_node, in);
}

static int make_dir(int dir_fd, const char *name, const void *arg)
{
    const struct fuse_mkdir_in *in = arg;
    return mkdirat(dir_fd, name, in->mode & 07777);
}

int fs_op_mkdir(struct fs_request *request)
{
    const struct fuse_mkdir_in *in = request->in;
    const char *name;
    int err = fs_request_name(request, &name);
    return err ? err : create_entry(request, name, S_IFDIR | in->mode, in->umask, make_dir, in);
}

static int make_symlink(int dir_fd, const char *name, const void *arg)
{
    return symlinkat(arg, dir_fd, name);
}

int fs_op_symlink(struct fs_request *request)
{
    const char *name, *target;
    int err = fs_request_name(request, &name);
    if (!err)
        err = fs_request_string(request, PATH_MAX - 1, &target);
    return err ? err : create_entry(request, name, S_IFLNK | 0777, 0, make_symlink, target);
}

/* O_CREAT is always O_EXCL here: whatever exists already is opened by its inode, where its type is known. */
static int make_file(struct fs_request *request, int dir_fd, const char *name, int flags)
{
    const struct fuse_create_in *in = request->in;
    int err = creator_enter(request, S_IFREG | in->mode, in->umask);
    if (err)
        return err;
    struct open_how how = {.flags = (unsigned)(flags | O_CLOEXEC),
                           .mode = in->mode & 07777,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS};
    long fd = syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));
    err = fd < 0 ? -errno : 0;
    fs_creds_leave(&request->context->creds);
    return err ? err : (int)fd;
}

/* The guest did not see the file, but it is there by now. */
static int open_existing(struct fs_request *request, int dir_fd, const char *name, int flags)
{
    struct fs_table *table = &request->server->table;
    const struct fuse_create_in *in = request->in;
    struct statx stx;
    if (statx(dir_fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, FS_STATX_MASK, &stx) < 0)
        return -errno;
    if (!S_ISREG(stx.stx_mode))
        return S_ISDIR(stx.stx_mode) ? -EISDIR : S_ISLNK(stx.stx_mode) ? -ELOOP : -ENXIO;
    int err = fs_creds_fsetid(&request->context->creds, !(in->open_flags & FUSE_OPEN_KILL_SUIDGID));
    if (err)
        return err;
    uint64_t nodeid;
    err = fs_inode_enter(table, request->inode, name, &stx, -1, &nodeid);
    if (err)
        return err;
    struct fs_inode *inode = fs_inode_get(table, nodeid);
    int fd = inode ? fs_server_open(request->server, inode, flags) : -ESTALE;
    if (inode)
        fs_inode_put(table, inode);
    fs_inode_forget(table, nodeid, 1); /* entered again by the caller */
    return fd;
}

/* Enters the new file's inode and handle and replies with both. fd is given away. */
static int reply_created(struct fs_request *request, const char *name, int fd, int flags)
{
    struct fs_server *server = request->server;
    struct statx stx;
    uint64_t nodeid, fh;
    int path_fd = -1;
    int err = statx(fd, "", AT_EMPTY_PATH, FS_STATX_MASK, &stx) < 0 ? -errno : 0;
    if (!err && !name) { /* without a name only its fd leads to it */
        char number[16];
        snprintf(number, sizeof(number), "%d", fd);
        path_fd = openat(server->proc_self_fd, number, O_PATH | O_CLOEXEC);
        err = path_fd < 0 ? -errno : 0;
    }
    if (!err)
        err = fs_inode_enter(&server->table, name ? request->inode : NULL, name, &stx, path_fd, &nodeid);
    if (err) {
        close(fd);
        return err;
    }
    struct fs_inode *inode = fs_inode_get(&server->table, nodeid);
    uint32_t fopen_flags = 0;
    if (inode) {
        fopen_flags = fs_fopen_flags(server, inode, fd, &stx);
        err = fs_handle_open(&server->handles, inode, fd, flags, false, &fh);
        fs_inode_put(&server->table, inode);
    } else {
        close(fd);
        err = -ESTALE;
    }
    struct fuse_open_out out = {.open_flags = fopen_flags};
    if (!err) {
        out.fh = fh;
        err = fs_reply_entry(request, nodeid, &stx);
        if (!err)
            err = fs_reply(request, &out, sizeof(out));
        if (err)
            fs_handle_release(&server->handles, fh, false);
    }
    if (err)
        fs_inode_forget(&server->table, nodeid, 1);
    return err;
}

int fs_op_create(struct fs_request *request)
{
    struct fs_table *table = &request->server->table;
    const struct fuse_create_in *in = request->in;
    const char *name;
    int err = fs_request_name(request, &name);
    if (err)
        return err;
    int dir_fd = fs_path_get(table, request->inode);
    if (dir_fd < 0)
        return dir_fd;
    int flags = fs_open_flags(request->server, in->flags);
    int fd = -ENOENT;
    for (int race = 0; fd == -ENOENT && race < RACES_MAX; race++) {
        fd = make_file(request, dir_fd, name, (flags & ~O_TRUNC) | O_CREAT | O_EXCL);
        if (fd != -EEXIST || in->flags & O_EXCL)
            break;
        fd = open_existing(request, dir_fd, name, flags);
    }
    fs_path_put(table, request->inode);
    return fd < 0 ? fd : reply_created(request, name, fd, flags & ~O_TRUNC);
}

int fs_op_tmpfile(struct fs_request *request)
{
    struct fs_table *table = &request->server->table;
    const struct fuse_create_in *in = request->in;
    int dir_fd = fs_path_get(table, request->inode);
    if (dir_fd < 0)
        return dir_fd;
    /* O_EXCL: it can never be linked into the tree. */
    int flags = (fs_open_flags(request->server, in->flags) & O_ACCMODE) | (int)(in->flags & O_EXCL);
    int fd = make_file(request, dir_fd, ".", flags | O_TMPFILE);
    fs_path_put(table, request->inode);
    return fd < 0 ? fd : reply_created(request, NULL, fd, flags & O_ACCMODE);
}
