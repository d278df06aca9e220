/*
 * The monitor's birth and end: see monitor.h. The child of `create` or `run`; what it believes comes from the
 * bundle (checked by its parent) and from the agent (checked where it is read).
 *
 * Handshake over a socket pair: the monitor sends a struct error, whose code is 0 when the container is
 * created; the parent answers with a byte once its own part (the pid file) is done. A parent that vanishes
 * instead has the monitor undo everything, so a `create` killed at any moment leaves nothing.
 */
#include "shim/monitor.h"

#include "common/fd.h"
#include "common/json.h"
#include "common/time_text.h"
#include "shim/container.h"
#include "shim/deadline.h"
#include "shim/monitor_internal.h"

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

static int compare_fds(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* The monitor lives long: what the caller left open (the other ends of pipes, say) must not live with it.
 * There is no exec that would close it. */
static void close_other_fds(const struct monitor_task *task, int channel_fd)
{
    int kept[] = {
        STDERR_FILENO, channel_fd, task->container_fd, task->store->containers_fd, task->store->sandboxes_fd,
        task->log_fd};
    size_t count = sizeof(kept) / sizeof(kept[0]);
    qsort(kept, count, sizeof(kept[0]), compare_fds);
    for (size_t i = 0; i < count; i++) {
        unsigned first = (unsigned)kept[i] + 1;
        unsigned last = i + 1 < count ? (unsigned)kept[i + 1] - 1 : ~0u;
        if (kept[i] >= STDERR_FILENO && first <= last)
            close_range(first, last, 0);
    }
}

/* A session of its own: the terminal's Ctrl-C reaches `run`, which passes it on once. Every signal is taken
 * from the signalfd from here on. */
static int become_monitor(const struct monitor_task *task, int *signal_fd, struct error *err)
{
    sigset_t all;
    prctl(PR_SET_NAME, "husk-monitor");
    setsid();
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    *signal_fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    if (*signal_fd < 0)
        return error_set(err, errno, "signalfd");
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
        container_state_set_text(&state->rootfs, task->bundle->rootfs, err) < 0 ||
        container_state_set_text(&state->oci_version, task->bundle->oci_version, err) < 0 ||
        container_state_set_text(&state->owner, user ? user->pw_name : "root", err) < 0)
        return -1;
    return 0;
}

/* Up to the moment the parent is told. */
static int reach_created(struct monitor_process *monitor, int *signal_fd, struct error *err)
{
    const struct monitor_task *task = monitor->task;
    if (become_monitor(task, signal_fd, err) < 0 || state_init(&monitor->state, task, err) < 0 ||
        container_state_write(task->container_fd, &monitor->state, err) < 0 ||
        monitor_process_create(monitor, err) < 0)
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
static void record_end(struct monitor_process *monitor)
{
    struct error err;
    struct container_state state;
    cleanup_fd int lock = lock_for_record(monitor->task->container_fd);
    if (container_state_read(monitor->task->container_fd, &state, &err) < 0) {
        log_warn("end not recorded: %s", err.text);
        return;
    }
    state.status = STATUS_STOPPED;
    state.paused = false;
    state.exit_status = monitor->state.exit_status;
    state.exit_signal = monitor->state.exit_signal;
    if (container_state_set_text(&state.reason, monitor->state.reason, &err) < 0 ||
        container_state_write(monitor->task->container_fd, &state, &err) < 0)
        log_err("end not recorded: %s", err.text);
    container_state_fini(&state);
}

/* The sandbox is gone while the process ran: the container ends as if killed, and the reason is kept. */
static void judge_loss(struct monitor_process *monitor)
{
    char end[ERROR_TEXT_MAX / 2], text[ERROR_TEXT_MAX];
    sandbox_describe_end(&monitor->sandbox, end, sizeof(end));
    snprintf(text, sizeof(text), "the VM ended while the container ran: %s", end);
    monitor->state.exit_status = -1;
    monitor->state.exit_signal = SIGKILL;
    free(monitor->state.reason);
    monitor->state.reason = strdup(text);
    log_err("container %s: %s (connection: %s)", monitor->task->id, text, monitor->failure.text);
}

static void shut_down_sandbox(struct monitor_process *monitor)
{
    struct error err;
    if (agent_send(monitor->agent, "sandbox.shutdown", json_object(), &err) < 0)
        log_debug("%s", err.text);
    sandbox_stop(&monitor->sandbox, (int)monitor->task->config->stop_timeout_s * 1000);
}

/* Ends as the process ended, so that waitpid(2) tells the caller the truth; without a core dump of our own.
 */
static void __attribute__((noreturn)) end_like(int status, int number)
{
    if (number == 0)
        _exit(status);
    struct rlimit none = {0, 0};
    sigset_t one;
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0);
    signal(number, SIG_DFL);
    sigemptyset(&one);
    sigaddset(&one, number);
    raise(number);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
    _exit(128 + number);
}

