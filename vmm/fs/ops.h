/*
 * The handlers of the opcodes, as the table in fuse_dispatch.c lists them. Each gets a request whose
 * structure is complete, appends its reply with fs_reply*, and returns 0 or -errno (the reply is then the
 * error alone). Protocol: linux/fuse.h; semantics: the system call of the same name on a local filesystem.
 */
#ifndef HUSK_VMM_FS_OPS_H
#define HUSK_VMM_FS_OPS_H

#include "vmm/fs/fuse_request.h"

/* ops_session.c */
int fs_op_init(struct fs_request *request);
int fs_op_destroy(struct fs_request *request);
int fs_op_forget(struct fs_request *request);
int fs_op_batch_forget(struct fs_request *request);
int fs_op_interrupt(struct fs_request *request);
int fs_op_statfs(struct fs_request *request);
int fs_op_syncfs(struct fs_request *request);
int fs_op_ioctl(struct fs_request *request);
int fs_op_unsupported(struct fs_request *request);

/* ops_name.c */
int fs_op_lookup(struct fs_request *request);
int fs_op_unlink(struct fs_request *request);
int fs_op_rmdir(struct fs_request *request);
int fs_op_rename(struct fs_request *request);
int fs_op_rename2(struct fs_request *request);
int fs_op_link(struct fs_request *request);
/* Finds `name` in the request's inode, whose fd is dir_fd, counts a lookup of it and replies with its entry.
 */
int fs_enter_name(struct fs_request *request, int dir_fd, const char *name);

/* ops_create.c */
int fs_op_mknod(struct fs_request *request);
int fs_op_mkdir(struct fs_request *request);
int fs_op_symlink(struct fs_request *request);
int fs_op_create(struct fs_request *request);
int fs_op_tmpfile(struct fs_request *request);

/* ops_attr.c */
int fs_op_getattr(struct fs_request *request);
int fs_op_statx(struct fs_request *request);
int fs_op_setattr(struct fs_request *request);
int fs_op_readlink(struct fs_request *request);
int fs_op_access(struct fs_request *request);

/* ops_open.c: how files are opened and closed */
int fs_op_open(struct fs_request *request);
int fs_op_release(struct fs_request *request);
int fs_op_flush(struct fs_request *request);
int fs_op_fsync(struct fs_request *request);
int fs_op_opendir(struct fs_request *request);
int fs_op_releasedir(struct fs_request *request);
int fs_op_fsyncdir(struct fs_request *request);
/* The flags to open a host file with for a guest's open flags, and FOPEN_* for the reply. stx: what the file
 * is now, FS_STATX_MASK of it; NULL: it is asked if that matters. */
int fs_open_flags(const struct fs_server *server, uint32_t guest_flags);
uint32_t fs_fopen_flags(struct fs_server *server, struct fs_inode *inode, int fd, const struct statx *stx);

/* ops_data.c */
int fs_op_read(struct fs_request *request);
int fs_op_write(struct fs_request *request);
int fs_op_fallocate(struct fs_request *request);
int fs_op_copy_file_range(struct fs_request *request);
int fs_op_lseek(struct fs_request *request);

/* ops_dir.c */
int fs_op_readdir(struct fs_request *request);
int fs_op_readdirplus(struct fs_request *request);

/* ops_xattr.c */
int fs_op_setxattr(struct fs_request *request);
int fs_op_getxattr(struct fs_request *request);
int fs_op_listxattr(struct fs_request *request);
int fs_op_removexattr(struct fs_request *request);

#endif
