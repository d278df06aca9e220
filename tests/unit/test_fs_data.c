/* Unit tests of the FUSE server's session, files' data and directory listings. */
#include "tests/unit/fs_rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int set_up_with(void **state, enum fs_cache cache, bool writeback)
{
    int err = fs_fixture_init(state, cache, writeback, 1000);
    return err ? err : fs_fixture_create_file(*state);
}

static int set_up_none(void **state)
{
    return set_up_with(state, FS_CACHE_NONE, true);
}

static int set_up_always(void **state)
{
    return set_up_with(state, FS_CACHE_ALWAYS, false);
}

static int set_up_writeback(void **state)
{
    return set_up_with(state, FS_CACHE_AUTO, true);
}

static void host_content(struct fs_fixture *f, const char *name, const char *expected)
{
    char content[100] = "";
    int fd = openat(f->rig.dir, name, O_RDONLY);
    assert_true(read(fd, content, sizeof(content) - 1) >= 0);
    close(fd);
    assert_string_equal(content, expected);
}

static void destroy(struct fs_fixture *f)
{
    assert_int_equal(fs_call(f->caller, FUSE_DESTROY, 0, NULL, 0, 0), 0);
}

static void test_init_negotiates(void **state)
{
    struct fs_fixture *f = *state;
    destroy(f);
    assert_int_equal(fs_caller_init(f->caller, FUSE_POSIX_ACL), 0);
    struct fuse_init_out out;
    assert_int_equal(f->caller->reply_length, sizeof(out));
    memcpy(&out, f->caller->reply, sizeof(out));
    assert_int_equal(out.major, 7);
    assert_int_equal(out.max_write, FS_MAX_WRITE);
    assert_int_equal(out.max_pages, FS_MAX_PAGES);
    assert_int_equal(out.flags & FUSE_POSIX_ACL, 0); /* not offered */
    assert_true(out.flags & FUSE_HANDLE_KILLPRIV_V2);
    assert_int_equal(out.flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS | FUSE_WRITEBACK_CACHE), 0);
    assert_int_equal(fs_caller_init(f->caller, 0), -EBUSY); /* once a session */
}

static void test_init_of_other_versions(void **state)
{
    struct fs_fixture *f = *state;
    destroy(f);
    struct fuse_init_in in = {.major = 8, .minor = 1};
    struct fs_piece piece = FS_STRUCT(in);
    assert_int_equal(fs_call(f->caller, FUSE_INIT, 0, &piece, 1, sizeof(struct fuse_init_out)), 0);
    assert_int_equal(f->caller->reply_length, FUSE_COMPAT_INIT_OUT_SIZE);
    assert_int_equal(((struct fuse_init_out *)f->caller->reply)->major, 7);
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "file", &f->entry), -EIO); /* not in a session */
    in = (struct fuse_init_in){.major = 7, .minor = 12};
    struct fs_piece old = FS_STRUCT(in);
    assert_int_equal(fs_call(f->caller, FUSE_INIT, 0, &old, 1, sizeof(struct fuse_init_out)), -EPROTO);
    in.minor = 31;
    struct fs_piece shorter = {&in, 16}; /* before FUSE_INIT_EXT */
    assert_int_equal(fs_call(f->caller, FUSE_INIT, 0, &shorter, 1, sizeof(struct fuse_init_out)), 0);
    assert_int_equal(((struct fuse_init_out *)f->caller->reply)->minor, 31);
}

static void test_destroy_forgets_everything(void **state)
{
    struct fs_fixture *f = *state;
    destroy(f);
    assert_int_equal(fs_caller_init(f->caller, 0), 0);
    struct fuse_attr attr;
    assert_int_equal(fs_getattr(f->caller, f->entry.nodeid, &attr), -ESTALE);
    assert_int_equal(fs_read(f->caller, f->entry.nodeid, f->fh, 0, 10), -EBADF);
    assert_int_equal(f->rig.server.table.fds, 0);
    assert_int_equal(f->rig.server.table.inodes, 1);
}

static void test_write_and_read(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t node = f->entry.nodeid;
    assert_int_equal(fs_write(f->caller, node, f->fh, 3, "abc", 3, 0, 0), 3);
    assert_int_equal(fs_read(f->caller, node, f->fh, 2, 100), 4);
    assert_memory_equal(f->caller->reply, "\0abc", 4);
    assert_int_equal(fs_read(f->caller, node, f->fh, 100, 100), 0);
    static uint8_t big[FS_MAX_WRITE];
    memset(big, 7, sizeof(big));
    assert_int_equal(fs_write(f->caller, node, f->fh, 0, big, sizeof(big), 0, 0), sizeof(big));
    assert_int_equal(fs_read(f->caller, node, f->fh, 0, sizeof(big)), sizeof(big));
    assert_memory_equal(f->caller->reply, big, sizeof(big));
}

