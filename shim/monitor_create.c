/*
 * From nothing to a created container: see monitor_internal.h. Runs in the monitor while `create` waits.
 *
 * The control walk in one place: start the VMM, wait for its agent, attach the trees, run the hooks, have the
 * agent create the container, open its streams, ask for its end.
 */
#include "common/fd.h"
#include "common/json.h"
#include "shim/attach.h"
#include "shim/deadline.h"
#include "shim/hooks.h"
#include "shim/monitor_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define CREATE_TIMEOUT_MS 60000
#define VMM_END_WAIT_MS   1000

static const char *const stream_names[STREAM_COUNT] = {"stdin", "stdout", "stderr"};

static int create_container(struct monitor_process *monitor, struct error *err)
{
    const struct bundle *bundle = monitor->task->bundle;
    cleanup_free char *root = NULL;
    json_t *mounts = NULL;
    if (attach_describe(monitor->task->id, bundle, &root, &mounts, err) < 0)
        return -1;
    json_t *params =
        json_pack("{s:s, s:O, s:s, s:o, s:b, s:b}", "container", monitor->task->id, "spec", bundle->spec,
                  "root", root, "mounts", mounts, "terminal", bundle->terminal, "owner", 1);
    cleanup_json json_t *result =
        agent_call(monitor->agent, "container.create", params, deadline_in(CREATE_TIMEOUT_MS), err);
    return result ? 0 : -1;
}

/* The monitor's own standard stream stays open for the relay alone; /dev/null takes its number. */
static int stream_take_stdio(int number, int *fd, struct error *err)
{
    *fd = fcntl(number, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (*fd < 0 || null < 0 || dup2(null, number) < 0)
        return error_set(err, errno, "standard stream %d", number);
    return 0;
}

static int open_streams(struct monitor_process *monitor, struct error *err)
{
    struct agent_address address = sandbox_agent_address(&monitor->sandbox);
    int64_t deadline = deadline_in(CREATE_TIMEOUT_MS);
    for (int i = 0; i < STREAM_COUNT; i++) {
        struct relay *relay = &monitor->relays[i];
        int own = -1;
        int stream = agent_open_stream(&address, monitor->task->id, "init", stream_names[i], deadline, err);
        if (stream < 0)
            return -1;
        if (stream_take_stdio(i, &own, err) < 0) {
            close(stream);
            return -1;
        }
        *relay = (struct relay){.name = stream_names[i],
                                .from_fd = i == STREAM_STDIN ? own : stream,
                                .to_fd = i == STREAM_STDIN ? stream : own,
                                .to_socket = i == STREAM_STDIN};
    }
    return 0;
}

/* The staircase; each step rests on the one before. */
static int create_steps(struct monitor_process *monitor, struct error *err)
{
    const struct monitor_task *task = monitor->task;
    struct agent_address address = sandbox_agent_address(&monitor->sandbox);

    /* 1. The agent answers: the guest runs, and the VMM has closed its jail. */
    monitor->agent = agent_connect(&address, deadline_in((int)task->config->agent_timeout_s * 1000), err);
    if (!monitor->agent && err->code == ETIMEDOUT)
        return error_set(err, ETIMEDOUT, "the agent did not answer within %llu s",
                         (unsigned long long)task->config->agent_timeout_s);
    if (!monitor->agent)
        return -1;

    /* 2. The container's files appear in the guest. */
    if (attach_bundle(&monitor->sandbox, task->id, task->bundle, err) < 0)
        return -1;

    /* 3. The host's hooks, while nothing of the container runs (runtime-spec "Lifecycle", 4 and 5). */
    if (hooks_run(&monitor->state, "prestart", err) < 0 ||
        hooks_run(&monitor->state, "createRuntime", err) < 0)
        return -1;

    /* 4. The agent makes the container; its program waits for start. */
    if (create_container(monitor, err) < 0 || open_streams(monitor, err) < 0)
        return -1;

    /* 5. From now on its end is waited for. */
    monitor->wait_id = agent_send(monitor->agent, "process.wait",
                                  json_pack("{s:s, s:s}", "container", task->id, "process", "init"), err);
    return monitor->wait_id < 0 ? -1 : 0;
}

/* A failed step is often only the echo of a VM that died: then its own word comes first. */
static void explain_failure(struct monitor_process *monitor, struct error *err)
{
    char end[ERROR_TEXT_MAX / 2];
    if (err->code != ECONNRESET && err->code != EPIPE && err->code != ECONNREFUSED)
        return;
    if (process_wait_end(monitor->sandbox.vmm_pidfd, VMM_END_WAIT_MS) < 0)
        return;
    sandbox_describe_end(&monitor->sandbox, end, sizeof(end));
    if (!monitor->agent)
        error_set(err, 0, "the VM ended before its agent answered: %s", end);
    else
        error_set(err, 0, "the VM ended: %s", end);
}

int monitor_process_create(struct monitor_process *monitor, struct error *err)
{
    const struct monitor_task *task = monitor->task;
    if (sandbox_start(&monitor->sandbox, task->store, task->id, task->config, task->bundle, err) < 0)
        return -1;
    if (create_steps(monitor, err) == 0)
        return 0;
    explain_failure(monitor, err);
    return -1;
}

void monitor_process_undo(struct monitor_process *monitor)
{
    agent_client_free(take_ptr(&monitor->agent));
    if (monitor->sandbox.dir_fd < 0)
        return;
    sandbox_stop(&monitor->sandbox, 0);
    sandbox_fini(&monitor->sandbox);
    struct error err;
    if (store_remove_sandbox(monitor->task->store, monitor->task->id, &err) < 0)
        log_err("%s", err.text);
}
