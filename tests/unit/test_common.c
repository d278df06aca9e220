/* Unit tests of common/: errors, fds, JSON access, logs and the event loop. */
#include "common/error.h"
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "common/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cmocka.h>

static void error_texts_wrap_from_the_inside_out(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(error_set(&err, EPERM, "mount %s", "proc"), -1);
    assert_int_equal(error_wrap(&err, "container %s", "c1"), -1);
    assert_int_equal(err.code, EPERM);
    assert_string_equal(err.text, "container c1: mount proc: Operation not permitted");
}

static void error_longer_than_its_space_is_cut(void **state)
{
    (void)state;
    struct error err;
    char long_text[2 * ERROR_TEXT_MAX];
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    error_set(&err, EIO, "%s", long_text);
    error_wrap(&err, "%s", long_text);
    assert_int_equal(strlen(err.text), ERROR_TEXT_MAX - 1);
}

static void json_getters_name_what_is_wrong(void **state)
{
    (void)state;
    struct error err = {0};
    const char *text = "{\"a\": 7, \"s\": \"x\", \"n\": null, \"l\": [\"p\", 3]}";
    cleanup_json json_t *object = json_parse_object(text, strlen(text), &err);
    assert_non_null(object);
    int64_t number = 0;
    assert_int_equal(json_get_int(object, "process", "a", 0, 10, &number, &err), 1);
    assert_int_equal(number, 7);
    assert_int_equal(json_get_int(object, "process", "n", 0, 10, &number, &err), 0);
    assert_int_equal(json_get_int(object, "process", "a", 0, 6, &number, &err), -1);
    assert_string_equal(err.text, "process.a: 7 is not within 0 and 6");
    const char *string = NULL;
    assert_int_equal(json_get_string(object, "process", "a", &string, &err), -1);
    assert_string_equal(err.text, "process.a: expected a string");
    const char **strings;
    assert_int_equal(json_get_strings(object, "", "l", &strings, &err), -1);
    assert_string_equal(err.text, "l: expected an array of strings");
    assert_int_equal(json_require(json_get_string(object, "", "none", &string, &err), "", "none", &err), -1);
    assert_string_equal(err.text, "none is missing");
}

static void json_refuses_duplicates_and_trailing_text(void **state)
{
    (void)state;
    struct error err;
    assert_null(json_parse_object("{\"a\":1,\"a\":2}", 13, &err));
    assert_null(json_parse_object("{} x", 4, &err));
    assert_null(json_parse_object("[]", 2, &err));
    assert_null(json_parse_object("{\"a\":\"\\u0000\"}", 14, &err));
}

static void json_keeps_integers_up_to_uint64_max(void **state)
{
    (void)state;
    struct error err = {0};
    const char *text = "{\"r\": {\"max\":18446744073709551615,\"s\":\"9:18446744073709551615 \\\" 1\"},"
                       "\"a\":[9223372036854775808 , 9223372036854775807,-9223372036854775808], \"f\":1.5e3}";
    cleanup_json json_t *object = json_parse_object(text, strlen(text), &err);
    assert_non_null(object);
    json_t *r = json_object_get(object, "r");
    uint64_t number = 0;
    assert_int_equal(json_get_u64(r, "r", "max", UINT64_MAX, &number, &err), 1);
    assert_true(number == UINT64_MAX);
    assert_int_equal(json_get_u64(r, "r", "max", INT64_MAX, &number, &err), -1);
    assert_string_equal(err.text, "r.max: 18446744073709551615 is over 9223372036854775807");
    assert_int_equal(json_get_u64(r, "r", "s", UINT64_MAX, &number, &err), -1);
    assert_string_equal(err.text, "r.s: expected an unsigned integer");
    assert_string_equal(json_string_value(json_object_get(r, "s")), "9:18446744073709551615 \" 1");
    json_t *list = json_object_get(object, "a");
    assert_string_equal(json_string_value(json_array_get(list, 0)), "9223372036854775808");
    assert_true(json_integer_value(json_array_get(list, 1)) == INT64_MAX);
    assert_true(json_integer_value(json_array_get(list, 2)) == INT64_MIN);

    /* Beyond uint64, negative beyond int64, and odd spellings stay errors. */
    static const char *const refused[] = {
        "{\"a\":18446744073709551616}",
        "{\"a\":-9223372036854775809}",
        "{\"a\":-18446744073709551615}",
        "{\"a\":018446744073709551615}",
        "{\"a\":18446744073709551615",
        "{\"a\":18446744073709551615, \"b",
        "{\"a\":184467440737095516151844674407370955161518446744073709551615}"};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        assert_null(json_parse_object(refused[i], strlen(refused[i]), &err));
}

static void fds_travel_over_a_socket_and_surplus_is_closed(void **state)
{
    (void)state;
    int pair[2], pipe_fds[2], got[1];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    assert_int_equal(fd_send(pair[0], pipe_fds, 2), 0);
    assert_int_equal(fd_receive(pair[1], got, 1), 1);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    /* Only the read end was kept, so the pipe has no writer left. */
    char byte;
    assert_int_equal(read(got[0], &byte, 1), 0);
    close(got[0]);
    close(pair[0]);
    assert_int_equal(fd_receive(pair[1], got, 1), -EPIPE);
    close(pair[1]);
}

