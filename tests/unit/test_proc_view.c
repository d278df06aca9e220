/* Unit tests of shim/proc_view.c: what a reader sees of a well-behaved guest. */
#include "proc_view_fixture.h"

#include "common/fd.h"
#include "protocol/protocol.h"
#include "shim/proc_view.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MANY    3000
#define HANDLES 256 /* open files that the view has room for */

#define OF_PROCESS                                                                                           \
    "../ ./ cgroup cmdline comm gid_map io limits ns/ oom_score oom_score_adj stat statm status uid_map "    \
    "wchan"
#define OF_NS "../ ./ cgroup@ ipc@ mnt@ net@ pid@ time@ user@ uts@"

static void the_root_lists_processes_and_the_guests_files(void **state)
{
    struct proc_view_fixture *view = *state;
    guest_says(view, "", json_pack("{s:[i, i, i]}", "pids", 1, 42, INT32_MAX), 0);
    expect_names(view, "", "../ ./ 1/ 2147483647/ 42/ loadavg meminfo stat uptime version");
    assert_string_equal(guest_asked(view), "[]");
    guest_says(view, "", json_pack("{s:[]}", "pids"), 0);
    expect_names(view, "", "../ ./ loadavg meminfo stat uptime version");
}

static void a_process_lists_its_files_and_namespaces(void **state)
{
    struct proc_view_fixture *view = *state;
    guest_has_file(view, "42/comm", "sh\n", 3);
    expect_names(view, "42", OF_PROCESS);
    expect_names(view, "42/ns", OF_NS);
}

static json_t *many_processes(void)
{
    json_t *pids = json_array();
    for (int i = 1; i <= MANY; i++)
        json_array_append_new(pids, json_integer(i));
    return json_pack("{s:o}", "pids", pids);
}

/* Each once and in the guest's order, though the kernel asks for them in parts. */
static void thousands_of_processes_are_listed_whole(void **state)
{
    struct proc_view_fixture *view = *state;
    guest_says(view, "", many_processes(), 0);
    int next = 1;
    long place_of_2000 = -1;
    DIR *directory = opendir(in_view(view, ""));
    assert_non_null(directory);
    for (;;) {
        long place = telldir(directory);
        struct dirent *entry = readdir(directory);
        if (!entry)
            break;
        if (strspn(entry->d_name, "0123456789") == 0)
            continue;
        assert_int_equal(atoi(entry->d_name), next);
        if (next++ == 2000)
            place_of_2000 = place;
    }
    assert_int_equal(next, MANY + 1);
    seekdir(directory, place_of_2000);
    assert_string_equal(readdir(directory)->d_name, "2000");
    closedir(directory);
    assert_string_equal(guest_asked(view), "[]"); /* one state, however many parts */
}

