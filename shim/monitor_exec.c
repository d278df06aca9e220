/*
 * Monitors of further processes: see monitor_exec.h. The process object is the caller's and is judged by the
 * agent; what the agent answers is checked where it is read.
 *
 * Nothing boots and nothing is waited for twice: the request for the process, the one for its end and the
 * opening of its streams leave before the first answer is read.
 */
#include "shim/monitor_exec.h"

#include "common/fd.h"
#include "common/json.h"
#include "shim/deadline.h"
#include "shim/host_cgroup.h"
#include "shim/monitor_internal.h"
#include "shim/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#define EXEC_TIMEOUT_MS 60000
#define NAME_MAX_BYTES  64

/* No two that live at the same time have the same. */
static void exec_name(char name[NAME_MAX_BYTES])
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(name, NAME_MAX_BYTES, "exec-%d-%lld.%09ld", (int)getpid(), (long long)now.tv_sec, now.tv_nsec);
}

static int exec_make_streams(struct monitor_process *process, const struct exec_task *task, bool foreground,
                             struct error *err)
{
    int tty_fd = -1;
    if (task->console_fd >= 0)
        tty_fd = terminal_make(task->console_fd, &(struct winsize){0}, err);
    else if (task->tty_fd >= 0)
        tty_fd = fcntl(task->tty_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (task->terminal && tty_fd < 0)
        return task->console_fd >= 0 ? -1 : error_set(err, errno, "terminal");
    monitor_streams_init(&process->streams, task->terminal, tty_fd, &task->preserved);
    process->streams.hang_up = task->console_fd >= 0;
    process->streams.keep_stderr = foreground;
    return 0;
}

/* Sends all there is to say. The id of process.create, or -1 with err filled. */
static int64_t exec_request(struct monitor_process *process, const struct exec_task *task,
                            const struct agent_address *address, struct error *err)
{
    json_t *params = json_pack(
        "{s:s, s:s, s:O, s:b, s:b, s:b, s:o, s:o, s:o*, s:s*}", "container", process->container, "process",
        process->name, "spec", task->spec, "terminal", task->terminal, "start", 1, "owner", 1, "stdio",
        monitor_streams_describe(&process->streams), "fds", preserved_fds_describe(&task->preserved),
        "activation", preserved_fds_describe_activation(&task->preserved), "cgroup", task->guest_cgroup);
    int64_t id = agent_send(process->agent, "process.create", params, err);
    if (id < 0 ||
        monitor_streams_begin(&process->streams, address, process->container, process->name, err) < 0)
        return -1;
    process->wait_id =
        agent_send(process->agent, "process.wait",
                   json_pack("{s:s, s:s}", "container", process->container, "process", process->name), err);
    return process->wait_id < 0 ? -1 : id;
}

/* What stands for a process of the container on the host lies in the container's cgroup there. */
static int exec_enter_cgroup(const struct exec_task *task, struct error *err)
{
    struct host_cgroup cgroup;
    int result = host_cgroup_from_json(task->cgroup, &cgroup, err);
    if (result == 0)
        result = host_cgroup_enter(&cgroup, getpid(), err);
    host_cgroup_fini(&cgroup);
    return result;
}

static int exec_steps(struct monitor_process *process, const struct exec_task *task, bool foreground,
                      struct error *err)
{
    int64_t deadline = deadline_in(EXEC_TIMEOUT_MS);
    if (sandbox_open(&process->sandbox, task->store, task->sandbox, err) < 0)
        return -1;
    if (process->sandbox.vmm_pidfd < 0)
        return error_set(err, 0, "container not running");
    if (exec_enter_cgroup(task, err) < 0)
        return -1;
    struct agent_address address = sandbox_agent_address(&process->sandbox);
    if (exec_make_streams(process, task, foreground, err) < 0)
        return -1;
    process->agent = agent_begin_control(&address, err);
    int64_t id = process->agent ? exec_request(process, task, &address, err) : -1;
    if (id < 0 || agent_finish_control(process->agent, deadline, err) < 0)
        return -1;
    cleanup_json json_t *result = agent_await(process->agent, id, "process.create", deadline, err);
    if (!result || monitor_streams_finish(&process->streams, &address, deadline, err) < 0)
        return -1;
    monitor_process_resize(process);
    return 0;
}

static void exec_init(struct monitor_process *process, const struct exec_task *task, const char *name)
{
    *process = (struct monitor_process){.container = task->container,
                                        .name = name,
                                        .sandbox = {.dir_fd = -1, .vmm_pidfd = -1},
                                        .streams = {.tty_fd = -1, .stream_fds = {-1, -1, -1}},
                                        .exit_status = -1};
}

/* Closing the control connection is what ends a process that still runs. */
static void exec_fini(struct monitor_process *process)
{
    agent_client_free(take_ptr(&process->agent));
    monitor_streams_fini(&process->streams);
    sandbox_fini(&process->sandbox);
}

/* Until the process has ended. `text` is left empty unless the sandbox was lost. */
static void exec_live(struct monitor_process *process, int signal_fd, char *text, size_t size)
{
    struct error err;
    text[0] = '\0';
    if (monitor_process_run(process, signal_fd, &err) < 0) {
        process->lost = true;
        process->failure = err;
    }
    if (!process->lost)
        return;
    monitor_process_judge_loss(process, text, size);
    log_err("container %s: process %s: %s (connection: %s)", process->container, process->name, text,
            process->failure.text);
}

static int exec_run_raw(struct monitor_process *process, const struct exec_task *task, int signal_fd,
                        int (*made)(void *arg, struct error *err), void *arg, struct error *err)
{
    char text[ERROR_TEXT_MAX];
    if (exec_steps(process, task, true, err) < 0 || made(arg, err) < 0)
        return -1;
    exec_live(process, signal_fd, text, sizeof(text));
    if (process->lost)
        error_set(err, 0, "%s", text);
    else
        *err = (struct error){0};
    return process->exit_signal ? 128 + process->exit_signal : process->exit_status;
}

int monitor_exec_run(const struct exec_task *task, int (*made)(void *arg, struct error *err), void *arg,
                     struct error *err)
{
    struct monitor_process process;
    struct terminal_raw raw = {.fd = -1, .guard_fd = -1};
    char name[NAME_MAX_BYTES];
    exec_name(name);
    exec_init(&process, task, name);
    cleanup_fd int signal_fd = monitor_take_signals(err);
    if (signal_fd < 0 || (task->tty_fd >= 0 && terminal_raw_enter(&raw, task->tty_fd, err) < 0))
        return -1;
    int status = exec_run_raw(&process, task, signal_fd, made, arg, err);
    terminal_raw_leave(&raw);
    exec_fini(&process);
    return status;
}

/* The monitor of a detached process. A session of its own, as a process of its kind has that is nobody's
 * child. */
static void exec_main(const void *arg, int channel_fd)
{
    const struct exec_task *task = arg;
    struct monitor_process process;
    struct error err = {0};
    char name[NAME_MAX_BYTES], text[ERROR_TEXT_MAX];
    const int kept[] = {channel_fd, task->store->containers_fd, task->store->sandboxes_fd, task->log_fd,
                        task->console_fd};
    prctl(PR_SET_NAME, "husk-monitor");
    setsid();
    monitor_close_other_fds(kept, sizeof(kept) / sizeof(kept[0]), &task->preserved);
    log_init("husk-monitor", task->log_fd, task->log_format, log_level_get());
    exec_name(name);
    exec_init(&process, task, name);
    int signal_fd = monitor_take_signals(&err);
    if (signal_fd >= 0 && exec_steps(&process, task, false, &err) == 0)
        err = (struct error){0};
    if (!monitor_report(channel_fd, &err))
        _exit(1); /* with its connections its process ends */
    close(channel_fd);
    exec_live(&process, signal_fd, text, sizeof(text));
    monitor_end_like(process.exit_status, process.exit_signal);
}

int monitor_exec_spawn(const struct exec_task *task, struct monitor *monitor, struct error *err)
{
    return monitor_fork(exec_main, task, monitor, err);
}
