/*
 * The requests of protocol.h: one table of method and handler.
 */
#ifndef HUSK_AGENT_REQUESTS_H
#define HUSK_AGENT_REQUESTS_H

#include "agent/sandbox.h"

/* Handles a request: answers it now, or keeps it and answers later. `params` is borrowed. */
void requests_handle(struct sandbox *sandbox, struct request *request, const char *method,
                     const json_t *params);

/* The stream that a connection's first frame names, or NULL with err filled: ENOENT when it is not, or not
 * yet, there. */
struct stream *requests_find_stream(struct sandbox *sandbox, const json_t *first_frame, struct error *err);

#endif
