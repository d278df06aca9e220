/*
 * `husk events` in runc's form (its types/events.go): what go-runc and containerd parse.
 *
 * Called by cmd_events.c. The figures are the guest's word: each number is checked, none is trusted.
 */
#ifndef HUSK_SHIM_EVENT_JSON_H
#define HUSK_SHIM_EVENT_JSON_H

#include "common/error.h"

#include <jansson.h>
#include <stdio.h>

/* Writes {"type":"stats","id":ID,"data":{...}} and a newline from an answer to container.stats. 0, or -1 with
 * err filled when the answer is not as protocol.h says; then nothing was written. */
int event_write_stats(FILE *out, const char *id, const json_t *stats, struct error *err);

/* Writes {"type":"oom","id":ID} and a newline. */
void event_write_oom(FILE *out, const char *id);

#endif
