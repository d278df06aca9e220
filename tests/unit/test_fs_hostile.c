/* Unit tests of what a hostile guest may send the FUSE server: each gets an error, or nothing, and harms no
 * later request. */
#include "tests/unit/fs_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int set_up(void **state)
{
    int err = fs_fixture_init(state, FS_CACHE_AUTO, false, 64);
    return err ? err : fs_fixture_create_file(*state);
}

static int tear_down(void **state)
{
    struct fs_fixture *f = *state;
    /* whatever was sent, the server still works */
    struct fuse_attr attr;
    assert_int_equal(fs_getattr(f->caller, FUSE_ROOT_ID, &attr), 0);
    return fs_fixture_tear_down(state);
}

/* A raw request of `length` bytes with this header; the reply's error, or 1 when there is no reply. */
static int raw(struct fs_fixture *f, struct fuse_in_header header, size_t length, size_t piece, size_t room)
{
    memcpy(f->caller->request, &header, sizeof(header));
    struct fuse_out_header out;
    size_t written = fs_call_raw(f->caller, length, piece, room);
    if (written == 0)
        return 1;
    assert_true(written >= sizeof(out) && written <= room);
    memcpy(&out, f->caller->reply, sizeof(out));
    return out.error;
}

static struct fuse_in_header header_for(const struct fs_fixture *f, uint32_t opcode, size_t length)
{
    return (struct fuse_in_header){
        .len = (uint32_t)length, .opcode = opcode, .unique = 1, .nodeid = f->entry.nodeid};
}

static void test_header_cut_short(void **state)
{
    struct fs_fixture *f = *state;
    for (size_t length = 0; length < sizeof(struct fuse_in_header); length++)
        assert_int_equal(raw(f, header_for(f, FUSE_GETATTR, 40), length, 4096, 200), 1);
}

static void test_no_room_for_the_reply(void **state)
{
    struct fs_fixture *f = *state;
    for (size_t room = 0; room < sizeof(struct fuse_out_header); room++)
        assert_int_equal(raw(f, header_for(f, FUSE_GETATTR, 56), 56, 4096, room), 1);
    for (size_t room = 16; room < 16 + sizeof(struct fuse_attr_out); room++)
        assert_int_equal(raw(f, header_for(f, FUSE_GETATTR, 56), 56, 4096, room), -EINVAL);
}

static void test_length_beyond_the_chain(void **state)
{
    struct fs_fixture *f = *state;
    static const uint32_t lengths[] = {0, 39, 57, 1U << 20, UINT32_MAX};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
        assert_int_equal(raw(f, header_for(f, FUSE_GETATTR, lengths[i]), 56, 4096, 200), -EINVAL);
}

/* Every opcode with every length shorter than its structure, in bytes of one each. */
static void test_structures_cut_short(void **state)
{
    struct fs_fixture *f = *state;
    memset(f->caller->request, 0, 256);
    for (uint32_t opcode = 0; opcode < 60; opcode++) {
        if (opcode == FUSE_DESTROY)
            continue;
        for (size_t length = 40; length < 140; length += 4)
            raw(f, header_for(f, opcode, length), length, 1, 200);
    }
    struct fuse_attr attr;
    assert_int_equal(fs_getattr(f->caller, f->entry.nodeid, &attr), 0);
}

static void test_arguments_too_long(void **state)
{
    struct fs_fixture *f = *state;
    size_t length = 40 + FS_ARGS_MAX + 1;
    assert_int_equal(raw(f, header_for(f, FUSE_LOOKUP, length), length, 4096, 200), -E2BIG);
}

static void test_extensions_out_of_bounds(void **state)
{
    struct fs_fixture *f = *state;
    static const uint16_t lengths[] = {1, 2, 100, UINT16_MAX};
    struct fuse_create_in in = {.flags = O_RDWR | O_CREAT, .mode = S_IFREG | 02755};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct fuse_in_header header = header_for(f, FUSE_CREATE, 40 + sizeof(in) + 8);
        header.nodeid = FUSE_ROOT_ID;
        header.total_extlen = lengths[i];
        memcpy(f->caller->request + 40, &in, sizeof(in));
        memset(f->caller->request + 40 + sizeof(in), 0xff, 8);
        assert_int_equal(raw(f, header, header.len, 4096, 200), -EINVAL);
    }
}

