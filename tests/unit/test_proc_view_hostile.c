/* Unit tests of shim/proc_view.c: a guest and readers that mean no good. */
#include "proc_view_fixture.h"

#include "common/fd.h"
#include "protocol/protocol.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static json_t *answer_of(const char *json)
{
    json_t *answer = json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert_non_null(answer);
    return answer;
}

static void what_is_no_hex_is_an_error(void **state)
{
    static const char *const bad[] = {
        "{\"hex\": \"6\"}",
        "{\"hex\": \"616\"}",
        "{\"hex\": \"6g\"}",
        "{\"hex\": \"g6\"}",
        "{\"hex\": \"6A\"}",
        "{\"hex\": \"0x\"}",
        "{\"hex\": \"6 \"}",
        "{\"hex\": \"61/:\"}",
        "{\"hex\": \"`0\"}",
        "{\"hex\": \"\u00e9\"}",
        "{\"hex\": 61}",
        "{\"hex\": null}",
        "{\"hex\": [\"61\"]}",
        "{\"HEX\": \"61\"}",
        "{}",
        "[]",
        "\"61\"",
        "61",
        "{\"pids\": [1]}",
        "{\"link\": \"61\"}",
    };
    struct proc_view_fixture *view = *state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        guest_says(view, "uptime", answer_of(bad[i]), 0);
        int code = open_code(view, "uptime");
        if (code != EIO)
            fail_msg("%s: code %d", bad[i], code);
    }
    guest_has_file(view, "uptime", "\x09\xaf", 2);
    expect_file(view, "uptime", "\x09\xaf", 2);
}

static void a_file_has_a_largest_size(void **state)
{
    static uint8_t content[PROC_FILE_BYTES_MAX + 1];
    struct proc_view_fixture *view = *state;
    memset(content, 'x', sizeof(content));
    guest_has_file(view, "uptime", content, PROC_FILE_BYTES_MAX);
    expect_file(view, "uptime", content, PROC_FILE_BYTES_MAX);
    guest_has_file(view, "uptime", content, PROC_FILE_BYTES_MAX + 1);
    assert_int_equal(open_code(view, "uptime"), EIO);
}

static void what_is_no_pid_is_not_listed(void **state)
{
    static const char *const bad[] = {
        "{\"pids\": [0]}",
        "{\"pids\": [1, -1]}",
        "{\"pids\": [2147483648]}",
        "{\"pids\": [9223372036854775807]}",
        "{\"pids\": [-9223372036854775808]}",
        "{\"pids\": [1, \"2\"]}",
        "{\"pids\": [\"../../etc\"]}",
        "{\"pids\": [1.5]}",
        "{\"pids\": [null]}",
        "{\"pids\": [[1]]}",
        "{\"pids\": 1}",
        "{\"pids\": {\"1\": 1}}",
        "{\"pids\": \"1\"}",
        "{\"hex\": \"61\"}",
        "{}",
        "[1]",
        "1",
    };
    struct proc_view_fixture *view = *state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        guest_says(view, "", answer_of(bad[i]), 0);
        int code = open_code(view, "");
        if (code == 0) /* the files are there all the same */
            expect_names(view, "", "../ ./ loadavg meminfo stat uptime version");
        else if (code != EIO)
            fail_msg("%s: code %d", bad[i], code);
    }
    guest_says(view, "", answer_of("{\"pids\": [5]}"), 0);
    expect_names(view, "", "../ ./ 5/ loadavg meminfo stat uptime version");
}

static void what_is_no_link_is_an_error(void **state)
{
    static const char *const bad[] = {"{}", "[]", "{\"link\": 1}", "{\"link\": null}", "{\"hex\": \"61\"}"};
    struct proc_view_fixture *view = *state;
    char target[8192];
    guest_has_file(view, "1/comm", "a", 1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        guest_says(view, "1/ns/pid", answer_of(bad[i]), 0);
        assert_int_equal(code_of(readlink(in_view(view, "1/ns/pid"), target, sizeof(target))), EIO);
    }
    /* More than a path can hold. */
    memset(target, 'x', sizeof(target) - 1);
    target[sizeof(target) - 1] = '\0';
    guest_says(view, "1/ns/pid", json_pack("{s:s}", "link", target), 0);
    assert_int_equal(code_of(readlink(in_view(view, "1/ns/pid"), target, sizeof(target))), EIO);
    guest_says(view, "1/ns/pid", json_pack("{s:s}", "link", "pid:[1]"), 0);
    assert_int_equal(readlink(in_view(view, "1/ns/pid"), target, sizeof(target)), 7);
}