static void files_are_written_atomically_and_read_back(void **state)
{
    (void)state;
    char dir[] = "/tmp/test-common-XXXXXX";
    assert_non_null(mkdtemp(dir));
    cleanup_fd int dir_fd = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    assert_int_equal(fd_write_file_atomic(dir_fd, "state", "old", 3, 0600), 0);
    assert_int_equal(fd_write_file_atomic(dir_fd, "state", "newer", 5, 0600), 0);
    char *content = NULL;
    assert_int_equal(fd_read_file_at(dir_fd, "state", 100, &content), 5);
    assert_string_equal(content, "newer");
    free(content);
    assert_int_equal(fd_read_file_at(dir_fd, "state", 4, &content), -EFBIG);
    assert_int_equal(fd_read_file_at(dir_fd, "none", 4, &content), -ENOENT);
    assert_int_equal(unlinkat(dir_fd, "state", 0), 0);
    assert_int_equal(rmdir(dir), 0); /* no temporary file is left */
}

static void log_lines_are_escaped_and_limited(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    log_init("test", fds[1], LOG_FORMAT_TEXT, LOG_LEVEL_WARN);
    log_info("not written");
    log_warn("a\nb");
    char text[4096] = {0};
    assert_true(read(fds[0], text, sizeof(text) - 1) > 0);
    assert_string_equal(text, "test: warning: a\\x0ab\n");

    struct log_limit limit = {0};
    for (int i = 0; i < 3 * LOG_LIMIT_BURST; i++)
        log_limited(&limit, "x");
    memset(text, 0, sizeof(text));
    assert_int_equal(read(fds[0], text, sizeof(text) - 1), LOG_LIMIT_BURST * strlen("test: warning: x\n"));

    log_init("test", fds[1], LOG_FORMAT_JSON, LOG_LEVEL_WARN);
    log_err("no UTF-8: \xff \"quoted\"");
    memset(text, 0, sizeof(text));
    assert_true(read(fds[0], text, sizeof(text) - 1) > 0);
    cleanup_json json_t *line = json_parse_object(text, strlen(text), NULL);
    assert_non_null(line);
    assert_string_equal(json_string_value(json_object_get(line, "level")), "error");
    assert_string_equal(json_string_value(json_object_get(line, "msg")), "no UTF-8: ? \"quoted\"");
    log_init("test", -1, LOG_FORMAT_TEXT, LOG_LEVEL_WARN);
    close(fds[0]);
    close(fds[1]);
}

struct loop_test {
    struct loop *loop;
    struct watch a, b;
    unsigned calls;
    pthread_t ran_in;
};

static void delete_the_other(struct watch *watch, uint32_t events)
{
    (void)events;
    struct loop_test *test = watch->arg;
    test->calls++;
    loop_del(test->loop, watch == &test->a ? &test->b : &test->a);
}

static void loop_does_not_call_a_watch_deleted_in_the_same_batch(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct loop_test test = {.loop = loop_new()};
    test.a = (struct watch){.fd = fds[0], .fn = delete_the_other, .arg = &test};
    test.b = (struct watch){.fd = fds[1], .fn = delete_the_other, .arg = &test};
    assert_int_equal(loop_add(test.loop, &test.a, EPOLLOUT), 0);
    assert_int_equal(loop_add(test.loop, &test.b, EPOLLOUT), 0);
    assert_int_equal(loop_once(test.loop, 0), 2);
    assert_int_equal(test.calls, 1);
    loop_free(test.loop);
    close(fds[0]);
    close(fds[1]);
}

static void *run_loop(void *arg)
{
    return (void *)(intptr_t)loop_run(arg);
}

static void note_thread(void *arg)
{
    struct loop_test *test = arg;
    test->ran_in = pthread_self();
    test->calls++;
}

static void loop_call_runs_in_the_loops_thread_before_it_returns(void **state)
{
    (void)state;
    struct loop_test test = {.loop = loop_new()};
    assert_int_equal(loop_call(test.loop, note_thread, &test), 0);
    assert_true(pthread_equal(test.ran_in, pthread_self())); /* nobody runs it yet: at once */
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_loop, test.loop), 0);
    /* The thread may not have entered the loop yet; a posted note tells when it has. */
    assert_int_equal(loop_post(test.loop, note_thread, &test), 0);
    while (__atomic_load_n(&test.calls, __ATOMIC_ACQUIRE) < 2)
        usleep(100);
    assert_int_equal(loop_call(test.loop, note_thread, &test), 0);
    assert_int_equal(test.calls, 3);
    assert_true(pthread_equal(test.ran_in, thread));
    loop_stop(test.loop);
    pthread_join(thread, NULL);
    loop_free(test.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_texts_wrap_from_the_inside_out),
        cmocka_unit_test(error_longer_than_its_space_is_cut),
        cmocka_unit_test(json_getters_name_what_is_wrong),
        cmocka_unit_test(json_refuses_duplicates_and_trailing_text),
        cmocka_unit_test(json_keeps_integers_up_to_uint64_max),
        cmocka_unit_test(fds_travel_over_a_socket_and_surplus_is_closed),
        cmocka_unit_test(files_are_written_atomically_and_read_back),
        cmocka_unit_test(log_lines_are_escaped_and_limited),
        cmocka_unit_test(loop_does_not_call_a_watch_deleted_in_the_same_batch),
        cmocka_unit_test(loop_call_runs_in_the_loops_thread_before_it_returns),
    };
    return cmocka_run_group_tests_name("common", tests, NULL, NULL);
}
