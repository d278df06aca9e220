/* Unit tests of the FUSE server's attributes: getattr, setattr, permissions bits, owners of new files, ACLs
 * and other extended attributes. They need root, as the server does for other users' files. */
#include "tests/unit/fs_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

static struct stat host_stat(struct fs_fixture *f, const char *name)
{
    struct stat st;
    assert_int_equal(fstatat(f->rig.dir, name, &st, AT_SYMLINK_NOFOLLOW), 0);
    return st;
}

static void test_getattr_by_inode_and_by_handle(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_attr attr;
    assert_int_equal(fs_getattr(f->caller, f->entry.nodeid, &attr), 0);
    assert_int_equal(attr.ino, host_stat(f, "file").st_ino);
    struct fuse_getattr_in in = {.getattr_flags = FUSE_GETATTR_FH, .fh = f->fh};
    struct fs_piece piece = FS_STRUCT(in);
    assert_int_equal(fs_call(f->caller, FUSE_GETATTR, f->entry.nodeid, &piece, 1, 120), 0);
    assert_int_equal(fs_getattr(f->caller, 77, &attr), -ESTALE);
}

static void test_statx_tells_birth_time(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_statx_in in = {.sx_mask = STATX_BASIC_STATS | STATX_BTIME};
    struct fs_piece piece = FS_STRUCT(in);
    struct fuse_statx_out out;
    assert_int_equal(fs_call(f->caller, FUSE_STATX, f->entry.nodeid, &piece, 1, sizeof(out)), 0);
    memcpy(&out, f->caller->reply, sizeof(out));
    struct statx stx;
    assert_int_equal(statx(f->rig.dir, "file", 0, STATX_BASIC_STATS | STATX_BTIME, &stx), 0);
    assert_int_equal(out.stat.ino, stx.stx_ino);
    assert_int_equal(out.stat.mask & STATX_BTIME, stx.stx_mask & STATX_BTIME);
    assert_int_equal(out.stat.btime.tv_sec, stx.stx_btime.tv_sec);
}

static void test_setattr_mode_owner_size_times(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_setattr_in in = {.valid = FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_SIZE | FATTR_ATIME |
                                          FATTR_MTIME,
                                 .mode = S_IFREG | 04755,
                                 .uid = 10,
                                 .gid = 20,
                                 .size = 1000,
                                 .atime = 100,
                                 .mtime = 200,
                                 .mtimensec = 5};
    assert_int_equal(fs_setattr(f->caller, f->entry.nodeid, &in), 0);
    struct stat st = host_stat(f, "file");
    assert_int_equal(st.st_mode, S_IFREG | 04755); /* not cleared by the chown of the same request */
    assert_int_equal(st.st_uid, 10);
    assert_int_equal(st.st_gid, 20);
    assert_int_equal(st.st_size, 1000);
    assert_int_equal(st.st_atim.tv_sec, 100);
    assert_int_equal(st.st_mtim.tv_sec, 200);
    assert_int_equal(st.st_mtim.tv_nsec, 5);
}

static void test_setattr_times_now_and_omitted(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_setattr_in in = {.valid = FATTR_ATIME | FATTR_MTIME, .atime = 100, .mtime = 100};
    assert_int_equal(fs_setattr(f->caller, f->entry.nodeid, &in), 0);
    in = (struct fuse_setattr_in){.valid = FATTR_MTIME | FATTR_MTIME_NOW};
    assert_int_equal(fs_setattr(f->caller, f->entry.nodeid, &in), 0);
    struct stat st = host_stat(f, "file");
    assert_int_equal(st.st_atim.tv_sec, 100);
    assert_true(st.st_mtim.tv_sec > 100);
    in = (struct fuse_setattr_in){.valid = FATTR_MTIME, .mtimensec = UTIME_OMIT};
    assert_int_equal(fs_setattr(f->caller, f->entry.nodeid, &in), -EINVAL);
}

static void test_setattr_size_by_handle(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_setattr_in in = {.valid = FATTR_SIZE | FATTR_FH, .size = 77, .fh = f->fh};
    assert_int_equal(fs_setattr(f->caller, f->entry.nodeid, &in), 0);
    assert_int_equal(host_stat(f, "file").st_size, 77);
    struct fuse_open_out out;
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, f->entry.nodeid, O_RDONLY, &out), 0);
    in.fh = out.fh; /* read-only: the caller's right to truncate is the guest kernel's business */
    in.size = 78;
    assert_int_equal(fs_setattr(f->caller, f->entry.nodeid, &in), 0);
    assert_int_equal(host_stat(f, "file").st_size, 78);
    struct fuse_setattr_in dir = {.valid = FATTR_SIZE};
    assert_int_equal(fs_setattr(f->caller, FUSE_ROOT_ID, &dir), -EISDIR);
}

