/*
 * Changing a container's limits: see container.h. The host's cgroup and the VM grow first, then the new
 * values go into the guest's cgroup, all or none, then the VM shrinks; and then they go into the state, where
 * the next update starts from.
 *
 * A section of linux.resources that changes is sent whole, old members and new: what some values mean depends
 * on their neighbours (swap counts memory as well, a quota its period).
 */
#include "common/fd.h"
#include "common/json.h"
#include "shim/container.h"
#include "shim/container_resize.h"

#include <errno.h>
#include <string.h>

#define UPDATE_TIMEOUT_MS 30000 /* a lower memory limit has the guest's kernel reclaim first */

/* Members of `from` into `into`: objects member by member, all else replaced; null leaves what is there. 0 or
 * -1. */
static int update_merge(json_t *into, const json_t *from)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)from, key, value)
    {
        json_t *old = json_object_get(into, key);
        int failed = 0;
        if (json_is_object(old) && json_is_object(value))
            failed = update_merge(old, value);
        else if (!json_is_null(value))
            failed = json_object_set_new(into, key, json_deep_copy(value));
        if (failed)
            return -1;
    }
    return 0;
}

/* The sections of `all` that `changes` has. New reference or NULL. */
static json_t *update_select(const json_t *all, const json_t *changes)
{
    const char *key;
    json_t *value;
    json_t *selected = json_object();
    json_object_foreach((json_t *)(uintptr_t)changes, key, value)
    {
        json_t *section = json_object_get(all, key);
        if (section && json_object_set(selected, key, section) < 0) {
            json_decref(selected);
            return NULL;
        }
    }
    return selected;
}

static int update_guest(const struct context *context, const struct container_state *state, json_t *merged,
                        const json_t *changes, struct error *err)
{
    cleanup_json json_t *result = container_call(
        &context->store, state, "container.update",
        json_pack("{s:s, s:o}", "container", state->id, "resources", update_select(merged, changes)),
        UPDATE_TIMEOUT_MS, err);
    return result ? 0 : -1;
}

static int update_locked(const struct context *context, int container_fd, struct container_state *state,
                         const json_t *resources, struct error *err)
{
    if (state->status != STATUS_CREATED && state->status != STATUS_RUNNING)
        return error_set(err, 0, "container not running");
    cleanup_json json_t *changes = json_copy((json_t *)(uintptr_t)resources);
    json_object_del(changes, "devices"); /* as runc: an update never touches the device rules */
    cleanup_json json_t *merged = state->resources ? json_deep_copy(state->resources) : json_object();
    if (!changes || !merged || update_merge(merged, changes) < 0)
        return error_set(err, ENOMEM, "update");
    struct container_resize resize;
    int result = container_resize_begin(&resize, context, state, merged, err);
    if (result == 0) {
        result = update_guest(context, state, merged, changes, err);
        if (result < 0)
            container_resize_undo(&resize);
        else
            result = container_resize_finish(&resize, err);
    }
    container_resize_fini(&resize);
    if (result < 0)
        return -1;
    json_decref(state->resources);
    state->resources = json_incref(merged);
    return container_state_write(container_fd, state, err);
}

int container_update(const struct context *context, const char *id, const json_t *resources,
                     struct error *err)
{
    struct container_state state;
    cleanup_fd int fd = -1;
    int result = container_open_locked(&context->store, id, &fd, &state, err);
    if (result == 0)
        result = update_locked(context, fd, &state, resources, err);
    container_state_fini(&state);
    return result < 0 ? error_wrap(err, "container %s", id) : 0;
}
