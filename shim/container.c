/*
 * Operations on containers: see container.h. Every change of a container's state happens under its lock
 * (shim/store.h), so two commands that race see each other's result, not its half.
 */
#include "shim/container.h"

#include "common/fd.h"
#include "common/json.h"
#include "shim/deadline.h"
#include "shim/hooks.h"
#include "shim/network.h"
#include "shim/network_namespace.h"
#include "shim/preserved_fds.h"
#include "shim/sandbox.h"
#include "shim/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>

#define START_TIMEOUT_MS   60000
#define CONNECT_TIMEOUT_MS 10000
#define KILL_TIMEOUT_MS    5000
#define DESTROY_GRACE_MS   2000 /* for a guest to write back its files when its owner is killed */

static int create_check_options(const struct create_options *options, const struct bundle *bundle,
                                struct error *err)
{
    if (terminal_check_options(bundle->terminal, !options->foreground, options->console_socket, err) < 0)
        return -1;
    const char *netns_path;
    if (network_namespace_find(bundle->spec, &netns_path, err) < 0)
        return -1;
    return hooks_check(bundle->hooks, err);
}

int container_write_pid_file(const char *path, pid_t pid, struct error *err)
{
    char text[16], dir_copy[PATH_MAX], name_copy[PATH_MAX];
    int length = snprintf(text, sizeof(text), "%d", (int)pid);
    if (snprintf(dir_copy, sizeof(dir_copy), "%s", path) >= PATH_MAX)
        return error_set(err, ENAMETOOLONG, "pid file");
    memcpy(name_copy, dir_copy, sizeof(name_copy));
    cleanup_fd int dir_fd = open(dirname(dir_copy), O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return error_set(err, errno, "pid file %s", path);
    int result = fd_write_file_atomic(dir_fd, basename(name_copy), text, (size_t)length, 0644);
    return result ? error_set(err, -result, "pid file %s", path) : 0;
}

static int create_send_pidfd(const char *path, pid_t pid, struct error *err)
{
    cleanup_fd int socket_fd = terminal_connect_socket(path, err);
    cleanup_fd int pidfd = socket_fd < 0 ? -1 : pidfd_open(pid, 0);
    if (socket_fd < 0)
        return -1;
    return pidfd < 0 ? error_set(err, errno, "pidfd") : terminal_send_fd(socket_fd, pidfd, "pidfd", err);
}

/* With the container's directory locked: the monitor does the work, this process waits and then signs. */
static int create_run_monitor(const struct create_options *options, const struct monitor_task *task,
                              pid_t *pid, struct error *err)
{
    struct monitor monitor;
    /* The monitor undoes what it made, unless it is killed over that: then the rest is done here. */
    if (monitor_spawn(task, &monitor, err) < 0) {
        container_destroy(task->store, task->id, task->container_fd, true, NULL);
        return -1;
    }
    if ((options->pidfd_socket && create_send_pidfd(options->pidfd_socket, monitor.pid, err) < 0) ||
        (options->pid_file && container_write_pid_file(options->pid_file, monitor.pid, err) < 0)) {
        monitor_abandon(&monitor);
        container_destroy(task->store, task->id, task->container_fd, true, NULL);
        return -1;
    }
    *pid = monitor.pid;
    return monitor_commit(&monitor, err);
}

/* Where a terminal goes: to the console socket, or it is the caller's own. */
static int create_open_terminal(const struct create_options *options, const struct bundle *bundle,
                                int *console_fd, int *tty_fd, struct error *err)
{
    if (options->console_socket)
        *console_fd = terminal_connect_socket(options->console_socket, err);
    else if (bundle->terminal)
        *tty_fd = terminal_find(err);
    else
        return 0;
    return *console_fd < 0 && *tty_fd < 0 ? -1 : 0;
}

static int create_in_bundle(const struct context *context, const char *id,
                            const struct create_options *options, const struct config *config,
                            const struct bundle *bundle, struct created *created, struct error *err)
{
    cleanup_fd int console_fd = -1, tty_fd = -1;
    struct preserved_fds preserved;
    if (preserved_fds_find(&preserved, options->preserve_fds, err) < 0 ||
        create_check_options(options, bundle, err) < 0 ||
        create_open_terminal(options, bundle, &console_fd, &tty_fd, err) < 0)
        return -1;
    cleanup_fd int container_fd = store_create_container(&context->store, id, err);
    if (container_fd < 0)
        return -1;
    enum cgroup_manager manager;
    if (host_cgroup_choose_manager(context->options.cgroup_manager, context->options.systemd_cgroup, &manager,
                                   err) < 0)
        return -1;
    struct monitor_task task = {.id = id,
                                .store = &context->store,
                                .config = config,
                                .bundle = bundle,
                                .container_fd = container_fd,
                                .cgroup_manager = manager,
                                .log_fd = context->log_fd,
                                .log_format = context->log_format,
                                .console_fd = console_fd,
                                .tty_fd = tty_fd,
                                .notify_path = getenv("NOTIFY_SOCKET"),
                                .preserved = preserved};
    if (create_run_monitor(options, &task, &created->monitor, err) < 0)
        return -1;
    created->tty_fd = take_fd(&tty_fd);
    return 0;
}

int container_create(const struct context *context, const char *id, const struct create_options *options,
                     struct created *created, struct error *err)
{
    struct config config = {0};
    struct bundle bundle = {0};
    *created = (struct created){.tty_fd = -1};
    int result = store_check_id(id, err);
    if (result == 0)
        result = config_load(&config, context->options.config_dir, err);
    if (result == 0)
        result = bundle_load(&bundle, options->bundle ? options->bundle : ".", options->config, err);
    if (result == 0)
        result = config_apply_annotations(&config, bundle.annotations, err);
    if (result == 0)
        result = create_in_bundle(context, id, options, &config, &bundle, created, err);
    bundle_fini(&bundle);
    config_fini(&config);
    return result < 0 ? error_wrap(err, "container %s", id) : 0;
}

struct agent_client *container_connect(const struct store *store, const struct container_state *state,
                                       int timeout_ms, struct error *err)
{
    struct sandbox sandbox;
    if (sandbox_open(&sandbox, store, state->sandbox, err) < 0)
        return NULL;
    struct agent_client *client = NULL;
    if (sandbox.vmm_pidfd < 0) {
        error_set(err, ECONNRESET, "the VM ended");
    } else {
        struct agent_address address = sandbox_agent_address(&sandbox);
        client = agent_connect(&address, deadline_in(timeout_ms), err);
    }
    sandbox_fini(&sandbox);
    return client;
}

json_t *container_call(const struct store *store, const struct container_state *state, const char *method,
                       json_t *params, int timeout_ms, struct error *err)
{
    struct agent_client *client = container_connect(store, state, CONNECT_TIMEOUT_MS, err);
    if (!client) {
        json_decref(params);
        return NULL;
    }
    json_t *result = agent_call(client, method, params, deadline_in(timeout_ms), err);
    agent_client_free(client);
    return result;
}

int container_open_locked(const struct store *store, const char *id, int *fd, struct container_state *state,
                          struct error *err)
{
    *state = (struct container_state){.exit_status = -1};
    *fd = store_lock_container(store, id, err);
    if (*fd < 0 || container_state_read(*fd, state, err) < 0)
        return -1;
    container_state_settle(state);
    return 0;
}

static int start_check(const struct container_state *state, struct error *err)
{
    if (state->paused)
        return error_set(err, 0, "cannot start a container in the paused state");
    switch (state->status) {
    case STATUS_CREATED:
        break;
    case STATUS_RUNNING:
        return error_set(err, 0, "cannot start an already running container");
    case STATUS_STOPPED:
        return error_set(err, 0, "cannot start a container that has stopped");
    case STATUS_CREATING:
        return error_set(err, 0, "cannot start a container that is not created");
    }
    if (!state->has_process)
        return error_set(err, 0, "cannot start a container without process in its config.json");
    return 0;
}

static int start_locked(const struct context *context, int container_fd, struct container_state *state,
                        struct error *err)
{
    if (start_check(state, err) < 0)
        return -1;
    json_t *result = container_call(&context->store, state, "container.start",
                                    json_pack("{s:s}", "container", state->id), START_TIMEOUT_MS, err);
    if (!result)
        return -1;
    json_decref(result);
    state->status = STATUS_RUNNING;
    return container_state_write(container_fd, state, err);
}

int container_start(const struct context *context, const char *id, struct error *err)
{
    struct container_state state;
    struct error warning;
    cleanup_fd int fd = -1;
    int result = container_open_locked(&context->store, id, &fd, &state, err);
    if (result == 0)
        result = start_locked(context, fd, &state, err);
    /* The monitor waits for the lock to record an end: a long hook must not hold it. */
    fd_close(&fd);
    if (result == 0 && hooks_run(&state, "poststart", NULL, NULL, &warning) < 0)
        log_warn("container %s: %s", id, warning.text);
    container_state_fini(&state);
    return result < 0 ? error_wrap(err, "container %s", id) : 0;
}

/* The last that goes: until then it is where what is left of the container can be found. */
static int destroy_cgroup(const struct container_state *state, struct error *err)
{
    struct host_cgroup cgroup;
    int result = host_cgroup_from_json(state->cgroup, &cgroup, err);
    if (result == 0)
        result = host_cgroup_remove(&cgroup, err);
    host_cgroup_fini(&cgroup);
    return result;
}

int container_destroy(const struct store *store, const char *id, int container_fd, bool force,
                      struct error *err)
{
    struct container_state state = {.exit_status = -1};
    struct sandbox sandbox;
    struct error own;
    int result = 0;
    if (container_state_read(container_fd, &state, NULL) == 0)
        /* Not the monitor's orderly way, which a guest could delay: its end cuts the agent's connection, and
         * the VMM is killed when the guest does not go down by itself. */
        result = process_id_kill(&state.monitor, KILL_TIMEOUT_MS);
    if (result)
        error_set(err, -result, "kill the monitor");
    if (result == 0 && sandbox_open(&sandbox, store, id, NULL) == 0) {
        sandbox_stop(&sandbox, DESTROY_GRACE_MS);
        sandbox_fini(&sandbox);
    }
    if (result == 0 && destroy_cgroup(&state, &own) < 0) {
        /* The state is kept, so that it can be tried again; who forces wants to be rid of it. */
        result = force ? 0 : error_say(err, own.code, "%s", own.text);
        log_warn("container %s: %s", id, own.text);
    }
    container_state_fini(&state);
    network_clean(container_fd);
    if (result || store_remove_sandbox(store, id, err) < 0)
        return -1;
    return store_remove_container(store, id, err);
}

/* Before the lock: whoever creates or starts the container may hold it for long, and gives up when the
 * monitor is gone. */
static void delete_kill_monitor(const struct store *store, const char *id)
{
    struct container_state state;
    if (container_state_load(store, id, &state, NULL) < 0)
        return;
    if (state.status != STATUS_STOPPED)
        process_id_kill(&state.monitor, KILL_TIMEOUT_MS);
    container_state_fini(&state);
}

static int delete_locked(const struct context *context, const char *id, int container_fd, bool force,
                         struct container_state *state, struct error *err)
{
    /* Without a readable state only force helps. */
    if (container_state_read(container_fd, state, err) < 0)
        return force || err->code == ENOENT ? container_destroy(&context->store, id, container_fd, force, err)
                                            : -1;
    container_state_settle(state);
    if (!force && (state->status == STATUS_RUNNING || state->paused))
        return error_set(err, 0, "cannot delete container %s that is not stopped: %s", id,
                         container_state_word(state));
    return container_destroy(&context->store, id, container_fd, force, err);
}

/* Locks the container to be deleted. By force also one of which only its sandbox is left, since monitor and
 * creator were killed together: its directory is made again, which keeps others from the ID. fd, -1 with err
 * filled, or -ENOENT when there is nothing. */
static int delete_lock(const struct store *store, const char *id, bool force, struct error *err)
{
    int fd = store_lock_container(store, id, err);
    if (fd >= 0 || !force || err->code != ENOENT)
        return fd;
    cleanup_fd int sandbox_fd = store_open_sandbox(store, id, NULL);
    return sandbox_fd < 0 ? -ENOENT : store_create_container(store, id, err);
}

int container_delete(const struct context *context, const char *id, bool force, struct error *err)
{
    struct container_state state = {.exit_status = -1};
    struct error warning;
    if (force)
        delete_kill_monitor(&context->store, id);
    cleanup_fd int fd = delete_lock(&context->store, id, force, err);
    if (fd == -ENOENT)
        return 0;
    int result = fd < 0 ? -1 : delete_locked(context, id, fd, force, &state, err);
    fd_close(&fd);
    if (result == 0 && state.id) {
        state.status = STATUS_STOPPED;
        if (hooks_run(&state, "poststop", NULL, NULL, &warning) < 0)
            log_warn("container %s: %s", id, warning.text);
    }
    container_state_fini(&state);
    return result < 0 ? error_wrap(err, "container %s", id) : 0;
}
