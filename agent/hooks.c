/*
 * Hooks in the guest: see hooks.h. Runs between fork and exec, as the process's child.
 */
#include "agent/hooks.h"

#include "common/fd.h"
#include "common/json.h"

#include <errno.h>
#include <unistd.h>

/* The state as `husk state` prints it, but for the pid, which is the process's in its own pid namespace. */
static char *state_make(const struct launch *launch, const char *status)
{
    const json_t *config = launch->spec->json;
    json_t *version = json_object_get(config, "ociVersion");
    json_t *annotations = json_object_get(config, "annotations");
    cleanup_json json_t *state =
        json_pack("{s:O*, s:s, s:s, s:i, s:s, s:O*}", "ociVersion", version, "id", launch->id, "status",
                  status, "pid", (int)getpid(), "bundle", launch->bundle, "annotations", annotations);
    return state ? json_dumps(state, JSON_COMPACT) : NULL;
}

int hooks_run(const struct launch *launch, const struct spec_hooks *hooks, const char *kind,
              const char *status, const int *program_fds, struct error *err)
{
    if (hooks->count == 0)
        return 0;
    cleanup_free char *state = state_make(launch, status);
    if (!state)
        return error_set(err, ENOMEM, "hooks.%s", kind);
    for (size_t i = 0; i < hooks->count; i++) {
        if (hook_run(&hooks->list[i], program_fds ? program_fds[i] : -1, state, err))
            return error_wrap(err, "hooks.%s[%zu]", kind, i);
    }
    return 0;
}
