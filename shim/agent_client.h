/*
 * The host's end of the talk with a sandbox's agent (protocol/protocol.h).
 *
 * A connection goes through the sandbox's vsock socket: "CONNECT port", then the opening frame, then frames
 * (control) or raw bytes (stream). The monitor keeps one control connection and waits for its frames in an
 * event loop; commands make one, call, and close. The guest is hostile: every wait has a deadline or watches
 * the VMM as well, and nothing it sends is used unchecked. A client belongs to one thread.
 */
#ifndef HUSK_SHIM_AGENT_CLIENT_H
#define HUSK_SHIM_AGENT_CLIENT_H

#include "common/error.h"

#include <jansson.h>
#include <stdint.h>

/* Where the agent is reached: borrowed fds, needed for the call only. */
struct agent_address {
    int sandbox_fd; /* the sandbox's directory, where the vsock socket lies */
    int vmm_pidfd;  /* its end ends every wait; -1: not known */
};

#define AGENT_VSOCK_SOCKET "vsock.sock"

/* Opening comes in two halves, so that a caller who opens several connections, or has requests to send, waits
 * once for all of them: begin says everything, finish reads the agent's answer. */

/* Begins to open the stream ("stdin", "stdout", "stderr", "terminal", "fd<number>") of a container's process,
 * which may still be in the making. `ends` is of a connection to a listening socket, {"local", "peer"}, else
 * NULL. Blocking socket, the caller's, or -1 with err filled. */
int agent_begin_stream(const struct agent_address *address, const char *container, const char *process,
                       const char *stream, json_t *ends, struct error *err);

/* The agent's answer: from then on the socket carries the stream's bytes. 0, or -1 with err filled. */
int agent_finish_stream(const struct agent_address *address, int fd, const char *stream, int64_t deadline,
                        struct error *err);

struct agent_client;

/* Begins a control connection; requests may be sent on it at once, answers read after agent_finish_control.
 * NULL with err filled. */
struct agent_client *agent_begin_control(const struct agent_address *address, struct error *err);

/* Waits for the agent's answer. 0, or -1 with err filled: ETIMEDOUT at the deadline, ECONNRESET when the VMM
 * ended. */
int agent_finish_control(struct agent_client *client, int64_t deadline, struct error *err);

/* Opens a control connection; waits for an agent that is still booting. NULL with err filled: ETIMEDOUT at
 * the deadline, ECONNRESET when the VMM ended. */
struct agent_client *agent_connect(const struct agent_address *address, int64_t deadline, struct error *err);
void agent_client_free(struct agent_client *client);

/* The socket, to be watched for input. */
int agent_client_fd(const struct agent_client *client);

/* Sends a request; `params` is taken (also on failure). The request's id (> 0), or -1 with err filled. */
int64_t agent_send(struct agent_client *client, const char *method, json_t *params, struct error *err);

/* The next frame that is wholly there: 1 and a new reference, 0 when there is none yet, -1 with err filled.
 */
int agent_receive(struct agent_client *client, json_t **message, struct error *err);

/* Waits for the answer to a request that was sent; other frames that come meanwhile are dropped. The result's
 * new reference, or NULL with err filled: the agent's own error ("... (agent)"), or the connection's. */
json_t *agent_await(struct agent_client *client, int64_t id, const char *method, int64_t deadline,
                    struct error *err);

/* Sends a request and waits for its answer; other frames that come meanwhile are dropped, so the monitor uses
 * it only before it has requests under way. `params` is taken. The result's new reference, or NULL with err
 * filled: the agent's own error ("... (agent)"), or the connection's. */
json_t *agent_call(struct agent_client *client, const char *method, json_t *params, int64_t deadline,
                   struct error *err);

/* Looks into an answer: its result (borrowed), or NULL with err filled by the agent's error. */
json_t *agent_answer_result(const json_t *answer, struct error *err);

#endif
