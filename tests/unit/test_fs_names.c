/* Unit tests of the FUSE server's name operations: lookup, creation, removal, renaming, links. */
#include "tests/unit/fs_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

/* What the host sees. */
static int host_stat(struct fs_fixture *f, const char *name, struct stat *st)
{
    return fstatat(f->rig.dir, name, st, AT_SYMLINK_NOFOLLOW);
}

static bool host_has(struct fs_fixture *f, const char *name)
{
    return faccessat(f->rig.dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void make_file(struct fs_fixture *f, const char *name)
{
    assert_int_equal(fs_create(f->caller, FUSE_ROOT_ID, name, O_RDWR, 0644, &f->entry, &f->fh), 0);
    assert_int_equal(fs_release(f->caller, FUSE_RELEASE, f->entry.nodeid, f->fh), 0);
}

static void test_lookup_tells_the_file(void **state)
{
    struct fs_fixture *f = *state;
    int fd = openat(f->rig.dir, "file", O_CREAT | O_WRONLY, 0640);
    assert_int_equal(write(fd, "12345", 5), 5);
    struct stat st;
    fstat(fd, &st);
    close(fd);
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "file", &f->entry), 0);
    assert_int_equal(f->entry.attr.ino, st.st_ino);
    assert_int_equal(f->entry.attr.size, 5);
    assert_int_equal(f->entry.attr.mode, st.st_mode);
    assert_int_equal(f->entry.entry_valid, 1);
    uint64_t nodeid = f->entry.nodeid;
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "file", &f->entry), 0);
    assert_int_equal(f->entry.nodeid, nodeid);
}

static void test_lookup_of_nothing(void **state)
{
    struct fs_fixture *f = *state;
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "none", &f->entry), -ENOENT);
    make_file(f, "file");
    assert_int_equal(fs_lookup(f->caller, f->entry.nodeid, "below-a-file", &f->entry), -ENOTDIR);
}

static void test_names_that_are_none(void **state)
{
    struct fs_fixture *f = *state;
    static const char *const bad[] = {"", ".", "..", "/", "a/b", "../x", "/etc/passwd", "a/"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, bad[i], &f->entry), -EINVAL);
        assert_int_equal(fs_mkdir(f->caller, FUSE_ROOT_ID, bad[i], 0755, &f->entry), -EINVAL);
        assert_int_equal(fs_create(f->caller, FUSE_ROOT_ID, bad[i], O_RDWR, 0644, &f->entry, &f->fh),
                         -EINVAL);
        assert_int_equal(fs_remove(f->caller, FUSE_UNLINK, FUSE_ROOT_ID, bad[i]), -EINVAL);
        assert_int_equal(fs_remove(f->caller, FUSE_RMDIR, FUSE_ROOT_ID, bad[i]), -EINVAL);
        assert_int_equal(fs_rename(f->caller, FUSE_ROOT_ID, "a", FUSE_ROOT_ID, bad[i], 0), -EINVAL);
        assert_int_equal(fs_rename(f->caller, FUSE_ROOT_ID, bad[i], FUSE_ROOT_ID, "a", 0), -EINVAL);
    }
    char longest[NAME_MAX + 2];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[NAME_MAX + 1] = '\0';
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, longest, &f->entry), -ENAMETOOLONG);
    longest[NAME_MAX] = '\0';
    assert_int_equal(fs_mkdir(f->caller, FUSE_ROOT_ID, longest, 0755, &f->entry), 0);
}

static void test_name_without_end(void **state)
{
    struct fs_fixture *f = *state;
    struct fs_piece piece = {"name", 4};
    assert_int_equal(fs_call(f->caller, FUSE_LOOKUP, FUSE_ROOT_ID, &piece, 1, 200), -EINVAL);
}

static void test_mkdir_unlink_rmdir(void **state)
{
    struct fs_fixture *f = *state;
    struct stat st;
    assert_int_equal(fs_mkdir(f->caller, FUSE_ROOT_ID, "dir", 0777, &f->entry), 0);
    assert_int_equal(host_stat(f, "dir", &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0755); /* the umask came with the request */
    assert_int_equal(fs_mkdir(f->caller, FUSE_ROOT_ID, "dir", 0777, &f->entry), -EEXIST);
    assert_int_equal(fs_mkdir(f->caller, f->entry.nodeid, "sub", 0777, &f->entry), 0);
    assert_int_equal(fs_remove(f->caller, FUSE_RMDIR, FUSE_ROOT_ID, "dir"), -ENOTEMPTY);
    assert_int_equal(fs_remove(f->caller, FUSE_UNLINK, FUSE_ROOT_ID, "dir"), -EISDIR);
    struct fuse_entry_out dir;
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "dir", &dir), 0);
    assert_int_equal(fs_remove(f->caller, FUSE_RMDIR, dir.nodeid, "sub"), 0);
    assert_int_equal(fs_remove(f->caller, FUSE_RMDIR, FUSE_ROOT_ID, "dir"), 0);
    assert_false(host_has(f, "dir"));
    make_file(f, "file");
    assert_int_equal(fs_remove(f->caller, FUSE_RMDIR, FUSE_ROOT_ID, "file"), -ENOTDIR);
    assert_int_equal(fs_remove(f->caller, FUSE_UNLINK, FUSE_ROOT_ID, "file"), 0);
    assert_int_equal(fs_remove(f->caller, FUSE_UNLINK, FUSE_ROOT_ID, "file"), -ENOENT);
}

