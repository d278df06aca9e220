/* Unit tests of agent/proc_file.c: the procfs of a pid namespace with two processes. */
#include "agent/proc_file.h"
#include "common/fd.h"
#include "protocol/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A pid namespace: process 1 has forked process 2, which ends when `go` closes. Process 1 stays, and waits
 * for nobody. */
struct space {
    pid_t pid;
    int pidfd, go;
};

#define MAPPINGS 2000 /* of process 1: its list of them is larger than what is read of a file */

static void __attribute__((noreturn)) be_init(int ready, const int go[2])
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "the-init");
    char *pages = mmap(NULL, MAPPINGS * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < MAPPINGS; i += 2)
        mprotect(pages + i * 4096, 4096, PROT_NONE);
    pid_t pid = fork();
    close(go[1]);
    if (pid == 0) {
        char byte;
        prctl(PR_SET_NAME, "second ) 1");
        _exit(write(ready, "r", 1) == 1 ? (int)read(go[0], &byte, 1) : 1);
    }
    close(ready);
    for (;;)
        pause();
}

static int start(void **state)
{
    struct space *space = calloc(1, sizeof(*space));
    int ready[2], go[2];
    char byte;
    assert_non_null(space);
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    struct clone_args arguments = {
        .flags = CLONE_NEWPID | CLONE_PIDFD, .pidfd = (uintptr_t)&space->pidfd, .exit_signal = SIGCHLD};
    space->pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
    if (space->pid == 0)
        be_init(ready[1], go);
    assert_true(space->pid > 0);
    close(ready[1]);
    close(go[0]);
    space->go = go[1];
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    *state = space;
    return 0;
}

/* As the agent does: whoever is left. */
static void reap_all(void)
{
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    assert_int_equal(errno, ECHILD);
}

static int stop(void **state)
{
    struct space *space = *state;
    kill(space->pid, SIGKILL);
    reap_all();
    close(space->pidfd);
    close(space->go);
    free(space);
    return 0;
}

static int open_proc(const struct space *space)
{
    struct error err = {0};
    int fd = proc_open(space->pidfd, &err);
    if (fd < 0)
        fail_msg("%s", err.text);
    return fd;
}

static json_t *read_proc(int fd, const char *path)
{
    struct error err = {0};
    json_t *result = proc_read(fd, path, &err);
    if (!result)
        fail_msg("%s: %s", path, err.text);
    return result;
}

static void expect_pids(int fd, const char *expected)
{
    json_t *result = read_proc(fd, "");
    cleanup_free char *text = json_dumps(result, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text, expected);
    json_decref(result);
}

/* A file's text, the caller's; all of the answer is its hex. */
static char *text_of(int fd, const char *path, size_t *length)
{
    json_t *result = read_proc(fd, path);
    assert_int_equal(json_object_size(result), 1);
    const char *hex = json_string_value(json_object_get(result, "hex"));
    assert_non_null(hex);
    *length = strlen(hex) / 2;
    assert_int_equal(strlen(hex) % 2, 0);
    assert_int_equal(strspn(hex, "0123456789abcdef"), strlen(hex));
    char *text = malloc(*length + 1);
    assert_non_null(text);
    for (size_t i = 0; i < *length; i++) {
        const char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        text[i] = (char)strtoul(digits, NULL, 16);
    }
    text[*length] = '\0';
    json_decref(result);
    return text;
}

static void expect_text(int fd, const char *path, const char *expected)
{
    size_t length;
    cleanup_free char *text = text_of(fd, path, &length);
    assert_string_equal(text, expected);
    assert_int_equal(length, strlen(expected));
}

/* `part` anywhere in it. */
static void expect_part(int fd, const char *path, const char *part)
{
    size_t length;
    cleanup_free char *text = text_of(fd, path, &length);
    if (!strstr(text, part))
        fail_msg("%s: no '%s' in: %s", path, part, text);
}

static void expect_refused(int fd, const char *path, int code)
{
    struct error err = {0};
    json_t *result = proc_read(fd, path, &err);
    if (result || err.code != code)
        fail_msg("'%s': code %d (%s)", path, err.code, result ? "read" : err.text);
    assert_true(strlen(err.text) > 0);
}

/* Many times: a helper that is still about is not there every time. */
static void the_list_is_of_the_namespace(void **state)
{
    const struct space *space = *state;
    for (int i = 0; i < 200; i++) {
        cleanup_fd int fd = open_proc(space);
        expect_pids(fd, "{\"pids\":[1,2]}");
        expect_pids(fd, "{\"pids\":[1,2]}");
    }
}

static void it_is_a_procfs_that_nobody_writes(void **state)
{
    struct statfs file_system;
    cleanup_fd int fd = open_proc(*state);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fstatfs(fd, &file_system), 0);
    assert_int_equal(file_system.f_type, 0x9fa0); /* PROC_SUPER_MAGIC */
    assert_int_equal(openat(fd, "1/oom_score_adj", O_WRONLY), -1);
    assert_int_equal(errno, EROFS);
}

