/*
 * The control socket: how the host asks a running VM for what was not known when it began.
 *
 * A listening Unix socket of type SOCK_SEQPACKET, in a directory that only root may enter. One message is one
 * request, {"method": "...", "params": {...}}, with its descriptors (SCM_RIGHTS) beside it; one message
 * answers it: {"result": {...}} or {"error": {"code": ERRNO, "text": "..."}}. A connection has one request at
 * a time, a second before the answer ends it. Methods, and what they take and give: control_methods.c.
 *
 * Trust boundary: only the host's side, the shim, talks here; the guest never does. Lengths, connections and
 * descriptors are capped all the same. Everything runs in the loop's thread.
 */
#ifndef HUSK_VMM_CONTROL_H
#define HUSK_VMM_CONTROL_H

#include "common/error.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct control;
struct loop;

#define CONTROL_REQUEST_BYTES_MAX (16u << 10)
#define CONTROL_ANSWER_BYTES_MAX  (128u << 10)
#define CONTROL_FDS_MAX           64u
#define CONTROL_CONNECTIONS_MAX   8u

struct control_request {
    const json_t *params; /* an object; the request's */
    int *fds;             /* descriptors that came along, CLOEXEC; a handler takes what it wants (take_fd) */
    size_t fd_count;
};

/* Answers a request. 0 with *result (a new reference to an object; NULL stands for an empty one); -1 with
 * err; or CONTROL_LATER: then control_answer or control_fail is called later for this request, which stays
 * valid until that. `arg` is the table's user's. */
#define CONTROL_LATER 1
typedef int (*control_fn)(void *arg, struct control_request *request, json_t **result, struct error *err);

struct control_method {
    const char *name;
    control_fn fn;
};

/* Serves listen_fd (its own from here on, also on failure) with the `count` methods. NULL with errno. */
struct control *control_new(struct loop *loop, int listen_fd, const struct control_method *methods,
                            size_t count, void *arg);
/* Closes all connections; requests that wait for an answer are dropped. NULL is fine. */
void control_free(struct control *control);

/* End a request whose handler gave CONTROL_LATER; the request is gone afterwards. The caller may have hung up
 * meanwhile. Take the reference to result. */
void control_answer(struct control_request *request, json_t *result);
void control_fail(struct control_request *request, const struct error *err);

#endif