static void test_rename_flags(void **state)
{
    struct fs_fixture *f = *state;
    make_file(f, "a");
    uint64_t a = f->entry.nodeid;
    make_file(f, "b");
    uint64_t b = f->entry.nodeid;
    assert_int_equal(fs_rename(f->caller, FUSE_ROOT_ID, "a", FUSE_ROOT_ID, "b", RENAME_NOREPLACE), -EEXIST);
    assert_int_equal(fs_rename(f->caller, FUSE_ROOT_ID, "a", FUSE_ROOT_ID, "c", RENAME_EXCHANGE), -ENOENT);
    assert_int_equal(fs_rename(f->caller, FUSE_ROOT_ID, "none", FUSE_ROOT_ID, "b", 0), -ENOENT);
    assert_int_equal(fs_rename(f->caller, FUSE_ROOT_ID, "a", FUSE_ROOT_ID, "b", 1U << 30), -EINVAL);
    assert_int_equal(fs_rename(f->caller, FUSE_ROOT_ID, "a", FUSE_ROOT_ID, "b", RENAME_EXCHANGE), 0);
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "a", &f->entry), 0);
    assert_int_equal(f->entry.nodeid, b);
    assert_int_equal(fs_rename(f->caller, FUSE_ROOT_ID, "a", FUSE_ROOT_ID, "b", 0), 0);
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "b", &f->entry), 0);
    assert_int_equal(f->entry.nodeid, b);
    /* what was replaced is still there for who knows it */
    struct fuse_attr attr;
    assert_int_equal(fs_getattr(f->caller, a, &attr), 0);
    assert_int_equal(attr.nlink, 0);
}

static void test_rename_request_without_flags(void **state)
{
    struct fs_fixture *f = *state;
    make_file(f, "a");
    struct fuse_rename_in in = {.newdir = FUSE_ROOT_ID};
    struct fs_piece pieces[] = {FS_STRUCT(in), FS_NAME("a"), FS_NAME("b")};
    assert_int_equal(fs_call(f->caller, FUSE_RENAME, FUSE_ROOT_ID, pieces, 3, 0), 0);
    assert_true(host_has(f, "b"));
    in.newdir = 12345;
    struct fs_piece again[] = {FS_STRUCT(in), FS_NAME("b"), FS_NAME("c")};
    assert_int_equal(fs_call(f->caller, FUSE_RENAME, FUSE_ROOT_ID, again, 3, 0), -ESTALE);
}

static void test_renamed_tree_is_still_reached(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_entry_out dir, sub, leaf, other;
    assert_int_equal(fs_mkdir(f->caller, FUSE_ROOT_ID, "dir", 0755, &dir), 0);
    assert_int_equal(fs_mkdir(f->caller, dir.nodeid, "sub", 0755, &sub), 0);
    assert_int_equal(fs_mkdir(f->caller, sub.nodeid, "leaf", 0755, &leaf), 0);
    assert_int_equal(fs_mkdir(f->caller, FUSE_ROOT_ID, "other", 0755, &other), 0);
    assert_int_equal(fs_rename(f->caller, dir.nodeid, "sub", other.nodeid, "moved", 0), 0);
    assert_int_equal(fs_mkdir(f->caller, leaf.nodeid, "new", 0755, &f->entry), 0);
    assert_true(host_has(f, "other/moved/leaf/new"));
}

