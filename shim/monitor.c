/*
 * The monitor's birth and end: see monitor.h. The child of `create` or `run`; what it believes comes from the
 * bundle (checked by its parent) and from the agent (checked where it is read).
 */
#include "shim/monitor.h"

#include "common/fd.h"
#include "common/json.h"
#include "common/time_text.h"
#include "protocol/protocol.h"
#include "shim/attach.h"
#include "shim/container.h"
#include "shim/deadline.h"
#include "shim/disk_plug.h"
#include "shim/monitor_internal.h"
#include "shim/monitor_threads.h"
#include "shim/monitor_view.h"
#include "shim/proc_view.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MONITOR_LOG_FILE    "monitor.log"
#define RECORD_LOCK_WAIT_MS 5000
#define RECORD_LOCK_STEP_US 10000
#define VIEW_ANSWER_MS      5000

/* The monitor lives long: what the caller left open (the other ends of pipes, say) must not live with it.
 * There is no exec that would close it. */
static void keep_own_fds(const struct monitor_task *task, int channel_fd)
{
    const int kept[] = {channel_fd,
                        task->container_fd,
                        task->store->containers_fd,
                        task->store->sandboxes_fd,
                        task->log_fd,
                        task->console_fd,
                        task->tty_fd};
    monitor_close_other_fds(kept, sizeof(kept) / sizeof(kept[0]), &task->preserved);
}

/* A session of its own: the terminal's Ctrl-C reaches `run`, which passes it on once. Every signal is taken
 * from the signalfd from here on. */
static int become_monitor(const struct monitor_task *task, int *signal_fd, struct error *err)
{
    prctl(PR_SET_NAME, "husk-monitor");
    setsid();
    *signal_fd = monitor_take_signals(err);
    if (*signal_fd < 0)
        return -1;
    int log_fd = task->log_fd;
    if (log_fd < 0)
        log_fd =
            openat(task->container_fd, MONITOR_LOG_FILE, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0)
        return error_set(err, errno, "open " MONITOR_LOG_FILE);
    log_init("husk-monitor", log_fd, task->log_format, log_level_get());
    return 0;
}

static int state_init(struct container_state *state, const struct monitor_task *task, struct error *err)
{
    const struct passwd *user = getpwuid(getuid());
    char created[TIME_TEXT_SIZE];
    time_text_now(created);
    *state = (struct container_state){.status = STATUS_CREATING,
                                      .has_process = task->bundle->has_process,
                                      .annotations = json_incref(task->bundle->annotations),
                                      .hooks = json_incref(task->bundle->hooks),
                                      .created = strdup(created),
                                      .exit_status = -1};
    if (task->bundle->resources)
        state->resources = json_copy(task->bundle->resources);
    json_object_del(state->resources, "devices"); /* never updated, and long */
    if (!state->created)
        return error_set(err, ENOMEM, "container state");
    int result = process_id_get(getpid(), &state->monitor);
    if (result)
        return error_set(err, -result, "own start time");
    if (container_state_set_text(&state->id, task->id, err) < 0 ||
        container_state_set_text(&state->sandbox, task->id, err) < 0 ||
        container_state_set_text(&state->bundle, task->bundle->path, err) < 0 ||
        container_state_set_text(&state->config, task->bundle->config, err) < 0 ||
        container_state_set_text(&state->rootfs, task->bundle->rootfs, err) < 0 ||
        container_state_set_text(&state->oci_version, task->bundle->oci_version, err) < 0 ||
        container_state_set_text(&state->owner, user ? user->pw_name : "root", err) < 0)
        return -1;
    return 0;
}

/* Up to the moment the parent is told. */
static int reach_created(struct monitor_container *monitor, struct monitor_threads **threads,
                         struct monitor_home *home, struct error *err)
{
    const struct monitor_task *task = monitor->task;
    if (become_monitor(task, &monitor->signal_fd, err) < 0 || state_init(&monitor->state, task, err) < 0 ||
        monitor_plan_cgroup(monitor, err) < 0 ||
        container_state_write(task->container_fd, &monitor->state, err) < 0 ||
        monitor_create(monitor, err) < 0)
        return -1;
    monitor->process.notify_path = notify_keep(task->notify_path, monitor->process.notify_kept);
    *threads = monitor_threads_start(err);
    if (!*threads || monitor_enter_view(task->bundle, home, &monitor->fuse_fd, err) < 0)
        return -1;
    monitor->state.status = STATUS_CREATED;
    return container_state_write(task->container_fd, &monitor->state, err);
}

/* Takes the lock for the last record, but does not wait for ever: a command that is stopped while it holds
 * the lock must not keep a container from ending. */
static int lock_for_record(int container_fd)
{
    int64_t deadline = deadline_in(RECORD_LOCK_WAIT_MS);
    cleanup_fd int fd = openat(container_fd, ".", O_DIRECTORY | O_CLOEXEC);
    while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && deadline_left_ms(deadline) > 0)
        usleep(RECORD_LOCK_STEP_US);
    return take_fd(&fd);
}

/* The state that `start` may have changed meanwhile is read again; only the end is added. */
static void record_end(struct monitor_container *monitor)
{
    struct error err;
    struct container_state state;
    cleanup_fd int lock = lock_for_record(monitor->task->container_fd);
    if (lock < 0)
        log_warn("end recorded without the container's lock");
    if (container_state_read(monitor->task->container_fd, &state, &err) < 0) {
        log_warn("end not recorded: %s", err.text);
        return;
    }
    state.status = STATUS_STOPPED;
    state.paused = false;
    state.exit_status = monitor->process.exit_status;
    state.exit_signal = monitor->process.exit_signal;
    if (container_state_set_text(&state.reason, monitor->state.reason, &err) < 0 ||
        container_state_write(monitor->task->container_fd, &state, &err) < 0)
        log_err("end not recorded: %s", err.text);
    container_state_fini(&state);
}

