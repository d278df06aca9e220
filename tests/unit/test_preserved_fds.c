/* Unit tests of shim/preserved_fds.c: which of a caller's open files can be carried into a VM. */
#include "shim/preserved_fds.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* Where a caller's fds are: nothing of this process's own may lie there. */
static int close_all(void **state)
{
    (void)state;
    unsetenv("LISTEN_FDS");
    return close_range(PROCESS_FDS_FIRST, ~0u, 0);
}

static void put(int number, int fd)
{
    assert_true(fd >= 0);
    if (fd != number) {
        assert_int_equal(dup2(fd, number), number);
        close(fd);
    }
}

static void what_is_bytes_in_one_direction_is_carried(void **state)
{
    struct preserved_fds fds;
    struct error err;
    int pair[2];
    (void)state;
    assert_int_equal(pipe(pair), 0);
    put(8, pair[1]);
    put(7, pair[0]);
    put(6, open("/dev/null", O_RDWR));
    put(5,
        open("/etc/passwd", O_RDONLY | O_CLOEXEC)); /* not meant to be passed on, but dup2 would make it so */
    assert_int_equal(fcntl(5, F_SETFD, FD_CLOEXEC), 0);
    put(3, open("/etc/passwd", O_RDONLY));
    assert_int_equal(preserved_fds_find(&fds, 100, &err), 0);
    assert_int_equal(fds.count, 4);
    assert_true(fds.fd[0].number == 3 && fds.fd[0].kind == PRESERVED_INPUT);
    assert_true(fds.fd[1].number == 6 && fds.fd[1].kind == PRESERVED_NULL);
    assert_true(fds.fd[2].number == 7 && fds.fd[2].kind == PRESERVED_INPUT);
    assert_true(fds.fd[3].number == 8 && fds.fd[3].kind == PRESERVED_OUTPUT);
    assert_int_equal(fcntl(8, F_GETFD), FD_CLOEXEC);

    json_t *described = preserved_fds_describe(&fds);
    assert_string_equal(json_string_value(json_object_get(described, "8")), "output");
    assert_int_equal(json_object_size(described), 4);
    json_decref(described);
    assert_int_equal(preserved_fds_find(&fds, 0, &err), 0);
    assert_int_equal(fds.count, 0);
}

static void expect_refused(unsigned count, const char *words)
{
    struct preserved_fds fds;
    struct error err;
    assert_int_equal(preserved_fds_find(&fds, count, &err), -1);
    if (!strstr(err.text, words))
        fail_msg("'%s' does not say '%s'", err.text, words);
}

static void all_else_is_refused_by_what_it_is(void **state)
{
    char name[] = "preserved.XXXXXX";
    (void)state;
    put(3, socket(AF_UNIX, SOCK_STREAM, 0));
    expect_refused(1, "fd 3 is a socket of the host");
    put(3, open("/", O_RDONLY | O_DIRECTORY));
    expect_refused(1, "fd 3 is a directory of the host");
    put(3, open("/dev/zero", O_RDONLY));
    expect_refused(1, "fd 3 is a device of the host");
    put(3, open("/etc/passwd", O_PATH));
    expect_refused(1, "fd 3 is a file of the host");
    close(3);
    put(3, mkstemp(name));
    unlink(name);
    expect_refused(1, "fd 3 is a file of the host, open for reading and writing,");
    close(3);
    put(PROCESS_FDS_FIRST + PROCESS_FDS_MAX, open("/dev/null", O_RDONLY));
    expect_refused(PROCESS_FDS_MAX + 1, "fds from 3 to 34 can be passed on");
    setenv("LISTEN_FDS", "1", 1);
    expect_refused(0, "LISTEN_FDS=1 is not supported");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_bytes_in_one_direction_is_carried, close_all, close_all),
        cmocka_unit_test_setup_teardown(all_else_is_refused_by_what_it_is, close_all, close_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
