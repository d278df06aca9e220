/* Unit tests of agent/stream.c: nothing is lost, either side may be slow, early or gone. */
#include "agent/stream.h"
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cmocka.h>

struct fixture {
    struct loop *loop;
    struct stream *stream;
    int process; /* the process's end of the pipe */
    int host;    /* the host's end of the connection */
    int remote;  /* the agent's end of it, until connected */
    unsigned drained;
};

static void note_drained(void *arg)
{
    ((struct fixture *)arg)->drained++;
}

static struct fixture fixture_new(enum stream_kind kind)
{
    struct fixture fixture = {.loop = loop_new()};
    int pipe_fds[2], pair[2];
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    bool to_process = kind == STREAM_STDIN;
    fixture.process = pipe_fds[to_process ? 0 : 1];
    fixture.host = pair[0];
    fixture.remote = pair[1];
    assert_int_equal(fd_set_nonblock(fixture.host, 1), 0);
    assert_int_equal(fd_set_nonblock(fixture.process, 1), 0);
    fixture.stream = stream_new(fixture.loop, kind, pipe_fds[to_process ? 1 : 0], NULL, NULL, NULL);
    assert_non_null(fixture.stream);
    return fixture;
}

static void fixture_free(struct fixture *fixture)
{
    stream_free(fixture->stream);
    fd_close(&fixture->process);
    fd_close(&fixture->host);
    loop_free(fixture->loop);
}

static void fixture_turn(struct fixture *fixture)
{
    while (loop_once(fixture->loop, 0) > 0)
        ;
}

static void output_written_before_the_host_connects_is_kept(void **state)
{
    (void)state;
    struct fixture fixture = fixture_new(STREAM_STDOUT);
    char text[16] = {0};
    assert_int_equal(write(fixture.process, "early", 5), 5);
    fixture_turn(&fixture);
    assert_int_equal(stream_connect(fixture.stream, fixture.remote, NULL), 0);
    fixture_turn(&fixture);
    assert_int_equal(read(fixture.host, text, sizeof(text)), 5);
    assert_string_equal(text, "early");
    fixture_free(&fixture);
}

static void the_last_writers_close_is_the_hosts_end_of_file(void **state)
{
    (void)state;
    struct fixture fixture = fixture_new(STREAM_STDERR);
    char byte;
    assert_int_equal(stream_connect(fixture.stream, fixture.remote, NULL), 0);
    assert_int_equal(write(fixture.process, "x", 1), 1);
    fd_close(&fixture.process);
    fixture_turn(&fixture);
    assert_int_equal(read(fixture.host, &byte, 1), 1);
    assert_int_equal(read(fixture.host, &byte, 1), 0);
    assert_true(stream_is_over(fixture.stream));
    fixture_free(&fixture);
}

static void the_hosts_half_close_is_the_processs_end_of_file(void **state)
{
    (void)state;
    struct fixture fixture = fixture_new(STREAM_STDIN);
    char text[16] = {0};
    assert_int_equal(stream_connect(fixture.stream, fixture.remote, NULL), 0);
    assert_int_equal(send(fixture.host, "input", 5, 0), 5);
    assert_int_equal(shutdown(fixture.host, SHUT_WR), 0);
    fixture_turn(&fixture);
    assert_int_equal(read(fixture.process, text, sizeof(text)), 5);
    assert_int_equal(read(fixture.process, text, sizeof(text)), 0);
    fixture_free(&fixture);
}

/* A socket's stream, the process's end of it being one of a pair. */
static struct fixture socket_fixture_new(void)
{
    struct fixture fixture = fixture_new(STREAM_STDIN);
    int pair[2];
    stream_free(fixture.stream);
    fd_close(&fixture.process);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    fixture.process = pair[0];
    assert_int_equal(fd_set_nonblock(fixture.process, 1), 0);
    fixture.stream = stream_new(fixture.loop, STREAM_SOCKET, pair[1], NULL, NULL, NULL);
    assert_non_null(fixture.stream);
    assert_int_equal(stream_connect(fixture.stream, fixture.remote, NULL), 0);
    return fixture;
}

