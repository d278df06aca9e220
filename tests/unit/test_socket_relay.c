/* Unit tests of shim/socket_relay.c: each direction of a connection ends by itself, and nothing is lost. */
#include "shim/socket_relay.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define TOTAL (3u << 20)

/* client <-> fds[0] = relay = fds[1] <-> guest */
struct rig {
    int client, fds[2], guest;
    pthread_t thread;
};

static void *rig_run(void *arg)
{
    struct rig *rig = arg;
    socket_relay_run(rig->fds[0], rig->fds[1]);
    close(rig->fds[0]);
    close(rig->fds[1]);
    return NULL;
}

static void rig_start(struct rig *rig)
{
    const int small = 8192;
    int host[2], guest[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, host), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, guest), 0);
    *rig = (struct rig){.client = host[0], .fds = {host[1], guest[0]}, .guest = guest[1]};
    for (int i = 0; i < 2; i++) /* smaller than what is read at once: it is written in parts */
        assert_int_equal(setsockopt(rig->fds[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    assert_int_equal(pthread_create(&rig->thread, NULL, rig_run, rig), 0);
}

static void *write_all(void *arg)
{
    int fd = *(int *)arg;
    unsigned char *bytes = malloc(TOTAL);
    for (unsigned i = 0; i < TOTAL; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 251);
    for (size_t sent = 0; sent < TOTAL;) {
        ssize_t put = send(fd, bytes + sent, TOTAL - sent, MSG_NOSIGNAL);
        if (put <= 0)
            break;
        sent += (size_t)put;
    }
    free(bytes);
    shutdown(fd, SHUT_WR);
    return NULL;
}

static void expect_all(int fd)
{
    unsigned char chunk[4096];
    unsigned got = 0;
    for (ssize_t length; (length = recv(fd, chunk, sizeof(chunk), 0)) > 0;) {
        for (ssize_t i = 0; i < length; i++, got++)
            assert_int_equal(chunk[i], (unsigned char)(got * 7 + got / 251));
    }
    assert_int_equal(got, TOTAL);
}

static void both_ways_at_once(void **state)
{
    struct rig rig;
    pthread_t writers[2];
    (void)state;
    rig_start(&rig);
    assert_int_equal(pthread_create(&writers[0], NULL, write_all, &rig.client), 0);
    expect_all(rig.guest); /* ends although the other direction has not begun */
    assert_int_equal(pthread_create(&writers[1], NULL, write_all, &rig.guest), 0);
    expect_all(rig.client);
    pthread_join(writers[0], NULL);
    pthread_join(writers[1], NULL);
    pthread_join(rig.thread, NULL);
    close(rig.client);
    close(rig.guest);
}

/* The client says nothing and goes on waiting, the guest's end closes: the relay has ended, and the client
 * sees it. */
static void the_guests_close_ends_an_idle_connection(void **state)
{
    struct rig rig;
    char byte;
    (void)state;
    rig_start(&rig);
    close(rig.guest);
    assert_int_equal(recv(rig.client, &byte, 1, 0), 0);
    pthread_join(rig.thread, NULL);
    assert_true(send(rig.client, "x", 1, MSG_NOSIGNAL) < 0);
    close(rig.client);
}

static void the_clients_close_ends_a_guest_that_is_silent(void **state)
{
    struct rig rig;
    char byte;
    (void)state;
    rig_start(&rig);
    assert_int_equal(send(rig.client, "last", 4, 0), 4);
    close(rig.client);
    char text[8] = {0};
    assert_int_equal(recv(rig.guest, text, sizeof(text), 0), 4);
    assert_string_equal(text, "last");
    assert_int_equal(recv(rig.guest, &byte, 1, 0), 0);
    pthread_join(rig.thread, NULL);
    close(rig.guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways_at_once),
        cmocka_unit_test(the_guests_close_ends_an_idle_connection),
        cmocka_unit_test(the_clients_close_ends_a_guest_that_is_silent),
    };
    alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