/* A part that holds few entries, and never a piece of one. */
static void a_directory_is_read_in_small_parts(void **state)
{
    struct proc_view_fixture *view = *state;
    _Alignas(8) char part[512];
    guest_says(view, "", many_processes(), 0);
    cleanup_fd int fd = open(in_view(view, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    int count = 0;
    for (ssize_t got; (got = getdents64(fd, part, sizeof(part))) != 0;) {
        assert_true(got > 0);
        for (ssize_t at = 0; at < got; count++)
            at += ((struct dirent64 *)(void *)(part + at))->d_reclen;
    }
    assert_int_equal(count, 2 + 5 + MANY);
}

static void expect_node(struct proc_view_fixture *view, const char *path, mode_t mode)
{
    struct stat status;
    assert_int_equal(lstat(in_view(view, path), &status), 0);
    if (S_ISLNK(mode))
        status.st_mode &= S_IFMT; /* nobody looks at a link's permissions */
    if (status.st_mode != mode)
        fail_msg("%s: mode %o instead of %o", path, status.st_mode, mode);
    assert_int_equal(status.st_uid, 0);
    assert_int_equal(status.st_gid, 0);
}

static void each_kind_of_node_has_its_type_and_mode(void **state)
{
    struct proc_view_fixture *view = *state;
    guest_has_file(view, "1/comm", "a", 1);
    expect_node(view, "", S_IFDIR | 0555);
    expect_node(view, "1", S_IFDIR | 0555);
    expect_node(view, "1/ns", S_IFDIR | 0555);
    expect_node(view, "1/ns/cgroup", S_IFLNK);
    expect_node(view, "1/ns/uts", S_IFLNK);
    expect_node(view, "1/cgroup", S_IFREG | 0444);
    expect_node(view, "1/wchan", S_IFREG | 0444);
    expect_node(view, "loadavg", S_IFREG | 0444);
    expect_node(view, "version", S_IFREG | 0444);
}

/* All names have different numbers, those of a directory's list. */
static void numbers_of_nodes_are_those_of_the_list(void **state)
{
    static const char *const directories[] = {"", "1", "2", "1/ns", "2/ns"};
    struct proc_view_fixture *view = *state;
    uint64_t seen[128];
    size_t count = 0;
    guest_has_file(view, "1/comm", "a", 1);
    guest_has_file(view, "2/comm", "b", 1);
    guest_says(view, "", json_pack("{s:[i, i]}", "pids", 1, 2), 0);
    for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++) {
        DIR *directory = opendir(in_view(view, directories[i]));
        assert_non_null(directory);
        for (struct dirent *entry; (entry = readdir(directory));) {
            struct stat status;
            if (entry->d_name[0] == '.')
                continue;
            assert_int_equal(fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW), 0);
            assert_int_equal(status.st_ino, entry->d_ino);
            for (size_t k = 0; k < count; k++)
                assert_int_not_equal(seen[k], entry->d_ino);
            seen[count++] = entry->d_ino;
        }
        closedir(directory);
    }
}

static void the_mount_is_one_of_a_procfs_kind(void **state)
{
    struct proc_view_fixture *view = *state;
    struct statfs file_system;
    struct statvfs flags;
    assert_int_equal(statfs(in_view(view, ""), &file_system), 0);
    assert_int_equal(file_system.f_type, FUSE_SUPER_MAGIC);
    assert_int_equal(statvfs(in_view(view, ""), &flags), 0);
    unsigned long expected = ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC;
    assert_int_equal(flags.f_flag & expected, expected);
    int fuse_fd;
    cleanup_fd int tree = proc_view_mount(&fuse_fd);
    assert_int_equal(fcntl(tree, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(fuse_fd, F_GETFD), FD_CLOEXEC);
    close(fuse_fd);
}

static void a_file_has_the_guests_bytes(void **state)
{
    struct proc_view_fixture *view = *state;
    static const uint8_t cmdline[] = "sh\0-c\0\xff\xfe\x80 true\0";
    guest_has_file(view, "1/comm", "a", 1);
    guest_has_file(view, "1/cmdline", cmdline, sizeof(cmdline));
    guest_has_file(view, "1/wchan", "", 0);
    guest_has_file(view, "stat", "cpu 1", 5);
    guest_has_file(view, "1/stat", "1 (a)", 5);
    guest_asked(view);
    expect_file(view, "1/cmdline", cmdline, sizeof(cmdline));
    assert_string_equal(guest_asked(view), "[1/comm][1/cmdline]");
    expect_file(view, "1/wchan", "", 0);
    expect_file(view, "stat", "cpu 1", 5);
    expect_file(view, "1/stat", "1 (a)", 5);
}

/* Each file by the name that the guest knows. */
static void each_file_is_asked_for_by_its_name(void **state)
{
    static const char *const names[] = {"1/cgroup", "1/cmdline",   "1/comm",          "1/gid_map", "1/io",
                                        "1/limits", "1/oom_score", "1/oom_score_adj", "1/stat",    "1/statm",
                                        "1/status", "1/uid_map",   "1/wchan",         "loadavg",   "meminfo",
                                        "stat",     "uptime",      "version"};
    struct proc_view_fixture *view = *state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        guest_has_file(view, "1/comm", "1/comm", 6);
        guest_has_file(view, names[i], names[i], strlen(names[i]));
        expect_file(view, names[i], names[i], strlen(names[i]));
    }
}

