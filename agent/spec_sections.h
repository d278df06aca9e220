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
int spec_parse_namespaces(void *into, const json_t *object, const char *where, const char *key,
                          struct error *err);
int spec_parse_uid_maps(void *into, const json_t *object, const char *where, const char *key,
                        struct error *err);
int spec_parse_gid_maps(void *into, const json_t *object, const char *where, const char *key,
                        struct error *err);
int spec_parse_time_offsets(void *into, const json_t *object, const char *where, const char *key,
                            struct error *err);
int spec_parse_hooks(void *into, const json_t *object, const char *where, const char *key, struct error *err);
void spec_hooks_fini(struct spec_hooks *hooks);

/* One list of mappings (object[key]) into *maps, a heap array, and *count. 0 or -1. */
int spec_id_maps_parse(struct spec_id_map **maps, size_t *count, const json_t *object, const char *where,
                       const char *key, struct error *err);
void spec_id_maps_fini(struct spec_id_maps *maps);

/* What can only be judged once the whole of `linux`, or of config.json, was read. 0 or -1. */
int spec_check_namespaces(const struct spec *spec, struct error *err);
int spec_check_mounts(const struct spec *spec, struct error *err);

#endif
