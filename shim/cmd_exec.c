/*
 * husk exec: runs a further process in a container. Its monitor is this command itself, or with --detach a
 * child that stays.
 */
#include "common/fd.h"
#include "common/json.h"
#include "shim/container.h"
#include "shim/exec_process.h"
#include "shim/monitor_exec.h"
#include "shim/preserved_fds.h"
#include "shim/terminal.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#define EXEC_FAILED 255 /* runc's status when there is none of a process */

static int set_exec_flag(void *field, const char *value, struct error *err)
{
    bool given = false;
    if (option_set_flag(&given, value, err) < 0)
        return -1;
    *(enum exec_flag *)field = given ? EXEC_FLAG_TRUE : EXEC_FLAG_FALSE;
    return 0;
}

#define EXEC(name) offsetof(struct exec_options, name)
static const struct option_row option_rows[] = {
    {"process", 'p', "FILE", "the OCI process object to run, instead of options and words", option_set_string,
     EXEC(process_file)},
    {"detach", 'd', NULL, "return once the program runs", option_set_flag, EXEC(detach)},
    {"tty", 't', NULL, "give it a terminal", option_set_flag, EXEC(tty)},
    {"console-socket", 0, "SOCKET", "where to send the terminal's master", option_set_string,
     EXEC(console_socket)},
    {"pid-file", 0, "FILE", "where to write the process's pid", option_set_string, EXEC(pid_file)},
    {"pidfd-socket", 0, "SOCKET", "where to send a pidfd of the process", option_set_string,
     EXEC(pidfd_socket)},
    {"cwd", 0, "DIR", "its working directory", option_set_string, EXEC(cwd)},
    {"env", 'e', "NAME=VALUE", "add to its environment (may be given again)", option_append, EXEC(env)},
    {"user", 'u', "UID[:GID]", "its user and group", option_set_string, EXEC(user)},
    {"additional-gids", 'g', "GID", "add a group (may be given again)", option_append, EXEC(additional_gids)},
    {"cap", 'c', "CAP", "add a capability (may be given again)", option_append, EXEC(capabilities)},
    {"no-new-privs", 0, NULL, "no privileges by exec of other programs", set_exec_flag,
     EXEC(no_new_privileges)},
    {"apparmor", 0, "PROFILE", "its AppArmor profile", option_set_string, EXEC(apparmor)},
    {"process-label", 0, "LABEL", "its SELinux label", option_set_string, EXEC(process_label)},
    {"cgroup", 0, "PATH", "a cgroup below the container's to run it in", option_set_string, EXEC(cgroup)},
    {"preserve-fds", 0, "N", "pass N more fds on: sockets, pipes, and files by their bytes",
     option_set_number, EXEC(preserve_fds)},
    {"ignore-paused", 0, NULL, "also in a paused container, where it waits for the resume", option_set_flag,
     EXEC(ignore_paused)},
    {"no-subreaper", 0, NULL, "accepted: husk is no subreaper", option_set_flag, EXEC(no_subreaper)},
    {0}};

static int check_state(const struct exec_options *options, const struct container_state *state,
                       struct error *err)
{
    switch (state->status) {
    case STATUS_STOPPED:
        return error_set(err, 0, "cannot exec in a stopped container");
    case STATUS_CREATING:
        return error_set(err, 0, "cannot exec in a container that is not created");
    case STATUS_CREATED:
    case STATUS_RUNNING:
        break;
    }
    if (state->paused && !options->ignore_paused)
        return error_set(err, 0, "cannot exec in a paused container (use --ignore-paused to override)");
    return 0;
}

static int check_options(const struct exec_options *options, bool terminal, struct error *err)
{
    return terminal_check_options(terminal, options->detach, options->console_socket, err);
}

/* What is to be told about the process, once there is one. */
struct made {
    const struct exec_options *options;
    int pidfd_socket_fd;
};