/* The kernel takes codes below 512 only; on one that it does not take, the reader would wait for ever. */
static void a_code_that_is_none_is_an_error(void **state)
{
    static const int bad[] = {-1, -ENOENT, INT_MIN, 512, 513, 4095, 4096, 100000, INT_MAX};
    struct proc_view_fixture *view = *state;
    char target[64];
    guest_has_file(view, "1/comm", "a", 1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        guest_says(view, "2/comm", NULL, bad[i]);
        guest_says(view, "uptime", NULL, bad[i]);
        guest_says(view, "", NULL, bad[i]);
        guest_says(view, "1/ns/pid", NULL, bad[i]);
        int code = stat_code(view, "2");
        if (code != EIO)
            fail_msg("%d: code %d", bad[i], code);
        assert_int_equal(open_code(view, "uptime"), EIO);
        assert_int_equal(open_code(view, ""), EIO);
        assert_int_equal(code_of(readlink(in_view(view, "1/ns/pid"), target, sizeof(target))), EIO);
    }
}

/* For the kernel this code is the file system's: it would not ask again, and take all for opened. */
static void a_guest_that_knows_no_such_request_does_not_end_the_view(void **state)
{
    struct proc_view_fixture *view = *state;
    guest_says(view, "uptime", NULL, ENOSYS);
    guest_says(view, "", NULL, ENOSYS);
    assert_int_not_equal(open_code(view, "uptime"), 0);
    assert_int_not_equal(open_code(view, ""), 0);
    guest_has_file(view, "uptime", "1.0", 3);
    guest_has_file(view, "version", "Linux", 5);
    guest_says(view, "", answer_of("{\"pids\": [5]}"), 0);
    cleanup_fd int fd = open(in_view(view, "uptime"), O_RDONLY | O_CLOEXEC);
    expect_file(view, "version", "Linux", 5);
    expect_names(view, "", "../ ./ 5/ loadavg meminfo stat uptime version");
}

/* --- Readers -------------------------------------------------------------------------------------------- */

/* A place between two entries is no place; whatever the answer is, there are no names of leftovers. */
static void a_directory_is_read_from_any_place(void **state)
{
    static const char all[] = " . .. 1 2 loadavg meminfo stat uptime version ";
    struct proc_view_fixture *view = *state;
    _Alignas(8) char part[4096];
    guest_says(view, "", answer_of("{\"pids\": [1, 2]}"), 0);
    cleanup_fd int fd = open(in_view(view, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    for (off_t place = 0; place < 400; place++) {
        assert_int_equal(lseek(fd, place, SEEK_SET), place);
        ssize_t got = getdents64(fd, part, sizeof(part));
        if (got < 0 && errno != EIO && errno != EINVAL)
            fail_msg("place %ld: errno %d", (long)place, errno);
        for (ssize_t at = 0; at < got;) {
            const struct dirent64 *entry = (const void *)(part + at);
            char name[260];
            snprintf(name, sizeof(name), " %s ", entry->d_name);
            if (!strstr(all, name))
                fail_msg("place %ld: name '%s'", (long)place, entry->d_name);
            at += entry->d_reclen;
        }
    }
    assert_int_equal(lseek(fd, INT64_MAX, SEEK_SET), INT64_MAX);
    assert_true(getdents64(fd, part, sizeof(part)) <= 0);
    lseek(fd, 0, SEEK_SET);
    assert_true(getdents64(fd, part, sizeof(part)) > 0);
}

static void long_and_strange_names_are_not_there(void **state)
{
    struct proc_view_fixture *view = *state;
    char name[257];
    memset(name, '1', sizeof(name));
    name[255] = '\0';
    assert_int_equal(stat_code(view, name), ENOENT);
    /* More than any file system has; this one says that it knows no longer ones than 255. */
    char *path = strdup(in_view(view, "x"));
    path[strlen(path) - 1] = '\0';
    cleanup_fd int fd = open(path, O_PATH | O_CLOEXEC);
    free(path);
    name[255] = '1', name[256] = '\0';
    assert_int_not_equal(code_of(faccessat(fd, name, F_OK, 0)), 0);
    assert_int_equal(stat_code(view, "\xff\xfe"), ENOENT);
    assert_int_equal(stat_code(view, "%s%n"), ENOENT);
    assert_int_equal(stat_code(view, " 1"), ENOENT);
    assert_string_equal(guest_asked(view), "");
}

#define VIEW_TEST(name)                                                                                      \
    cmocka_unit_test_setup_teardown(name, proc_view_fixture_setup, proc_view_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        VIEW_TEST(what_is_no_hex_is_an_error),
        VIEW_TEST(a_file_has_a_largest_size),
        VIEW_TEST(what_is_no_pid_is_not_listed),
        VIEW_TEST(what_is_no_link_is_an_error),
        VIEW_TEST(a_code_that_is_none_is_an_error),
        VIEW_TEST(a_guest_that_knows_no_such_request_does_not_end_the_view),
        VIEW_TEST(a_directory_is_read_from_any_place),
        VIEW_TEST(long_and_strange_names_are_not_there),
    };
    if (!proc_view_fixture_can_run())
        return 77;
    return cmocka_run_group_tests(tests, proc_view_fixture_group, NULL);
}
