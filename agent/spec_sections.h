/*
 * The sections of config.json that have a file of their own, as rows of the tables in spec.c. Internal to the
 * parser; everybody else uses spec.h.
 */
#ifndef HUSK_AGENT_SPEC_SECTIONS_H
#define HUSK_AGENT_SPEC_SECTIONS_H

#include "agent/spec.h"

/* Each is a spec_field_fn whose `into` is the struct spec. */
int spec_parse_mounts(void *into, const json_t *object, const char *where, const char *key,
                      struct error *err);
int spec_parse_propagation(void *into, const json_t *object, const char *where, const char *key,
                           struct error *err);
int spec_parse_devices(void *into, const json_t *object, const char *where, const char *key,
                       struct error *err);
int spec_parse_resources(void *into, const json_t *object, const char *where, const char *key,
                         struct error *err);
int spec_parse_seccomp(void *into, const json_t *object, const char *where, const char *key,
                       struct error *err);

#endif