static void test_hard_links(void **state)
{
    struct fs_fixture *f = *state;
    make_file(f, "a");
    uint64_t a = f->entry.nodeid;
    struct fuse_link_in in = {.oldnodeid = a};
    struct fs_piece pieces[] = {FS_STRUCT(in), FS_NAME("b")};
    assert_int_equal(fs_call(f->caller, FUSE_LINK, FUSE_ROOT_ID, pieces, 2, sizeof(f->entry)), 0);
    memcpy(&f->entry, f->caller->reply, sizeof(f->entry));
    assert_int_equal(f->entry.nodeid, a);
    assert_int_equal(f->entry.attr.nlink, 2);
    /* either name may go, in either order */
    assert_int_equal(fs_remove(f->caller, FUSE_UNLINK, FUSE_ROOT_ID, "b"), 0);
    struct fuse_attr attr;
    assert_int_equal(fs_getattr(f->caller, a, &attr), 0);
    assert_int_equal(attr.nlink, 1);
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "a", &f->entry), 0);
    assert_int_equal(f->entry.nodeid, a);
    in.oldnodeid = 999;
    struct fs_piece stale[] = {FS_STRUCT(in), FS_NAME("c")};
    assert_int_equal(fs_call(f->caller, FUSE_LINK, FUSE_ROOT_ID, stale, 2, sizeof(f->entry)), -ESTALE);
}

static void test_rename_onto_own_hard_link(void **state)
{
    struct fs_fixture *f = *state;
    make_file(f, "a");
    uint64_t a = f->entry.nodeid;
    assert_int_equal(linkat(f->rig.dir, "a", f->rig.dir, "b", 0), 0);
    assert_int_equal(fs_rename(f->caller, FUSE_ROOT_ID, "a", FUSE_ROOT_ID, "b", 0), 0);
    assert_true(host_has(f, "a")); /* rename(2) does nothing */
    struct fuse_attr attr;
    assert_int_equal(fs_getattr(f->caller, a, &attr), 0);
    assert_int_equal(attr.nlink, 2);
}

static void test_symlink_and_readlink(void **state)
{
    struct fs_fixture *f = *state;
    struct fs_piece pieces[] = {FS_NAME("link"), FS_NAME("/etc/passwd")};
    assert_int_equal(fs_call(f->caller, FUSE_SYMLINK, FUSE_ROOT_ID, pieces, 2, sizeof(f->entry)), 0);
    memcpy(&f->entry, f->caller->reply, sizeof(f->entry));
    assert_true(S_ISLNK(f->entry.attr.mode));
    assert_int_equal(fs_call(f->caller, FUSE_READLINK, f->entry.nodeid, NULL, 0, 4096), 0);
    assert_int_equal(f->caller->reply_length, strlen("/etc/passwd"));
    assert_memory_equal(f->caller->reply, "/etc/passwd", f->caller->reply_length);
    /* it is never followed */
    assert_int_equal(fs_lookup(f->caller, f->entry.nodeid, "x", &f->entry), -ENOTDIR);
    assert_int_equal(fs_call(f->caller, FUSE_READLINK, FUSE_ROOT_ID, NULL, 0, 4096), -EINVAL);
}

static int make_node(struct fs_fixture *f, const char *name, uint32_t mode, uint32_t rdev)
{
    struct fuse_mknod_in in = {.mode = mode, .rdev = rdev, .umask = 022};
    struct fs_piece pieces[] = {FS_STRUCT(in), FS_NAME(name)};
    int err = fs_call(f->caller, FUSE_MKNOD, FUSE_ROOT_ID, pieces, 2, sizeof(f->entry));
    if (!err)
        memcpy(&f->entry, f->caller->reply, sizeof(f->entry));
    return err;
}

static void test_mknod_of_every_kind(void **state)
{
    struct fs_fixture *f = *state;
    struct stat st;
    assert_int_equal(make_node(f, "file", S_IFREG | 0666, 0), 0);
    assert_int_equal(f->entry.attr.mode, S_IFREG | 0644);
    assert_int_equal(make_node(f, "fifo", S_IFIFO | 0600, 0), 0);
    assert_true(S_ISFIFO(f->entry.attr.mode));
    assert_int_equal(make_node(f, "socket", S_IFSOCK | 0600, 0), 0);
    assert_int_equal(make_node(f, "file", S_IFREG | 0666, 0), -EEXIST);
    /* 300:70000 in the kernel's encoding: minor 0x11170 around major 0x12c */
    uint32_t rdev = 0x70 | 300U << 8 | (70000U & ~0xffU) << 12;
    assert_int_equal(make_node(f, "device", S_IFCHR | 0600, rdev), 0);
    assert_int_equal(f->entry.attr.rdev, rdev);
    assert_int_equal(host_stat(f, "device", &st), 0);
    assert_int_equal(major(st.st_rdev), 300);
    assert_int_equal(minor(st.st_rdev), 70000);
}

