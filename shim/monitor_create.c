/*
 * From nothing to a created container: see monitor_internal.h. Runs in the monitor while `create` waits.
 *
 * The control walk in one place: start the VMM, wait for its agent, attach the trees, run the hooks, have the
 * agent create the container with its streams, ask for its end.
 */
#include "common/fd.h"
#include "common/json.h"
#include "shim/attach.h"
#include "shim/deadline.h"
#include "shim/disk_plug.h"
#include "shim/hooks.h"
#include "shim/monitor_internal.h"
#include "shim/notify.h"
#include "shim/sandbox_share.h"
#include "shim/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define CREATE_TIMEOUT_MS 60000
#define VMM_END_WAIT_MS   1000

static json_t *describe_container(const struct monitor_container *monitor, struct error *err)
{
    const struct monitor_task *task = monitor->task;
    const struct bundle *bundle = task->bundle;
    char notify[NOTIFY_NAME_MAX];
    cleanup_json json_t *trees = attach_describe(task->id, bundle, err);
    cleanup_json json_t *namespaces =
        sandbox_share_namespaces(task->store, bundle->spec, monitor->state.sandbox, err);
    cleanup_json json_t *spec =
        task->notify_path ? notify_add_to_spec(bundle->spec, task->id, err) : json_incref(bundle->spec);
    if (!trees || !spec || !namespaces)
        return NULL;
    notify_name(notify, task->id);
    json_t *params = json_pack(
        "{s:s, s:O, s:O, s:s, s:b, s:b, s:o, s:o, s:o*, s:s*}", "container", task->id, "spec", spec,
        "namespaces", namespaces, "bundle", bundle->path, "terminal", bundle->terminal, "owner", 1, "stdio",
        monitor_streams_describe(&monitor->process.streams), "fds", preserved_fds_describe(&task->preserved),
        "activation", preserved_fds_describe_activation(&task->preserved), "notify",
        task->notify_path ? notify : NULL);
    if (params && json_object_update(params, trees) == 0 &&
        (!monitor->disks || json_object_set(params, "disks", monitor->disks) == 0))
        return params;
    json_decref(params);
    error_set(err, ENOMEM, "container.create");
    return NULL;
}

/* A terminal's master goes out by the console socket; without one the terminal is the caller's own. */
static int make_streams(struct monitor_container *monitor, struct error *err)
{
    const struct monitor_task *task = monitor->task;
    struct monitor_streams *streams = &monitor->process.streams;
    int tty_fd = task->tty_fd;
    if (task->console_fd >= 0) {
        const struct winsize size = {.ws_row = task->bundle->rows, .ws_col = task->bundle->columns};
        tty_fd = terminal_make(task->console_fd, &size, err);
        if (tty_fd < 0)
            return -1;
    }
    monitor_streams_init(streams, task->bundle->terminal, tty_fd, &task->preserved);
    streams->hang_up = task->console_fd >= 0;
    return 0;
}

/* Everything is asked for at once: the container, its streams, its end. */
static int create_container(struct monitor_container *monitor, struct error *err)
{
    struct monitor_process *process = &monitor->process;
    struct agent_address address = sandbox_agent_address(&process->sandbox);
    int64_t deadline = deadline_in(CREATE_TIMEOUT_MS);
    json_t *params = make_streams(monitor, err) < 0 ? NULL : describe_container(monitor, err);
    if (!params)
        return -1;
    int64_t id = agent_send(process->agent, "container.create", params, err);
    if (id < 0 ||
        monitor_streams_begin(&process->streams, &address, process->container, process->name, err) < 0)
        return -1;
    cleanup_json json_t *result = agent_await(process->agent, id, "container.create", deadline, err);
    if (!result || monitor_streams_finish(&process->streams, &address, deadline, err) < 0)
        return -1;
    if (!monitor->task->bundle->rows && !monitor->task->bundle->columns)
        monitor_process_resize(process);
    process->wait_id =
        agent_send(process->agent, "process.wait",
                   json_pack("{s:s, s:s}", "container", process->container, "process", process->name), err);
    if (process->wait_id < 0)
        return -1;
    return process->notify_path ? monitor_process_ask_notification(process, err) : 0;
}

/* Read again: the hooks may have changed it. */
static int create_network(struct monitor_container *monitor, struct error *err)
{
    struct monitor_process *process = &monitor->process;
    json_t *params = NULL;
    if (monitor->joined)
        return 0;
    int result = network_update(process->network, process->sandbox.dir_fd, &params, err);
    if (result < 0 || !params) {
        json_decref(params);
        return result;
    }
    cleanup_json json_t *answer =
        agent_call(process->agent, "sandbox.network.set", params, deadline_in(CREATE_TIMEOUT_MS), err);
    network_told(process->network, process->sandbox.dir_fd, answer);
    return answer ? 0 : -1;
}