static void test_access_mode_is_kept(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_open_out out;
    uint64_t node = f->entry.nodeid;
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, node, O_RDONLY, &out), 0);
    assert_int_equal(fs_write(f->caller, node, out.fh, 0, "x", 1, 0, 0), -EBADF);
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, node, O_WRONLY, &out), 0);
    assert_int_equal(fs_read(f->caller, node, out.fh, 0, 1), -EBADF);
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, FUSE_ROOT_ID, O_RDONLY, &out), -EISDIR);
    assert_int_equal(fs_open(f->caller, FUSE_OPENDIR, node, O_RDONLY, &out), -ENOTDIR);
}

static void test_append_is_the_writes_own(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t node = f->entry.nodeid;
    assert_int_equal(fs_write(f->caller, node, f->fh, 0, "1234", 4, 0, 0), 4);
    assert_int_equal(fs_write(f->caller, node, f->fh, 0, "56", 2, 0, O_APPEND | O_DSYNC), 2);
    /* a page written back goes to its place, whatever file it was found by */
    assert_int_equal(fs_write(f->caller, node, f->fh, 0, "x", 1, FUSE_WRITE_CACHE, O_APPEND), 1);
    host_content(f, "file", "x23456");
}

static void test_release_ends_a_handle(void **state)
{
    struct fs_fixture *f = *state;
    assert_int_equal(fs_release(f->caller, FUSE_RELEASEDIR, f->entry.nodeid, f->fh), -EBADF);
    assert_int_equal(fs_release(f->caller, FUSE_RELEASE, f->entry.nodeid, f->fh), 0);
    assert_int_equal(fs_release(f->caller, FUSE_RELEASE, f->entry.nodeid, f->fh), -EBADF);
    assert_int_equal(fs_read(f->caller, f->entry.nodeid, f->fh, 0, 1), -EBADF);
    uint64_t old = f->fh;
    struct fuse_open_out out;
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, f->entry.nodeid, O_RDWR, &out), 0);
    assert_int_not_equal(out.fh, old); /* the slot is the same, its generation is not */
}

static int one_struct(struct fs_fixture *f, uint32_t opcode, const void *in, size_t length, size_t room)
{
    struct fs_piece piece = {in, length};
    return fs_call(f->caller, opcode, f->entry.nodeid, &piece, 1, room);
}

static void test_fsync_flush_fallocate(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_fsync_in sync = {.fh = f->fh};
    assert_int_equal(one_struct(f, FUSE_FSYNC, &sync, sizeof(sync), 0), 0);
    sync.fsync_flags = FUSE_FSYNC_FDATASYNC;
    assert_int_equal(one_struct(f, FUSE_FSYNC, &sync, sizeof(sync), 0), 0);
    assert_int_equal(one_struct(f, FUSE_FSYNCDIR, &sync, sizeof(sync), 0), -EBADF);
    struct fuse_flush_in flush = {.fh = f->fh};
    assert_int_equal(one_struct(f, FUSE_FLUSH, &flush, sizeof(flush), 0), 0);
    struct fuse_fallocate_in in = {.fh = f->fh, .length = 8192};
    assert_int_equal(one_struct(f, FUSE_FALLOCATE, &in, sizeof(in), 0), 0);
    struct fuse_attr attr;
    assert_int_equal(fs_getattr(f->caller, f->entry.nodeid, &attr), 0);
    assert_int_equal(attr.size, 8192);
    in.length = UINT64_MAX;
    assert_int_equal(one_struct(f, FUSE_FALLOCATE, &in, sizeof(in), 0), -EINVAL);
    in.fh = 12345;
    assert_int_equal(one_struct(f, FUSE_FALLOCATE, &in, sizeof(in), 0), -EBADF);
}

static void test_lseek_data_and_hole(void **state)
{
    struct fs_fixture *f = *state;
    assert_int_equal(fs_write(f->caller, f->entry.nodeid, f->fh, 1 << 20, "x", 1, 0, 0), 1);
    struct fuse_lseek_in in = {.fh = f->fh, .whence = SEEK_HOLE};
    assert_int_equal(one_struct(f, FUSE_LSEEK, &in, sizeof(in), 8), 0);
    assert_int_equal(((struct fuse_lseek_out *)f->caller->reply)->offset, 0);
    in.whence = SEEK_DATA;
    assert_int_equal(one_struct(f, FUSE_LSEEK, &in, sizeof(in), 8), 0);
    assert_int_equal(((struct fuse_lseek_out *)f->caller->reply)->offset, 1 << 20);
    in.offset = 2 << 20;
    assert_int_equal(one_struct(f, FUSE_LSEEK, &in, sizeof(in), 8), -ENXIO);
    in.whence = SEEK_CUR;
    assert_int_equal(one_struct(f, FUSE_LSEEK, &in, sizeof(in), 8), -EINVAL);
}