static void test_unknown_nodeids(void **state)
{
    struct fs_fixture *f = *state;
    static const uint64_t bad[] = {0, 2000, UINT32_MAX, 1ULL << 32 | 1, UINT64_MAX};
    struct fuse_attr attr;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(fs_getattr(f->caller, bad[i], &attr), -ESTALE);
        fs_forget(f->caller, bad[i], UINT64_MAX);
        assert_int_equal(fs_rename(f->caller, FUSE_ROOT_ID, "file", bad[i], "x", 0), -ESTALE);
    }
}

static void test_nodeid_of_a_forgotten_inode(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t old = f->entry.nodeid;
    struct fuse_attr attr;
    assert_int_equal(fs_release(f->caller, FUSE_RELEASE, old, f->fh), 0);
    fs_forget(f->caller, old, 1);
    assert_int_equal(fs_getattr(f->caller, old, &attr), -ESTALE);
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "file", &f->entry), 0);
    assert_int_not_equal(f->entry.nodeid, old); /* same slot, next generation */
    assert_int_equal(fs_getattr(f->caller, old, &attr), -ESTALE);
}

static void test_forgetting_more_than_was_looked_up(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t node = f->entry.nodeid;
    struct fuse_attr attr;
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "file", &f->entry), 0);
    fs_forget(f->caller, node, UINT64_MAX);
    fs_forget(f->caller, node, UINT64_MAX);
    fs_forget(f->caller, FUSE_ROOT_ID, UINT64_MAX);
    /* the open handle keeps the inode, and works */
    assert_int_equal(fs_getattr(f->caller, node, &attr), 0);
    assert_int_equal(fs_write(f->caller, node, f->fh, 0, "x", 1, 0, 0), 1);
    /* and it can be told again */
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "file", &f->entry), 0);
    assert_int_equal(f->entry.nodeid, node);
    assert_int_equal(fs_release(f->caller, FUSE_RELEASE, node, f->fh), 0);
    assert_int_equal(fs_getattr(f->caller, node, &attr), 0);
}

static void test_batch_forget_that_lies_about_its_count(void **state)
{
    struct fs_fixture *f = *state;
    struct {
        struct fuse_in_header header;
        struct fuse_batch_forget_in in;
        struct fuse_forget_one one[2];
    } batch = {.in = {.count = UINT32_MAX}, .one = {{f->entry.nodeid, 1}, {FUSE_ROOT_ID, 5}}};
    batch.header = header_for(f, FUSE_BATCH_FORGET, sizeof(batch));
    memcpy(f->caller->request, &batch, sizeof(batch));
    assert_int_equal(fs_call_raw(f->caller, sizeof(batch), 7, 100), 0);
    struct fuse_attr attr;
    assert_int_equal(fs_release(f->caller, FUSE_RELEASE, f->entry.nodeid, f->fh), 0);
    assert_int_equal(fs_getattr(f->caller, f->entry.nodeid, &attr), -ESTALE); /* what it held was done */
}

static void test_made_up_handles(void **state)
{
    struct fs_fixture *f = *state;
    static const uint64_t bad[] = {0, 2, UINT32_MAX, 1ULL << 32 | 1, UINT64_MAX};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(fs_read(f->caller, f->entry.nodeid, bad[i], 0, 10), -EBADF);
        assert_int_equal(fs_write(f->caller, f->entry.nodeid, bad[i], 0, "x", 1, 0, 0), -EBADF);
        assert_int_equal(fs_release(f->caller, FUSE_RELEASE, f->entry.nodeid, bad[i]), -EBADF);
    }
}