static void __attribute__((noreturn)) live(struct monitor_process *monitor, int signal_fd)
{
    struct error err;
    if (monitor_process_run(monitor, signal_fd, &err) < 0) {
        monitor->lost = true;
        monitor->failure = err;
        sandbox_stop(&monitor->sandbox, 0);
    }
    if (monitor->lost)
        judge_loss(monitor);
    else
        shut_down_sandbox(monitor);
    record_end(monitor);
    sandbox_fini(&monitor->sandbox);
    end_like(monitor->state.exit_status, monitor->state.exit_signal);
}

static void __attribute__((noreturn)) monitor_main(const struct monitor_task *task, int channel_fd)
{
    struct monitor_process monitor = {
        .task = task, .sandbox = {.dir_fd = -1, .vmm_pidfd = -1}, .state = {.exit_status = -1}};
    struct error err = {0};
    int signal_fd = -1;
    char byte;
    close_other_fds(task, channel_fd);
    bool created = reach_created(&monitor, &signal_fd, &err) == 0;
    if (created)
        err = (struct error){0};
    bool told = fd_write_full(channel_fd, &err, sizeof(err)) == 0;
    if (!created || !told || fd_read_full(channel_fd, &byte, 1) < 0) {
        monitor_process_undo(&monitor);
        if (store_remove_container(task->store, task->id, &err) < 0)
            log_err("%s", err.text);
        _exit(1);
    }
    close(channel_fd);
    flock(task->container_fd, LOCK_UN);
    live(&monitor, signal_fd);
}

static void monitor_reap(struct monitor *monitor)
{
    while (waitpid(monitor->pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

int monitor_spawn(const struct monitor_task *task, struct monitor *monitor, struct error *err)
{
    int ends[2];
    struct error report;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return error_set(err, errno, "socketpair");
    cleanup_fd int own = ends[0], its = ends[1];
    *monitor = (struct monitor){.pid = fork(), .channel_fd = -1};
    if (monitor->pid < 0)
        return error_set(err, errno, "fork");
    if (monitor->pid == 0) {
        fd_close(&own);
        monitor_main(task, take_fd(&its));
    }
    fd_close(&its);
    int got = fd_read_full(own, &report, sizeof(report));
    if (got == 0 && report.code == 0) {
        monitor->channel_fd = take_fd(&own);
        return 0;
    }
    monitor_reap(monitor);
    if (got == 0) {
        report.text[sizeof(report.text) - 1] = '\0';
        if (err)
            *err = report;
        return -1;
    }
    /* It was killed and could not clean up behind itself. */
    container_destroy(task->store, task->id, task->container_fd, NULL);
    return error_set(err, 0, "the monitor was killed while it created the container");
}

int monitor_commit(struct monitor *monitor, struct error *err)
{
    int result = fd_write_full(monitor->channel_fd, "", 1);
    fd_close(&monitor->channel_fd);
    return result ? error_set(err, -result, "the monitor is gone") : 0;
}

void monitor_abandon(struct monitor *monitor)
{
    fd_close(&monitor->channel_fd);
    monitor_reap(monitor);
}
