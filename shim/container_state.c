/*
 * state.json, read and written: see container_state.h. The file is husk's own, yet it is checked like any
 * other: an older version or a damaged disk must give an error, not a wrong kill.
 */
#include "shim/container_state.h"

#include "common/fd.h"
#include "common/json.h"

#include <errno.h>
#include <string.h>

#define STATE_VERSION   1
#define STATE_BYTES_MAX (4u << 20)

static const char *const status_names[] = {"creating", "created", "running", "stopped"};

const char *container_status_name(enum container_status status)
{
    return status_names[status];
}

const char *container_state_word(const struct container_state *state)
{
    return state->paused ? "paused" : container_status_name(state->status);
}

void container_state_fini(struct container_state *state)
{
    free(take_ptr(&state->id));
    free(take_ptr(&state->sandbox));
    free(take_ptr(&state->bundle));
    free(take_ptr(&state->config));
    free(take_ptr(&state->rootfs));
    free(take_ptr(&state->oci_version));
    free(take_ptr(&state->owner));
    free(take_ptr(&state->created));
    free(take_ptr(&state->reason));
    json_decref(take_ptr(&state->annotations));
    json_decref(take_ptr(&state->hooks));
    json_decref(take_ptr(&state->resources));
    json_decref(take_ptr(&state->cgroup));
}

int container_state_set_text(char **field, const char *text, struct error *err)
{
    char *copy = text ? strdup(text) : NULL;
    if (text && !copy)
        return error_set(err, ENOMEM, "container state");
    free(*field);
    *field = copy;
    return 0;
}

/* A member that is a string; `required` or left NULL. */
static int state_read_text(const json_t *object, const char *key, bool required, char **field,
                           struct error *err)
{
    const char *text = NULL;
    int got = json_get_string(object, "", key, &text, err);
    if (required)
        got = json_require(got, "", key, err);
    if (got < 0)
        return -1;
    return container_state_set_text(field, text, err);
}

static int state_read_status(const json_t *object, enum container_status *out, struct error *err)
{
    const char *name = NULL;
    if (json_require(json_get_string(object, "", "status", &name, err), "", "status", err) < 0)
        return -1;
    for (unsigned i = 0; i < sizeof(status_names) / sizeof(status_names[0]); i++) {
        if (strcmp(name, status_names[i]) == 0) {
            *out = (enum container_status)i;
            return 0;
        }
    }
    return error_set(err, 0, "status: \"%s\" is unknown", name);
}

static int state_from_json(const json_t *object, struct container_state *state, struct error *err)
{
    int64_t version = 0, exit_status = -1, exit_signal = 0;
    if (json_require(json_get_int(object, "", "version", STATE_VERSION, STATE_VERSION, &version, err), "",
                     "version", err) < 0 ||
        state_read_text(object, "id", true, &state->id, err) < 0 ||
        state_read_text(object, "sandbox", true, &state->sandbox, err) < 0 ||
        state_read_text(object, "bundle", true, &state->bundle, err) < 0 ||
        state_read_text(object, "config", false, &state->config, err) < 0 ||
        state_read_text(object, "rootfs", true, &state->rootfs, err) < 0 ||
        state_read_text(object, "ociVersion", true, &state->oci_version, err) < 0 ||
        state_read_text(object, "owner", true, &state->owner, err) < 0 ||
        state_read_text(object, "created", true, &state->created, err) < 0 ||
        state_read_text(object, "reason", false, &state->reason, err) < 0 ||
        state_read_status(object, &state->status, err) < 0 ||
        process_id_from_json(object, "monitor", &state->monitor, err) < 0 ||
        json_get_bool(object, "", "paused", &state->paused, err) < 0 ||
        json_get_bool(object, "", "hasProcess", &state->has_process, err) < 0 ||
        json_get_int(object, "", "exitStatus", -1, 255, &exit_status, err) < 0 ||
        json_get_int(object, "", "exitSignal", 0, 255, &exit_signal, err) < 0 ||
        json_get_object(object, "", "annotations", &state->annotations, err) < 0 ||
        json_get_object(object, "", "hooks", &state->hooks, err) < 0 ||
        json_get_object(object, "", "resources", &state->resources, err) < 0 ||
        json_get_object(object, "", "cgroup", &state->cgroup, err) < 0)
        return -1;
    state->exit_status = (int)exit_status;
    state->exit_signal = (int)exit_signal;
    json_incref(state->annotations);
    json_incref(state->hooks);
    json_incref(state->resources);
    json_incref(state->cgroup);
    return 0;
}

