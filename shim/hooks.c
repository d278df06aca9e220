/*
 * Running hooks: see hooks.h. A hook is a program of the host's administrator or engine, named in
 * config.json; it is executed by its absolute path with its own arguments and environment, never through a
 * shell.
 */
#include "shim/hooks.h"

#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "shim/process_id.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_SHOWN_BYTES 256
#define TIMEOUT_MAX_S      (24 * 3600)

struct hook {
    const char *path;
    const char **args; /* heap array of borrowed strings, like env */
    const char **env;
    int64_t timeout_s; /* 0: none */
};

static const char *const host_kinds[] = {"prestart", "createRuntime", "poststart", "poststop"};

static void hook_fini(struct hook *hook)
{
    free(hook->args);
    free(hook->env);
}

static int hook_read(const json_t *object, const char *where, struct hook *hook, struct error *err)
{
    *hook = (struct hook){0};
    if (!json_is_object(object))
        return error_set(err, 0, "%s: expected an object", where);
    int got = json_get_int(object, where, "timeout", 1, TIMEOUT_MAX_S, &hook->timeout_s, err);
    if (got < 0 ||
        json_require(json_get_string(object, where, "path", &hook->path, err), where, "path", err) < 0)
        return -1;
    if (hook->path[0] != '/')
        return error_set(err, 0, "%s.path: \"%s\" is not absolute", where, hook->path);
    if (json_get_strings(object, where, "args", &hook->args, err) < 0 ||
        json_get_strings(object, where, "env", &hook->env, err) < 0) {
        hook_fini(hook);
        return -1;
    }
    return 0;
}

/* The child, up to its exec. */
static void __attribute__((noreturn)) hook_exec(const struct hook *hook, int input_fd, int output_fd)
{
    const char *default_args[] = {hook->path, NULL};
    const char *empty[] = {NULL};
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(input_fd, STDIN_FILENO) < 0 || dup2(output_fd, STDOUT_FILENO) < 0 ||
        dup2(output_fd, STDERR_FILENO) < 0)
        _exit(126);
    execve(hook->path, (char *const *)(hook->args && hook->args[0] ? hook->args : default_args),
           (char *const *)(hook->env ? hook->env : empty));
    dprintf(STDERR_FILENO, "execute %s: %s", hook->path, strerror(errno));
    _exit(127);
}

/* Waits for the hook; past its timeout it is killed. 0, or -1 with err filled. */
static int hook_wait(pid_t child, const struct hook *hook, int output_fd, struct error *err)
{
    siginfo_t info = {0};
    bool timed_out = false;
    cleanup_fd int pidfd = pidfd_open(child, 0);
    int timeout_ms = hook->timeout_s ? (int)hook->timeout_s * 1000 : -1;
    if (pidfd >= 0 && process_wait_end(pidfd, timeout_ms) == -ETIMEDOUT) {
        timed_out = true;
        kill(child, SIGKILL);
    }
    while (waitid(P_PID, (id_t)child, &info, WEXITED) < 0 && errno == EINTR)
        ;
    if (timed_out)
        return error_set(err, ETIMEDOUT, "%s", hook->path);
    if (info.si_code == CLD_EXITED && info.si_status == 0)
        return 0;
    char output[OUTPUT_SHOWN_BYTES + 1];
    ssize_t length = pread(output_fd, output, OUTPUT_SHOWN_BYTES, 0);
    output[length > 0 ? length : 0] = '\0';
    output[strcspn(output, "\n")] = '\0';
    return error_set(err, 0, "%s: %s %d%s%s", hook->path,
                     info.si_code == CLD_EXITED ? "exit status" : "killed by signal", info.si_status,
                     *output ? ": " : "", output);
}

/* Both ends of the talk with a hook are memory files: it may leave its input unread and write what it likes
 * without anybody blocking. */
static int hook_run(const struct hook *hook, const char *state_text, struct error *err)
{
    cleanup_fd int input = memfd_create("hook-state", MFD_CLOEXEC);
    cleanup_fd int output = memfd_create("hook-output", MFD_CLOEXEC);
    if (input < 0 || output < 0)
        return error_set(err, errno, "memfd_create");
    int result = fd_write_full(input, state_text, strlen(state_text));
    if (result || lseek(input, 0, SEEK_SET) < 0)
        return error_set(err, result ? -result : errno, "hook's state");
    pid_t child = fork();
    if (child < 0)
        return error_set(err, errno, "fork");
    if (child == 0)
        hook_exec(hook, input, output);
    return hook_wait(child, hook, output, err);
}

int hooks_run(const struct container_state *state, const char *kind, struct error *err)
{
    json_t *list = NULL;
    if (json_get_array(state->hooks, "hooks", kind, &list, err) <= 0)
        return 0;
    cleanup_json json_t *object = container_state_to_oci(state);
    cleanup_free char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    if (!text)
        return error_set(err, ENOMEM, "hooks.%s", kind);
    for (size_t i = 0; i < json_array_size(list); i++) {
        char where[64];
        struct hook hook;
        snprintf(where, sizeof(where), "hooks.%s[%zu]", kind, i);
        if (hook_read(json_array_get(list, i), where, &hook, err) < 0)
            return -1;
        log_debug("hook %s path=%s", where, hook.path);
        int result = hook_run(&hook, text, err);
        hook_fini(&hook);
        if (result < 0)
            return error_wrap(err, "%s", where);
    }
    return 0;
}

int hooks_check(const json_t *hooks, struct error *err)
{
    for (size_t kind = 0; kind < sizeof(host_kinds) / sizeof(host_kinds[0]); kind++) {
        json_t *list = NULL;
        if (json_get_array(hooks, "hooks", host_kinds[kind], &list, err) < 0)
            return -1;
        for (size_t i = 0; i < json_array_size(list); i++) {
            char where[64];
            struct hook hook;
            snprintf(where, sizeof(where), "hooks.%s[%zu]", host_kinds[kind], i);
            if (hook_read(json_array_get(list, i), where, &hook, err) < 0)
                return -1;
            hook_fini(&hook);
        }
    }
    return 0;
}