static void files_of_processes_are_read(void **state)
{
    cleanup_fd int fd = open_proc(*state);
    expect_text(fd, "1/comm", "the-init\n");
    expect_text(fd, "2/comm", "second ) 1\n");
    expect_part(fd, "1/stat", "1 (the-init) S 0 ");
    expect_part(fd, "2/stat", "2 (second ) 1) S 1 ");
    expect_part(fd, "1/status", "\nPPid:\t0\n");
    expect_part(fd, "2/status", "\nPid:\t2\n");
    expect_part(fd, "2/status", "\nPPid:\t1\n");
    expect_text(fd, "1/oom_score_adj", "0\n");
    expect_part(fd, "1/cgroup", ":/");
}

/* NULs and all. */
static void a_command_line_is_read_whole(void **state)
{
    size_t length;
    cleanup_fd int fd = open_proc(*state);
    cleanup_free char *own = NULL, *text = text_of(fd, "1/cmdline", &length);
    ssize_t own_length = fd_read_file_at(AT_FDCWD, "/proc/self/cmdline", 65536, &own);
    assert_true(own_length > 1);
    assert_int_equal(length, own_length);
    assert_memory_equal(text, own, length);
}

static void files_of_the_guest_are_read(void **state)
{
    cleanup_fd int fd = open_proc(*state);
    expect_part(fd, "stat", "cpu ");
    expect_part(fd, "uptime", ".");
    expect_part(fd, "version", "Linux version ");
    expect_part(fd, "meminfo", "MemTotal:");
    expect_part(fd, "loadavg", "/");
}

static void a_long_file_is_cut(void **state)
{
    size_t length;
    cleanup_fd int fd = open_proc(*state);
    cleanup_free char *text = text_of(fd, "1/maps", &length);
    assert_int_equal(length, PROC_FILE_BYTES_MAX);
    assert_non_null(strchr(text, '-'));
}

static void an_ended_process_is_gone_or_empty(void **state)
{
    struct space *space = *state;
    cleanup_fd int fd = open_proc(space);
    siginfo_t info;
    expect_pids(fd, "{\"pids\":[1,2]}");
    close(space->go);
    space->go = -1;
    size_t length;
    for (int tries = 0, ended = 0; !ended; tries++) {
        cleanup_free char *text = text_of(fd, "2/stat", &length);
        ended = strstr(text, ") Z ") != NULL;
        assert_true(tries < 5000);
        usleep(1000);
    }
    expect_text(fd, "2/cmdline", "");
    expect_pids(fd, "{\"pids\":[1,2]}"); /* nobody has waited for it */
    kill(space->pid, SIGKILL);
    assert_int_equal(waitid(P_PID, (id_t)space->pid, &info, WEXITED | WNOWAIT), 0);
    expect_refused(fd, "2/comm", ENOENT);
    reap_all();
    expect_refused(fd, "1/comm", ENOENT);
    expect_pids(fd, "{\"pids\":[]}");
}

static void namespaces_are_links(void **state)
{
    static const char *const names[] = {"cgroup", "ipc",  "mnt", "net",
                                        "pid",    "user", "uts", "pid_for_children"};
    const struct space *space = *state;
    cleanup_fd int fd = open_proc(space);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char outside[64], inside[64], target[64];
        snprintf(outside, sizeof(outside), "/proc/%d/ns/%s", space->pid, names[i]);
        snprintf(inside, sizeof(inside), "1/ns/%s", names[i]);
        ssize_t length = readlink(outside, target, sizeof(target) - 1);
        assert_true(length > 0);
        target[length] = '\0';
        json_t *result = read_proc(fd, inside);
        assert_int_equal(json_object_size(result), 1);
        assert_string_equal(json_string_value(json_object_get(result, "link")), target);
        json_decref(result);
    }
    expect_refused(fd, "1/ns/nothing", ENOENT);
    expect_refused(fd, "3/ns/pid", ENOENT);
}

