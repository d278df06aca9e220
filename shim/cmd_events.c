/*
 * husk events: a container's figures, once (--stats) or at an interval, and its want of memory as it happens,
 * in runc's form (shim/event_json.h).
 *
 * The agent holds one request open until the container has ended; on the same connection it tells of
 * processes killed for want of memory, and answers the requests for figures.
 */
#include "common/json.h"
#include "shim/container.h"
#include "shim/deadline.h"
#include "shim/event_json.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 10000
#define STATS_TIMEOUT_MS   10000
#define INTERVAL_MS        5000 /* runc's default */

struct events_options {
    int64_t interval_ms;
    bool stats;
};

/* A duration as Go writes it: "5s", "1m30s", "500ms"; people also write plain seconds. */
static int option_set_duration(void *field, const char *value, struct error *err)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"ms", 1}, {"us", 0.001}, {"ns", 0.000001}, {"h", 3600000}, {"m", 60000}, {"s", 1000}};
    double total = 0;
    const char *at = value;
    while (*at >= '0' && *at <= '9') {
        char *end;
        double number = strtod(at, &end);
        size_t i = 0;
        if (!*end && at == value) { /* plain seconds */
            total = number * 1000;
            at = end;
            break;
        }
        while (i < sizeof(units) / sizeof(units[0]) &&
               strncmp(end, units[i].unit, strlen(units[i].unit)) != 0)
            i++;
        if (i == sizeof(units) / sizeof(units[0]))
            break;
        total += number * units[i].ms;
        at = end + strlen(units[i].unit);
    }
    if (*at || !*value || total > INT32_MAX)
        return error_set(err, 0, "\"%s\" is no duration", value);
    *(int64_t *)field = (int64_t)total;
    return 0;
}

static const struct option_row option_rows[] = {
    {"interval", 0, "DURATION", "time between two sets of figures (default: 5s)", option_set_duration,
     offsetof(struct events_options, interval_ms)},
    {"stats", 0, NULL, "print the figures once and end", option_set_flag,
     offsetof(struct events_options, stats)},
    {0}};

static int events_once(const struct context *context, const struct container_state *state, struct error *err)
{
    cleanup_json json_t *stats =
        container_call(&context->store, state, "container.stats", json_pack("{s:s}", "container", state->id),
                       STATS_TIMEOUT_MS, err);
    return stats ? event_write_stats(stdout, state->id, stats, err) : -1;
}

/* What one turn of the talk knows. */
struct events_talk {
    const char *id;
    int64_t end_id;   /* the request that is answered when the container has ended */
    int64_t stats_id; /* under way, or 0 */
    bool ended;
};

static int events_take(struct events_talk *talk, const json_t *frame, struct error *err)
{
    const char *event = json_string_value(json_object_get(frame, "event"));
    int64_t id = json_integer_value(json_object_get(frame, "id"));
    if (event) {
        if (strcmp(event, "oom") == 0)
            event_write_oom(stdout, talk->id);
        return 0;
    }
    if (id != talk->end_id && (id == 0 || id != talk->stats_id))
        return 0;
    json_t *result = agent_answer_result(frame, err);
    if (id == talk->end_id) {
        talk->ended = true;
        return result ? 0 : -1;
    }
    talk->stats_id = 0;
    return result ? event_write_stats(stdout, talk->id, result, err) : -1;
}

/* Takes all frames that are there. */
static int events_receive(struct events_talk *talk, struct agent_client *client, struct error *err)
{
    for (;;) {
        json_t *frame = NULL;
        int got = talk->ended ? 0 : agent_receive(client, &frame, err);
        if (got == 0)
            return 0;
        int result = got > 0 ? events_take(talk, frame, err) : -1;
        json_decref(frame);
        if (result < 0)
            return -1;
    }
}

/* 0 when the container has ended, or standard output is gone. */
static int events_follow(struct events_talk *talk, struct agent_client *client, int64_t interval_ms,
                         struct error *err)
{
    struct pollfd pfds[] = {{.fd = agent_client_fd(client), .events = POLLIN}, {.fd = STDOUT_FILENO}};
    int64_t next = deadline_now_ms() + interval_ms;
    while (!talk->ended) {
        int ready = poll(pfds, 2, deadline_left_ms(next));
        if (ready < 0 && errno != EINTR)
            return error_set(err, errno, "wait for events");
        if (ready > 0 && pfds[1].revents & (POLLERR | POLLHUP | POLLNVAL))
            return 0;
        if (ready > 0 && pfds[0].revents && events_receive(talk, client, err) < 0)
            return -1;
        if (deadline_left_ms(next) == 0) {
            next = deadline_now_ms() + interval_ms;
            /* A guest that has not answered yet is not asked again. */
            if (talk->stats_id == 0)
                talk->stats_id =
                    agent_send(client, "container.stats", json_pack("{s:s}", "container", talk->id), err);
            if (talk->stats_id < 0)
                return -1;
        }
        if (fflush(stdout) != 0)
            return 0;
    }
    return 0;
}

static int events_watch(const struct context *context, const struct container_state *state,
                        int64_t interval_ms, struct error *err)
{
    struct agent_client *client = container_connect(&context->store, state, CONNECT_TIMEOUT_MS, err);
    if (!client)
        return -1;
    struct events_talk talk = {.id = state->id};
    talk.end_id = agent_send(client, "container.events", json_pack("{s:s}", "container", state->id), err);
    int result = talk.end_id < 0 ? -1 : events_follow(&talk, client, interval_ms, err);
    agent_client_free(client);
    if (result == 0)
        return 0;
    /* The connection of a container that ends goes with its VM; that is no error of this command. */
    int pidfd = process_id_open(&state->monitor);
    bool ended = pidfd < 0 || process_wait_end(pidfd, CONNECT_TIMEOUT_MS) == 0;
    if (pidfd >= 0)
        close(pidfd);
    return ended && (err->code == ECONNRESET || err->code == EPIPE || err->code == ECONNREFUSED) ? 0 : -1;
}

static int events_run(const struct context *context, int argc, char **argv, struct error *err)
{
    struct events_options options = {.interval_ms = INTERVAL_MS};
    struct container_state state;
    int count = command_parse(&cmd_events, &options, argc, argv, err);
    if (count < 0)
        return count;
    if (options.interval_ms <= 0)
        return error_set(err, 0, "events: duration interval must be greater than 0");
    if (container_state_load(&context->store, argv[0], &state, err) < 0)
        return -1;
    int result;
    if (state.status != STATUS_CREATED && state.status != STATUS_RUNNING)
        result = error_set(err, 0, "container with id %s is not running", argv[0]);
    else if (options.stats)
        result = events_once(context, &state, err);
    else
        result = events_watch(context, &state, options.interval_ms, err);
    container_state_fini(&state);
    return result < 0 ? error_wrap(err, "container %s", argv[0]) : 0;
}

const struct command cmd_events = {.name = "events",
                                   .arguments = "ID",
                                   .help = "print a container's figures and its want of memory",
                                   .options = option_rows,
                                   .arguments_min = 1,
                                   .arguments_max = 1,
                                   .run = events_run};
