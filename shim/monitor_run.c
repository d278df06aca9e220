/*
 * The monitor's event loop: see monitor_internal.h. One loop over the signals, the agent's frames and the
 * VMM's end; the streams run in threads of their own (shim/relay.h) that post their end here.
 */
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "shim/deadline.h"
#include "shim/monitor_internal.h"
#include "shim/notify.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define NOTIFY_TEXT_MAX 4096 /* as systemd reads them */
#define LOST_GRACE_MS   1000 /* for a VM that is going down: its VMM writes down why */
#define LOST_DRAIN_MS   500  /* for output that still lies in the sockets of a dead VM */

static void run_lose(struct monitor_process *process, const struct error *why)
{
    if (process->lost || process->process_ended)
        return;
    process->lost = true;
    process->failure = *why;
}

/* {"status": N} or {"signal": N}: how the container's process ended. */
static int run_read_end(struct monitor_process *process, const json_t *result, struct error *err)
{
    int64_t status = -1, number = 0;
    int got_status = json_get_int(result, "process.wait", "status", 0, 255, &status, err);
    int got_signal = json_get_int(result, "process.wait", "signal", 1, 64, &number, err);
    if (got_status < 0 || got_signal < 0)
        return -1;
    if (got_status + got_signal != 1)
        return error_set(err, EPROTO, "process.wait: neither status nor signal");
    process->exit_status = (int)status;
    process->exit_signal = (int)number;
    process->process_ended = true;
    log_info("process ended status=%d signal=%d", (int)status, (int)number);
    return 0;
}

/* The host's service manager gets it, and the next one is asked for. */
static int run_take_notification(struct monitor_process *process, const json_t *result, struct error *err)
{
    char text[NOTIFY_TEXT_MAX];
    struct error failure;
    const char *message = NULL;
    if (json_require(json_get_string(result, "container.notify", "message", &message, err),
                     "container.notify", "message", err) < 0)
        return -1;
    size_t length = notify_rewrite(message, getpid(), text, sizeof(text));
    if (length > 0 && notify_send(process->notify_path, text, length, &failure) < 0)
        log_warn("notification lost: %s", failure.text);
    return monitor_process_ask_notification(process, err);
}

int monitor_process_ask_notification(struct monitor_process *process, struct error *err)
{
    process->notify_id = agent_send(process->agent, "container.notify",
                                    json_pack("{s:s}", "container", process->container), err);
    return process->notify_id < 0 ? -1 : 0;
}

static int run_take_frame(struct monitor_process *process, const json_t *frame, struct error *err)
{
    int64_t id = json_integer_value(json_object_get(frame, "id"));
    struct error answer = {0};
    json_t *result = id > 0 ? agent_answer_result(frame, &answer) : NULL;
    if (id == process->wait_id)
        return result ? run_read_end(process, result, err)
                      : error_set(err, answer.code, "process.wait: %s", answer.text);
    if (id > 0 && id == process->notify_id && result)
        return run_take_notification(process, result, err);
    if (id > 0 && id == process->network_id) {
        network_follow_told(process->network, result, &answer);
        return 0;
    }
    /* A signal for a process that is just ending has nobody to be told. */
    if (id > 0 && !result)
        log_debug("request failed id=%lld: %s", (long long)id, answer.text);
    return 0;
}

static void run_control_ready(struct watch *watch, uint32_t events)
{
    (void)events;
    struct monitor_process *process = watch->arg;
    struct error err;
    for (;;) {
        json_t *frame = NULL;
        int got = agent_receive(process->agent, &frame, &err);
        if (got == 0)
            return;
        int result = got > 0 ? run_take_frame(process, frame, &err) : -1;
        json_decref(frame);
        if (result < 0) {
            loop_del(process->loop, watch);
            run_lose(process, &err);
            return;
        }
    }
}

static void run_vmm_ended(struct watch *watch, uint32_t events)
{
    (void)events;
    struct monitor_process *process = watch->arg;
    /* What the agent said before is still in the socket: a process may have ended with its VM. */
    run_control_ready(&process->control, 0);
    struct error err;
    error_set(&err, ECONNRESET, "the VM ended");
    loop_del(process->loop, watch);
    run_lose(process, &err);
}

/* Signals that this process caused itself, or that tell of its own children, are not the container's. Nor are
 * those of its own terminal's end: the guest's terminal is hung up as well and makes its own. */
static bool run_signal_is_foreign(const struct monitor_process *process, const struct signalfd_siginfo *info)
{
    switch (info->ssi_signo) {
    case SIGCHLD:
        return info->ssi_code == SI_USER || info->ssi_code == SI_QUEUE || info->ssi_code == SI_TKILL;
    case SIGPIPE:
        return info->ssi_pid != (uint32_t)getpid();
    case SIGHUP:
    case SIGCONT:
        return !(process->streams.hang_up && info->ssi_code == SI_KERNEL);
    case SIGWINCH:
        return info->ssi_code != SI_KERNEL; /* the guest's terminal tells its processes of a change */
    default:
        return true;
    }
}