static void a_large_file_is_read_in_parts(void **state)
{
    static uint8_t content[PROC_FILE_BYTES_MAX], got[PROC_FILE_BYTES_MAX + 16];
    static const size_t offsets[] = {0, 1, 4095, 4096, 40000, sizeof(content) - 1};
    struct proc_view_fixture *view = *state;
    for (size_t i = 0; i < sizeof(content); i++)
        content[i] = (uint8_t)(i * 7 + i / 256);
    guest_has_file(view, "1/comm", "a", 1);
    guest_has_file(view, "1/limits", content, sizeof(content));
    cleanup_fd int fd = open(in_view(view, "1/limits"), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    for (size_t at = 0; at < sizeof(content);) {
        ssize_t part = read(fd, got + at, 1000);
        assert_in_range(part, 1, 1000);
        at += (size_t)part;
    }
    assert_int_equal(read(fd, got + sizeof(content), 16), 0);
    assert_memory_equal(got, content, sizeof(content));
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        size_t rest = sizeof(content) - offsets[i];
        size_t expected = rest < 5000 ? rest : 5000;
        assert_int_equal(pread(fd, got, 5000, (off_t)offsets[i]), expected);
        assert_memory_equal(got, content + offsets[i], expected);
    }
    assert_int_equal(pread(fd, got, 1, sizeof(content)), 0);
    assert_int_equal(pread(fd, got, 1, INT64_MAX - 4096), 0);
    assert_int_equal(pread(fd, got, sizeof(got), 0), sizeof(content));
}

/* As busybox's cat copies. The kernel does that by the file's size. */
static void a_file_is_sent_whole(void **state)
{
    struct proc_view_fixture *view = *state;
    char got[32] = "";
    guest_has_file(view, "uptime", "12.0 34.5", 9);
    cleanup_fd int fd = open(in_view(view, "uptime"), O_RDONLY | O_CLOEXEC);
    cleanup_fd int copy = memfd_create("copy", MFD_CLOEXEC);
    assert_int_equal(sendfile(copy, fd, NULL, 4096), 9);
    assert_int_equal(pread(copy, got, sizeof(got), 0), 9);
    assert_string_equal(got, "12.0 34.5");
    assert_int_equal(sendfile(copy, fd, NULL, 4096), 0);
}

static void an_open_file_keeps_its_state(void **state)
{
    struct proc_view_fixture *view = *state;
    char got[32];
    guest_has_file(view, "uptime", "the first state", 15);
    cleanup_fd int fd = open(in_view(view, "uptime"), O_RDONLY | O_CLOEXEC);
    guest_has_file(view, "uptime", "THE OTHER", 9);
    assert_int_equal(read(fd, got, 4), 4);
    guest_says(view, "uptime", NULL, ESRCH);
    assert_int_equal(read(fd, got + 4, sizeof(got) - 4), 11);
    assert_memory_equal(got, "the first state", 15);
    guest_has_file(view, "uptime", "THE OTHER", 9);
    expect_file(view, "uptime", "THE OTHER", 9);
}

static void a_process_that_has_ended_is_not_there(void **state)
{
    struct proc_view_fixture *view = *state;
    assert_int_equal(stat_code(view, "7"), ENOENT);
    assert_int_equal(stat_code(view, "7/comm"), ENOENT);
    assert_int_equal(open_code(view, "7/comm"), ENOENT);
    assert_int_equal(open_code(view, "7/ns"), ENOENT);
    assert_string_equal(guest_asked(view), "[7/comm][7/comm][7/comm][7/comm]");
    /* It ends after the look at its directory. */
    guest_has_file(view, "7/comm", "a", 1);
    cleanup_fd int directory = open(in_view(view, "7"), O_PATH | O_CLOEXEC);
    guest_says(view, "7/comm", NULL, ESRCH);
    assert_int_equal(code_of(openat(directory, "comm", O_RDONLY)), ENOENT);
    char target[64];
    assert_int_equal(code_of(readlinkat(directory, "ns/pid", target, sizeof(target))), ENOENT);
    /* And another one gets the number. */
    guest_has_file(view, "7/comm", "b", 1);
    expect_file(view, "7/comm", "b", 1);
}

