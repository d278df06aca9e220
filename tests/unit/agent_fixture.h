/*
 * A sandbox of the agent and a host that talks to it, in one process and one thread: each call sends a frame
 * and turns the agent's loop until the answer is there.
 */
#ifndef HUSK_TESTS_AGENT_FIXTURE_H
#define HUSK_TESTS_AGENT_FIXTURE_H

#include "agent/sandbox.h"
#include "common/loop.h"

#include <jansson.h>
#include <stdbool.h>

struct agent_fixture {
    struct sandbox sandbox;
    struct watch children; /* a signalfd for SIGCHLD */
    int control;           /* the host's end of a control connection */
    json_int_t next_id;
    unsigned power_offs;
};

/* cmocka setup and teardown: *state is the fixture, with a control connection. */
int agent_fixture_open(void **state);
int agent_fixture_close(void **state);

/* A new connection to the agent: the host's end, on which nothing was said. */
int agent_connect(struct agent_fixture *fixture);

/* Sends `frame` (stolen) on fd and returns the next frame that comes back: a new reference, or NULL when the
 * agent closed the connection instead. */
json_t *agent_exchange(struct agent_fixture *fixture, int fd, json_t *frame);

/* The next frame on fd; NULL at its end. */
json_t *agent_next_frame(struct agent_fixture *fixture, int fd);

/* A request with params (stolen) on the control connection: the "result" (new reference). Fails the test on
 * an error reply. */
json_t *agent_call(struct agent_fixture *fixture, const char *method, json_t *params);

/* As agent_call for a request that is to fail: its errno; the text goes to `text` unless NULL. */
int agent_call_error(struct agent_fixture *fixture, const char *method, json_t *params, char *text,
                     size_t size);

/* Opens a stream of container `id`: the host's end. */
int agent_open_stream(struct agent_fixture *fixture, const char *id, const char *process, const char *stream);

/* The same of a listening socket, for a connection with these ends, which are taken. */
int agent_open_connection(struct agent_fixture *fixture, const char *id, const char *process,
                          const char *stream, json_t *ends);

/* Reads fd to its end while the agent runs, into a NUL-terminated buffer. Bytes read. */
size_t agent_read_all(struct agent_fixture *fixture, int fd, char *buffer, size_t size);

/* Turns the loop until *done or for at most 10 s. */
void agent_run_until(struct agent_fixture *fixture, bool (*done)(struct agent_fixture *fixture));

#endif