int container_state_read(int container_fd, struct container_state *out, struct error *err)
{
    *out = (struct container_state){.exit_status = -1};
    cleanup_free char *text = NULL;
    ssize_t length = fd_read_file_at(container_fd, STORE_STATE_FILE, STATE_BYTES_MAX, &text);
    if (length == -ENOENT) {
        error_set(err, 0, "container does not exist");
        if (err)
            err->code = ENOENT;
        return -1;
    }
    if (length < 0)
        return error_set(err, (int)-length, "read " STORE_STATE_FILE);
    cleanup_json json_t *object = json_parse_object(text, (size_t)length, err);
    if (!object)
        return error_wrap(err, STORE_STATE_FILE);
    struct container_state state = {.exit_status = -1};
    if (state_from_json(object, &state, err) < 0) {
        /* The borrowed references may not have been counted yet. */
        state.annotations = state.hooks = state.resources = state.cgroup = NULL;
        container_state_fini(&state);
        return error_wrap(err, STORE_STATE_FILE);
    }
    *out = state;
    return 0;
}

int container_state_write(int container_fd, const struct container_state *state, struct error *err)
{
    cleanup_json json_t *object = json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:i, s:i, s:s*, s:s*, s:O*, s:O*, s:O*, "
        "s:O*}",
        "version", STATE_VERSION, "id", state->id, "sandbox", state->sandbox, "bundle", state->bundle,
        "rootfs", state->rootfs, "ociVersion", state->oci_version, "owner", state->owner, "created",
        state->created, "status", container_status_name(state->status), "paused", state->paused, "hasProcess",
        state->has_process, "exitStatus", state->exit_status, "exitSignal", state->exit_signal, "reason",
        state->reason, "config", state->config, "annotations", state->annotations, "hooks", state->hooks,
        "resources", state->resources, "cgroup", state->cgroup);
    if (!object)
        return error_set(err, 0, "container state: a member is no UTF-8");
    if (state->monitor.pid > 0 &&
        json_object_set_new(object, "monitor", process_id_to_json(&state->monitor)) < 0)
        return error_set(err, ENOMEM, "container state");
    cleanup_free char *text = json_dumps(object, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    if (!text)
        return error_set(err, ENOMEM, "container state");
    int result = fd_write_file_atomic(container_fd, STORE_STATE_FILE, text, strlen(text), 0600);
    return result < 0 ? error_set(err, -result, "write " STORE_STATE_FILE) : 0;
}

void container_state_settle(struct container_state *state)
{
    if (state->status == STATUS_STOPPED || process_id_alive(&state->monitor))
        return;
    /* While a container is being created its creator may not have written the monitor's pid yet. */
    if (state->status == STATUS_CREATING && state->monitor.pid == 0)
        return;
    state->status = STATUS_STOPPED;
    state->paused = false;
    if (!state->reason)
        state->reason = strdup("the monitor was killed");
}

int container_state_load(const struct store *store, const char *id, struct container_state *out,
                         struct error *err)
{
    *out = (struct container_state){.exit_status = -1};
    cleanup_fd int fd = store_open_container(store, id, err);
    if (fd < 0 || container_state_read(fd, out, err) < 0)
        return error_wrap(err, "container %s", id);
    container_state_settle(out);
    return 0;
}

json_t *container_state_to_oci(const struct container_state *state)
{
    /* Hooks that run while the container is created need the pid as well. */
    bool alive = state->status != STATUS_STOPPED;
    json_t *object =
        json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:s, s:O*, s:s, s:s*}", "ociVersion", state->oci_version,
                  "id", state->id, "pid", alive ? (int)state->monitor.pid : 0, "status",
                  container_state_word(state), "bundle", state->bundle, "rootfs", state->rootfs, "created",
                  state->created, "annotations", state->annotations, "owner", state->owner, "reason",
                  state->status == STATUS_STOPPED ? state->reason : NULL);
    return object;
}