static void the_guests_errors_come_through(void **state)
{
    struct proc_view_fixture *view = *state;
    guest_has_file(view, "1/comm", "a", 1);
    guest_says(view, "1/io", NULL, EACCES);
    guest_says(view, "2/comm", NULL, EPERM);
    guest_says(view, "1/ns/mnt", NULL, EACCES);
    guest_says(view, "", NULL, ETIMEDOUT);
    assert_int_equal(open_code(view, "1/io"), EACCES);
    assert_int_equal(stat_code(view, "2"), EPERM);
    assert_int_equal(open_code(view, ""), ETIMEDOUT);
    char target[64];
    assert_int_equal(code_of(readlink(in_view(view, "1/ns/mnt"), target, sizeof(target))), EACCES);
    assert_int_equal(stat_code(view, "1/io"), 0); /* known without the guest */
    guest_says(view, "1/io", NULL, 0);
    assert_int_equal(open_code(view, "1/io"), EIO);
}

static void names_of_nothing_are_not_there(void **state)
{
    static const struct {
        const char *name, *asked;
    } cases[] = {
        {"self", ""},
        {"thread-self", ""},
        {"0", ""},
        {"01", ""},
        {"+1", ""},
        {"-1", ""},
        {"1x", ""},
        {"99999999999", ""},
        {"18446744073709551617", ""},
        {"comm", ""},
        {"ns", ""},
        {"1/nothing", "[1/comm]"},
        {"1/loadavg", "[1/comm]"},
        {"1/1", "[1/comm]"},
        {"1/self", "[1/comm]"},
        {"1/ns/nothing", "[1/comm]"},
        {"1/ns/comm", "[1/comm]"},
        {"1/ns/ns", "[1/comm]"},
        {"1/ns/1", "[1/comm]"},
    };
    struct proc_view_fixture *view = *state;
    guest_has_file(view, "1/comm", "a", 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (stat_code(view, cases[i].name) != ENOENT)
            fail_msg("%s is there", cases[i].name);
        assert_string_equal(guest_asked(view), cases[i].asked);
        assert_int_equal(open_code(view, cases[i].name), ENOENT);
        guest_asked(view);
    }
    assert_int_equal(stat_code(view, "1/comm/x"), ENOTDIR);
}

static void a_namespace_is_a_link(void **state)
{
    struct proc_view_fixture *view = *state;
    char target[64] = "";
    guest_has_file(view, "1/comm", "a", 1);
    guest_says(view, "1/ns/pid", json_pack("{s:s}", "link", "pid:[4026531836]"), 0);
    guest_says(view, "1/ns/uts", json_pack("{s:s}", "link", "uts:[1]"), 0);
    assert_int_equal(readlink(in_view(view, "1/ns/pid"), target, sizeof(target)), 16);
    assert_memory_equal(target, "pid:[4026531836]", 16);
    assert_int_equal(readlink(in_view(view, "1/ns/uts"), target, sizeof(target)), 7);
    assert_memory_equal(target, "uts:[1]", 7);
    assert_string_equal(guest_asked(view), "[1/comm][1/ns/pid][1/comm][1/ns/uts]");
    /* It leads nowhere, whatever the guest says. */
    guest_says(view, "1/ns/net", json_pack("{s:s}", "link", "/dev/null"), 0);
    assert_int_equal(open_code(view, "1/ns/net"), ELOOP);
    assert_int_equal(code_of(readlink(in_view(view, "1/comm"), target, sizeof(target))), EINVAL);
}

static void nothing_can_be_written(void **state)
{
    struct proc_view_fixture *view = *state;
    guest_has_file(view, "1/comm", "a", 1);
    guest_has_file(view, "1/oom_score_adj", "0", 1);
    assert_int_equal(code_of(open(in_view(view, "1/oom_score_adj"), O_WRONLY)), EROFS);
    assert_int_equal(code_of(open(in_view(view, "1/comm"), O_RDWR)), EROFS);
    assert_int_equal(code_of(truncate(in_view(view, "1/comm"), 0)), EROFS);
    assert_int_equal(code_of(open(in_view(view, "new"), O_CREAT | O_WRONLY, 0600)), EROFS);
    assert_int_equal(code_of(mkdir(in_view(view, "1/new"), 0700)), EROFS);
    assert_int_equal(code_of(symlink("x", in_view(view, "new"))), EROFS);
    assert_int_equal(code_of(unlink(in_view(view, "1/comm"))), EROFS);
    assert_int_equal(code_of(rmdir(in_view(view, "1"))), EROFS);
    assert_int_equal(code_of(rename(in_view(view, "1/comm"), in_view(view, "1/stat"))), EROFS);
    assert_int_equal(code_of(chmod(in_view(view, "1/comm"), 0600)), EROFS);
    assert_int_equal(code_of(utimensat(AT_FDCWD, in_view(view, "1/comm"), NULL, 0)), EROFS);
    assert_int_equal(code_of(setxattr(in_view(view, "1/comm"), "user.x", "y", 1, 0)), EROFS);
    expect_file(view, "1/comm", "a", 1);
}

