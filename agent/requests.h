/*
 * The requests of protocol.h: one table of method and handler.
 */
#ifndef HUSK_AGENT_REQUESTS_H
#define HUSK_AGENT_REQUESTS_H

#include "agent/sandbox.h"

/* Handles a request: answers it now, or keeps it and answers later. `params` is borrowed. */
void requests_handle(struct sandbox *sandbox, struct request *request, const char *method,
                     const json_t *params);

/* Connects a stream connection to its process. 0, or -1 with err filled and fd still the caller's. */
int requests_open_stream(struct sandbox *sandbox, const json_t *first_frame, int fd, struct error *err);

#endif