static void test_copy_file_range(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_entry_out other;
    uint64_t other_fh;
    assert_int_equal(fs_create(f->caller, FUSE_ROOT_ID, "copy", O_RDWR, 0644, &other, &other_fh), 0);
    assert_int_equal(fs_write(f->caller, f->entry.nodeid, f->fh, 0, "0123456789", 10, 0, 0), 10);
    struct fuse_copy_file_range_in in = {
        .fh_in = f->fh, .off_in = 2, .nodeid_out = other.nodeid, .fh_out = other_fh, .len = 5};
    assert_int_equal(one_struct(f, FUSE_COPY_FILE_RANGE, &in, sizeof(in), 8), 0);
    assert_int_equal(((struct fuse_write_out *)f->caller->reply)->size, 5);
    host_content(f, "copy", "23456");
    in.flags = 1;
    assert_int_equal(one_struct(f, FUSE_COPY_FILE_RANGE, &in, sizeof(in), 8), -EINVAL);
    in.flags = 0;
    in.fh_out = 999;
    assert_int_equal(one_struct(f, FUSE_COPY_FILE_RANGE, &in, sizeof(in), 8), -EBADF);
}

static void test_requests_about_the_filesystem(void **state)
{
    struct fs_fixture *f = *state;
    assert_int_equal(fs_call(f->caller, FUSE_STATFS, f->entry.nodeid, NULL, 0, 80), 0);
    assert_true(((struct fuse_statfs_out *)f->caller->reply)->st.blocks > 0);
    struct fuse_syncfs_in sync = {0};
    struct fs_piece piece = FS_STRUCT(sync);
    assert_int_equal(fs_call(f->caller, FUSE_SYNCFS, FUSE_ROOT_ID, &piece, 1, 0), 0);
}

static void test_refused_cleanly(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_ioctl_in in = {.fh = f->fh};
    assert_int_equal(one_struct(f, FUSE_IOCTL, &in, sizeof(in), 100), -ENOTTY);
    static const uint32_t unknown[] = {FUSE_SETLK,        FUSE_GETLK, FUSE_SETLKW, FUSE_POLL, FUSE_BMAP,
                                       FUSE_SETUPMAPPING, 0,          7,           53,        4096,
                                       UINT32_MAX};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
        assert_int_equal(fs_call(f->caller, unknown[i], f->entry.nodeid, NULL, 0, 100), -ENOSYS);
}

/* ---- directories ---- */

/* Lists a directory with replies of `room` bytes. The number of names, each seen once. */
static unsigned list(struct fs_fixture *f, uint32_t opcode, uint64_t fh, uint32_t room, unsigned *with_nodeid)
{
    unsigned count = 0;
    struct fuse_read_in in = {.fh = fh, .size = room};
    for (;;) {
        assert_int_equal(one_struct(f, opcode, &in, sizeof(in), room), 0);
        if (f->caller->reply_length == 0)
            return count;
        for (size_t at = 0; at < f->caller->reply_length; count++) {
            const uint8_t *entry = f->caller->reply + at;
            if (opcode == FUSE_READDIRPLUS) {
                *with_nodeid += ((const struct fuse_entry_out *)entry)->nodeid != 0;
                at += sizeof(struct fuse_entry_out);
            }
            const struct fuse_dirent *dirent = (const void *)(f->caller->reply + at);
            at += FUSE_DIRENT_SIZE(dirent);
            in.offset = dirent->off;
        }
    }
}

static void test_readdir(void **state)
{
    struct fs_fixture *f = *state;
    char name[40];
    for (unsigned i = 0; i < 500; i++) {
        snprintf(name, sizeof(name), "name-%u-%.*s", i, (int)(i % 20), "xxxxxxxxxxxxxxxxxxxxx");
        close(openat(f->rig.dir, name, O_CREAT | O_WRONLY, 0600));
    }
    struct fuse_open_out out;
    unsigned known = 0;
    assert_int_equal(fs_open(f->caller, FUSE_OPENDIR, FUSE_ROOT_ID, O_RDONLY, &out), 0);
    assert_int_equal(list(f, FUSE_READDIR, out.fh, 4096, &known), 503); /* ".", "..", "file" */
    assert_int_equal(list(f, FUSE_READDIR, out.fh, 100, &known), 503);  /* again, from the start */
    uint32_t before = f->rig.server.table.inodes;
    assert_int_equal(list(f, FUSE_READDIRPLUS, out.fh, 4096, &known), 503);
    assert_int_equal(known, 501);
    assert_int_equal(f->rig.server.table.inodes, before + 500);
    struct fuse_read_in in = {.fh = out.fh, .size = 20};
    assert_int_equal(one_struct(f, FUSE_READDIR, &in, sizeof(in), 20), -EINVAL); /* no entry fits */
    struct fuse_fsync_in sync = {.fh = out.fh};
    assert_int_equal(one_struct(f, FUSE_FSYNCDIR, &sync, sizeof(sync), 0), 0);
    assert_int_equal(fs_release(f->caller, FUSE_RELEASEDIR, FUSE_ROOT_ID, out.fh), 0);
    in.fh = f->fh;
    assert_int_equal(one_struct(f, FUSE_READDIR, &in, sizeof(in), 4096), -EBADF); /* a file's handle */
}

