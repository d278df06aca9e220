/*
 * Checked access to JSON from outside: see json.h. The trust boundary lies here for config.json (shim,
 * agent), frames (both ends) and state files.
 */
#include "common/json.h"

#include "common/fd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Decimal digits of the largest int64_t and the largest uint64_t. */
#define INT64_DIGITS  19
#define UINT64_DIGITS 20

/* Whether `count` digits at text are a number that fits uint64_t and not int64_t. */
static bool json_digits_are_u64(const char *text, size_t count)
{
    if (text[0] == '0' || count < INT64_DIGITS || count > UINT64_DIGITS)
        return false;
    uint64_t number = 0;
    for (size_t i = 0; i < count; i++) {
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, (uint64_t)(text[i] - '0'), &number))
            return false;
    }
    return number > INT64_MAX;
}

/* Bytes of the string literal that starts at text with its quote, or all that is left if it does not end. */
static size_t json_literal_length(const char *text, size_t left)
{
    for (size_t at = 1; at < left; at++) {
        if (text[at] == '\\')
            at++;
        else if (text[at] == '"')
            return at + 1;
    }
    return left;
}

/* Copies JSON text with each integer between INT64_MAX and UINT64_MAX put in quotes. Heap buffer, its length
 * in *out_length; NULL without memory. Broken JSON stays broken. */
static char *json_quote_u64(const char *text, size_t length, size_t *out_length)
{
    if (length > SIZE_MAX / 2)
        return NULL;
    /* Two quotes for at least INT64_DIGITS digits: less than a quarter is added. */
    char *out = malloc(length + length / 4 + 1);
    if (!out)
        return NULL;
    size_t to = 0;
    for (size_t at = 0; at < length;) {
        size_t run = 1;
        bool quote = false;
        if (text[at] == '"') {
            run = json_literal_length(text + at, length - at);
        } else if (text[at] >= '0' && text[at] <= '9') {
            while (at + run < length && text[at + run] >= '0' && text[at + run] <= '9')
                run++;
            char before = ' ', after = ' ';
            if (at > 0)
                before = text[at - 1];
            if (at + run < length)
                after = text[at + run];
            /* Not a part of a negative, a fraction or an exponent. */
            quote = !strchr("-+.eE", before) && !strchr(".eE", after) && json_digits_are_u64(text + at, run);
        }
        if (quote)
            out[to++] = '"';
        memcpy(out + to, text + at, run);
        to += run;
        if (quote)
            out[to++] = '"';
        at += run;
    }
    *out_length = to;
    return out;
}

static json_t *json_load(const char *text, size_t length, json_error_t *at)
{
    json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES, at);
    if (value || json_error_code(at) != json_error_numeric_overflow)
        return value;
    size_t quoted_length = 0;
    cleanup_free char *quoted = json_quote_u64(text, length, &quoted_length);
    return quoted ? json_loadb(quoted, quoted_length, JSON_REJECT_DUPLICATES, at) : NULL;
}

json_t *json_parse_object(const char *text, size_t length, struct error *err)
{
    json_error_t at;
    json_t *value = json_load(text, length, &at);
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

int json_get_u64(const json_t *object, const char *where, const char *key, uint64_t max, uint64_t *out,
                 struct error *err)
{
    const json_t *value = json_member(object, key);
    if (!value)
        return 0;
    uint64_t number = 0;
    if (json_is_string(value) && json_digits_are_u64(json_string_value(value), json_string_length(value)))
        number = strtoull(json_string_value(value), NULL, 10);
    else if (!json_is_integer(value) || json_integer_value(value) < 0)
        return json_wrong(where, key, "an unsigned integer", err);
    else
        number = (uint64_t)json_integer_value(value);
    if (number > max)
        return error_set(err, 0, "%s%s%s: %llu is over %llu", where, *where ? "." : "", key,
                         (unsigned long long)number, (unsigned long long)max);
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