/* Not a name, a process's name or a namespace's. */
static void other_paths_are_refused(void **state)
{
    static const char *const bad[] = {
        ".",
        "..",
        "/",
        "1",
        "1/",
        "1/.",
        "1/..",
        "1/../comm",
        "../comm",
        "1//comm",
        "/1/comm",
        "/etc/passwd",
        "//",
        "1/cwd/x",
        "1/root/etc/passwd",
        "sys/kernel/hostname",
        "1/fd/0",
        "1/task/1/comm",
        "net/dev",
        "1/net/dev",
        "1/comm/",
        "1/comm/..",
        "stat/",
        "1/ns/",
        "1/ns//pid",
        "1/ns/.",
        "1/ns/..",
        "1/ns/../comm",
        "1/ns/pid/",
        "1/ns/pid/x",
        "ns/pid",
        "ns/",
        "A",
        "1/A",
        "1/Comm",
        "1/comm ",
        " 1/comm",
        "-1/comm",
        "+1/comm",
        "1a/comm",
        "1/1",
        "1/2/comm",
        "1/_comm",
        "thread-self",
        "1/c\xc3\xb6mm",
        "1\n/comm",
        "1/comm\n",
        "1\\comm",
        "\x01",
    };
    cleanup_fd int fd = open_proc(*state);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect_refused(fd, bad[i], EINVAL);
    /* Directories are no files. */
    expect_refused(fd, "1/task", EINVAL);
    expect_refused(fd, "1/ns", EINVAL);
    expect_refused(fd, "1/fd", EINVAL);
    expect_refused(fd, "sys", EINVAL);
}

/* Good names, but what they lead to is somebody's choice. */
static void links_are_not_followed(void **state)
{
    static const char *const links[] = {"1/root", "1/cwd", "1/exe", "self", "mounts", "net"};
    cleanup_fd int fd = open_proc(*state);
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
        expect_refused(fd, links[i], ELOOP);
}

static void names_of_nothing_are_not_there(void **state)
{
    char name[8192] = "1/";
    cleanup_fd int fd = open_proc(*state);
    expect_refused(fd, "3/comm", ENOENT);
    expect_refused(fd, "0/comm", ENOENT);
    expect_refused(fd, "01/comm", ENOENT);
    expect_refused(fd, "4294967297/comm", ENOENT);
    expect_refused(fd, "18446744073709551617/comm", ENOENT);
    expect_refused(fd, "1/nothing", ENOENT);
    expect_refused(fd, "nothing", ENOENT);
    memset(name + 2, 'a', 255);
    expect_refused(fd, name, ENOENT);
    memset(name + 2, 'a', sizeof(name) - 3);
    expect_refused(fd, name, ENAMETOOLONG);
    name[2] = 'n', name[3] = 's', name[4] = '/';
    expect_refused(fd, name, ENAMETOOLONG);
    memset(name, '1', sizeof(name) - 1);
    expect_refused(fd, name, EINVAL);
}

static void an_ended_process_has_no_proc(void **state)
{
    const struct space *space = *state;
    struct error err = {0};
    siginfo_t info;
    kill(space->pid, SIGKILL);
    assert_int_equal(waitid(P_PID, (id_t)space->pid, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(proc_open(space->pidfd, &err), -1); /* not waited for */
    assert_int_equal(err.code, ESRCH);
    reap_all();
    err = (struct error){0};
    assert_int_equal(proc_open(space->pidfd, &err), -1);
    assert_int_equal(err.code, ESRCH);
    assert_true(strlen(err.text) > 0);
    reap_all();
}

static int open_fds(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void nothing_is_left_behind(void **state)
{
    const struct space *space = *state;
    struct error err;
    int before = open_fds();
    int fd = open_proc(space);
    assert_int_equal(open_fds(), before + 1);
    json_decref(read_proc(fd, ""));
    json_decref(read_proc(fd, "1/comm"));
    expect_refused(fd, "1/task", EINVAL);
    assert_int_equal(open_fds(), before + 1);
    fd_close(&fd);
    kill(space->pid, SIGKILL);
    reap_all();
    assert_int_equal(proc_open(space->pidfd, &err), -1);
    reap_all();
    assert_int_equal(open_fds(), before);
}

/* The caller stays where it is. */
static void the_callers_namespaces_stay(void **state)
{
    char before[64] = "", after[64] = "";
    assert_true(readlink("/proc/self/ns/pid_for_children", before, sizeof(before) - 1) > 0);
    cleanup_fd int fd = open_proc(*state);
    assert_true(readlink("/proc/self/ns/pid_for_children", after, sizeof(after) - 1) > 0);
    assert_string_equal(before, after);
}

#define SPACE_TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPACE_TEST(the_list_is_of_the_namespace),
        SPACE_TEST(it_is_a_procfs_that_nobody_writes),
        SPACE_TEST(files_of_processes_are_read),
        SPACE_TEST(a_command_line_is_read_whole),
        SPACE_TEST(files_of_the_guest_are_read),
        SPACE_TEST(a_long_file_is_cut),
        SPACE_TEST(an_ended_process_is_gone_or_empty),
        SPACE_TEST(namespaces_are_links),
        SPACE_TEST(other_paths_are_refused),
        SPACE_TEST(links_are_not_followed),
        SPACE_TEST(names_of_nothing_are_not_there),
        SPACE_TEST(an_ended_process_has_no_proc),
        SPACE_TEST(nothing_is_left_behind),
        SPACE_TEST(the_callers_namespaces_stay),
    };
    if (geteuid() != 0 || access("/proc/self/ns/pid", R_OK) < 0)
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
