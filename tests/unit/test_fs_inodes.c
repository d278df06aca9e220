/* Unit tests of the inode table: the bound on fds, the way back to files whose fd was closed, names that go
 * or move under the server, and escapes tried by the host's side of a shared directory. */
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
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define FD_LIMIT 64

static int set_up(void **state)
{
    return fs_fixture_init(state, FS_CACHE_AUTO, false, FD_LIMIT);
}

static unsigned open_fds(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static uint64_t make_dir(struct fs_fixture *f, uint64_t parent, const char *name)
{
    assert_int_equal(fs_mkdir(f->caller, parent, name, 0755, &f->entry), 0);
    return f->entry.nodeid;
}

static uint64_t make_file(struct fs_fixture *f, uint64_t parent, const char *name)
{
    assert_int_equal(fs_create(f->caller, parent, name, O_RDWR, 0644, &f->entry, &f->fh), 0);
    return f->entry.nodeid;
}

/* Makes the server close every fd it may close. */
static void close_idle_fds(struct fs_fixture *f)
{
    char name[16];
    for (unsigned i = 0; i < FD_LIMIT + 1; i++) {
        snprintf(name, sizeof(name), "push%u", i);
        uint64_t dir = make_dir(f, FUSE_ROOT_ID, name);
        assert_int_equal(fs_call(f->caller, FUSE_STATFS, dir, NULL, 0, 80), 0);
    }
}

static void test_fds_stay_within_the_limit(void **state)
{
    struct fs_fixture *f = *state;
    unsigned before = open_fds();
    static uint64_t node[50][100];
    char name[16];
    for (unsigned d = 0; d < 50; d++) {
        snprintf(name, sizeof(name), "dir%u", d);
        uint64_t dir = make_dir(f, FUSE_ROOT_ID, name);
        for (unsigned i = 0; i < 100; i++) {
            snprintf(name, sizeof(name), "%u", i);
            node[d][i] = make_file(f, dir, name);
            assert_int_equal(fs_release(f->caller, FUSE_RELEASE, node[d][i], f->fh), 0);
        }
    }
    assert_true(open_fds() <= before + FD_LIMIT);
    /* all 5,000 are still reached, by ways that need an fd and by those that do not */
    for (unsigned i = 0; i < 100; i++) {
        for (unsigned d = 0; d < 50; d++) {
            struct fuse_open_out out;
            assert_int_equal(fs_getattr(f->caller, node[d][i], &f->attr), 0);
            assert_int_equal(fs_open(f->caller, FUSE_OPEN, node[d][i], O_RDWR, &out), 0);
            assert_int_equal(fs_release(f->caller, FUSE_RELEASE, node[d][i], out.fh), 0);
        }
        assert_true(open_fds() <= before + FD_LIMIT);
    }
    assert_true(f->rig.server.table.fds <= FD_LIMIT);
}

static void test_an_inode_costs_less_than_200_bytes(void **state)
{
    (void)state;
    /* malloc's own 16 for inode and name, a name of 24, slot, and at most 2 hash buckets at the time of
     * growth */
    assert_true(sizeof(struct fs_inode) + 16 + 24 + 8 + sizeof(struct fs_slot) + 16 < 200);
}

static void test_a_deep_tree_is_walked_down_again(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t node = FUSE_ROOT_ID;
    for (unsigned i = 0; i < 300; i++)
        node = make_dir(f, node, "d");
    close_idle_fds(f);
    assert_int_equal(fs_getattr(f->caller, node, &f->attr), 0);
    make_file(f, node, "leaf");
    assert_int_equal(f->rig.server.table.fds <= FD_LIMIT, 1);
    /* the host's nftw cannot remove so deep a tree with few fds: shorten it here */
    assert_int_equal(fs_release(f->caller, FUSE_RELEASE, f->entry.nodeid, f->fh), 0);
    assert_int_equal(fs_remove(f->caller, FUSE_UNLINK, node, "leaf"), 0);
}

static void test_unlinked_files_stay_usable(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t file = make_file(f, FUSE_ROOT_ID, "file");
    uint64_t fh = f->fh;
    uint64_t dir = make_dir(f, FUSE_ROOT_ID, "dir");
    assert_int_equal(fs_remove(f->caller, FUSE_UNLINK, FUSE_ROOT_ID, "file"), 0);
    assert_int_equal(fs_remove(f->caller, FUSE_RMDIR, FUSE_ROOT_ID, "dir"), 0);
    close_idle_fds(f);
    assert_int_equal(fs_getattr(f->caller, file, &f->attr), 0);
    assert_int_equal(f->attr.nlink, 0);
    assert_int_equal(fs_getattr(f->caller, dir, &f->attr), 0);
    struct fuse_setattr_in size = {.valid = FATTR_SIZE, .size = 9};
    assert_int_equal(fs_setattr(f->caller, file, &size), 0);
    assert_int_equal(fs_write(f->caller, file, fh, 0, "x", 1, 0, 0), 1);
    unsigned pins = f->rig.server.table.pins;
    assert_int_equal(fs_release(f->caller, FUSE_RELEASE, file, fh), 0);
    fs_forget(f->caller, file, 1);
    fs_forget(f->caller, dir, 1);
    assert_int_equal(f->rig.server.table.pins, pins - 2);
    assert_int_equal(fs_getattr(f->caller, file, &f->attr), -ESTALE);
}

static void test_a_new_file_with_an_old_number_is_another(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t old = make_file(f, FUSE_ROOT_ID, "file");
    assert_int_equal(fs_release(f->caller, FUSE_RELEASE, old, f->fh), 0);
    assert_int_equal(fs_remove(f->caller, FUSE_UNLINK, FUSE_ROOT_ID, "file"), 0);
    assert_int_not_equal(make_file(f, FUSE_ROOT_ID, "file"), old);
}

static void test_hoarded_unlinked_files(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t first = 0, last = 0;
    char name[16];
    for (unsigned i = 0; i < 4 * FD_LIMIT; i++) {
        snprintf(name, sizeof(name), "%u", i);
        last = make_file(f, FUSE_ROOT_ID, name);
        first = first ? first : last;
        assert_int_equal(fs_release(f->caller, FUSE_RELEASE, last, f->fh), 0);
        assert_int_equal(fs_remove(f->caller, FUSE_UNLINK, FUSE_ROOT_ID, name), 0);
    }
    assert_true(f->rig.server.table.fds <= FD_LIMIT);
    assert_true(f->rig.server.table.pins <= FD_LIMIT / 2);
    assert_int_equal(fs_getattr(f->caller, first, &f->attr), 0);
    close_idle_fds(f); /* those beyond the bound are lost, and nothing else is */
    assert_int_equal(fs_getattr(f->caller, last, &f->attr), -ESTALE);
}

/* ---- the host changes the tree ---- */

static void test_moved_by_the_host(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t file = make_file(f, FUSE_ROOT_ID, "file");
    assert_int_equal(fs_release(f->caller, FUSE_RELEASE, file, f->fh), 0);
    assert_int_equal(renameat(f->rig.dir, "file", f->rig.dir, "moved"), 0);
    assert_int_equal(fs_getattr(f->caller, file, &f->attr), -ESTALE); /* the guest's kernel looks up anew */
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "file", &f->entry), -ENOENT);
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "moved", &f->entry), 0);
    assert_int_equal(f->entry.nodeid, file);
    assert_int_equal(fs_getattr(f->caller, file, &f->attr), 0);
}