static void test_special_files_are_never_opened(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_open_out out;
    static const uint32_t kinds[] = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    for (unsigned i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof(name), "special%u", i);
        assert_int_equal(make_node(f, name, kinds[i] | 0600, 1U << 8 | 3), 0);
        assert_int_equal(fs_open(f->caller, FUSE_OPEN, f->entry.nodeid, O_RDWR, &out), -EINVAL);
        assert_int_equal(fs_open(f->caller, FUSE_OPENDIR, f->entry.nodeid, 0, &out), -ENOTDIR);
        struct fuse_setattr_in size = {.valid = FATTR_SIZE};
        assert_int_equal(fs_setattr(f->caller, f->entry.nodeid, &size), -EINVAL);
        uint64_t fh;
        assert_int_equal(fs_create(f->caller, FUSE_ROOT_ID, name, O_RDWR, 0644, &f->entry, &fh), -ENXIO);
    }
}

static void test_create(void **state)
{
    struct fs_fixture *f = *state;
    struct stat st;
    f->caller->uid = 1234;
    f->caller->gid = 4321;
    assert_int_equal(fs_create(f->caller, FUSE_ROOT_ID, "new", O_RDWR, 0666, &f->entry, &f->fh), 0);
    assert_int_equal(host_stat(f, "new", &st), 0);
    assert_int_equal(st.st_uid, 1234);
    assert_int_equal(st.st_gid, 4321);
    assert_int_equal(st.st_mode, S_IFREG | 0644);
    assert_int_equal(fs_write(f->caller, f->entry.nodeid, f->fh, 0, "data", 4, 0, 0), 4);
    assert_int_equal(fs_release(f->caller, FUSE_RELEASE, f->entry.nodeid, f->fh), 0);
    /* exists meanwhile: opened, or refused */
    assert_int_equal(fs_create(f->caller, FUSE_ROOT_ID, "new", O_RDWR | O_EXCL, 0666, &f->entry, &f->fh),
                     -EEXIST);
    assert_int_equal(fs_create(f->caller, FUSE_ROOT_ID, "new", O_RDWR, 0666, &f->entry, &f->fh), 0);
    assert_int_equal(f->entry.attr.size, 4);
    assert_int_equal(fs_create(f->caller, FUSE_ROOT_ID, "new", O_RDWR | O_TRUNC, 0666, &f->entry, &f->fh), 0);
    assert_int_equal(f->entry.attr.size, 0);
    f->caller->uid = f->caller->gid = 0;
    assert_int_equal(symlinkat("new", f->rig.dir, "link"), 0);
    assert_int_equal(fs_create(f->caller, FUSE_ROOT_ID, "link", O_RDWR, 0666, &f->entry, &f->fh), -ELOOP);
}

static void test_tmpfile_can_be_linked(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_create_in in = {.flags = O_RDWR | O_TMPFILE, .mode = S_IFREG | 0600};
    struct fs_piece pieces[] = {FS_STRUCT(in), FS_NAME("/")};
    assert_int_equal(fs_call(f->caller, FUSE_TMPFILE, FUSE_ROOT_ID, pieces, 2, 144), 0);
    memcpy(&f->entry, f->caller->reply, sizeof(f->entry));
    struct fuse_attr attr;
    assert_int_equal(fs_getattr(f->caller, f->entry.nodeid, &attr), 0);
    assert_int_equal(attr.nlink, 0);
    struct fuse_link_in link = {.oldnodeid = f->entry.nodeid};
    struct fs_piece named[] = {FS_STRUCT(link), FS_NAME("named")};
    assert_int_equal(fs_call(f->caller, FUSE_LINK, FUSE_ROOT_ID, named, 2, sizeof(f->entry)), 0);
    assert_true(host_has(f, "named"));
    assert_int_equal(fs_getattr(f->caller, f->entry.nodeid, &attr), 0);
    assert_int_equal(attr.nlink, 1);
    struct fs_piece none[] = {FS_STRUCT(in), FS_NAME("/")};
    assert_int_equal(fs_call(f->caller, FUSE_TMPFILE, f->entry.nodeid, none, 2, 144), -ENOTDIR);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fs_fixture_set_up, fs_fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lookup_tells_the_file),
        TEST(test_lookup_of_nothing),
        TEST(test_names_that_are_none),
        TEST(test_name_without_end),
        TEST(test_mkdir_unlink_rmdir),
        TEST(test_rename_flags),
        TEST(test_rename_request_without_flags),
        TEST(test_renamed_tree_is_still_reached),
        TEST(test_hard_links),
        TEST(test_rename_onto_own_hard_link),
        TEST(test_symlink_and_readlink),
        TEST(test_mknod_of_every_kind),
        TEST(test_special_files_are_never_opened),
        TEST(test_create),
        TEST(test_tmpfile_can_be_linked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