static int tell_made(const struct made *made, pid_t pid, struct error *err)
{
    if (made->pidfd_socket_fd >= 0) {
        cleanup_fd int pidfd = pidfd_open(pid, 0);
        if (pidfd < 0)
            return error_set(err, errno, "pidfd");
        if (terminal_send_fd(made->pidfd_socket_fd, pidfd, "pidfd", err) < 0)
            return -1;
    }
    return made->options->pid_file ? container_write_pid_file(made->options->pid_file, pid, err) : 0;
}

static int tell_made_self(void *arg, struct error *err)
{
    return tell_made(arg, getpid(), err);
}

static int run_detached(const struct exec_task *task, const struct made *made, struct error *err)
{
    struct monitor monitor;
    if (monitor_exec_spawn(task, &monitor, err) < 0)
        return -1;
    if (tell_made(made, monitor.pid, err) == 0)
        return monitor_commit(&monitor, err);
    monitor_abandon(&monitor);
    return -1;
}

static int run_task(const struct context *context, struct exec_task *task, const struct exec_options *options,
                    struct error *err)
{
    struct made made = {.options = options, .pidfd_socket_fd = -1};
    cleanup_fd int console_fd = -1, tty_fd = -1, pidfd_socket_fd = -1;
    if (options->console_socket && (console_fd = terminal_connect_socket(options->console_socket, err)) < 0)
        return -1;
    if (task->terminal && console_fd < 0 && (tty_fd = terminal_find(err)) < 0)
        return -1;
    if (options->pidfd_socket && (pidfd_socket_fd = terminal_connect_socket(options->pidfd_socket, err)) < 0)
        return -1;
    task->console_fd = console_fd;
    task->tty_fd = tty_fd;
    made.pidfd_socket_fd = pidfd_socket_fd;
    if (options->detach)
        return run_detached(task, &made, err);
    int status = monitor_exec_run(task, tell_made_self, &made, err);
    if (status >= 0 && err->code)
        command_report(context, err->text);
    return status;
}

static int exec_in(const struct context *context, const struct exec_options *options,
                   const struct container_state *state, char **args, struct error *err)
{
    bool terminal = false;
    if (check_state(options, state, err) < 0)
        return -1;
    cleanup_json json_t *process = exec_process_make(options, state, args, err);
    if (!process || json_get_bool(process, "process", "terminal", &terminal, err) < 0 ||
        check_options(options, terminal, err) < 0)
        return -1;
    struct exec_task task = {.store = &context->store,
                             .container = state->id,
                             .sandbox = state->sandbox,
                             .cgroup = state->cgroup,
                             .guest_cgroup = options->cgroup && *options->cgroup ? options->cgroup : NULL,
                             .spec = process,
                             .terminal = terminal,
                             .console_fd = -1,
                             .tty_fd = -1,
                             .log_fd = context->log_fd,
                             .log_format = context->log_format};
    if (preserved_fds_find(&task.preserved, options->preserve_fds, err) < 0)
        return -1;
    return run_task(context, &task, options, err);
}

static int exec_run(const struct context *context, int argc, char **argv, struct error *err)
{
    struct exec_options options = {0};
    struct container_state state = {.exit_status = -1};
    int count = command_parse(&cmd_exec, &options, argc, argv, err);
    if (count >= 0) {
        argv[count] = NULL;
        int status = container_state_load(&context->store, argv[0], &state, err);
        if (status == 0)
            status = exec_in(context, &options, &state, argv + 1, err);
        container_state_fini(&state);
        if (status < 0) {
            error_wrap(err, "exec failed");
            command_report(context, err->text);
            status = EXEC_FAILED;
        }
        count = status;
    }
    option_list_fini(&options.env);
    option_list_fini(&options.additional_gids);
    option_list_fini(&options.capabilities);
    return count;
}

const struct command cmd_exec = {.name = "exec",
                                 .arguments = "ID COMMAND [ARGUMENT...]",
                                 .help = "run a further process in a container",
                                 .options = option_rows,
                                 .arguments_min = 1,
                                 .arguments_max = INT_MAX,
                                 .options_first = true,
                                 .run = exec_run};
