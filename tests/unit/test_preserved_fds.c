/* Unit tests of shim/preserved_fds.c: which of a caller's open files can be carried into a VM. */
#include "shim/preserved_fds.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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
    expect_refused(1, "fd 3 is an unconnected or datagram socket of the host");
    put(3, socket(AF_INET, SOCK_DGRAM, 0));
    expect_refused(1, "fd 3 is an unconnected or datagram socket of the host");
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    put(3, fcntl(pair[0], F_DUPFD, 100));
    expect_refused(1, "fd 3 is an unconnected or datagram socket of the host");
    close(pair[0]);
    close(pair[1]);
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
    setenv("LISTEN_FDS", "33", 1);
    expect_refused(0, "LISTEN_FDS=33: at most 32 fds");
}

/* A socket of the loopback device that listens at a port of the kernel's choice. */
static int listen_at_loopback(int family)
{
    struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(family, SOCK_STREAM, 0), only = 1;
    if (family == AF_INET6)
        setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, &only, sizeof(only));
    int failed = family == AF_INET ? bind(fd, (struct sockaddr *)&ipv4, sizeof(ipv4))
                                   : bind(fd, (struct sockaddr *)&ipv6, sizeof(ipv6));
    assert_int_equal(failed, 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void expect_described(const struct preserved_fds *fds, const char *json, int port)
{
    char text[256];
    snprintf(text, sizeof(text), json, port);
    json_t *described = preserved_fds_describe(fds), *wanted = json_loads(text, 0, NULL);
    assert_non_null(wanted);
    if (!json_equal(described, wanted))
        fail_msg("%s instead of %s", json_dumps(described, 0), text);
    json_decref(described);
    json_decref(wanted);
}

static void sockets_are_described_by_their_ends(void **state)
{
    struct preserved_fds fds;
    struct error err;
    struct sockaddr_in address = {0};
    socklen_t length = sizeof(address);
    int pair[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    put(5, pair[0]); /* 3 and 4 are the pair */
    close(pair[1]);
    put(4, listen_at_loopback(AF_INET));
    put(3, fcntl(5, F_DUPFD, 100));
    close(5);
    assert_int_equal(getsockname(4, (struct sockaddr *)&address, &length), 0);
    setenv("LISTEN_FDS", "1", 1); /* two in all: the second is one more */
    setenv("LISTEN_FDNAMES", "a", 1);
    assert_int_equal(preserved_fds_find(&fds, 1, &err), 0);
    assert_true(fds.count == 2 && fds.fd[0].kind == PRESERVED_SOCKET && fds.fd[1].kind == PRESERVED_LISTENER);
    expect_described(&fds,
                     "{\"3\": {\"socket\": {\"family\": \"unix\"}, \"peer\": {\"family\": \"unix\", \"uid\": "
                     "0, \"gid\": 0}},"
                     " \"4\": {\"listen\": {\"family\": \"ipv4\", \"address\": \"127.0.0.1\", \"port\": %d}, "
                     "\"ipv6_only\": false}}",
                     ntohs(address.sin_port));
    json_t *activation = preserved_fds_describe_activation(&fds);
    assert_int_equal(json_integer_value(json_object_get(activation, "fds")), 1);
    assert_string_equal(json_string_value(json_object_get(activation, "names")), "a");
    json_decref(activation);

    unsetenv("LISTEN_FDS");
    put(3, listen_at_loopback(AF_INET6));
    struct sockaddr_in6 ipv6 = {0};
    length = sizeof(ipv6);
    assert_int_equal(getsockname(3, (struct sockaddr *)&ipv6, &length), 0);
    assert_int_equal(preserved_fds_find(&fds, 1, &err), 0);
    expect_described(&fds,
                     "{\"3\": {\"listen\": {\"family\": \"ipv6\", \"address\": \"::1\", \"port\": %d}, "
                     "\"ipv6_only\": true}}",
                     ntohs(ipv6.sin6_port));
    assert_null(preserved_fds_describe_activation(&fds));
}

/* LISTEN_PID names somebody else: the fds are not this process's to hand on. */
static void the_activation_of_another_process_is_passed_over(void **state)
{
    struct preserved_fds fds;
    struct error err;
    (void)state;
    setenv("LISTEN_FDS", "1", 1);
    setenv("LISTEN_PID", "1", 1);
    assert_int_equal(preserved_fds_find(&fds, 0, &err), 0);
    assert_int_equal(fds.activated, 0);
    unsetenv("LISTEN_PID");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_bytes_in_one_direction_is_carried, close_all, close_all),
        cmocka_unit_test_setup_teardown(all_else_is_refused_by_what_it_is, close_all, close_all),
        cmocka_unit_test_setup_teardown(sockets_are_described_by_their_ends, close_all, close_all),
        cmocka_unit_test_setup_teardown(the_activation_of_another_process_is_passed_over, close_all,
                                        close_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
