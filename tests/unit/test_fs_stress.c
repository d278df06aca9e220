/* Several threads at once on one small tree: creating, renaming, linking, looking up, listing, removing and
 * forgetting the same names. Nothing may crash or leak, and what is left at the end must agree with the host.
 */
#include "tests/unit/fs_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define THREADS  4
#define ROUNDS   4000
#define NAMES    8
#define DIRS     3
#define FD_LIMIT 40

struct shared {
    struct fs_rig rig;
    uint64_t dir[DIRS];
    atomic_uint unexpected;
    atomic_int example;
    atomic_bool done;
};

struct thread {
    pthread_t id;
    struct shared *shared;
    unsigned seed;
};

/* Errors that races explain. Anything else is a fault. */
static void expect(struct shared *shared, int err)
{
    switch (err) {
    case 0:
    case -ENOENT:
    case -EEXIST:
    case -ESTALE:
    case -EISDIR:
    case -ENOTDIR:
    case -ENOTEMPTY:
    case -EINVAL: /* rename of a directory into itself */
    case -ENFILE:
        return;
    default:
        atomic_fetch_add(&shared->unexpected, 1);
        atomic_store(&shared->example, err);
    }
}

static void open_write_close(struct shared *shared, struct fs_caller *caller, uint64_t nodeid)
{
    struct fuse_open_out out;
    int err = fs_open(caller, FUSE_OPEN, nodeid, O_RDWR, &out);
    expect(shared, err);
    if (err)
        return;
    if (fs_write(caller, nodeid, out.fh, 0, "data", 4, 0, 0) != 4)
        expect(shared, -EIO);
    expect(shared, fs_release(caller, FUSE_RELEASE, nodeid, out.fh));
}

static void list(struct shared *shared, struct fs_caller *caller, uint64_t dir)
{
    struct fuse_open_out out;
    int err = fs_open(caller, FUSE_OPENDIR, dir, 0, &out);
    expect(shared, err);
    if (err)
        return;
    struct fuse_read_in in = {.fh = out.fh, .size = 4096};
    struct fs_piece piece = FS_STRUCT(in);
    expect(shared, fs_call(caller, FUSE_READDIRPLUS, dir, &piece, 1, 4096));
    for (size_t at = 0; at < caller->reply_length;) {
        const struct fuse_direntplus *entry = (const void *)(caller->reply + at);
        uint64_t nodeid = entry->entry_out.nodeid;
        at += FUSE_DIRENTPLUS_SIZE(entry);
        if (nodeid)
            fs_inode_forget(&shared->rig.server.table, nodeid, 1);
    }
    expect(shared, fs_release(caller, FUSE_RELEASEDIR, dir, out.fh));
}

static void one_round(struct thread *thread, struct fs_caller *caller)
{
    struct shared *shared = thread->shared;
    struct fuse_entry_out entry = {0};
    char name[8], other[8];
    uint64_t dir = shared->dir[rand_r(&thread->seed) % DIRS];
    uint64_t to = shared->dir[rand_r(&thread->seed) % DIRS], fh;
    snprintf(name, sizeof(name), "n%d", rand_r(&thread->seed) % NAMES);
    snprintf(other, sizeof(other), "n%d", rand_r(&thread->seed) % NAMES);
    int err;
    switch (rand_r(&thread->seed) % 8) {
    case 0:
        err = fs_create(caller, dir, name, O_RDWR, 0644, &entry, &fh);
        expect(shared, err);
        if (!err) {
            expect(shared, fs_release(caller, FUSE_RELEASE, entry.nodeid, fh));
            fs_forget(caller, entry.nodeid, 1);
        }
        break;
    case 1:
        err = fs_mkdir(caller, dir, name, 0755, &entry);
        expect(shared, err);
        if (!err)
            fs_forget(caller, entry.nodeid, 1);
        break;
    case 2:
        expect(shared, fs_remove(caller, FUSE_UNLINK, dir, name));
        break;
    case 3:
        expect(shared, fs_remove(caller, FUSE_RMDIR, dir, name));
        break;
    case 4:
        expect(shared, fs_rename(caller, dir, name, to, other, (uint32_t)rand_r(&thread->seed) % 3));
        break;
    case 5:
        list(shared, caller, dir);
        break;
    default:
        err = fs_lookup(caller, dir, name, &entry);
        expect(shared, err);
        if (!err) {
            struct fuse_attr attr;
            expect(shared, fs_getattr(caller, entry.nodeid, &attr));
            if (S_ISREG(entry.attr.mode))
                open_write_close(shared, caller, entry.nodeid);
            fs_forget(caller, entry.nodeid, 1);
        }
    }
}

