/*
 * Pausing containers: see container.h. The guest's agent freezes and thaws.
 *
 * The state says "paused" from before the first process stands until after the last one runs. So a command
 * that is killed half-way leaves a container that `resume` mends: never one that stands and is not known to.
 */
#include "common/fd.h"
#include "common/json.h"
#include "shim/container.h"

#define FREEZE_TIMEOUT_MS 10000 /* as runc waits for a cgroup to freeze */
#define THAW_TIMEOUT_MS   10000

static int pause_record(int container_fd, struct container_state *state, bool paused, struct error *err)
{
    state->paused = paused;
    return container_state_write(container_fd, state, err);
}

static int pause_call(const struct context *context, const struct container_state *state, const char *method,
                      int timeout_ms, struct error *err)
{
    cleanup_json json_t *result = container_call(&context->store, state, method,
                                                 json_pack("{s:s}", "container", state->id), timeout_ms, err);
    return result ? 0 : -1;
}

static int pause_locked(const struct context *context, int container_fd, struct container_state *state,
                        struct error *err)
{
    if (state->paused)
        return error_set(err, 0, "container already paused");
    if (state->status != STATUS_CREATED && state->status != STATUS_RUNNING)
        return error_set(err, 0, "container not running");
    if (pause_record(container_fd, state, true, err) < 0)
        return -1;
    if (pause_call(context, state, "container.pause", FREEZE_TIMEOUT_MS, err) == 0)
        return 0;
    /* Some processes may stand already. When that can't be taken back either, "paused" stays the truth. */
    struct error ignored;
    if (pause_call(context, state, "container.resume", THAW_TIMEOUT_MS, &ignored) == 0)
        pause_record(container_fd, state, false, &ignored);
    return -1;
}

static int resume_locked(const struct context *context, int container_fd, struct container_state *state,
                         struct error *err)
{
    if (!state->paused)
        return error_set(err, 0, "container not paused");
    if (pause_call(context, state, "container.resume", THAW_TIMEOUT_MS, err) < 0)
        return -1;
    return pause_record(container_fd, state, false, err);
}

static int pause_with(const struct context *context, const char *id,
                      int (*change)(const struct context *context, int container_fd,
                                    struct container_state *state, struct error *err),
                      struct error *err)
{
    struct container_state state;
    cleanup_fd int fd = -1;
    int result = container_open_locked(&context->store, id, &fd, &state, err);
    if (result == 0)
        result = change(context, fd, &state, err);
    container_state_fini(&state);
    return result < 0 ? error_wrap(err, "container %s", id) : 0;
}

int container_pause(const struct context *context, const char *id, struct error *err)
{
    return pause_with(context, id, pause_locked, err);
}

int container_resume(const struct context *context, const char *id, struct error *err)
{
    return pause_with(context, id, resume_locked, err);
}
