/*
 * Running one hook: see hook.h. Its program is executed by its path, or by an fd, with its own arguments and
 * environment, never through a shell.
 */
#include "common/hook.h"

#include "common/fd.h"
#include "common/json.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OUTPUT_SHOWN_BYTES 256
#define TIMEOUT_MAX_S      (24 * 3600)

void hook_fini(struct hook *hook)
{
    free(hook->args);
    free(hook->env);
}

int hook_parse(const json_t *object, const char *where, struct hook *hook, struct error *err)
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
        json_get_strings(object, where, "env", &hook->env, err) < 0)
        return -1;
    return 0;
}

/* The child, up to its exec. */
static void __attribute__((noreturn))
hook_exec(const struct hook *hook, int program_fd, int input_fd, int output_fd)
{
    const char *default_args[] = {hook->path, NULL};
    char *const empty[] = {NULL};
    char *const *args = (char *const *)(hook->args && hook->args[0] ? hook->args : default_args);
    char *const *env = hook->env ? (char *const *)hook->env : hook->inherits ? environ : empty;
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* A group of its own, so that a timeout ends what the hook has started too; and it goes with whoever runs
     * it, since nobody would wait for it any more. */
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (hook->enter)
        hook->enter(hook->enter_arg);
    if (dup2(input_fd, STDIN_FILENO) < 0 || dup2(output_fd, STDOUT_FILENO) < 0 ||
        dup2(output_fd, STDERR_FILENO) < 0)
        _exit(126);
    if (program_fd >= 0)
        execveat(program_fd, "", args, env, AT_EMPTY_PATH);
    else
        execve(hook->path, args, env);
    dprintf(STDERR_FILENO, "execute %s: %s", hook->path, strerror(errno));
    _exit(127);
}

/* Waits for the end of the child, at most timeout_s (0: for ever). Whether it has ended. */
static bool child_wait(int pidfd, int64_t timeout_s)
{
    struct pollfd pfd = {.fd = pidfd, .events = POLLIN};
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const int64_t end_ms = ((int64_t)now.tv_sec + timeout_s) * 1000 + now.tv_nsec / 1000000;
    for (;;) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        int64_t left_ms = end_ms - ((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
        int ready = poll(&pfd, 1, timeout_s == 0 ? -1 : (int)(left_ms < 0 ? 0 : left_ms));
        if (ready >= 0 || errno != EINTR)
            return ready != 0;
    }
}

/* Waits for the hook; past its timeout it is killed. 0, or -1 with err filled. */
static int hook_wait(pid_t child, const struct hook *hook, int output_fd, struct error *err)
{
    siginfo_t info = {0};
    bool timed_out = false;
    cleanup_fd int pidfd = pidfd_open(child, 0);
    if (pidfd >= 0 && !child_wait(pidfd, hook->timeout_s)) {
        timed_out = true;
        kill(-child, SIGKILL);
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
int hook_run(const struct hook *hook, int program_fd, const char *state_text, struct error *err)
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
        hook_exec(hook, program_fd, input, output);
    setpgid(child, child); /* whoever comes first; it may have its program already */
    return hook_wait(child, hook, output, err);
}