static void test_write_of_more_than_was_sent(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_write_in in = {.fh = f->fh, .size = 100};
    struct fs_piece pieces[] = {FS_STRUCT(in), {"short", 5}};
    assert_int_equal(fs_call(f->caller, FUSE_WRITE, f->entry.nodeid, pieces, 2, 8), -EINVAL);
    in.size = FS_MAX_WRITE + 1;
    static uint8_t big[FS_MAX_WRITE + 1];
    struct fs_piece too_big[] = {FS_STRUCT(in), {big, sizeof(big)}};
    assert_int_equal(fs_call(f->caller, FUSE_WRITE, f->entry.nodeid, too_big, 2, 8), -EINVAL);
}

static void test_offsets_beyond_any_file(void **state)
{
    struct fs_fixture *f = *state;
    static const uint64_t bad[] = {INT64_MAX, 1ULL << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int err = fs_write(f->caller, f->entry.nodeid, f->fh, bad[i], "x", 1, 0, 0);
        assert_true(err == -EINVAL || err == -EFBIG);
        assert_true(fs_read(f->caller, f->entry.nodeid, f->fh, bad[i], 10) <= 0);
    }
    struct fuse_read_in in = {.size = 4096, .offset = UINT64_MAX};
    struct fuse_open_out out;
    assert_int_equal(fs_open(f->caller, FUSE_OPENDIR, FUSE_ROOT_ID, 0, &out), 0);
    in.fh = out.fh;
    struct fs_piece piece = FS_STRUCT(in);
    assert_int_equal(fs_call(f->caller, FUSE_READDIR, FUSE_ROOT_ID, &piece, 1, 4096), -EINVAL);
}

static void test_a_read_larger_than_its_room(void **state)
{
    struct fs_fixture *f = *state;
    static uint8_t data[8192];
    assert_int_equal(fs_write(f->caller, f->entry.nodeid, f->fh, 0, data, sizeof(data), 0, 0), sizeof(data));
    struct fuse_read_in in = {.fh = f->fh, .size = UINT32_MAX};
    struct fs_piece piece = FS_STRUCT(in);
    assert_int_equal(fs_call(f->caller, FUSE_READ, f->entry.nodeid, &piece, 1, 100), 0);
    assert_int_equal(f->caller->reply_length, 100);
}

static void test_hoarded_handles(void **state)
{
    struct fs_fixture *f = *state;
    struct fuse_open_out out;
    int err = 0;
    unsigned count = 0;
    while (count < 1000 && !(err = fs_open(f->caller, FUSE_OPEN, f->entry.nodeid, O_RDONLY, &out)))
        count++;
    assert_int_equal(err, -ENFILE);
    assert_true(count < 64);
    /* paths are still found */
    struct fuse_entry_out dir;
    assert_int_equal(fs_mkdir(f->caller, FUSE_ROOT_ID, "dir", 0755, &dir), 0);
    assert_int_equal(fs_mkdir(f->caller, dir.nodeid, "dir", 0755, &dir), 0);
    assert_int_equal(fs_release(f->caller, FUSE_RELEASE, f->entry.nodeid, out.fh), 0);
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, f->entry.nodeid, O_RDONLY, &out), 0);
}

static void test_interrupt_of_nothing(void **state)
{
    struct fs_fixture *f = *state;
    assert_int_equal(raw(f, header_for(f, FUSE_INTERRUPT, 48), 48, 4096, 0), 1);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    log_init("test", -1, LOG_FORMAT_TEXT, LOG_LEVEL_ERR);
    const struct CMUnitTest tests[] = {
        TEST(test_header_cut_short),
        TEST(test_no_room_for_the_reply),
        TEST(test_length_beyond_the_chain),
        TEST(test_structures_cut_short),
        TEST(test_arguments_too_long),
        TEST(test_extensions_out_of_bounds),
        TEST(test_unknown_nodeids),
        TEST(test_nodeid_of_a_forgotten_inode),
        TEST(test_forgetting_more_than_was_looked_up),
        TEST(test_batch_forget_that_lies_about_its_count),
        TEST(test_made_up_handles),
        TEST(test_write_of_more_than_was_sent),
        TEST(test_offsets_beyond_any_file),
        TEST(test_a_read_larger_than_its_room),
        TEST(test_hoarded_handles),
        TEST(test_interrupt_of_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
