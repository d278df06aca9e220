/*
 * The monitor's event loop: see monitor_internal.h. One loop over the signals, the agent's frames and the
 * VMM's end; the streams run in threads of their own (shim/relay.h) that post their end here.
 */
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "shim/deadline.h"
#include "shim/monitor_internal.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define LOST_GRACE_MS 1000 /* for a VM that is going down: its VMM writes down why */
#define LOST_DRAIN_MS 500  /* for output that still lies in the sockets of a dead VM */

static void run_lose(struct monitor_process *monitor, const struct error *why)
{
    if (monitor->lost || monitor->process_ended)
        return;
    monitor->lost = true;
    monitor->failure = *why;
}

/* {"status": N} or {"signal": N}: how the container's process ended. */
static int run_read_end(struct monitor_process *monitor, const json_t *result, struct error *err)
{
    int64_t status = -1, number = 0;
    int got_status = json_get_int(result, "process.wait", "status", 0, 255, &status, err);
    int got_signal = json_get_int(result, "process.wait", "signal", 1, 64, &number, err);
    if (got_status < 0 || got_signal < 0)
        return -1;
    if (got_status + got_signal != 1)
        return error_set(err, EPROTO, "process.wait: neither status nor signal");
    monitor->state.exit_status = (int)status;
    monitor->state.exit_signal = (int)number;
    monitor->process_ended = true;
    log_info("process ended status=%d signal=%d", (int)status, (int)number);
    return 0;
}

static int run_take_frame(struct monitor_process *monitor, const json_t *frame, struct error *err)
{
    int64_t id = json_integer_value(json_object_get(frame, "id"));
    struct error answer = {0};
    json_t *result = id > 0 ? agent_answer_result(frame, &answer) : NULL;
    if (id == monitor->wait_id)
        return result ? run_read_end(monitor, result, err)
                      : error_set(err, answer.code, "process.wait: %s", answer.text);
    /* A signal for a process that is just ending has nobody to be told. */
    if (id > 0 && !result)
        log_debug("request failed id=%lld: %s", (long long)id, answer.text);
    return 0;
}

static void run_control_ready(struct watch *watch, uint32_t events)
{
    (void)events;
    struct monitor_process *monitor = watch->arg;
    struct error err;
    for (;;) {
        json_t *frame = NULL;
        int got = agent_receive(monitor->agent, &frame, &err);
        if (got == 0)
            return;
        int result = got > 0 ? run_take_frame(monitor, frame, &err) : -1;
        json_decref(frame);
        if (result < 0) {
            loop_del(monitor->loop, watch);
            run_lose(monitor, &err);
            return;
        }
    }
}

static void run_vmm_ended(struct watch *watch, uint32_t events)
{
    (void)events;
    struct monitor_process *monitor = watch->arg;
    /* What the agent said before is still in the socket: a process may have ended with its VM. */
    run_control_ready(&monitor->control, 0);
    struct error err;
    error_set(&err, ECONNRESET, "the VM ended");
    loop_del(monitor->loop, watch);
    run_lose(monitor, &err);
}

/* Signals that this process caused itself, or that tell of its own children, are not the container's. */
static bool run_signal_is_foreign(const struct signalfd_siginfo *info)
{
    if (info->ssi_signo == SIGCHLD)
        return info->ssi_code == SI_USER || info->ssi_code == SI_QUEUE || info->ssi_code == SI_TKILL;
    return !(info->ssi_signo == SIGPIPE && info->ssi_pid == (uint32_t)getpid());
}

static void run_signal_ready(struct watch *watch, uint32_t events)
{
    (void)events;
    struct monitor_process *monitor = watch->arg;
    struct signalfd_siginfo info;
    struct error err;
    while (read(watch->fd, &info, sizeof(info)) == sizeof(info)) {
        if (!run_signal_is_foreign(&info))
            continue;
        log_debug("signal passed on number=%u", info.ssi_signo);
        json_t *params = json_pack("{s:s, s:s, s:i}", "container", monitor->task->id, "process", "init",
                                   "signal", (int)info.ssi_signo);
        if (agent_send(monitor->agent, "container.kill", params, &err) < 0)
            log_warn("signal lost number=%u: %s", info.ssi_signo, err.text);
    }
}

static void run_output_ended(void *arg)
{
    struct monitor_process *monitor = arg;
    monitor->outputs_open--;
}

/* In the relay's thread. */
static void run_post_output_ended(void *arg)
{
    struct monitor_process *monitor = arg;
    if (loop_post(monitor->loop, run_output_ended, monitor) < 0)
        log_err("the end of a stream can't be posted");
}

static int run_start_relays(struct monitor_process *monitor, struct error *err)
{
    for (int i = 0; i < STREAM_COUNT; i++) {
        struct relay *relay = &monitor->relays[i];
        if (i != STREAM_STDIN) {
            relay->ended = run_post_output_ended;
            relay->ended_arg = monitor;
            monitor->outputs_open++;
        }
        if (relay_start(relay, err) < 0)
            return -1;
    }
    return 0;
}

static int run_watch(struct monitor_process *monitor, struct watch *watch, int fd, watch_fn fn,
                     struct error *err)
{
    *watch = (struct watch){.fd = fd, .fn = fn, .arg = monitor};
    int result = loop_add(monitor->loop, watch, EPOLLIN);
    return result ? error_set(err, -result, "event loop") : 0;
}

int monitor_process_run(struct monitor_process *monitor, int signal_fd, struct error *err)
{
    monitor->loop = loop_new();
    if (!monitor->loop)
        return error_set(err, errno, "event loop");
    if (run_watch(monitor, &monitor->signals, signal_fd, run_signal_ready, err) < 0 ||
        run_watch(monitor, &monitor->control, agent_client_fd(monitor->agent), run_control_ready, err) < 0 ||
        run_watch(monitor, &monitor->vmm, monitor->sandbox.vmm_pidfd, run_vmm_ended, err) < 0 ||
        run_start_relays(monitor, err) < 0)
        return -1;
    while (!monitor->lost && !(monitor->process_ended && monitor->outputs_open == 0)) {
        int result = loop_once(monitor->loop, -1);
        if (result < 0)
            return error_set(err, -result, "event loop");
    }
    if (!monitor->lost)
        return 0;
    sandbox_stop(&monitor->sandbox, LOST_GRACE_MS);
    int64_t deadline = deadline_in(LOST_DRAIN_MS);
    while (monitor->outputs_open > 0 && deadline_left_ms(deadline) > 0)
        loop_once(monitor->loop, deadline_left_ms(deadline));
    return 0;
}
