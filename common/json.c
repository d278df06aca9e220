/*
 * Checked access to JSON from outside: see json.h. The trust boundary lies here for config.json (shim,
 * agent), frames (both ends) and state files.
 */
#include "common/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

json_t *json_parse_object(const char *text, size_t length, struct error *err)
{
    json_error_t at;
    json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES, &at);
    if (!value) {
        error_set(err, 0, "broken JSON at line %d, column %d: %s", at.line, at.column, at.text);
        return NULL;
    }
    if (!json_is_object(value)) {
        json_decref(value);
        error_set(err, 0, "broken JSON: not an object");
        return NULL;
    }
    return value;
}

static int json_wrong(const char *where, const char *key, const char *expected, struct error *err)
{
    return error_set(err, 0, "%s%s%s: expected %s", where, *where ? "." : "", key, expected);
}

/* The member, or NULL when it is absent or null. */
static json_t *json_member(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

/* jansson refuses "\u0000" in a string unless asked to allow it, so a string here has no embedded NUL. */
int json_get_string(const json_t *object, const char *where, const char *key, const char **out,
                    struct error *err)
{
    const json_t *value = json_member(object, key);
    if (!value)
        return 0;
    if (!json_is_string(value))
        return json_wrong(where, key, "a string", err);
    *out = json_string_value(value);
    return 1;
}

int json_get_bool(const json_t *object, const char *where, const char *key, bool *out, struct error *err)
{
    const json_t *value = json_member(object, key);
    if (!value)
        return 0;
    if (!json_is_boolean(value))
        return json_wrong(where, key, "true or false", err);
    *out = json_is_true(value);
    return 1;
}

int json_get_int(const json_t *object, const char *where, const char *key, int64_t min, int64_t max,
                 int64_t *out, struct error *err)
{
    const json_t *value = json_member(object, key);
    if (!value)
        return 0;
    if (!json_is_integer(value))
        return json_wrong(where, key, "an integer", err);
    int64_t number = json_integer_value(value);
    if (number < min || number > max)
        return error_set(err, 0, "%s%s%s: %lld is not within %lld and %lld", where, *where ? "." : "", key,
                         (long long)number, (long long)min, (long long)max);
    *out = number;
    return 1;
}

int json_get_object(const json_t *object, const char *where, const char *key, json_t **out, struct error *err)
{
    json_t *value = json_member(object, key);
    if (!value)
        return 0;
    if (!json_is_object(value))
        return json_wrong(where, key, "an object", err);
    *out = value;
    return 1;
}

int json_get_array(const json_t *object, const char *where, const char *key, json_t **out, struct error *err)
{
    json_t *value = json_member(object, key);
    if (!value)
        return 0;
    if (!json_is_array(value))
        return json_wrong(where, key, "an array", err);
    *out = value;
    return 1;
}

int json_get_strings(const json_t *object, const char *where, const char *key, const char ***out,
                     struct error *err)
{
    json_t *array = NULL;
    int got = json_get_array(object, where, key, &array, err);
    if (got <= 0)
        return got;
    size_t count = json_array_size(array);
    const char **strings = calloc(count + 1, sizeof(*strings));
    if (!strings)
        return error_set(err, ENOMEM, "%s.%s", where, key);
    for (size_t i = 0; i < count; i++) {
        strings[i] = json_string_value(json_array_get(array, i));
        if (!strings[i]) {
            free(strings);
            return json_wrong(where, key, "an array of strings", err);
        }
    }
    *out = strings;
    return 1;
}

int json_require(int got, const char *where, const char *key, struct error *err)
{
    if (got == 0)
        return error_set(err, 0, "%s%s%s is missing", where, *where ? "." : "", key);
    return got;
}