static void test_symlink_attributes(void **state)
{
    struct fs_fixture *f = *state;
    assert_int_equal(symlinkat("file", f->rig.dir, "link"), 0);
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "link", &f->entry), 0);
    struct fuse_setattr_in in = {
        .valid = FATTR_UID | FATTR_GID | FATTR_MTIME, .uid = 5, .gid = 6, .mtime = 300};
    assert_int_equal(fs_setattr(f->caller, f->entry.nodeid, &in), 0);
    struct stat st = host_stat(f, "link");
    assert_int_equal(st.st_uid, 5);
    assert_int_equal(st.st_mtim.tv_sec, 300);
    assert_int_equal(host_stat(f, "file").st_uid, 0);
    in = (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 0600};
    assert_int_equal(fs_setattr(f->caller, f->entry.nodeid, &in), -EOPNOTSUPP);
}

/* "file" set-user-ID, set-group-ID and with a file capability. */
static void arm(struct fs_fixture *f)
{
    static const struct vfs_cap_data caps = {.magic_etc = VFS_CAP_REVISION_2, .data = {{.permitted = 1}}};
    assert_int_equal(fchmodat(f->rig.dir, "file", 06755, 0), 0);
    char path[80];
    snprintf(path, sizeof(path), "%s/file", f->rig.path);
    assert_int_equal(setxattr(path, "security.capability", &caps, XATTR_CAPS_SZ_2, 0), 0);
}

static bool has_capability(struct fs_fixture *f)
{
    char path[80], value[64];
    snprintf(path, sizeof(path), "%s/file", f->rig.path);
    return getxattr(path, "security.capability", value, sizeof(value)) > 0;
}

static void test_write_clears_privileges(void **state)
{
    struct fs_fixture *f = *state;
    arm(f);
    /* by root: the bits stay, the capability goes (CVE-2021-20263) */
    assert_int_equal(fs_write(f->caller, f->entry.nodeid, f->fh, 0, "x", 1, 0, 0), 1);
    assert_int_equal(host_stat(f, "file").st_mode & 07000, 06000);
    assert_false(has_capability(f));
    arm(f);
    assert_int_equal(fs_write(f->caller, f->entry.nodeid, f->fh, 0, "x", 1, FUSE_WRITE_KILL_SUIDGID, 0), 1);
    assert_int_equal(host_stat(f, "file").st_mode & 07000, 0);
    assert_false(has_capability(f));
    /* and the thread has its capability back */
    arm(f);
    assert_int_equal(fs_write(f->caller, f->entry.nodeid, f->fh, 0, "x", 1, 0, 0), 1);
    assert_int_equal(host_stat(f, "file").st_mode & 07000, 06000);
}

static void test_truncate_open_and_chown_clear_privileges(void **state)
{
    struct fs_fixture *f = *state;
    arm(f);
    struct fuse_setattr_in in = {.valid = FATTR_SIZE | FATTR_KILL_SUIDGID};
    assert_int_equal(fs_setattr(f->caller, f->entry.nodeid, &in), 0);
    assert_int_equal(host_stat(f, "file").st_mode & 07000, 0);
    assert_false(has_capability(f));
    arm(f);
    struct fuse_open_in open_in = {.flags = O_WRONLY | O_TRUNC, .open_flags = FUSE_OPEN_KILL_SUIDGID};
    struct fs_piece piece = FS_STRUCT(open_in);
    assert_int_equal(fs_call(f->caller, FUSE_OPEN, f->entry.nodeid, &piece, 1, 16), 0);
    assert_int_equal(host_stat(f, "file").st_mode & 07000, 0);
    arm(f);
    in = (struct fuse_setattr_in){.valid = FATTR_UID, .uid = 9};
    assert_int_equal(fs_setattr(f->caller, f->entry.nodeid, &in), 0);
    assert_int_equal(host_stat(f, "file").st_mode & 07000, 0);
    assert_false(has_capability(f));
}

/* A set-group-ID directory of group 50 that anybody may write to. */
static uint64_t group_dir(struct fs_fixture *f)
{
    struct fuse_entry_out dir;
    assert_int_equal(mkdirat(f->rig.dir, "dir", 0777), 0);
    assert_int_equal(fchownat(f->rig.dir, "dir", 0, 50, 0), 0);
    assert_int_equal(fchmodat(f->rig.dir, "dir", 02777, 0), 0);
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "dir", &dir), 0);
    return dir.nodeid;
}

