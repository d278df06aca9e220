/*
 * Connections from the host: the first frame that decides what one is to be, then requests and their answers.
 *
 * The other side is not trusted: frames are capped by the parser, requests in flight and unread answers here.
 * Everything runs in the loop's thread.
 */
#ifndef HUSK_AGENT_CONNECTION_H
#define HUSK_AGENT_CONNECTION_H

#include "common/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <sys/queue.h>

struct sandbox;
struct connection;

/* A request that is to be answered. It outlives its connection: an answer to nobody is dropped. */
struct request {
    struct connection *connection; /* NULL: gone */
    json_int_t id;
    LIST_ENTRY(request) of_connection;
    LIST_ENTRY(request) waiting; /* for whoever keeps requests for later (process_wait) */
};
LIST_HEAD(request_list, request);

/* Answers and frees the request. `result` is stolen; NULL stands for an empty object. */
void request_succeed(struct request *request, json_t *result);

/* Answers with the error and frees the request. */
void request_fail(struct request *request, const struct error *err);

/* Sends an event on the connection of a kept request; to nobody when that is gone. `params` is stolen. */
void request_notify(const struct request *request, const char *event, json_t *params);

/* Takes over a connected, non-blocking socket. The connection frees itself when it ends. 0, or -ENOMEM or
 * another -errno with fd still the caller's. */
int connection_new(struct sandbox *sandbox, int fd);

/* Closes a connection whose first frame has not come in time. */
void connection_expire(struct connection *connection, long long now_ms);

/* The connection owns a container from now on: its loss ends that, and the guest with the last one. */
void connection_set_owner(struct connection *connection);

/* The connection owns a further process from now on: its loss kills that. */
void connection_set_process_owner(struct connection *connection);

/* Opens the stream that the connection waits for, if it waits for one that is there now. May free it. */
void connection_open_waiting_stream(struct connection *connection);

/* Waits, shortly, until what was answered has left the guest: before the power goes. */
void connection_flush(const struct connection *connection);

/* Closes and frees. Its requests stay and are answered to nobody. */
void connection_free(struct connection *connection);

LIST_HEAD(connection_list, connection);

/* The next one in sandbox->connections, or NULL. */
struct connection *connection_next(const struct connection *connection);

#endif
