/*
 * The host's hooks: see hooks.h. A hook is a program of the host's administrator or engine, named in
 * config.json.
 */
#include "shim/hooks.h"

#include "common/fd.h"
#include "common/hook.h"
#include "common/json.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>

static const char *const host_kinds[] = {"prestart", "createRuntime", "poststart", "poststop"};

int hooks_run(const struct container_state *state, const char *kind, void (*enter)(void *arg), void *arg,
              struct error *err)
{
    json_t *list = NULL;
    if (json_get_array(state->hooks, "hooks", kind, &list, err) <= 0)
        return 0;
    cleanup_json json_t *object = container_state_to_oci(state);
    cleanup_free char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    if (!text)
        return error_set(err, ENOMEM, "hooks.%s", kind);
    for (size_t i = 0; i < json_array_size(list); i++) {
        char where[64];
        struct hook hook;
        snprintf(where, sizeof(where), "hooks.%s[%zu]", kind, i);
        int result = hook_parse(json_array_get(list, i), where, &hook, err);
        if (result == 0) {
            log_debug("hook %s path=%s", where, hook.path);
            hook.inherits = true; /* as with runc and crun */
            hook.enter = enter;
            hook.enter_arg = arg;
            result = hook_run(&hook, -1, text, err);
            if (result < 0)
                error_wrap(err, "%s", where);
        }
        hook_fini(&hook);
        if (result < 0)
            return -1;
    }
    return 0;
}

int hooks_check(const json_t *hooks, struct error *err)
{
    for (size_t kind = 0; kind < sizeof(host_kinds) / sizeof(host_kinds[0]); kind++) {
        json_t *list = NULL;
        if (json_get_array(hooks, "hooks", host_kinds[kind], &list, err) < 0)
            return -1;
        for (size_t i = 0; i < json_array_size(list); i++) {
            char where[64];
            struct hook hook;
            snprintf(where, sizeof(where), "hooks.%s[%zu]", host_kinds[kind], i);
            int result = hook_parse(json_array_get(list, i), where, &hook, err);
            hook_fini(&hook);
            if (result < 0)
                return -1;
        }
    }
    return 0;
}