/* The container ends as if killed, and the reason is kept. */
static void judge_loss(struct monitor_container *monitor)
{
    char text[ERROR_TEXT_MAX];
    monitor_process_judge_loss(&monitor->process, text, sizeof(text));
    free(monitor->state.reason);
    monitor->state.reason = strdup(text);
    log_err("container %s: %s (connection: %s)", monitor->task->id, text, monitor->process.failure.text);
}

static void shut_down_sandbox(struct monitor_container *monitor)
{
    struct error err;
    if (agent_send(monitor->process.agent, "sandbox.shutdown", json_object(), &err) < 0)
        log_debug("%s", err.text);
    sandbox_stop(&monitor->process.sandbox, (int)monitor->task->config->stop_timeout_s * 1000);
}

/* Out of a sandbox that goes on without this container. */
static void leave_sandbox(struct monitor_container *monitor)
{
    struct error err;
    json_t *params = json_pack("{s:s, s:b}", "container", monitor->task->id, "force", 1);
    int64_t deadline = deadline_in((int)monitor->task->config->stop_timeout_s * 1000);
    json_t *result = agent_call(monitor->process.agent, "container.delete", params, deadline, &err);
    if (!result)
        log_warn("%s", err.text);
    json_decref(result);
    attach_undo(&monitor->process.sandbox, monitor->task->id);
    disk_unplug(&monitor->process.sandbox, &monitor->task->bundle->disks);
}

static void live(void *arg)
{
    struct error err;
    struct monitor_container *monitor = arg;
    struct monitor_process *process = &monitor->process;
    if (monitor_process_run(process, monitor->signal_fd, &err) < 0) {
        process->lost = true;
        process->failure = err;
        if (!monitor->joined)
            sandbox_stop(&process->sandbox, 0);
    }
    if (process->lost)
        judge_loss(monitor);
    else if (monitor->joined)
        leave_sandbox(monitor);
    else
        shut_down_sandbox(monitor);
    network_close(take_ptr(&process->network));
    record_end(monitor);
    sandbox_fini(&process->sandbox);
    monitor_end_like(process->exit_status, process->exit_signal);
}

/* The view's questions go to the agent by a connection of their own, made for the first of them. */
struct view_questions {
    const char *container;
    struct agent_address address;
    struct agent_client *agent;
};

static json_t *ask_agent(void *arg, const char *path, struct error *err)
{
    struct view_questions *questions = arg;
    int64_t deadline = deadline_in(VIEW_ANSWER_MS);
    if (!questions->agent)
        questions->agent = agent_connect(&questions->address, deadline, err);
    if (!questions->agent)
        return NULL;
    json_t *params = json_pack("{s:s, s:s}", "container", questions->container, "path", path);
    json_t *result = agent_call(questions->agent, "container.proc", params, deadline, err);
    /* Whatever else went wrong, the next question begins anew. */
    if (!result && err->code != ENOENT && err->code != ESRCH && err->code != EINVAL)
        agent_client_free(take_ptr(&questions->agent));
    return result;
}

static void serve_view(void *arg)
{
    const struct monitor_container *monitor = arg;
    struct view_questions questions = {.container = monitor->task->id, .address = monitor->view_address};
    if (monitor->fuse_fd >= 0)
        proc_view_serve(monitor->fuse_fd, ask_agent, &questions);
    agent_client_free(questions.agent);
}

static void monitor_main(const void *arg, int channel_fd)
{
    const struct monitor_task *task = arg;
    struct error err = {0};
    struct monitor_container monitor = {.task = task,
                                        .state = {.exit_status = -1},
                                        .process = {.container = task->id,
                                                    .name = PROCESS_INIT,
                                                    .notify_path = task->notify_path,
                                                    .sandbox = {.dir_fd = -1, .vmm_pidfd = -1},
                                                    .exit_status = -1},
                                        .signal_fd = -1,
                                        .fuse_fd = -1};
    struct monitor_home home = {.mounts_fd = -1, .root_fd = -1};
    struct monitor_threads *threads = NULL;
    keep_own_fds(task, channel_fd);
    if (reach_created(&monitor, &threads, &home, &err) == 0)
        err = (struct error){0};
    if (!monitor_report(channel_fd, &err)) {
        /* The container's tree has no cgroups that could be removed, or has directories of their names. */
        int failed = monitor_go_home(&home);
        if (failed)
            log_err("monitor: back to its mount namespace: %s", strerror(-failed));
        monitor_create_undo(&monitor);
        if (store_remove_container(task->store, task->id, &err) < 0)
            log_err("%s", err.text);
        _exit(1);
    }
    close(channel_fd);
    monitor_home_close(&home);
    host_cgroup_forget_origin(&monitor.cgroup);
    flock(task->container_fd, LOCK_UN);
    const struct sandbox *sandbox = &monitor.process.sandbox;
    monitor.view_address = (struct agent_address){.sandbox_fd = fcntl(sandbox->dir_fd, F_DUPFD_CLOEXEC, 0),
                                                  .vmm_pidfd = fcntl(sandbox->vmm_pidfd, F_DUPFD_CLOEXEC, 0)};
    monitor_threads_run(threads, live, serve_view, &monitor);
}

int monitor_spawn(const struct monitor_task *task, struct monitor *monitor, struct error *err)
{
    struct error failure = {0};
    if (monitor_fork(monitor_main, task, monitor, &failure) == 0)
        return 0;
    if (err)
        *err = failure;
    /* Killed, it could not clean up behind itself. */
    if (failure.code == ECHILD)
        container_destroy(task->store, task->id, task->container_fd, true, NULL);
    return -1;
}
