/*
 * The tables that drive the parsing of config.json: one row a member of the specification.
 *
 * A row either has a function that takes the member in, or the reason for which it is refused. What is in no
 * table is unknown to the specification and ignored.
 */
#ifndef HUSK_AGENT_SPEC_FIELDS_H
#define HUSK_AGENT_SPEC_FIELDS_H

#include "common/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define SPEC_PATH_MAX 256

/* Takes object[key], which is present and not null, into *into. `where` is the object's path. 0 or -1. */
typedef int (*spec_field_fn)(void *into, const json_t *object, const char *where, const char *key,
                             struct error *err);

struct spec_field {
    const char *name;
    spec_field_fn parse;
    const char *refused; /* why, when parse is NULL; a refused member may still be there and empty */
    bool required;
};

/* Applies a table (ended by a row without a name) to an object. 0, or -1 with err naming the member. */
int spec_fields_parse(const struct spec_field *fields, void *into, const json_t *object, const char *where,
                      struct error *err);

/* For a row whose member needs nothing from the agent: another piece (the shim) honours it. */
int spec_field_elsewhere(void *into, const json_t *object, const char *where, const char *key,
                         struct error *err);

/* Writes "where.key" (or "key" without where) into path, and "where.key[index]". What does not fit is cut. */
void spec_path_member(char path[SPEC_PATH_MAX], const char *where, const char *key);
void spec_path_element(char path[SPEC_PATH_MAX], const char *where, const char *key, size_t index);

/* An array of objects: *array borrowed, and -1 when an element is no object or there are more than max. */
int spec_get_objects(const json_t *object, const char *where, const char *key, size_t max, json_t **array,
                     struct error *err);

/* An absolute path. Borrowed. */
int spec_get_path(const json_t *object, const char *where, const char *key, const char **out,
                  struct error *err);

struct spec_name {
    const char *name;
    unsigned long value;
};

/* A string that is one of the names in the table (ended by a NULL name): its value. 1, 0 or -1 as the getters
 * of common/json.h. */
int spec_get_name(const json_t *object, const char *where, const char *key, const struct spec_name *names,
                  unsigned long *value, struct error *err);
/* The same for a list of names, whose values are joined by or into *flags; a name that is not in the table is
 * an error with its place. 1 when there is a list, 0 when not, -1. */
int spec_get_flags(const json_t *object, const char *where, const char *key, const struct spec_name *names,
                   unsigned long *flags, struct error *err);

/* The row of the table with that name, or NULL. */
const struct spec_name *spec_name_find(const struct spec_name *names, const char *name);

#endif