static void each_half_of_a_socket_ends_by_itself(void **state)
{
    (void)state;
    struct fixture fixture = socket_fixture_new();
    char text[16] = {0};
    assert_int_equal(send(fixture.host, "question", 8, 0), 8);
    assert_int_equal(shutdown(fixture.host, SHUT_WR), 0);
    fixture_turn(&fixture);
    assert_int_equal(read(fixture.process, text, sizeof(text)), 8);
    assert_int_equal(read(fixture.process, text, sizeof(text)), 0);
    assert_false(stream_is_over(fixture.stream));
    assert_int_equal(send(fixture.process, "answer", 6, 0), 6);
    assert_int_equal(shutdown(fixture.process, SHUT_WR), 0);
    fixture_turn(&fixture);
    assert_int_equal(read(fixture.host, text, sizeof(text)), 6);
    assert_int_equal(read(fixture.host, text, sizeof(text)), 0);
    assert_true(stream_is_over(fixture.stream));
    fixture_free(&fixture);
}

/* The host may hold its end open for ever. */
static void a_socket_closes_with_its_process(void **state)
{
    (void)state;
    for (int closed_before = 0; closed_before < 2; closed_before++) {
        struct fixture fixture = socket_fixture_new();
        char text[16];
        assert_int_equal(send(fixture.process, "last", 4, 0), 4);
        if (closed_before) {
            fd_close(&fixture.process);
            fixture_turn(&fixture);
        }
        stream_finish(fixture.stream);
        fixture_turn(&fixture);
        assert_true(stream_is_drained(fixture.stream));
        assert_true(stream_is_over(fixture.stream));
        assert_int_equal(read(fixture.host, text, sizeof(text)), 4);
        assert_int_equal(read(fixture.host, text, sizeof(text)), 0);
        assert_true(send(fixture.host, "x", 1, MSG_NOSIGNAL) < 0);
        fixture_free(&fixture);
    }
}

/* Moves `total` patterned bytes through the stream with the reader always behind, and compares. */
static void expect_equal_transfer(struct fixture *fixture, int from, int to, size_t total)
{
    size_t written = 0, compared = 0;
    unsigned char chunk[5000];
    assert_int_equal(stream_connect(fixture->stream, fixture->remote, NULL), 0);
    while (compared < total) {
        bool moved = false;
        while (written < total) {
            size_t length = total - written < sizeof(chunk) ? total - written : sizeof(chunk);
            for (size_t i = 0; i < length; i++)
                chunk[i] = (unsigned char)((written + i) * 2654435761u >> 13);
            ssize_t put = write(from, chunk, length);
            if (put <= 0)
                break; /* full: back-pressure has reached the source */
            written += (size_t)put;
            moved = true;
        }
        moved |= loop_once(fixture->loop, 0) > 0;
        ssize_t got = read(to, chunk, sizeof(chunk));
        for (ssize_t i = 0; i < got; i++)
            assert_int_equal(chunk[i], (unsigned char)((compared + (size_t)i) * 2654435761u >> 13));
        if (got > 0)
            compared += (size_t)got;
        assert_true(moved || got > 0);
    }
}

static void much_output_arrives_whole_at_a_slow_host(void **state)
{
    (void)state;
    struct fixture fixture = fixture_new(STREAM_STDOUT);
    expect_equal_transfer(&fixture, fixture.process, fixture.host, 8u << 20);
    fixture_free(&fixture);
}

static void much_input_arrives_whole_at_a_slow_process(void **state)
{
    (void)state;
    struct fixture fixture = fixture_new(STREAM_STDIN);
    expect_equal_transfer(&fixture, fixture.host, fixture.process, 8u << 20);
    fixture_free(&fixture);
}