static void test_replaced_by_another_kind(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t file = make_file(f, FUSE_ROOT_ID, "file");
    assert_int_equal(fs_release(f->caller, FUSE_RELEASE, file, f->fh), 0);
    struct fuse_open_out out;
    assert_int_equal(unlinkat(f->rig.dir, "file", 0), 0);
    assert_int_equal(mkfifoat(f->rig.dir, "file", 0666), 0);
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, file, O_RDWR, &out), -ESTALE);
    assert_int_equal(fs_getattr(f->caller, file, &f->attr), -ESTALE);
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "file", &f->entry), 0);
    assert_int_not_equal(f->entry.nodeid, file);
}

/* A directory that the guest knows becomes a link out of the tree. */
static void test_directory_swapped_for_a_symlink(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t dir = make_dir(f, FUSE_ROOT_ID, "dir");
    uint64_t file = make_file(f, dir, "passwd");
    assert_int_equal(fs_release(f->caller, FUSE_RELEASE, file, f->fh), 0);
    assert_int_equal(renameat(f->rig.dir, "dir", f->rig.dir, "away"), 0);
    assert_int_equal(symlinkat("/etc", f->rig.dir, "dir"), 0);
    close_idle_fds(f);
    struct fuse_open_out out;
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, file, O_RDONLY, &out), -ESTALE);
    assert_int_equal(fs_lookup(f->caller, dir, "passwd", &f->entry), -ESTALE);
    assert_int_equal(fs_remove(f->caller, FUSE_UNLINK, dir, "passwd"), -ESTALE);
    uint64_t fh;
    assert_int_equal(fs_create(f->caller, dir, "planted", O_RDWR, 0644, &f->entry, &fh), -ESTALE);
}

