/*
 * Hooks of config.json (OCI runtime-spec config.md "POSIX-platform Hooks") that run in the guest: see spec.h.
 */
#include "agent/spec_sections.h"

#include "agent/spec_fields.h"
#include "common/json.h"

#include <errno.h>
#include <stdlib.h>

#define HOOKS_MAX 64

static int hooks_parse(struct spec_hooks *hooks, const json_t *object, const char *where, const char *key,
                       struct error *err)
{
    json_t *list = NULL;
    int got = spec_get_objects(object, where, key, HOOKS_MAX, &list, err);
    if (got <= 0)
        return got;
    hooks->list = calloc(json_array_size(list) + 1, sizeof(*hooks->list));
    if (!hooks->list)
        return error_set(err, ENOMEM, "%s.%s", where, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        char path[SPEC_PATH_MAX];
        spec_path_element(path, where, key, i);
        hooks->count = i + 1;
        if (hook_parse(json_array_get(list, i), path, &hooks->list[i], err))
            return -1;
    }
    return 0;
}

static int hooks_create_container(void *into, const json_t *object, const char *where, const char *key,
                                  struct error *err)
{
    struct spec *spec = into;
    return hooks_parse(&spec->create_hooks, object, where, key, err);
}

static int hooks_start_container(void *into, const json_t *object, const char *where, const char *key,
                                 struct error *err)
{
    struct spec *spec = into;
    return hooks_parse(&spec->start_hooks, object, where, key, err);
}

int spec_parse_hooks(void *into, const json_t *object, const char *where, const char *key, struct error *err)
{
    static const struct spec_field hooks[] = {
        {"prestart", spec_field_elsewhere, NULL, false}, /* these four run on the host: the shim's */
        {"createRuntime", spec_field_elsewhere, NULL, false},
        {"poststart", spec_field_elsewhere, NULL, false},
        {"poststop", spec_field_elsewhere, NULL, false},
        {"createContainer", hooks_create_container, NULL, false},
        {"startContainer", hooks_start_container, NULL, false},
        {NULL, NULL, NULL, false},
    };
    json_t *section = NULL;
    if (json_get_object(object, where, key, &section, err) < 0)
        return -1;
    return spec_fields_parse(hooks, into, section, "hooks", err);
}

void spec_hooks_fini(struct spec_hooks *hooks)
{
    for (size_t i = 0; i < hooks->count; i++)
        hook_fini(&hooks->list[i]);
    free(hooks->list);
    *hooks = (struct spec_hooks){0};
}