static void test_setgid_directory_is_inherited(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t dir = group_dir(f);
    f->caller->uid = f->caller->gid = 1000;
    assert_int_equal(fs_mkdir(f->caller, dir, "sub", 0755, &f->entry), 0);
    struct stat st = host_stat(f, "dir/sub");
    assert_int_equal(st.st_gid, 50);
    assert_int_equal(st.st_uid, 1000);
    assert_int_equal(st.st_mode, S_IFDIR | 02755);
    assert_int_equal(fs_create(f->caller, dir, "file", O_RDWR, 0644, &f->entry, &f->fh), 0);
    assert_int_equal(host_stat(f, "dir/file").st_gid, 50);
}

/* CVE-2022-0358: who is not in the directory's group gets no set-group-ID executable of it. */
static void test_setgid_executable_needs_the_group(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t dir = group_dir(f);
    f->caller->uid = f->caller->gid = 1000;
    assert_int_equal(fs_create(f->caller, dir, "outsider", O_RDWR, 02755, &f->entry, &f->fh), 0);
    assert_int_equal(host_stat(f, "dir/outsider").st_mode, S_IFREG | 0755);

    struct {
        struct fuse_ext_header header;
        uint32_t nr_groups, group;
    } groups = {{.size = sizeof(groups), .type = FUSE_EXT_GROUPS}, 1, 50};
    struct fuse_create_in in = {.flags = O_RDWR | O_CREAT, .mode = S_IFREG | 02755, .umask = 022};
    struct fuse_in_header header = {
        .opcode = FUSE_CREATE, .nodeid = dir, .uid = 1000, .gid = 1000, .total_extlen = sizeof(groups) / 8};
    uint8_t *at = f->caller->request + sizeof(header);
    memcpy(at, &in, sizeof(in));
    memcpy(at + sizeof(in), "member", 7);
    memcpy(at + sizeof(in) + 7, &groups, sizeof(groups));
    header.len = (uint32_t)(sizeof(header) + sizeof(in) + 7 + sizeof(groups));
    memcpy(f->caller->request, &header, sizeof(header));
    assert_int_equal(fs_call_raw(f->caller, header.len, 4096, 160), 160);
    assert_int_equal(host_stat(f, "dir/member").st_mode, S_IFREG | 02755);

    f->caller->uid = f->caller->gid = 0;
    assert_int_equal(fs_create(f->caller, dir, "root", O_RDWR, 02755, &f->entry, &f->fh), 0);
    assert_int_equal(host_stat(f, "dir/root").st_mode, S_IFREG | 02755);
}

static int set_xattr(struct fs_fixture *f, uint64_t nodeid, const char *name, const void *value, size_t size,
                     uint32_t flags, uint32_t more_flags)
{
    struct fuse_setxattr_in in = {.size = (uint32_t)size, .flags = flags, .setxattr_flags = more_flags};
    struct fs_piece pieces[] = {FS_STRUCT(in), FS_NAME(name), {value, size}};
    return fs_call(f->caller, FUSE_SETXATTR, nodeid, pieces, 3, 0);
}

static int get_xattr(struct fs_fixture *f, uint64_t nodeid, const char *name, uint32_t size)
{
    struct fuse_getxattr_in in = {.size = size};
    struct fs_piece pieces[] = {FS_STRUCT(in), FS_NAME(name)};
    return fs_call(f->caller, FUSE_GETXATTR, nodeid, pieces, 2, size ? size : 8);
}

static void test_xattrs(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t node = f->entry.nodeid;
    assert_int_equal(get_xattr(f, node, "user.a", 100), -ENODATA);
    assert_int_equal(set_xattr(f, node, "user.a", "value", 5, XATTR_CREATE, 0), 0);
    assert_int_equal(set_xattr(f, node, "user.a", "value", 5, XATTR_CREATE, 0), -EEXIST);
    assert_int_equal(get_xattr(f, node, "user.a", 100), 0);
    assert_int_equal(f->caller->reply_length, 5);
    assert_memory_equal(f->caller->reply, "value", 5);
    assert_int_equal(get_xattr(f, node, "user.a", 0), 0);
    assert_int_equal(((struct fuse_getxattr_out *)f->caller->reply)->size, 5);
    assert_int_equal(get_xattr(f, node, "user.a", 2), -ERANGE);
    struct fuse_getxattr_in list = {.size = 1000};
    struct fs_piece piece = FS_STRUCT(list);
    assert_int_equal(fs_call(f->caller, FUSE_LISTXATTR, node, &piece, 1, 1000), 0);
    assert_non_null(memmem(f->caller->reply, f->caller->reply_length, "user.a", 7));
    struct fs_piece name = FS_NAME("user.a");
    assert_int_equal(fs_call(f->caller, FUSE_REMOVEXATTR, node, &name, 1, 0), 0);
    assert_int_equal(fs_call(f->caller, FUSE_REMOVEXATTR, node, &name, 1, 0), -ENODATA);
    assert_int_equal(set_xattr(f, node, "", "v", 1, 0, 0), -EINVAL);
    static char big[FS_XATTR_SIZE_MAX + 1];
    assert_int_equal(set_xattr(f, node, "user.b", big, sizeof(big), 0, 0), -E2BIG);
}