static void run_pass_signal(struct monitor_process *process, const struct signalfd_siginfo *info)
{
    struct error err;
    log_debug("signal passed on number=%u", info->ssi_signo);
    json_t *params = json_pack("{s:s, s:s, s:i}", "container", process->container, "process", process->name,
                               "signal", (int)info->ssi_signo);
    if (agent_send(process->agent, "container.kill", params, &err) < 0)
        log_warn("signal lost number=%u: %s", info->ssi_signo, err.text);
}

static void run_signal_ready(struct watch *watch, uint32_t events)
{
    (void)events;
    struct monitor_process *process = watch->arg;
    struct signalfd_siginfo info;
    while (read(watch->fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGWINCH)
            monitor_process_resize(process);
        if (run_signal_is_foreign(process, &info))
            run_pass_signal(process, &info);
    }
}

void monitor_process_resize(struct monitor_process *process)
{
    struct error err;
    struct winsize size;
    if (!monitor_streams_get_size(&process->streams, &size) || (size.ws_row == 0 && size.ws_col == 0))
        return;
    json_t *params = json_pack("{s:s, s:s, s:i, s:i}", "container", process->container, "process",
                               process->name, "rows", (int)size.ws_row, "columns", (int)size.ws_col);
    if (agent_send(process->agent, "process.resize", params, &err) < 0)
        log_warn("size lost: %s", err.text);
}

static void run_output_ended(void *arg)
{
    struct monitor_process *process = arg;
    process->outputs_open--;
}

/* The loop looks by itself what is left. */
static void run_connection_ended(void *arg)
{
    (void)arg;
}

/* In the connection's thread. */
static void run_post_connection_ended(void *arg)
{
    struct monitor_process *process = arg;
    if (loop_post(process->loop, run_connection_ended, process) < 0)
        log_err("the end of a connection can't be posted");
}

/* In the relay's thread. */
static void run_post_output_ended(void *arg)
{
    struct monitor_process *process = arg;
    if (loop_post(process->loop, run_output_ended, process) < 0)
        log_err("the end of a stream can't be posted");
}

static int run_watch(struct monitor_process *process, struct watch *watch, int fd, watch_fn fn,
                     struct error *err)
{
    *watch = (struct watch){.fd = fd, .fn = fn, .arg = process};
    int result = loop_add(process->loop, watch, EPOLLIN);
    return result ? error_set(err, -result, "event loop") : 0;
}

/* A network_tell_fn. */
static int run_tell_network(void *arg, json_t *params, struct error *err)
{
    struct monitor_process *process = arg;
    process->network_id = agent_send(process->agent, "sandbox.network.set", params, err);
    return process->network_id < 0 ? -1 : 0;
}

/* The process has ended, and all that it said was handed on. */
static bool run_is_over(struct monitor_process *process)
{
    return process->process_ended && monitor_sockets_finish(process->streams.sockets) &&
           process->outputs_open == 0;
}

int monitor_process_run(struct monitor_process *process, int signal_fd, struct error *err)
{
    int outputs = 0;
    const struct agent_address address = sandbox_agent_address(&process->sandbox);
    const struct monitor_streams_ends ends = {run_post_output_ended, run_post_connection_ended, process};
    process->loop = loop_new();
    if (!process->loop)
        return error_set(err, errno, "event loop");
    if (run_watch(process, &process->signals, signal_fd, run_signal_ready, err) < 0 ||
        run_watch(process, &process->control, agent_client_fd(process->agent), run_control_ready, err) < 0 ||
        run_watch(process, &process->vmm, process->sandbox.vmm_pidfd, run_vmm_ended, err) < 0 ||
        (process->network && network_follow(process->network, process->loop, process->sandbox.dir_fd,
                                            run_tell_network, process, err) < 0) ||
        (outputs = monitor_streams_start(&process->streams, &address, process->container, process->name,
                                         &ends, err)) < 0)
        return -1;
    process->outputs_open += (unsigned)outputs;
    while (!process->lost && !run_is_over(process)) {
        int result = loop_once(process->loop, -1);
        if (result < 0)
            return error_set(err, -result, "event loop");
    }
    if (!process->lost)
        return 0;
    sandbox_stop(&process->sandbox, LOST_GRACE_MS);
    int64_t deadline = deadline_in(LOST_DRAIN_MS);
    while ((process->outputs_open > 0 || !monitor_sockets_finish(process->streams.sockets)) &&
           deadline_left_ms(deadline) > 0)
        loop_once(process->loop, deadline_left_ms(deadline));
    return 0;
}

void monitor_process_judge_loss(struct monitor_process *process, char *text, size_t size)
{
    char end[ERROR_TEXT_MAX / 2];
    sandbox_describe_end(&process->sandbox, end, sizeof(end));
    snprintf(text, size, "the VM ended while the container ran: %s", end);
    process->exit_status = -1;
    process->exit_signal = SIGKILL;
}