static void a_host_that_does_not_read_stops_the_process_and_not_the_loop(void **state)
{
    (void)state;
    struct fixture fixture = fixture_new(STREAM_STDOUT);
    static const char block[65536];
    size_t written = 0;
    ssize_t put;
    assert_int_equal(stream_connect(fixture.stream, fixture.remote, NULL), 0);
    do {
        put = write(fixture.process, block, sizeof(block));
        written += put > 0 ? (size_t)put : 0;
        fixture_turn(&fixture);
    } while (put > 0 && written < 64u << 20);
    assert_int_equal(put, -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(loop_once(fixture.loop, 0), 0); /* and nothing spins */
    fixture_free(&fixture);
}

static void a_process_that_closes_its_input_ends_the_hosts_sending(void **state)
{
    (void)state;
    struct fixture fixture = fixture_new(STREAM_STDIN);
    assert_int_equal(stream_connect(fixture.stream, fixture.remote, NULL), 0);
    fd_close(&fixture.process);
    assert_int_equal(send(fixture.host, "x", 1, MSG_NOSIGNAL), 1);
    fixture_turn(&fixture);
    assert_int_equal(send(fixture.host, "x", 1, MSG_NOSIGNAL), -1);
    assert_int_equal(errno, EPIPE);
    assert_true(stream_is_over(fixture.stream));
    fixture_free(&fixture);
}

static void a_host_that_is_gone_ends_the_processs_output(void **state)
{
    (void)state;
    struct fixture fixture = fixture_new(STREAM_STDOUT);
    assert_int_equal(stream_connect(fixture.stream, fixture.remote, NULL), 0);
    fd_close(&fixture.host);
    assert_int_equal(write(fixture.process, "x", 1), 1);
    fixture_turn(&fixture);
    assert_int_equal(write(fixture.process, "x", 1), -1);
    assert_int_equal(errno, EPIPE);
    fixture_free(&fixture);
}

static void a_stream_is_opened_once(void **state)
{
    (void)state;
    struct fixture fixture = fixture_new(STREAM_STDOUT);
    struct error err = {0};
    cleanup_fd int second = dup(fixture.remote);
    assert_int_equal(stream_connect(fixture.stream, fixture.remote, NULL), 0);
    assert_int_equal(stream_connect(fixture.stream, second, &err), -1);
    assert_int_equal(err.code, EBUSY);
    fixture_free(&fixture);
}

static void finishing_waits_for_what_was_left_and_for_no_more(void **state)
{
    (void)state;
    struct fixture fixture = fixture_new(STREAM_STDOUT);
    stream_free(fixture.stream);
    int pipe_fds[2];
    static char block[65536];
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    fd_close(&fixture.process);
    fixture.process = pipe_fds[1]; /* a process left behind keeps it open */
    fixture.stream = stream_new(fixture.loop, STREAM_STDOUT, pipe_fds[0], note_drained, &fixture, NULL);
    assert_int_equal(stream_connect(fixture.stream, fixture.remote, NULL), 0);

    /* The host is slow: the socket is full, and the pipe too. */
    size_t total = 0, got = 0;
    for (ssize_t put; (put = write(fixture.process, block, sizeof(block))) > 0; fixture_turn(&fixture))
        total += (size_t)put;
    stream_finish(fixture.stream);
    assert_false(stream_is_drained(fixture.stream));
    assert_int_equal(fixture.drained, 0);
    while (fixture.drained == 0 && got < total) {
        ssize_t length = read(fixture.host, block, sizeof(block));
        got += length > 0 ? (size_t)length : 0;
        fixture_turn(&fixture);
    }
    assert_int_equal(fixture.drained, 1);
    ssize_t length;
    while ((length = read(fixture.host, block, sizeof(block))) > 0)
        got += (size_t)length;
    assert_int_equal(got, total);
    /* That was the end for the host, and the one left behind writes to nobody. */
    assert_int_equal(length, 0);
    assert_int_equal(write(fixture.process, "late", 4), -1);
    assert_int_equal(errno, EPIPE);
    assert_int_equal(fixture.drained, 1);
    fixture_free(&fixture);
}

static void an_expected_stream_keeps_its_bytes_until_the_host_comes(void **state)
{
    (void)state;
    struct fixture fixture = fixture_new(STREAM_STDOUT);
    char text[16] = {0};
    stream_expect(fixture.stream, true);
    assert_int_equal(write(fixture.process, "said", 4), 4);
    stream_finish(fixture.stream);
    fixture_turn(&fixture);
    assert_false(stream_is_drained(fixture.stream));
    assert_false(stream_is_over(fixture.stream));
    assert_int_equal(stream_connect(fixture.stream, fixture.remote, NULL), 0);
    assert_int_equal(read(fixture.host, text, sizeof(text)), 4);
    assert_int_equal(read(fixture.host, text, sizeof(text)), 0);
    assert_true(stream_is_drained(fixture.stream));
    fixture_free(&fixture);
}

static void a_stream_that_is_expected_no_more_is_over(void **state)
{
    (void)state;
    struct fixture fixture = fixture_new(STREAM_STDERR);
    stream_expect(fixture.stream, true);
    assert_int_equal(write(fixture.process, "said", 4), 4);
    stream_finish(fixture.stream);
    stream_expect(fixture.stream, false);
    assert_true(stream_is_drained(fixture.stream));
    assert_true(stream_is_over(fixture.stream));
    close(fixture.remote);
    fixture_free(&fixture);
}

static void the_hosts_half_close_hangs_a_terminal_up(void **state)
{
    (void)state;
    struct fixture fixture = fixture_new(STREAM_STDOUT);
    stream_free(fixture.stream);
    fd_close(&fixture.process);
    int unlock = 0, master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(master >= 0 && ioctl(master, TIOCSPTLCK, &unlock) == 0);
    fixture.process = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    fixture.stream = stream_new(fixture.loop, STREAM_TERMINAL, master, note_drained, &fixture, NULL);
    assert_int_equal(stream_connect(fixture.stream, fixture.remote, NULL), 0);
    /* A process may close its terminal and open it again. */
    char byte;
    assert_int_equal(write(fixture.process, "x", 1), 1);
    for (int turn = 0; turn < 1000 && read(fixture.host, &byte, 1) != 1; turn++) {
        usleep(1000); /* a worker of the kernel takes it to the master */
        byte = 0;
        fixture_turn(&fixture);
    }
    assert_int_equal(byte, 'x');
    assert_int_equal(read(fixture.host, &byte, 1), -1);
    assert_int_equal(shutdown(fixture.host, SHUT_WR), 0);
    fixture_turn(&fixture);
    assert_int_equal(write(fixture.process, "x", 1), -1);
    assert_int_equal(errno, EIO);
    assert_int_equal(read(fixture.process, &byte, 1), 0);
    fixture_free(&fixture);
}

static void a_terminal_moves_both_ways_and_has_a_size(void **state)
{
    (void)state;
    struct fixture fixture = fixture_new(STREAM_STDOUT);
    stream_free(fixture.stream);
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    char text[64] = {0};
    if (master < 0)
        skip();
    assert_int_equal(grantpt(master) | unlockpt(master), 0);
    cleanup_fd int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    fixture.stream = stream_new(fixture.loop, STREAM_TERMINAL, master, NULL, NULL, NULL);
    assert_int_equal(stream_connect(fixture.stream, fixture.remote, NULL), 0);
    assert_int_equal(stream_resize(fixture.stream, 24, 80), 0);
    assert_int_equal(write(slave, "out\n", 4), 4);
    assert_int_equal(send(fixture.host, "in\n", 3, 0), 3);
    for (int i = 0; i < 50; i++)
        loop_once(fixture.loop, 1);
    assert_true(read(fixture.host, text, sizeof(text)) >= 5);
    assert_int_equal(strncmp(text, "out\r\n", 5), 0);
    assert_int_equal(read(slave, text, sizeof(text)), 3);
    fixture_free(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_written_before_the_host_connects_is_kept),
        cmocka_unit_test(the_last_writers_close_is_the_hosts_end_of_file),
        cmocka_unit_test(the_hosts_half_close_is_the_processs_end_of_file),
        cmocka_unit_test(each_half_of_a_socket_ends_by_itself),
        cmocka_unit_test(a_socket_closes_with_its_process),
        cmocka_unit_test(much_output_arrives_whole_at_a_slow_host),
        cmocka_unit_test(much_input_arrives_whole_at_a_slow_process),
        cmocka_unit_test(a_host_that_does_not_read_stops_the_process_and_not_the_loop),
        cmocka_unit_test(a_process_that_closes_its_input_ends_the_hosts_sending),
        cmocka_unit_test(a_host_that_is_gone_ends_the_processs_output),
        cmocka_unit_test(a_stream_is_opened_once),
        cmocka_unit_test(finishing_waits_for_what_was_left_and_for_no_more),
        cmocka_unit_test(an_expected_stream_keeps_its_bytes_until_the_host_comes),
        cmocka_unit_test(a_stream_that_is_expected_no_more_is_over),
        cmocka_unit_test(the_hosts_half_close_hangs_a_terminal_up),
        cmocka_unit_test(a_terminal_moves_both_ways_and_has_a_size),
    };
    /* A process that writes to nobody gets a signal; the agent itself does not. */
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("agent_stream", tests, NULL, NULL);
}
