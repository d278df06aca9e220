/* Device rules: see device_rules.h. */
#include "common/device_rules.h"

#include <string.h>

/* A rule's number that stands for all: left out, or negative. */
static bool is_any_number(const json_t *number)
{
    return !number || json_is_null(number) || (json_is_integer(number) && json_integer_value(number) < 0);
}

static bool is_any_type(const json_t *type)
{
    const char *text = json_string_value(type);
    return !type || (text && (*text == '\0' || strcmp(text, "a") == 0));
}

static bool is_any_access(const json_t *access)
{
    const char *text = json_string_value(access);
    return !access ||
           (text && (*text == '\0' || (strchr(text, 'r') && strchr(text, 'w') && strchr(text, 'm'))));
}

bool device_rules_are_privileged(const json_t *linux_section)
{
    const json_t *rules = json_object_get(json_object_get(linux_section, "resources"), "devices");
    const json_t *rule = json_array_get(rules, 0);
    return json_array_size(rules) == 1 && json_is_true(json_object_get(rule, "allow")) &&
           is_any_type(json_object_get(rule, "type")) && is_any_access(json_object_get(rule, "access")) &&
           is_any_number(json_object_get(rule, "major")) && is_any_number(json_object_get(rule, "minor"));
}