static void open_files_have_a_limit(void **state)
{
    struct proc_view_fixture *view = *state;
    int fds[HANDLES];
    guest_has_file(view, "uptime", "1.0", 3);
    guest_says(view, "version", json_object(), 0);
    guest_says(view, "", json_pack("{s:[i, i]}", "pids", 1, -1), 0);
    for (int i = 0; i < HANDLES + 10; i++) { /* what cannot be opened takes no place */
        assert_int_equal(open_code(view, "version"), EIO);
        assert_int_equal(open_code(view, ""), EIO);
        assert_int_equal(open_code(view, "uptime"), 0);
    }
    guest_says(view, "", json_pack("{s:[i]}", "pids", 1), 0);
    for (int i = 0; i < HANDLES; i++) {
        char content[16];
        snprintf(content, sizeof(content), "file %d", i);
        guest_has_file(view, "uptime", content, strlen(content));
        fds[i] = open(in_view(view, i == HANDLES / 2 ? "" : "uptime"), O_RDONLY | O_CLOEXEC);
        assert_true(fds[i] >= 0);
    }
    guest_asked(view);
    assert_int_equal(open_code(view, "uptime"), ENFILE);
    assert_int_equal(open_code(view, ""), ENFILE);
    assert_string_equal(guest_asked(view), "");
    assert_int_equal(stat_code(view, "uptime"), 0);
    for (int i = 0; i < HANDLES; i += 50) { /* the place of one that is closed */
        close(fds[i]);
        fds[i] = open(in_view(view, "uptime"), O_RDONLY | O_CLOEXEC);
        assert_true(fds[i] >= 0);
        assert_int_equal(open_code(view, "uptime"), ENFILE);
    }
    char got[16] = "";
    assert_int_equal(read(fds[77], got, sizeof(got)), 7);
    assert_string_equal(got, "file 77");
    for (int i = 0; i < HANDLES; i++)
        close(fds[i]);
    expect_file(view, "uptime", "file 255", 8);
}

