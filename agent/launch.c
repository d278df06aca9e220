/*
 * From fork to exec: see launch.h. The child starts as a copy of the agent, with all its rights and fds, and
 * walks down: out of the agent's fds and session, into its namespaces and root, to its user, its capabilities
 * and at last its program. The order of the steps is the security of it; each says what it relies on.
 */
#include "agent/launch.h"

#include "agent/credentials.h"
#include "agent/namespaces.h"
#include "agent/program.h"
#include "agent/resolve.h"
#include "agent/rootfs.h"
#include "agent/seccomp.h"
#include "agent/sync.h"
#include "agent/terminal.h"
#include "common/fd.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where the child keeps the fds it needs besides 0, 1 and 2; every other fd of the agent is closed. */
enum { CHILD_SYNC_FD = 3, CHILD_INIT_PIDFD = 4, CHILD_FDS };

static bool launch_is_init(const struct launch *launch)
{
    return launch->init_pidfd < 0;
}

/* Step 1: nothing of the agent stays with the child but its memory, which exec replaces. */
static int step_leave_agent(const struct launch *launch, struct error *err)
{
    int wanted[CHILD_FDS] = {launch->stdio[0], launch->stdio[1], launch->stdio[2], launch->sync_fd,
                             launch->init_pidfd};
    /* First out of the way of each other, then to their places. */
    for (int i = 0; i < CHILD_FDS; i++) {
        if (wanted[i] >= 0 && (wanted[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, CHILD_FDS)) < 0)
            return error_set(err, errno, "fds");
    }
    for (int i = 0; i < CHILD_FDS; i++) {
        int flags = i <= STDERR_FILENO ? 0 : O_CLOEXEC;
        if (wanted[i] >= 0 && dup3(wanted[i], i, flags) < 0)
            return error_set(err, errno, "fds");
    }
    if (close_range(launch_is_init(launch) ? CHILD_INIT_PIDFD : CHILD_FDS, ~0u, 0) < 0)
        return error_set(err, errno, "close the agent's fds");

    /* Other processes of the container may not look into this copy of the agent. exec sets it back. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setsid() < 0)
        return error_set(err, errno, "session");
    syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL); /* no keyrings in the kernel: none to share */
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int signal = 1; signal < NSIG; signal++)
        sigaction(signal, &action, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    return 0;
}

static int step_terminal(const struct launch *launch, int root_fd, struct error *err)
{
    cleanup_fd int master = -1, slave = -1;
    if (!launch->terminal)
        return 0;
    if (terminal_open(launch->process, root_fd, &master, &slave, err))
        return -1;
    if (launch_is_init(launch) && terminal_make_console(root_fd, slave, err))
        return -1;
    if (terminal_take(slave, err))
        return -1;
    int failed = sync_send(CHILD_SYNC_FD, SYNC_TERMINAL, NULL, master);
    return failed ? error_set(err, -failed, "hand the terminal over") : 0;
}

/* Step 2 of an init: everything that is the container's and not the process's. */
static int step_build_container(const struct launch *launch, struct error *err)
{
    cleanup_fd int root_fd = -1;
    const struct spec *spec = launch->spec;
    if (namespaces_set_up(spec, err) || rootfs_attach(launch, &root_fd, err) ||
        rootfs_make_devices(spec, root_fd, err) || step_terminal(launch, root_fd, err))
        return -1;
    cleanup_fd int cwd_fd = resolve_make_directory(root_fd, launch->process->cwd);
    if (cwd_fd < 0 && cwd_fd != -EROFS)
        return error_set(err, -cwd_fd, "process.cwd '%s'", launch->process->cwd);
    if (rootfs_protect(spec, root_fd, err))
        return -1;
    return rootfs_pivot(spec, root_fd, err);
}

/* Step 2 of a further process: into what its container's init has built. */
static int step_join_container(const struct launch *launch, struct error *err)
{
    if (namespaces_join(launch->spec, CHILD_INIT_PIDFD, err))
        return -1;
    /* Joining a mount namespace sets root and directory to that namespace's own, the container's. */
    cleanup_fd int root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0)
        return error_set(err, errno, "the container's root");
    return step_terminal(launch, root_fd, err);
}