/* The staircase; each step rests on the one before. */
static int create_steps(struct monitor_container *monitor, struct error *err)
{
    const struct monitor_task *task = monitor->task;
    struct agent_address address = sandbox_agent_address(&monitor->process.sandbox);

    /* 1. The agent answers: the guest runs, and the VMM has closed its jail. */
    monitor->process.agent =
        agent_connect(&address, deadline_in((int)task->config->agent_timeout_s * 1000), err);
    if (!monitor->process.agent && err->code == ETIMEDOUT)
        return error_set(err, ETIMEDOUT, "the agent did not answer within %llu s",
                         (unsigned long long)task->config->agent_timeout_s);
    if (!monitor->process.agent)
        return -1;

    /* 2. The container's files appear in the guest. */
    if (attach_bundle(&monitor->process.sandbox, task->id, task->bundle, err) < 0)
        return -1;

    if (monitor->joined && task->bundle->disks.count > 0 &&
        !(monitor->disks = disk_plug(&monitor->process.sandbox, &task->bundle->disks, err)))
        return -1;

    /* 3. The host's hooks, while nothing of the container runs (runtime-spec "Lifecycle", 4 and 5). */
    if (hooks_run(&monitor->state, "prestart", monitor_return_home, monitor, err) < 0 ||
        hooks_run(&monitor->state, "createRuntime", monitor_return_home, monitor, err) < 0)
        return -1;

    /* 4. The guest gets the pod's network. */
    if (create_network(monitor, err) < 0)
        return -1;

    /* 5. The agent makes the container; its program waits for start. From now on its end is waited for. */
    return create_container(monitor, err);
}

/* A failed step is often only the echo of a VM that died: then its own word comes first. */
static void explain_failure(struct monitor_container *monitor, struct error *err)
{
    char end[ERROR_TEXT_MAX / 2];
    if (err->code != ECONNRESET && err->code != EPIPE && err->code != ECONNREFUSED)
        return;
    if (process_wait_end(monitor->process.sandbox.vmm_pidfd, VMM_END_WAIT_MS) < 0)
        return;
    sandbox_describe_end(&monitor->process.sandbox, end, sizeof(end));
    if (!monitor->process.agent)
        error_set(err, 0, "the VM ended before its agent answered: %s", end);
    else
        error_set(err, 0, "the VM ended: %s", end);
}

/* A container whose network is a sandbox's becomes one of that sandbox. */
static int join_sandbox(struct monitor_container *monitor, const char *sandbox, struct error *err)
{
    const struct monitor_task *task = monitor->task;
    struct monitor_process *process = &monitor->process;
    monitor->joined = true;
    if (container_state_set_text(&monitor->state.sandbox, sandbox, err) < 0 ||
        container_state_write(task->container_fd, &monitor->state, err) < 0)
        return -1;
    process->network = network_join(task->bundle->spec, err);
    if (!process->network || sandbox_open(&process->sandbox, task->store, sandbox, err) < 0)
        return -1;
    return process->sandbox.vmm_pidfd < 0 ? error_set(err, ECONNRESET, "the VM ended") : 0;
}

static int start_sandbox(struct monitor_container *monitor, const struct vm_size *size, struct error *err)
{
    const struct monitor_task *task = monitor->task;
    struct monitor_process *process = &monitor->process;
    process->network = network_open(task->bundle->spec, task->container_fd, (unsigned)size->vcpus_max, err);
    if (!process->network || sandbox_start(&process->sandbox, task->store, task->id, task->config,
                                           task->bundle, size, process->network, err) < 0)
        return -1;
    network_release_nics(process->network);
    return 0;
}

int monitor_create(struct monitor_container *monitor, struct error *err)
{
    const struct monitor_task *task = monitor->task;
    struct vm_size size;
    cleanup_free char *shared = NULL;
    /* The cgroup comes first: the VMM is born in it, and what it allocates is counted there from the start.
     * Then the network: what it is started with, and where it lives. */
    if (monitor_place(monitor, &size, err) < 0 ||
        sandbox_share_find(task->store, task->bundle->spec, &shared, err) < 0)
        return -1;
    if ((shared ? join_sandbox(monitor, shared, err) : start_sandbox(monitor, &size, err)) < 0)
        return -1;
    if (create_steps(monitor, err) == 0)
        return 0;
    explain_failure(monitor, err);
    return -1;
}

void monitor_create_undo(struct monitor_container *monitor)
{
    struct monitor_process *process = &monitor->process;
    agent_client_free(take_ptr(&process->agent));
    struct error err;
    if (process->sandbox.dir_fd >= 0) {
        if (!monitor->joined)
            sandbox_stop(&process->sandbox, 0);
        else if (process->sandbox.vmm_pidfd >= 0) {
            attach_undo(&process->sandbox, monitor->task->id);
            disk_unplug(&process->sandbox, &monitor->task->bundle->disks);
        }
        sandbox_fini(&process->sandbox);
    }
    json_decref(take_ptr(&monitor->disks));
    network_close(take_ptr(&process->network));
    if (host_cgroup_remove(&monitor->cgroup, &err) < 0)
        log_err("%s", err.text);
    host_cgroup_fini(&monitor->cgroup);
    if (store_remove_sandbox(monitor->task->store, monitor->task->id, &err) < 0)
        log_err("%s", err.text);
}
