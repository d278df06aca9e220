/*
 * husk run: create, start, and in the foreground wait and delete. The monitor carries the streams; this
 * process passes signals on to it and ends with its status.
 */
#include "common/fd.h"
#include "common/log.h"
#include "shim/container.h"
#include "shim/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

struct run_options {
    struct create_options create; /* first: CREATE_OPTION_ROWS writes it */
    bool detach;
    bool keep;
};

static const struct option_row option_rows[] = {CREATE_OPTION_ROWS,
                                                {"detach", 'd', NULL, "return once the program runs",
                                                 option_set_flag, offsetof(struct run_options, detach)},
                                                {"keep", 0, NULL,
                                                 "do not delete the container when it has ended",
                                                 option_set_flag, offsetof(struct run_options, keep)},
                                                {0}};

/* The streams are the monitor's alone from here: an end of the caller's pipe must not be hidden by our
 * copies of it. */
static void run_drop_streams(void)
{
    cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
    }
}

/* Passes every signal on until the monitor ends. Its wait status, or -1 with err filled. */
static int run_wait(pid_t monitor, const sigset_t *signals, struct error *err)
{
    int status;
    for (;;) {
        siginfo_t info;
        pid_t ended = waitpid(monitor, &status, WNOHANG);
        if (ended == monitor)
            return status;
        if (ended < 0)
            return error_set(err, errno, "wait for the monitor");
        int number = sigwaitinfo(signals, &info);
        if (number > 0 && number != SIGCHLD && kill(monitor, number) < 0)
            log_debug("signal not passed on number=%d: %s", number, strerror(errno));
    }
}

/* A container whose VM died under it did not end by itself: the user learns why. */
static void run_report_reason(const struct context *context, const char *id)
{
    struct container_state state;
    if (container_state_load(&context->store, id, &state, NULL) < 0)
        return;
    if (state.reason) {
        struct error reason;
        error_set(&reason, 0, "container %s: %s", id, state.reason);
        command_report(context, reason.text);
    }
    container_state_fini(&state);
}

static int run_foreground(const struct context *context, const char *id, const struct run_options *options,
                          pid_t monitor, const sigset_t *signals, struct terminal_raw *raw, struct error *err)
{
    run_drop_streams();
    int status = run_wait(monitor, signals, err);
    terminal_raw_leave(raw);
    if (status < 0)
        return -1;
    run_report_reason(context, id);
    if (!options->keep && container_delete(context, id, true, err) < 0)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run_start(const struct context *context, const char *id, int tty_fd, struct terminal_raw *raw,
                     struct error *err)
{
    struct error cleanup;
    if ((tty_fd < 0 || terminal_raw_enter(raw, tty_fd, err) == 0) && container_start(context, id, err) == 0)
        return 0;
    if (container_delete(context, id, true, &cleanup) < 0)
        log_warn("%s", cleanup.text);
    return -1;
}

/* The terminal is raw while the program runs, and is set back however this ends (shim/terminal.h). */
static int run_created(const struct context *context, const char *id, const struct run_options *options,
                       const struct created *created, struct error *err)
{
    struct terminal_raw raw = {.fd = -1, .guard_fd = -1};
    sigset_t signals;
    /* From here a signal is the container's; before, it ends the creation, which cleans up behind itself. */
    sigfillset(&signals);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    int status = run_start(context, id, created->tty_fd, &raw, err);
    if (status == 0 && !options->detach)
        status = run_foreground(context, id, options, created->monitor, &signals, &raw, err);
    terminal_raw_leave(&raw);
    return status;
}

static int run_run(const struct context *context, int argc, char **argv, struct error *err)
{
    struct run_options options = {0};
    struct created created;
    int count = command_parse(&cmd_run, &options, argc, argv, err);
    if (count < 0)
        return count;
    options.create.foreground = !options.detach;
    if (container_create(context, argv[0], &options.create, &created, err) < 0)
        return -1;
    int status = run_created(context, argv[0], &options, &created, err);
    fd_close(&created.tty_fd);
    return status;
}

const struct command cmd_run = {.name = "run",
                                .arguments = "ID",
                                .help = "create and start a container, wait for its end and delete it",
                                .options = option_rows,
                                .arguments_min = 1,
                                .arguments_max = 1,
                                .run = run_run};
