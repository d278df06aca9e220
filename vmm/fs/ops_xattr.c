/*
 * Extended attributes, POSIX ACLs and file capabilities among them, passed through as they are. Handlers of
 * fuse_dispatch.c's table.
 *
 * These system calls take a path or an open file. The worker's directory is /proc/self/fd, where "N" leads to
 * the very inode behind the O_PATH fd N, whatever its type, without opening it.
 */
#include "vmm/fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

/* "N" of the request's inode; path_put ends it. */
static int path_get(struct fs_request *request, char number[16])
{
    int fd = fs_path_get(&request->server->table, request->inode);
    if (fd < 0)
        return fd;
    snprintf(number, 16, "%d", fd);
    return 0;
}

static void path_put(struct fs_request *request)
{
    fs_path_put(&request->server->table, request->inode);
}

static int xattr_name(struct fs_request *request, const char **name)
{
    int err = fs_request_string(request, XATTR_NAME_MAX, name);
    return err == -ENAMETOOLONG ? -ERANGE : !err && !**name ? -EINVAL : err;
}

/* A caller outside the file's group who sets an ACL loses the set-group-ID bit, as with chmod. */
static int kill_sgid(struct fs_request *request, const char *number)
{
    struct statx stx;
    int dir_fd = request->server->proc_self_fd;
    if (statx(dir_fd, number, 0, STATX_MODE, &stx) < 0)
        return -errno;
    if (!(stx.stx_mode & S_ISGID))
        return 0;
    return fchmodat(dir_fd, number, stx.stx_mode & 07777 & ~(mode_t)S_ISGID, 0) < 0 ? -errno : 0;
}

int fs_op_setxattr(struct fs_request *request)
{
    struct fuse_setxattr_in in = *(const struct fuse_setxattr_in *)request->in;
    if (!(request->server->flags & FUSE_SETXATTR_EXT))
        in.setxattr_flags = 0; /* the structure was shorter: these bytes are the name's */
    const char *name;
    int err = xattr_name(request, &name);
    if (err)
        return err;
    size_t length;
    const void *value = fs_request_rest(request, &length);
    if (in.size > FS_XATTR_SIZE_MAX)
        return -E2BIG;
    if (in.size > length)
        return -EINVAL;
    err = fs_creds_fsetid(&request->context->creds, true);
    char number[16];
    if (!err)
        err = path_get(request, number);
    if (err)
        return err;
    if (setxattr(number, name, value, in.size, (int)in.flags) < 0)
        err = -errno;
    else if (in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID)
        err = kill_sgid(request, number);
    path_put(request);
    return err;
}

/* A size of 0 asks how much there is. */
static int reply_value(struct fs_request *request, uint32_t asked, ssize_t length)
{
    if (length < 0)
        return (int)length;
    struct fuse_getxattr_out out = {.size = (uint32_t)length};
    return asked == 0 ? fs_reply(request, &out, sizeof(out))
                      : fs_reply(request, request->context->scratch, (size_t)length);
}

int fs_op_getxattr(struct fs_request *request)
{
    const struct fuse_getxattr_in *in = request->in;
    const char *name;
    int err = xattr_name(request, &name);
    char number[16];
    if (!err)
        err = path_get(request, number);
    if (err)
        return err;
    size_t size = in->size < FS_XATTR_SIZE_MAX ? in->size : FS_XATTR_SIZE_MAX;
    ssize_t length = getxattr(number, name, request->context->scratch, size);
    length = length < 0 ? -errno : length;
    path_put(request);
    return reply_value(request, in->size, length);
}

int fs_op_listxattr(struct fs_request *request)
{
    const struct fuse_getxattr_in *in = request->in;
    char number[16];
    int err = path_get(request, number);
    if (err)
        return err;
    size_t size = in->size < FS_XATTR_SIZE_MAX ? in->size : FS_XATTR_SIZE_MAX;
    ssize_t length = listxattr(number, (char *)request->context->scratch, size);
    length = length < 0 ? -errno : length;
    path_put(request);
    return reply_value(request, in->size, length);
}

int fs_op_removexattr(struct fs_request *request)
{
    const char *name;
    int err = xattr_name(request, &name);
    char number[16];
    if (!err)
        err = path_get(request, number);
    if (err)
        return err;
    if (removexattr(number, name) < 0)
        err = -errno;
    path_put(request);
    return err;
}