static void another_user_can_read(void **state)
{
    struct proc_view_fixture *view = *state;
    guest_has_file(view, "uptime", "1.0", 3);
    const char *path = in_view(view, "uptime");
    pid_t pid = fork();
    if (pid == 0) {
        char got[8];
        int fd = setresuid(65534, 65534, 65534) < 0 ? -1 : open(path, O_RDONLY);
        _exit(fd >= 0 && read(fd, got, sizeof(got)) == 3 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void the_server_ends_when_it_is_unmounted(void **state)
{
    struct proc_view_fixture *view = *state;
    guest_has_file(view, "uptime", "1.0", 3);
    expect_file(view, "uptime", "1.0", 3);
    assert_false(has_ended(view, 0));
    detach(view);
    assert_true(has_ended(view, 5));
}

/* The server's own memory of open files goes with it. */
static void the_server_ends_with_files_open(void **state)
{
    struct proc_view_fixture *view = *state;
    guest_has_file(view, "uptime", "1.0", 3);
    cleanup_fd int fd = open(in_view(view, "uptime"), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(umount2(in_view(view, ""), MNT_FORCE), -1);
    assert_true(has_ended(view, 5));
}

static void the_server_stays_for_another_mount_namespace(void **state)
{
    struct proc_view_fixture *view = *state;
    int ready[2], go[2];
    char got[8];
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(go), 0);
    guest_has_file(view, "uptime", "1.0", 3);
    pid_t pid = fork();
    if (pid == 0) {
        bool apart = unshare(CLONE_NEWNS) == 0 && write(ready[1], "r", 1) == 1 && read(go[0], got, 1) == 1;
        int fd = apart ? open(in_view(view, "uptime"), O_RDONLY) : -1;
        _exit(fd >= 0 && read(fd, got, sizeof(got)) == 3 ? 0 : 1);
    }
    assert_int_equal(read(ready[0], got, 1), 1);
    detach(view);
    assert_int_equal(stat_code(view, "uptime"), ENOENT);
    assert_false(has_ended(view, 1));
    assert_int_equal(write(go[1], "g", 1), 1);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(has_ended(view, 5));
    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(go[i]);
    }
}

/* --- A server that is a process of its own, as the monitor is ------------------------------------------- */

static json_t *ask_slowly(void *arg, const char *path, struct error *err)
{
    (void)err;
    if (strcmp(path, "version") == 0) {
        if (write(*(int *)arg, "v", 1) == 1)
            pause();
    }
    return json_pack("{s:s}", "hex", "61");
}

static void *open_version(void *arg)
{
    int fd = open(arg, O_RDONLY | O_CLOEXEC);
    return (void *)(intptr_t)code_of(fd);
}

static void readers_are_let_go_when_the_server_is_gone(void **state)
{
    char directory[32], path[64], got[4], byte;
    int fuse_fd, reached[2];
    (void)state;
    int tree = proc_view_mount(&fuse_fd);
    assert_true(tree >= 0);
    attach(tree, directory);
    close(tree);
    assert_int_equal(pipe(reached), 0);
    pid_t pid = fork();
    if (pid == 0) {
        proc_view_serve(fuse_fd, ask_slowly, &reached[1]);
        _exit(0);
    }
    close(fuse_fd);
    snprintf(path, sizeof(path), "%s/uptime", directory);
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, got, sizeof(got)), 1);
    /* One waits for an answer meanwhile. */
    pthread_t reader;
    void *code;
    snprintf(path, sizeof(path), "%s/version", directory);
    assert_int_equal(pthread_create(&reader, NULL, open_version, path), 0);
    assert_int_equal(read(reached[0], &byte, 1), 1);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(pthread_join(reader, &code), 0);
    assert_int_equal((intptr_t)code, ECONNABORTED);
    assert_int_equal(code_of(pread(fd, got, sizeof(got), 0)), ENOTCONN);
    assert_int_equal(code_of(open(path, O_RDONLY)), ENOTCONN);
    struct stat status;
    assert_int_equal(code_of(stat(directory, &status)), ENOTCONN);
    umount2(directory, MNT_DETACH);
    rmdir(directory);
    close(reached[0]);
    close(reached[1]);
}

#define VIEW_TEST(name)                                                                                      \
    cmocka_unit_test_setup_teardown(name, proc_view_fixture_setup, proc_view_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        VIEW_TEST(the_root_lists_processes_and_the_guests_files),
        VIEW_TEST(a_process_lists_its_files_and_namespaces),
        VIEW_TEST(thousands_of_processes_are_listed_whole),
        VIEW_TEST(a_directory_is_read_in_small_parts),
        VIEW_TEST(each_kind_of_node_has_its_type_and_mode),
        VIEW_TEST(numbers_of_nodes_are_those_of_the_list),
        VIEW_TEST(the_mount_is_one_of_a_procfs_kind),
        VIEW_TEST(a_file_has_the_guests_bytes),
        VIEW_TEST(each_file_is_asked_for_by_its_name),
        VIEW_TEST(a_large_file_is_read_in_parts),
        VIEW_TEST(a_file_is_sent_whole),
        VIEW_TEST(an_open_file_keeps_its_state),
        VIEW_TEST(a_process_that_has_ended_is_not_there),
        VIEW_TEST(the_guests_errors_come_through),
        VIEW_TEST(names_of_nothing_are_not_there),
        VIEW_TEST(a_namespace_is_a_link),
        VIEW_TEST(nothing_can_be_written),
        VIEW_TEST(open_files_have_a_limit),
        VIEW_TEST(another_user_can_read),
        VIEW_TEST(the_server_ends_when_it_is_unmounted),
        VIEW_TEST(the_server_ends_with_files_open),
        VIEW_TEST(the_server_stays_for_another_mount_namespace),
        cmocka_unit_test(readers_are_let_go_when_the_server_is_gone),
    };
    if (!proc_view_fixture_can_run())
        return 77;
    return cmocka_run_group_tests(tests, proc_view_fixture_group, NULL);
}
