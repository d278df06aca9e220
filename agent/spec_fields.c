/*
 * Table-driven parsing of config.json: see spec_fields.h.
 */
#include "agent/spec_fields.h"

#include "common/fd.h"
#include "common/json.h"

#include <stdio.h>
#include <string.h>

/* Whether a value asks for nothing. Go callers write the zero value of members they do not use. */
static bool json_is_empty(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return json_object_size(value) == 0;
    case JSON_ARRAY:
        return json_array_size(value) == 0;
    case JSON_STRING:
        return json_string_length(value) == 0;
    case JSON_INTEGER:
        return json_integer_value(value) == 0;
    case JSON_NULL:
    case JSON_FALSE:
        return true;
    default:
        return false;
    }
}

int spec_fields_parse(const struct spec_field *fields, void *into, const json_t *object, const char *where,
                      struct error *err)
{
    for (const struct spec_field *field = fields; field->name; field++) {
        const json_t *value = json_object_get(object, field->name);
        if (!value || json_is_null(value)) {
            if (field->required)
                return json_require(0, where, field->name, err);
            continue;
        }
        if (!field->parse) {
            if (json_is_empty(value))
                continue;
            return error_set(err, 0, "%s%s%s is not supported: %s", where, *where ? "." : "", field->name,
                             field->refused);
        }
        if (field->parse(into, object, where, field->name, err) < 0)
            return -1;
    }
    return 0;
}

int spec_field_elsewhere(void *into, const json_t *object, const char *where, const char *key,
                         struct error *err)
{
    (void)into, (void)object, (void)where, (void)key, (void)err;
    return 0;
}

void spec_path_member(char path[SPEC_PATH_MAX], const char *where, const char *key)
{
    snprintf(path, SPEC_PATH_MAX, "%s%s%s", where, *where ? "." : "", key);
}

void spec_path_element(char path[SPEC_PATH_MAX], const char *where, const char *key, size_t index)
{
    snprintf(path, SPEC_PATH_MAX, "%s%s%s[%zu]", where, *where ? "." : "", key, index);
}

int spec_get_objects(const json_t *object, const char *where, const char *key, size_t max, json_t **array,
                     struct error *err)
{
    int got = json_get_array(object, where, key, array, err);
    if (got <= 0)
        return got;
    size_t count = json_array_size(*array);
    if (count > max)
        return error_set(err, 0, "%s%s%s: %zu elements, %zu are allowed", where, *where ? "." : "", key,
                         count, max);
    for (size_t i = 0; i < count; i++) {
        if (!json_is_object(json_array_get(*array, i)))
            return error_set(err, 0, "%s%s%s[%zu]: expected an object", where, *where ? "." : "", key, i);
    }
    return 1;
}

int spec_get_path(const json_t *object, const char *where, const char *key, const char **out,
                  struct error *err)
{
    const char *path = NULL;
    int got = json_get_string(object, where, key, &path, err);
    if (got <= 0)
        return got;
    if (path[0] != '/')
        return error_set(err, 0, "%s%s%s: '%s' is not an absolute path", where, *where ? "." : "", key, path);
    *out = path;
    return 1;
}

const struct spec_name *spec_name_find(const struct spec_name *names, const char *name)
{
    for (; names->name; names++) {
        if (strcmp(names->name, name) == 0)
            return names;
    }
    return NULL;
}

int spec_get_name(const json_t *object, const char *where, const char *key, const struct spec_name *names,
                  unsigned long *value, struct error *err)
{
    const char *name = NULL;
    int got = json_get_string(object, where, key, &name, err);
    if (got <= 0)
        return got;
    const struct spec_name *row = spec_name_find(names, name);
    if (!row)
        return error_set(err, 0, "%s%s%s: '%s' is not known", where, *where ? "." : "", key, name);
    *value = row->value;
    return 1;
}

int spec_get_flags(const json_t *object, const char *where, const char *key, const struct spec_name *names,
                   unsigned long *flags, struct error *err)
{
    cleanup_free const char **given = NULL;
    int got = json_get_strings(object, where, key, &given, err);
    for (size_t i = 0; got > 0 && given[i]; i++) {
        const struct spec_name *flag = spec_name_find(names, given[i]);
        if (!flag)
            return error_set(err, 0, "%s.%s[%zu]: '%s' is not known", where, key, i, given[i]);
        *flags |= flag->value;
    }
    return got;
}
