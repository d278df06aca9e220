/* Unit tests of protocol/frame.c: whole frames, frames in pieces, and what a hostile peer may send. */
#include "common/fd.h"
#include "common/json.h"
#include "protocol/frame.h"
#include "protocol/protocol.h"

#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

struct pair {
    int ours, theirs;
};

static int pair_open(void **state)
{
    static struct pair pair;
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return -1;
    pair = (struct pair){fds[0], fds[1]};
    *state = &pair;
    return 0;
}

static int pair_close(void **state)
{
    struct pair *pair = *state;
    fd_close(&pair->ours);
    fd_close(&pair->theirs);
    return 0;
}

/* Writes a header announcing `announced` bytes and then `content` as it is. */
static void put_raw(int fd, uint32_t announced, const char *content)
{
    uint32_t header = htole32(announced);
    assert_int_equal(fd_write_full(fd, &header, sizeof(header)), 0);
    assert_int_equal(fd_write_full(fd, content, strlen(content)), 0);
}

static void a_frame_arrives_as_it_was_sent(void **state)
{
    struct pair *pair = *state;
    cleanup_json json_t *sent =
        json_pack("{s:i, s:s, s:{s:b}}", "id", 7, "method", "x", "params", "owner", 1);
    assert_int_equal(frame_send(pair->theirs, sent, NULL), 0);
    cleanup_json json_t *got = frame_receive(pair->ours, NULL);
    assert_true(json_equal(sent, got));
}

static void the_length_is_little_endian_and_counts_the_content(void **state)
{
    (void)state;
    size_t length = 0;
    cleanup_json json_t *message = json_pack("{s:i}", "a", 1);
    cleanup_free char *frame = frame_encode(message, &length, NULL);
    assert_int_equal(length, 4 + 7);
    assert_memory_equal(frame, "\x07\0\0\0{\"a\":1}", 11);
}

static void receive_takes_no_byte_of_what_follows(void **state)
{
    struct pair *pair = *state;
    put_raw(pair->theirs, 2, "{}raw bytes");
    cleanup_json json_t *got = frame_receive(pair->ours, NULL);
    assert_non_null(got);
    char rest[16] = {0};
    assert_int_equal(read(pair->ours, rest, sizeof(rest)), 9);
    assert_string_equal(rest, "raw bytes");
}

static void the_parser_joins_single_bytes_and_splits_joined_frames(void **state)
{
    struct pair *pair = *state;
    struct frame_parser *parser = frame_parser_new();
    cleanup_json json_t *message = json_pack("{s:s}", "method", "agent.info");
    size_t length = 0;
    cleanup_free char *frame = frame_encode(message, &length, NULL);
    json_t *got = NULL;
    for (size_t i = 0; i < length; i++) {
        assert_int_equal(frame_parser_next(parser, &got, NULL), 0);
        assert_int_equal(fd_write_full(pair->theirs, frame + i, 1), 0);
        assert_int_equal(frame_parser_fill(parser, pair->ours, NULL), 1);
    }
    assert_int_equal(frame_parser_next(parser, &got, NULL), 1);
    assert_true(json_equal(message, got));
    json_decref(got);

    /* Three frames in one segment come out one after the other. */
    for (int i = 0; i < 3; i++)
        assert_int_equal(fd_write_full(pair->theirs, frame, length), 0);
    assert_int_equal(fd_set_nonblock(pair->ours, 1), 0);
    int frames = 0, filled;
    while ((filled = frame_parser_fill(parser, pair->ours, NULL)) > 0) {
        while (frame_parser_next(parser, &got, NULL) == 1) {
            frames++;
            json_decref(got);
        }
    }
    assert_int_equal(filled, 0); /* nothing there now, and no error */
    assert_int_equal(frames, 3);
    frame_parser_free(parser);
}