static void test_hard_link_to_a_file_outside(void **state)
{
    struct fs_fixture *f = *state;
    /* names that lead out are names no more than in a local filesystem: readlink is all one gets */
    assert_int_equal(symlinkat("../../../etc/passwd", f->rig.dir, "link"), 0);
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "link", &f->entry), 0);
    struct fuse_open_out out;
    assert_int_equal(fs_open(f->caller, FUSE_OPEN, f->entry.nodeid, O_RDONLY, &out), -EINVAL);
    struct fuse_link_in in = {.oldnodeid = f->entry.nodeid};
    struct fs_piece pieces[] = {FS_STRUCT(in), FS_NAME("second")};
    assert_int_equal(fs_call(f->caller, FUSE_LINK, FUSE_ROOT_ID, pieces, 2, sizeof(f->entry)), 0);
    memcpy(&f->entry, f->caller->reply, sizeof(f->entry));
    assert_true(S_ISLNK(f->entry.attr.mode)); /* the link itself, not what it leads to */
}

/* Two directories that the host moves into each other while the guest looks: each was seen in the other. */
static void test_records_that_would_form_a_ring(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t a = make_dir(f, FUSE_ROOT_ID, "a");
    uint64_t b = make_dir(f, a, "b");
    assert_int_equal(fs_call(f->caller, FUSE_STATFS, b, NULL, 0, 80), 0); /* b has its fd */
    assert_int_equal(renameat(f->rig.dir, "a/b", f->rig.dir, "b"), 0);
    assert_int_equal(renameat(f->rig.dir, "a", f->rig.dir, "b/a"), 0);
    assert_int_equal(fs_lookup(f->caller, b, "a", &f->entry), 0);
    assert_int_equal(f->entry.nodeid, a);
    close_idle_fds(f);
    assert_int_equal(fs_getattr(f->caller, a, &f->attr), -ESTALE); /* b's place is not known any more */
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "b", &f->entry), 0);
    assert_int_equal(fs_getattr(f->caller, a, &f->attr), 0);
    fs_forget(f->caller, a, 10);
    fs_forget(f->caller, b, 10);
    assert_int_equal(fs_getattr(f->caller, a, &f->attr), -ESTALE);
}

/* ---- mounts within the tree ---- */

static void test_a_mount_is_a_submount(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t dir = make_dir(f, FUSE_ROOT_ID, "mnt");
    assert_int_equal(f->entry.attr.flags & FUSE_ATTR_SUBMOUNT, 0);
    char path[80];
    snprintf(path, sizeof(path), "%s/mnt", f->rig.path);
    if (mount("husk-test", path, "tmpfs", 0, NULL) < 0)
        skip(); /* no right to mount here */
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "mnt", &f->entry), 0);
    assert_int_not_equal(f->entry.nodeid, dir); /* attached at run time: another inode in its place */
    assert_true(f->entry.attr.flags & FUSE_ATTR_SUBMOUNT);
    uint64_t root = f->entry.nodeid;
    make_file(f, root, "inside");
    assert_int_equal(f->entry.attr.flags & FUSE_ATTR_SUBMOUNT, 0);
    assert_int_equal(fs_release(f->caller, FUSE_RELEASE, f->entry.nodeid, f->fh), 0);
    close_idle_fds(f);
    assert_int_equal(fs_getattr(f->caller, f->entry.nodeid, &f->attr), 0);
    assert_int_equal(fs_remove(f->caller, FUSE_RMDIR, FUSE_ROOT_ID, "mnt"), -EBUSY);
    assert_int_equal(umount2(path, MNT_DETACH), 0);
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "mnt", &f->entry), 0);
    assert_int_equal(f->entry.nodeid, dir);
}

