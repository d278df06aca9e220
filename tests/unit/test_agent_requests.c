/* Unit tests of agent/connection.c and requests.c: first frames, requests, and what a hostile host may send.
 */
#include "agent_fixture.h"

#include "common/fd.h"
#include "common/json.h"
#include "protocol/protocol.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <cmocka.h>

/* The first frame is refused with that errno and the connection closed. */
static void expect_refused(struct agent_fixture *fixture, json_t *first, int code)
{
    cleanup_fd int fd = agent_connect(fixture);
    cleanup_json json_t *answer = agent_exchange(fixture, fd, first);
    json_t *error = json_object_get(answer, "error");
    assert_int_equal(json_integer_value(json_object_get(error, "code")), code);
    assert_null(agent_next_frame(fixture, fd));
}

static void a_first_frame_must_say_what_the_connection_is(void **state)
{
    struct agent_fixture *fixture = *state;
    expect_refused(fixture, json_pack("{s:i, s:s}", "husk", 99, "open", "control"), EPROTONOSUPPORT);
    expect_refused(fixture, json_pack("{s:s}", "open", "control"), EINVAL);
    expect_refused(fixture, json_pack("{s:i}", "husk", PROTOCOL_VERSION), EINVAL);
    expect_refused(fixture, json_pack("{s:i, s:s}", "husk", PROTOCOL_VERSION, "open", "door"), EINVAL);
    expect_refused(fixture, json_pack("{s:i, s:s}", "husk", PROTOCOL_VERSION, "open", "stream"), EINVAL);
    expect_refused(fixture,
                   json_pack("{s:i, s:s, s:s, s:s}", "husk", PROTOCOL_VERSION, "open", "stream", "container",
                             "no", "stream", "stdin"),
                   ENOENT);
    assert_int_equal(fixture->sandbox.connection_count, 1); /* the control connection is left */
}

static void bytes_that_are_no_frame_end_the_connection(void **state)
{
    struct agent_fixture *fixture = *state;
    cleanup_fd int fd = agent_connect(fixture);
    assert_int_equal(send(fd, "\xff\xff\xff\xff{}", 6, 0), 6);
    assert_null(agent_next_frame(fixture, fd));
    assert_int_equal(fixture->sandbox.connection_count, 1);
}

static void a_silent_connection_expires(void **state)
{
    struct agent_fixture *fixture = *state;
    struct timespec now;
    cleanup_fd int fd = agent_connect(fixture);
    clock_gettime(CLOCK_MONOTONIC, &now);
    long long now_ms = (long long)now.tv_sec * 1000;
    assert_int_equal(fixture->sandbox.silent_connections, 1);
    struct connection *silent = LIST_FIRST(&fixture->sandbox.connections);
    connection_expire(silent, now_ms); /* not yet */
    assert_int_equal(fixture->sandbox.connection_count, 2);
    connection_expire(silent, now_ms + FIRST_FRAME_MS + 1000);
    assert_int_equal(fixture->sandbox.connection_count, 1);
    assert_int_equal(fixture->sandbox.silent_connections, 0);
    assert_null(agent_next_frame(fixture, fd));
}

static void a_control_connection_does_not_expire(void **state)
{
    struct agent_fixture *fixture = *state;
    connection_expire(LIST_FIRST(&fixture->sandbox.connections), INT64_MAX);
    assert_int_equal(fixture->sandbox.connection_count, 1);
}

static void info_tells_about_the_guest(void **state)
{
    struct agent_fixture *fixture = *state;
    cleanup_json json_t *info = agent_call(fixture, "agent.info", json_object());
    assert_string_equal(json_string_value(json_object_get(info, "version")), HUSK_VERSION);
    assert_true(json_integer_value(json_object_get(info, "cpus")) >= 1);
    assert_true(json_integer_value(json_object_get(info, "memory_bytes")) > 1 << 20);
}

static void what_is_wrong_with_a_request_is_named(void **state)
{
    struct agent_fixture *fixture = *state;
    char text[256];
    assert_int_equal(agent_call_error(fixture, "agent.dance", json_object(), text, sizeof(text)), ENOSYS);
    assert_non_null(strstr(text, "agent.dance"));
    assert_int_equal(agent_call_error(fixture, "container.start", json_object(), text, sizeof(text)), EINVAL);
    assert_string_equal(text, "container is missing");
    assert_int_equal(
        agent_call_error(fixture, "container.start", json_pack("{s:i}", "container", 1), text, sizeof(text)),
        EINVAL);
    assert_string_equal(text, "container: expected a string");
    assert_int_equal(agent_call_error(fixture, "container.state", json_pack("{s:s}", "container", "c"), text,
                                      sizeof(text)),
                     ENOENT);
    assert_string_equal(text, "container c does not exist");
}