static int step_become_user(const struct launch *launch, struct error *err)
{
    const struct spec_process *process = launch->process;
    if (launch->spec->personality_given && personality(launch->spec->personality) < 0)
        return error_set(err, errno, "linux.personality");
    /* Without a terminal the output pipes belong to the agent's root; the user may open them anew by
     * /dev/stdout, as programs that log there do. */
    for (int fd = 0; fd < 3 && !launch->terminal && process->uid != 0; fd++) {
        if (fchown(fd, process->uid, (gid_t)-1) < 0)
            return error_set(err, errno, "owner of the streams");
    }
    if (credentials_set_user(process, err) || credentials_narrow(process, err))
        return -1;
    if (chdir(process->cwd) < 0)
        return error_set(err, errno, "process.cwd: chdir to '%s'", process->cwd);
    if (process->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_set(err, errno, "process.noNewPrivileges");
    return 0;
}

/* Waits for SYNC_START. The agent's end closing means that nobody wants this process any more. */
static int step_wait_for_start(struct error *err)
{
    struct sync_message message;
    int passed;
    int failed = sync_send(CHILD_SYNC_FD, SYNC_READY, NULL, -1);
    if (failed)
        return error_set(err, -failed, "report to the agent");
    int got = sync_receive(CHILD_SYNC_FD, &message, &passed);
    if (passed >= 0)
        close(passed);
    if (got == 1 && message.type == SYNC_START)
        return 0;
    return error_set(err, got < 0 ? -got : ECANCELED, "wait for the start");
}

/* With no_new_privs anybody may load a filter, so it comes last and filters least of our own calls. Without,
 * it takes CAP_SYS_ADMIN, and so comes before the capabilities go. */
static int step_filter_and_settle(const struct launch *launch, struct error *err)
{
    const struct seccomp_filter *filter = launch->spec->seccomp;
    const struct spec_process *process = launch->process;
    if (!filter)
        return credentials_settle(process, err);
    if (process->no_new_privileges)
        return credentials_settle(process, err) || seccomp_filter_load(filter, err) ? -1 : 0;
    if (credentials_raise_admin(process, err) || seccomp_filter_load(filter, err))
        return -1;
    return credentials_settle(process, err);
}

static int launch_child(const struct launch *launch, struct error *err)
{
    char path[PATH_MAX];
    if (step_leave_agent(launch, err) || credentials_set_limits(launch->process, err))
        return -1;
    int failed =
        launch_is_init(launch) ? step_build_container(launch, err) : step_join_container(launch, err);
    if (failed || step_become_user(launch, err) || program_find(launch->process, path, err) ||
        step_wait_for_start(err))
        return -1;
    if (step_filter_and_settle(launch, err))
        return -1;
    return program_run(launch->process, path, err);
}

/* Forks into namespaces and cgroup. In the child 0; -1 with err filled. */
static pid_t launch_fork(const struct launch *launch, struct error *err)
{
    /* The cgroup namespace comes later: it is rooted where its maker is. */
    uint64_t flags = launch->spec->namespaces & ~(uint64_t)CLONE_NEWCGROUP;
    struct clone_args args = {.flags = CLONE_INTO_CGROUP | (launch_is_init(launch) ? flags : 0),
                              .exit_signal = SIGCHLD,
                              .cgroup = (unsigned)launch->cgroup_fd};
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    return pid < 0 ? error_set(err, errno, "fork") : pid;
}

/* The pid namespace of a further process is that of its forker's children: the agent's own is set for the one
 * fork, and set back. */
static pid_t launch_fork_into_pid_namespace(const struct launch *launch, struct error *err)
{
    cleanup_fd int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    if (own < 0 || setns(launch->init_pidfd, CLONE_NEWPID) < 0)
        return error_set(err, errno, "join the container's pid namespace");
    pid_t pid = launch_fork(launch, err);
    /* An ancestor may always be returned to: this can't fail short of a broken kernel. */
    if (pid != 0 && setns(own, CLONE_NEWPID) < 0)
        log_err("return to the agent's pid namespace: %s", strerror(errno));
    return pid;
}

pid_t launch_start(const struct launch *launch, struct error *err)
{
    bool into_existing = !launch_is_init(launch) && (launch->spec->namespaces & CLONE_NEWPID);
    pid_t pid = into_existing ? launch_fork_into_pid_namespace(launch, err) : launch_fork(launch, err);
    if (pid == 0) {
        struct error child_err = {0};
        launch_child(launch, &child_err);
        sync_send(CHILD_SYNC_FD, SYNC_ERROR, &child_err, -1);
        _exit(255);
    }
    return pid;
}