/* ---- cache modes ---- */

static void test_auto_keeps_data_until_the_file_changes(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_open_out out;
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, f->entry.nodeid, O_RDONLY, &out), 0);
    assert_true(out.open_flags & FOPEN_NOFLUSH);
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, f->entry.nodeid, O_RDONLY, &out), 0);
    assert_true(out.open_flags & FOPEN_KEEP_CACHE);
    int fd = openat(f->rig.dir, "file", O_WRONLY);
    assert_int_equal(write(fd, "changed on the host", 19), 19);
    close(fd);
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, f->entry.nodeid, O_RDONLY, &out), 0);
    assert_false(out.open_flags & FOPEN_KEEP_CACHE);
}

/* The version counts from the file's creation on. */
static void test_auto_keeps_data_of_a_new_file(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_entry_out entry;
    struct fuse_open_out out;
    uint64_t fh;
    assert_int_equal(fs_create(f->caller, FUSE_ROOT_ID, "new", O_WRONLY | O_EXCL, 0644, &entry, &fh), 0);
    assert_int_equal(fs_release(f->caller, FUSE_RELEASE, entry.nodeid, fh), 0);
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, entry.nodeid, O_RDONLY, &out), 0);
    assert_true(out.open_flags & FOPEN_KEEP_CACHE);
    int fd = openat(f->rig.dir, "new", O_WRONLY);
    assert_int_equal(write(fd, "written on the host", 19), 19);
    close(fd);
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, entry.nodeid, O_RDONLY, &out), 0);
    assert_false(out.open_flags & FOPEN_KEEP_CACHE);
}

static void test_none_caches_nothing(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_open_out out;
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, f->entry.nodeid, O_RDONLY, &out), 0);
    assert_true(out.open_flags & FOPEN_DIRECT_IO);
    assert_int_equal(f->entry.entry_valid + f->entry.attr_valid, 0);
    assert_int_equal(f->rig.server.flags & FUSE_WRITEBACK_CACHE, 0); /* asked for, and not safe */
}

static void test_always_remembers_missing_names(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_entry_out none;
    struct fuse_open_out out;
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "none", &none), 0);
    assert_int_equal(none.nodeid, 0);
    assert_true(none.entry_valid > 1000);
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, f->entry.nodeid, O_RDONLY, &out), 0);
    assert_true(out.open_flags & FOPEN_KEEP_CACHE);
}

static void test_writeback_opens_for_reading_too(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_open_out out;
    assert_true(f->rig.server.flags & FUSE_WRITEBACK_CACHE);
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, f->entry.nodeid, O_WRONLY | O_APPEND, &out), 0);
    assert_int_equal(fs_read(f->caller, f->entry.nodeid, out.fh, 0, 10), 0);
}

/* The host cannot tell the guest's unwritten data from a hole. */
static void test_writeback_has_no_holes(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_lseek_in in = {.fh = f->fh, .whence = SEEK_HOLE};
    assert_int_equal(one_struct(f, FUSE_LSEEK, &in, sizeof(in), 8), -ENOSYS);
}

#define TEST(fn)            cmocka_unit_test_setup_teardown(fn, fs_fixture_set_up_file, fs_fixture_tear_down)
#define TEST_WITH(fn, mode) cmocka_unit_test_setup_teardown(fn, set_up_##mode, fs_fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_init_negotiates),
        TEST(test_init_of_other_versions),
        TEST(test_destroy_forgets_everything),
        TEST(test_write_and_read),
        TEST(test_access_mode_is_kept),
        TEST(test_append_is_the_writes_own),
        TEST(test_release_ends_a_handle),
        TEST(test_fsync_flush_fallocate),
        TEST(test_lseek_data_and_hole),
        TEST(test_copy_file_range),
        TEST(test_requests_about_the_filesystem),
        TEST(test_refused_cleanly),
        TEST(test_readdir),
        TEST(test_auto_keeps_data_until_the_file_changes),
        TEST(test_auto_keeps_data_of_a_new_file),
        TEST_WITH(test_none_caches_nothing, none),
        TEST_WITH(test_always_remembers_missing_names, always),
        TEST_WITH(test_writeback_opens_for_reading_too, writeback),
        TEST_WITH(test_writeback_has_no_holes, writeback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