static void requests_without_id_or_method_are_answered_too(void **state)
{
    struct agent_fixture *fixture = *state;
    cleanup_json json_t *no_id =
        agent_exchange(fixture, fixture->control, json_pack("{s:s}", "method", "agent.info"));
    assert_non_null(json_object_get(no_id, "error"));
    cleanup_json json_t *no_method = agent_exchange(fixture, fixture->control, json_pack("{s:i}", "id", 5));
    assert_int_equal(json_integer_value(json_object_get(no_method, "id")), 5);
    assert_non_null(json_object_get(no_method, "error"));
    cleanup_json json_t *bad_params = agent_exchange(
        fixture, fixture->control, json_pack("{s:i, s:s, s:[]}", "id", 6, "method", "agent.info", "params"));
    assert_non_null(json_object_get(bad_params, "error"));
}

static void container_ids_and_roots_are_checked(void **state)
{
    struct agent_fixture *fixture = *state;
    static const char *const ids[] = {"", ".", "..", "a/b", "a b", "a\nb"};
    char text[512];
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        assert_int_equal(agent_call_error(fixture, "container.create",
                                          json_pack("{s:s, s:{}}", "container", ids[i], "spec"), text,
                                          sizeof(text)),
                         EINVAL);
        assert_non_null(strstr(text, "container: "));
    }
    char longer[CONTAINER_ID_MAX + 2];
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    agent_call_error(fixture, "container.create", json_pack("{s:s, s:{}}", "container", longer, "spec"), NULL,
                     0);
    agent_call_error(fixture, "container.create", json_pack("{s:s, s:{}}", "container", "c", "spec"), text,
                     sizeof(text));
    assert_string_equal(text, "root is missing");
    assert_true(LIST_EMPTY(&fixture->sandbox.containers));
}

static bool powered_off(struct agent_fixture *fixture)
{
    return fixture->power_offs > 0;
}

static void shutdown_is_answered_and_ends_the_guest_once(void **state)
{
    struct agent_fixture *fixture = *state;
    json_decref(agent_call(fixture, "sandbox.shutdown", json_object()));
    json_decref(agent_call(fixture, "sandbox.shutdown", json_object()));
    agent_run_until(fixture, powered_off);
    assert_int_equal(fixture->power_offs, 1);
}

static unsigned completions;

static void count_completion(void)
{
    completions++;
}

static void the_first_control_connection_has_the_guest_completed(void **state)
{
    struct agent_fixture *fixture = *state;
    completions = 0;
    fixture->sandbox.complete = count_completion;
    for (int i = 0; i < 2; i++) {
        int fd = agent_connect(fixture);
        json_decref(
            agent_exchange(fixture, fd, json_pack("{s:i, s:s}", "husk", PROTOCOL_VERSION, "open", "stream")));
        close(fd);
        assert_int_equal(completions, 0);
    }
    for (int i = 0; i < 2; i++) {
        int fd = agent_connect(fixture);
        json_decref(agent_exchange(fixture, fd,
                                   json_pack("{s:i, s:s}", "husk", PROTOCOL_VERSION, "open", "control")));
        close(fd);
        assert_int_equal(completions, 1);
    }
}

static void the_loss_of_a_connection_that_owns_nothing_ends_nothing(void **state)
{
    struct agent_fixture *fixture = *state;
    int fd = agent_connect(fixture);
    json_decref(
        agent_exchange(fixture, fd, json_pack("{s:i, s:s}", "husk", PROTOCOL_VERSION, "open", "control")));
    close(fd);
    for (int i = 0; i < 5; i++)
        loop_once(fixture->sandbox.loop, 1);
    assert_int_equal(fixture->sandbox.connection_count, 1);
    assert_int_equal(fixture->power_offs, 0);
}

int main(void)
{
#define AGENT_TEST(name) cmocka_unit_test_setup_teardown(name, agent_fixture_open, agent_fixture_close)
    const struct CMUnitTest tests[] = {
        AGENT_TEST(a_first_frame_must_say_what_the_connection_is),
        AGENT_TEST(bytes_that_are_no_frame_end_the_connection),
        AGENT_TEST(a_silent_connection_expires),
        AGENT_TEST(a_control_connection_does_not_expire),
        AGENT_TEST(info_tells_about_the_guest),
        AGENT_TEST(what_is_wrong_with_a_request_is_named),
        AGENT_TEST(requests_without_id_or_method_are_answered_too),
        AGENT_TEST(container_ids_and_roots_are_checked),
        AGENT_TEST(shutdown_is_answered_and_ends_the_guest_once),
        AGENT_TEST(the_first_control_connection_has_the_guest_completed),
        AGENT_TEST(the_loss_of_a_connection_that_owns_nothing_ends_nothing),
    };
    return cmocka_run_group_tests_name("agent_requests", tests, NULL, NULL);
}