static void *thread_run(void *arg)
{
    struct thread *thread = arg;
    struct fs_caller *caller = fs_caller_new(&thread->shared->rig.server);
    for (unsigned i = 0; i < ROUNDS; i++)
        one_round(thread, caller);
    fs_caller_free(caller);
    return NULL;
}

static void test_threads_on_one_tree(void **state)
{
    (void)state;
    static struct shared shared;
    static struct thread thread[THREADS];
    fs_rig_init(&shared.rig, FS_CACHE_AUTO, false, FD_LIMIT);
    struct fs_caller *caller = fs_caller_new(&shared.rig.server);
    assert_int_equal(fs_caller_init(caller, 0), 0);
    for (unsigned i = 0; i < DIRS; i++) {
        struct fuse_entry_out entry;
        char name[8];
        snprintf(name, sizeof(name), "dir%u", i);
        assert_int_equal(fs_mkdir(caller, FUSE_ROOT_ID, name, 0755, &entry), 0);
        shared.dir[i] = entry.nodeid;
    }
    for (unsigned i = 0; i < THREADS; i++) {
        thread[i] = (struct thread){.shared = &shared, .seed = i + 1};
        assert_int_equal(pthread_create(&thread[i].id, NULL, thread_run, &thread[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i].id, NULL);
    if (atomic_load(&shared.unexpected))
        print_error("unexpected error %d\n", atomic_load(&shared.example));
    assert_int_equal(atomic_load(&shared.unexpected), 0);

    /* All lookups were given back: nothing but the root and the directories is known, no handle is open. */
    struct fs_table *table = &shared.rig.server.table;
    assert_int_equal(table->handles, 0);
    assert_int_equal(table->pins, 0);
    assert_int_equal(table->inodes, 1 + DIRS);
    assert_true(table->fds <= DIRS);
    for (unsigned d = 0; d < DIRS; d++) {
        for (unsigned n = 0; n < NAMES; n++) {
            struct fuse_entry_out entry;
            struct stat st;
            char name[8], path[32];
            snprintf(name, sizeof(name), "n%u", n);
            snprintf(path, sizeof(path), "dir%u/%s", d, name);
            int err = fs_lookup(caller, shared.dir[d], name, &entry);
            assert_int_equal(err == 0, fstatat(shared.rig.dir, path, &st, 0) == 0);
            if (!err)
                assert_int_equal(entry.attr.ino, st.st_ino);
        }
    }
    fs_caller_free(caller);
    fs_rig_fini(&shared.rig);
}

/* Moves a file to and fro between two directories. */
static void *move_run(void *arg)
{
    struct thread *thread = arg;
    struct shared *shared = thread->shared;
    while (!atomic_load(&shared->done)) {
        if (renameat(shared->rig.dir, "dir0/moving", shared->rig.dir, "dir1/moving") < 0)
            expect(shared, -errno);
        if (renameat(shared->rig.dir, "dir1/moving", shared->rig.dir, "dir0/moving") < 0)
            expect(shared, -errno);
    }
    return NULL;
}

/* openat2 says EXDEV of a file that leaves the directory while it is looked up in it. */
static void test_a_name_beside_a_rename(void **state)
{
    (void)state;
    static struct shared shared;
    struct thread thread[2] = {{.shared = &shared}, {.shared = &shared}};
    struct fuse_entry_out entry;
    uint64_t fh;
    fs_rig_init(&shared.rig, FS_CACHE_AUTO, false, FD_LIMIT);
    struct fs_caller *caller = fs_caller_new(&shared.rig.server);
    assert_int_equal(fs_caller_init(caller, 0), 0);
    for (unsigned i = 0; i < 2; i++) {
        char name[8];
        snprintf(name, sizeof(name), "dir%u", i);
        assert_int_equal(fs_mkdir(caller, FUSE_ROOT_ID, name, 0755, &entry), 0);
        shared.dir[i] = entry.nodeid;
    }
    assert_int_equal(fs_create(caller, shared.dir[0], "moving", O_RDWR, 0644, &entry, &fh), 0);
    assert_int_equal(fs_release(caller, FUSE_RELEASE, entry.nodeid, fh), 0);
    fs_forget(caller, entry.nodeid, 1);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i].id, NULL, move_run, &thread[i]), 0);
    /* rmdir opens what it is to remove, and never removes a file. */
    for (unsigned i = 0; i < 100000; i++)
        expect(&shared, fs_remove(caller, FUSE_RMDIR, shared.dir[i % 2], "moving"));
    atomic_store(&shared.done, true);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(thread[i].id, NULL);
    if (atomic_load(&shared.unexpected))
        print_error("unexpected error %d\n", atomic_load(&shared.example));
    assert_int_equal(atomic_load(&shared.unexpected), 0);
    fs_caller_free(caller);
    fs_rig_fini(&shared.rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads_on_one_tree),
                                       cmocka_unit_test(test_a_name_beside_a_rename)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