static void test_xattr_value_shorter_than_told(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_setxattr_in in = {.size = 1000};
    struct fs_piece pieces[] = {FS_STRUCT(in), FS_NAME("user.a"), {"value", 5}};
    assert_int_equal(fs_call(f->caller, FUSE_SETXATTR, f->entry.nodeid, pieces, 3, 0), -EINVAL);
}

/* An ACL as the kernel stores it: version 2, then {tag, permissions, id}. */
static const uint8_t acl[] = {
    2,  0, 0, 0, 1,    0,    7,    0,    0xff, 0xff, 0xff, 0xff, /* user::rwx */
    2,  0, 7, 0, 0xd2, 4,    0,    0,                            /* user:1234:rwx */
    4,  0, 5, 0, 0xff, 0xff, 0xff, 0xff,                         /* group::r-x */
    16, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,                         /* mask::rwx */
    32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,                         /* other::--- */
};

static void test_default_acl_takes_the_umasks_place(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_entry_out dir;
    assert_int_equal(fs_mkdir(f->caller, FUSE_ROOT_ID, "dir", 0755, &dir), 0);
    assert_int_equal(set_xattr(f, dir.nodeid, "system.posix_acl_default", acl, sizeof(acl), 0, 0), 0);
    assert_int_equal(fs_create(f->caller, dir.nodeid, "new", O_RDWR, 0666, &f->entry, &f->fh), 0);
    /* rw for owner and, by the mask, for the group's bits; nothing for others; umask 022 not applied */
    assert_int_equal(host_stat(f, "dir/new").st_mode, S_IFREG | 0660);
    assert_int_equal(get_xattr(f, f->entry.nodeid, "system.posix_acl_access", 1000), 0);
    assert_int_equal(f->caller->reply_length, sizeof(acl));
}

static void test_acl_clears_setgid_when_told(void **state)
{
    struct fs_fixture *f = *state;
    arm(f);
    assert_int_equal(set_xattr(f, f->entry.nodeid, "system.posix_acl_access", acl, sizeof(acl), 0, 0), 0);
    assert_int_equal(host_stat(f, "file").st_mode & 07000, 06000);
    assert_int_equal(set_xattr(f, f->entry.nodeid, "system.posix_acl_access", acl, sizeof(acl), 0,
                               FUSE_SETXATTR_ACL_KILL_SGID),
                     0);
    assert_int_equal(host_stat(f, "file").st_mode & 07000, 04000);
}

static int may(struct fs_fixture *f, uint32_t uid, uint32_t mask)
{
    struct fuse_access_in in = {.mask = mask};
    struct fs_piece piece = FS_STRUCT(in);
    f->caller->uid = f->caller->gid = uid;
    return fs_call(f->caller, FUSE_ACCESS, f->entry.nodeid, &piece, 1, 0);
}

static void test_access(void **state)
{
    struct fs_fixture *f = *state;
    assert_int_equal(may(f, 1000, R_OK), 0);
    assert_int_equal(may(f, 1000, W_OK), -EACCES);
    assert_int_equal(may(f, 0, W_OK), 0);
    assert_int_equal(may(f, 0, X_OK), -EACCES);
    assert_int_equal(may(f, 0, 0x100), -EINVAL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fs_fixture_set_up_file, fs_fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_getattr_by_inode_and_by_handle),
        TEST(test_statx_tells_birth_time),
        TEST(test_setattr_mode_owner_size_times),
        TEST(test_setattr_times_now_and_omitted),
        TEST(test_setattr_size_by_handle),
        TEST(test_symlink_attributes),
        TEST(test_write_clears_privileges),
        TEST(test_truncate_open_and_chown_clear_privileges),
        TEST(test_setgid_directory_is_inherited),
        TEST(test_setgid_executable_needs_the_group),
        TEST(test_xattrs),
        TEST(test_xattr_value_shorter_than_told),
        TEST(test_default_acl_takes_the_umasks_place),
        TEST(test_acl_clears_setgid_when_told),
        TEST(test_access),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