static void a_large_frame_grows_as_it_comes(void **state)
{
    struct pair *pair = *state;
    size_t size = 1 << 20;
    char *text = malloc(size + 1);
    memset(text, 'a', size);
    text[size] = '\0';
    cleanup_json json_t *message = json_pack("{s:s}", "text", text);
    free(text);
    size_t length = 0, put = 0;
    cleanup_free char *frame = frame_encode(message, &length, NULL);
    struct frame_parser *parser = frame_parser_new();
    json_t *got = NULL;
    while (frame_parser_next(parser, &got, NULL) == 0) {
        size_t chunk = length - put < 9000 ? length - put : 9000;
        assert_int_equal(fd_write_full(pair->theirs, frame + put, chunk), 0);
        put += chunk;
        assert_true(frame_parser_fill(parser, pair->ours, NULL) > 0);
        if (put == length) { /* drain what the socket still holds */
            assert_int_equal(fd_set_nonblock(pair->ours, 1), 0);
            while (frame_parser_next(parser, &got, NULL) == 0)
                assert_true(frame_parser_fill(parser, pair->ours, NULL) > 0);
            break;
        }
    }
    assert_true(json_equal(message, got));
    json_decref(got);
    frame_parser_free(parser);
}

static void a_length_over_the_limit_is_refused_before_its_content(void **state)
{
    struct pair *pair = *state;
    struct error err = {0};
    put_raw(pair->theirs, FRAME_BYTES_MAX + 1, "");
    assert_null(frame_receive(pair->ours, &err));
    assert_int_equal(err.code, EMSGSIZE);
}

static void a_message_over_the_limit_is_not_sent(void **state)
{
    struct pair *pair = *state;
    struct error err = {0};
    char *text = malloc(FRAME_BYTES_MAX + 1);
    memset(text, 'a', FRAME_BYTES_MAX);
    text[FRAME_BYTES_MAX] = '\0';
    cleanup_json json_t *message = json_pack("{s:s}", "text", text);
    free(text);
    assert_int_equal(frame_send(pair->theirs, message, &err), -1);
    assert_int_equal(err.code, E2BIG);
}

static void content_that_is_no_object_is_a_protocol_error(void **state)
{
    struct pair *pair = *state;
    static const char *const contents[] = {"[1,2]", "{\"a\":", "{} {}", "\xff\xfe", "7", "{\"a\":1,\"a\":2}"};
    for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
        struct error err = {0};
        put_raw(pair->theirs, (uint32_t)strlen(contents[i]), contents[i]);
        assert_null(frame_receive(pair->ours, &err));
        assert_int_equal(err.code, EPROTO);
    }
    struct error err = {0};
    put_raw(pair->theirs, 0, "");
    assert_null(frame_receive(pair->ours, &err));
    assert_int_equal(err.code, EPROTO);
}

static void an_end_within_a_frame_is_an_end_of_stream(void **state)
{
    struct pair *pair = *state;
    struct error err = {0};
    put_raw(pair->theirs, 100, "{\"id\":");
    fd_close(&pair->theirs);
    assert_null(frame_receive(pair->ours, &err));
    assert_int_equal(err.code, EPIPE);
}

static void sending_to_nobody_is_an_error_and_no_signal(void **state)
{
    struct pair *pair = *state;
    struct error err = {0};
    fd_close(&pair->ours);
    cleanup_json json_t *message = json_object();
    assert_int_equal(frame_send(pair->theirs, message, &err), -1);
    assert_int_equal(err.code, EPIPE);
}

int main(void)
{
#define FRAME_TEST(name) cmocka_unit_test_setup_teardown(name, pair_open, pair_close)
    const struct CMUnitTest tests[] = {
        FRAME_TEST(a_frame_arrives_as_it_was_sent),
        cmocka_unit_test(the_length_is_little_endian_and_counts_the_content),
        FRAME_TEST(receive_takes_no_byte_of_what_follows),
        FRAME_TEST(the_parser_joins_single_bytes_and_splits_joined_frames),
        FRAME_TEST(a_large_frame_grows_as_it_comes),
        FRAME_TEST(a_length_over_the_limit_is_refused_before_its_content),
        FRAME_TEST(a_message_over_the_limit_is_not_sent),
        FRAME_TEST(content_that_is_no_object_is_a_protocol_error),
        FRAME_TEST(an_end_within_a_frame_is_an_end_of_stream),
        FRAME_TEST(sending_to_nobody_is_an_error_and_no_signal),
    };
    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
