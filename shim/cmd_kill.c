/*
 * husk kill: sends a signal to a container's process, or with --all to all of its processes.
 *
 * The agent delivers it, so that the caller learns whether it arrived. SIGKILL works even when the agent does
 * not answer: then the VM itself is killed.
 */
#include "common/json.h"
#include "shim/container.h"
#include "shim/deadline.h"
#include "shim/sandbox.h"
#include "shim/signal_name.h"

#include <errno.h>
#include <signal.h>

#define KILL_TIMEOUT_MS     10000
#define MONITOR_END_WAIT_MS 2000

struct kill_options {
    bool all;
    bool regex;
    int number; /* of the signal */
};

static const struct option_row option_rows[] = {
    {"all", 'a', NULL, "signal every process of the container", option_set_flag,
     offsetof(struct kill_options, all)},
    {"regex", 'r', NULL, "signal every container whose ID matches the regular expression", option_set_flag,
     offsetof(struct kill_options, regex)},
    {0}};

static int kill_by_agent(const struct context *context, const struct container_state *state, int number,
                         bool all, struct error *err)
{
    json_t *params = json_pack("{s:s, s:i, s:b}", "container", state->id, "signal", number, "all", all);
    cleanup_json json_t *result =
        container_call(&context->store, state, "container.kill", params, KILL_TIMEOUT_MS, err);
    return result ? 0 : -1;
}

/* The agent did not take the signal: because the container ended just now, or because it does not answer. */
static int kill_after_failure(const struct context *context, const struct container_state *state, int number,
                              struct error *err)
{
    if (err->code == ESRCH)
        return error_set(err, 0, "no such process: container not running");
    int pidfd = process_id_open(&state->monitor);
    int ended = pidfd < 0 ? 0 : process_wait_end(pidfd, number == SIGKILL ? 0 : MONITOR_END_WAIT_MS);
    if (pidfd >= 0)
        close(pidfd);
    if (ended == 0)
        return error_set(err, 0, "container not running");
    if (number != SIGKILL)
        return -1;
    log_warn("the agent did not take the signal, the VM is killed: %s", err->text);
    struct sandbox sandbox;
    if (sandbox_open(&sandbox, &context->store, state->sandbox, err) < 0)
        return -1;
    sandbox_stop(&sandbox, 0);
    sandbox_fini(&sandbox);
    return 0;
}

static int kill_container(const struct context *context, const struct container_state *state, int number,
                          bool all, struct error *err)
{
    if (state->status == STATUS_STOPPED && all)
        return 0; /* as runc: all of none have got it */
    if (state->status != STATUS_CREATED && state->status != STATUS_RUNNING)
        return error_set(err, 0, "container not running");
    if (number == 0)
        return 0;
    if (kill_by_agent(context, state, number, all, err) == 0)
        return 0;
    return kill_after_failure(context, state, number, err);
}

static int kill_one(const struct context *context, const char *id, void *arg, struct error *err)
{
    const struct kill_options *options = arg;
    struct container_state state;
    if (container_state_load(&context->store, id, &state, err) < 0)
        return -1;
    int result = kill_container(context, &state, options->number, options->all, err);
    container_state_fini(&state);
    return result < 0 ? error_wrap(err, "container %s", id) : 0;
}

static int kill_run(const struct context *context, int argc, char **argv, struct error *err)
{
    struct kill_options options = {0};
    int count = command_parse(&cmd_kill, &options, argc, argv, err);
    if (count < 0)
        return count;
    options.number = signal_parse(count > 1 ? argv[1] : "SIGTERM", err);
    if (options.number < 0)
        return -1;
    return options.regex ? container_for_each_match(context, argv[0], kill_one, &options, err)
                         : kill_one(context, argv[0], &options, err);
}

const struct command cmd_kill = {.name = "kill",
                                 .arguments = "ID [SIGNAL]",
                                 .help = "send a signal to a container (default: SIGTERM)",
                                 .options = option_rows,
                                 .arguments_min = 1,
                                 .arguments_max = 2,
                                 .run = kill_run};
