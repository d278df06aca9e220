/*
 * Checked access to JSON that came from outside (config.json, frames, state files), over jansson.
 *
 * Each getter knows three outcomes: the member is there with the right type (1), it is absent or null (0, the
 * output is untouched), or it is wrong (-1, err filled with the member's path and what was expected). `where`
 * is the path of the object for messages ("process.user").
 *
 * Integers above INT64_MAX, which Go callers write for unlimited rlimits and seccomp arguments, have no place
 * in jansson's integers. json_parse_object keeps those up to UINT64_MAX as strings of their decimal digits,
 * without loss, and json_get_u64 takes either form; written out again and parsed by the other side they are
 * still the same strings.
 */
#ifndef HUSK_COMMON_JSON_H
#define HUSK_COMMON_JSON_H

#include "common/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

static inline void json_decref_cleanup(json_t **value)
{
    json_decref(*value);
}
#define cleanup_json __attribute__((cleanup(json_decref_cleanup)))

/* A document as it stands in the source, as a string literal. */
#define JSON_TEXT(...) #__VA_ARGS__

/* Parses text (length bytes): an object, no duplicate keys, nothing after it. New reference, or NULL with err
 * filled (line and column in the text). */
json_t *json_parse_object(const char *text, size_t length, struct error *err);

/* A string without embedded NUL; borrowed from the object. */
int json_get_string(const json_t *object, const char *where, const char *key, const char **out,
                    struct error *err);
int json_get_bool(const json_t *object, const char *where, const char *key, bool *out, struct error *err);
/* An integer within [min, max]. */
int json_get_int(const json_t *object, const char *where, const char *key, int64_t min, int64_t max,
                 int64_t *out, struct error *err);
/* An integer within [0, max]. */
int json_get_u64(const json_t *object, const char *where, const char *key, uint64_t max, uint64_t *out,
                 struct error *err);
/* Borrowed references. */
int json_get_object(const json_t *object, const char *where, const char *key, json_t **out,
                    struct error *err);
int json_get_array(const json_t *object, const char *where, const char *key, json_t **out, struct error *err);
/* An array of strings as a NULL-terminated heap array of borrowed strings; the caller frees the array only.
 */
int json_get_strings(const json_t *object, const char *where, const char *key, const char ***out,
                     struct error *err);

/* Turns "absent" (0) into an error that names the missing member; passes 1 and -1 on. */
int json_require(int got, const char *where, const char *key, struct error *err);

#endif