static void test_a_containers_root_is_no_submount(void **state)
{
    struct fs_fixture *f = *state;
    uint64_t container = make_dir(f, FUSE_ROOT_ID, "c1");
    uint64_t mounts = make_dir(f, container, "mounts");
    make_dir(f, container, "rootfs");
    make_dir(f, mounts, "0");
    char rootfs[96], volume[96];
    snprintf(rootfs, sizeof(rootfs), "%s/c1/rootfs", f->rig.path);
    snprintf(volume, sizeof(volume), "%s/c1/mounts/0", f->rig.path);
    if (mount("husk-test", rootfs, "tmpfs", 0, NULL) < 0)
        skip(); /* no right to mount here */
    assert_int_equal(mount("husk-test", volume, "tmpfs", 0, NULL), 0);
    assert_int_equal(fs_lookup(f->caller, container, "rootfs", &f->entry), 0);
    assert_int_equal(f->entry.attr.flags & FUSE_ATTR_SUBMOUNT, 0);
    assert_int_equal(fs_lookup(f->caller, mounts, "0", &f->entry), 0);
    assert_true(f->entry.attr.flags & FUSE_ATTR_SUBMOUNT);
    /* as deep as a container's root, but by another name */
    make_dir(f, container, "data");
    char data[96];
    snprintf(data, sizeof(data), "%s/c1/data", f->rig.path);
    assert_int_equal(mount("husk-test", data, "tmpfs", 0, NULL), 0);
    assert_int_equal(fs_lookup(f->caller, container, "data", &f->entry), 0);
    assert_true(f->entry.attr.flags & FUSE_ATTR_SUBMOUNT);
    assert_int_equal(umount2(data, MNT_DETACH), 0);
    assert_int_equal(umount2(rootfs, MNT_DETACH), 0);
    assert_int_equal(umount2(volume, MNT_DETACH), 0);
}

static void test_one_directory_mounted_twice_is_two(void **state)
{
    struct fs_fixture *f = *state;
    make_dir(f, FUSE_ROOT_ID, "one");
    make_dir(f, FUSE_ROOT_ID, "two");
    char one[80], two[80];
    snprintf(one, sizeof(one), "%s/one", f->rig.path);
    snprintf(two, sizeof(two), "%s/two", f->rig.path);
    if (mount(one, two, NULL, MS_BIND, NULL) < 0)
        skip();
    struct fuse_entry_out first, second;
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "one", &first), 0);
    assert_int_equal(fs_lookup(f->caller, FUSE_ROOT_ID, "two", &second), 0);
    assert_int_equal(umount2(two, MNT_DETACH), 0);
    assert_int_equal(first.attr.ino, second.attr.ino);
    assert_int_not_equal(first.nodeid, second.nodeid);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, fs_fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_fds_stay_within_the_limit),
        TEST(test_an_inode_costs_less_than_200_bytes),
        TEST(test_a_deep_tree_is_walked_down_again),
        TEST(test_unlinked_files_stay_usable),
        TEST(test_a_new_file_with_an_old_number_is_another),
        TEST(test_hoarded_unlinked_files),
        TEST(test_moved_by_the_host),
        TEST(test_replaced_by_another_kind),
        TEST(test_directory_swapped_for_a_symlink),
        TEST(test_hard_link_to_a_file_outside),
        TEST(test_records_that_would_form_a_ring),
        TEST(test_a_mount_is_a_submount),
        TEST(test_a_containers_root_is_no_submount),
        TEST(test_one_directory_mounted_twice_is_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
