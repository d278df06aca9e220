/*
 * From fork to exec: see launch.h. Stage 1 starts as a copy of the agent, with all its rights and fds, and
 * leaves those that are the agent's. The process, its child, walks down: into its namespaces and root, to its
 * user, its capabilities and at last its program. The order of the steps is the security of it; each says
 * what it relies on.
 */
#include "agent/launch.h"

#include "agent/cgroup.h"
#include "agent/credentials.h"
#include "agent/devices.h"
#include "agent/hooks.h"
#include "agent/namespaces.h"
#include "agent/resolve.h"
#include "agent/rootfs.h"
#include "agent/seccomp.h"
#include "agent/sync.h"
#include "agent/terminal.h"
#include "agent/trees.h"
#include "agent/user_namespace.h"
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where stage 1 keeps the fds it needs besides 0, 1 and 2; every other fd of the agent is closed. */
enum {
    CHILD_SYNC_FD = PROCESS_FDS_FIRST + PROCESS_FDS_MAX, /* those below are the process's own */
    CHILD_INIT_PIDFD,
    CHILD_JOIN_PIDFD,
    CHILD_FDS = CHILD_JOIN_PIDFD + SPEC_NAMESPACES
};

static bool launch_is_init(const struct launch *launch)
{
    return launch->init_pidfd < 0;
}

/* Stage 1, step 1: nothing of the agent stays with the child but its memory, which exec replaces. */
static int stage_leave_agent(const struct launch *launch, struct error *err)
{
    int wanted[CHILD_FDS] = {
        launch->stdio[0], launch->stdio[1],
        launch->stdio[2], [CHILD_SYNC_FD] = launch->sync_fd, [CHILD_INIT_PIDFD] = launch->init_pidfd};
    memcpy(&wanted[PROCESS_FDS_FIRST], launch->fds, sizeof(launch->fds));
    for (size_t i = 0; i < SPEC_NAMESPACES; i++)
        wanted[CHILD_JOIN_PIDFD + i] =
            launch_is_init(launch) && i < launch->spec->join_count ? launch->join_pidfds[i] : -1;
    /* First out of the way of each other, then to their places. */
    for (int i = 0; i < CHILD_FDS; i++) {
        if (wanted[i] >= 0 && (wanted[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, CHILD_FDS)) < 0)
            return error_set(err, errno, "fds");
    }
    for (int i = 0; i < CHILD_FDS; i++) {
        int flags = i < CHILD_SYNC_FD ? 0 : O_CLOEXEC;
        if (wanted[i] >= 0 && dup3(wanted[i], i, flags) < 0)
            return error_set(err, errno, "fds");
        if (wanted[i] < 0 && i > STDERR_FILENO)
            close(i);
    }
    if (close_range(CHILD_FDS, ~0u, 0) < 0)
        return error_set(err, errno, "close the agent's fds");

    /* Other processes of the container may not look into this copy of the agent. exec sets it back. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return error_set(err, errno, "dumpable");
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int signal = 1; signal < NSIG; signal++)
        sigaction(signal, &action, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    return 0;
}

/* Without a terminal the output pipes belong to the agent's root; the user may open them anew by /dev/stdout,
 * as programs that log there do. */
static int stage_give_streams(const struct launch *launch, struct error *err)
{
    const struct spec_id_maps *maps = &launch->spec->id_maps;
    int64_t owner = spec_id_outside(maps->uids, maps->uid_count, launch->process->uid);
    for (int fd = launch->terminal ? PROCESS_FDS_FIRST : 0; fd < CHILD_SYNC_FD && owner > 0; fd++) {
        struct stat status;
        if (fd >= PROCESS_FDS_FIRST && launch->fds[fd - PROCESS_FDS_FIRST] < 0)
            continue;
        if (fstat(fd, &status) < 0)
            return error_set(err, errno, "streams");
        if (S_ISFIFO(status.st_mode) && fchown(fd, (uid_t)owner, (gid_t)-1) < 0)
            return error_set(err, errno, "owner of the streams");
    }
    return 0;
}

/* Stage 1, step 2 of an init: the trees, and every namespace that is not made by the fork. Those of other
 * containers first, while there is right over all of them; the user namespace then takes that right away, and
 * owns what is new. */
static int stage_prepare_init(struct launch *launch, struct trees *trees, struct error *err)
{
    const struct spec *spec = launch->spec;
    if (spec_own_namespaces(spec) & CLONE_NEWUSER) {
        launch->user_fd = user_namespace_new(&spec->id_maps, err);
        if (launch->user_fd < 0)
            return error_wrap(err, "linux");
    }
    /* What virtio-fs mounts by itself while the trees are looked at is to end with the container. */
    if (unshare(CLONE_NEWNS) < 0)
        return error_set(err, errno, "mount namespace");
    if (trees_prepare(launch, trees, err) || namespaces_prepare(spec, err))
        return -1;
    int joined_user = -1;
    for (size_t i = 0; i < spec->join_count; i++) {
        if (spec->joins[i].type == CLONE_NEWUSER)
            joined_user = CHILD_JOIN_PIDFD + (int)i;
        else if (setns(CHILD_JOIN_PIDFD + (int)i, (int)spec->joins[i].type) < 0)
            return error_set(err, errno, "linux.namespaces[%zu]: join the %s namespace", spec->joins[i].index,
                             spec->joins[i].name);
    }
    int user_fd = joined_user >= 0 ? joined_user : launch->user_fd;
    if (user_fd >= 0 && setns(user_fd, CLONE_NEWUSER) < 0)
        return error_set(err, errno, "enter the user namespace");
    return namespaces_make_time(spec, err);
}

/* Stage 1, step 2 of a further process: into what its container's init has. */
static int stage_join_init(const struct launch *launch, struct error *err)
{
    if (setns(CHILD_INIT_PIDFD, (int)spec_own_namespaces(launch->spec)) < 0)
        return error_set(err, errno, "join the container's namespaces");
    return 0;
}

/* Inside a user namespace the container's root is who owns its files; the agent's root is nobody there. */
static int step_become_root(const struct launch *launch, struct error *err)
{
    const struct spec_id_maps *maps = &launch->spec->id_maps;
    if (!(spec_own_namespaces(launch->spec) & CLONE_NEWUSER))
        return 0;
    if (syscall(SYS_setgroups, 0, NULL) < 0)
        return error_set(err, errno, "groups in the user namespace");
    if (spec_id_outside(maps->gids, maps->gid_count, 0) >= 0 && syscall(SYS_setresgid, 0, 0, 0) < 0)
        return error_set(err, errno, "group of the user namespace's root");
    if (spec_id_outside(maps->uids, maps->uid_count, 0) >= 0 && syscall(SYS_setresuid, 0, 0, 0) < 0)
        return error_set(err, errno, "the user namespace's root");
    return 0;
}

/* Step 1: the agent knows of this process, which becomes the leader of a session. */
static int step_begin(const struct launch *launch, struct error *err)
{
    int failed = sync_wait(CHILD_SYNC_FD, SYNC_GO);
    if (failed)
        return error_set(err, -failed, "wait for the agent");
    if (setsid() < 0)
        return error_set(err, errno, "session");
    syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL); /* no keyrings in the kernel: none to share */
    return step_become_root(launch, err);
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
static int step_build_container(const struct launch *launch, const struct trees *trees, struct error *err)
{
    const struct spec *spec = launch->spec;
    int root_fd = trees->root_fd;
    if (namespaces_set_up(spec, err) || rootfs_attach(spec, trees, err) ||
        devices_make(spec, root_fd, trees->device_fds, err) || step_terminal(launch, root_fd, err))
        return -1;
    cleanup_fd int cwd_fd = resolve_make_directory(root_fd, launch->process->cwd);
    if (cwd_fd < 0 && cwd_fd != -EROFS)
        return error_set(err, -cwd_fd, "process.cwd '%s'", launch->process->cwd);
    if (rootfs_protect(spec, root_fd, err) ||
        hooks_run(launch, &spec->create_hooks, "createContainer", "creating", trees->hook_fds, err))
        return -1;
    return rootfs_pivot(spec, root_fd, err);
}

/* Step 2 of a further process: joining a mount namespace has set root and directory to the container's. */
static int step_enter_container(const struct launch *launch, struct error *err)
{
    cleanup_fd int root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0)
        return error_set(err, errno, "the container's root");
    return step_terminal(launch, root_fd, err);
}

/* A standard stream or further fd that is /dev/null becomes the container's own: what the process finds at
 * its fds is then of its root, and not of the agent's. */
static int step_take_null(const struct launch *launch, struct error *err)
{
    cleanup_fd int null = open("/dev/null", O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct stat own, status;
    if (null < 0 || fstat(null, &own) < 0)
        return 0; /* the container has none: then it keeps the agent's */
    for (int fd = 0; fd < CHILD_SYNC_FD; fd++) {
        if (fd >= PROCESS_FDS_FIRST && launch->fds[fd - PROCESS_FDS_FIRST] < 0)
            continue;
        if (fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && S_ISCHR(own.st_mode) &&
            status.st_rdev == own.st_rdev && dup2(null, fd) < 0)
            return error_set(err, errno, "/dev/null");
    }
    return 0;
}

static int step_become_user(const struct launch *launch, struct error *err)
{
    const struct spec_process *process = launch->process;
    if (launch->spec->personality_given && personality(launch->spec->personality) < 0)
        return error_set(err, errno, "linux.personality");
    if (credentials_set_user(process, err) || credentials_narrow(process, err))
        return -1;
    if (chdir(process->cwd) < 0)
        return error_set(err, errno, "process.cwd: chdir to '%s'", process->cwd);
    if (process->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_set(err, errno, "process.noNewPrivileges");
    return 0;
}

/* The agent's end closing means that nobody wants this process any more. */
static int step_wait_for_start(struct error *err)
{
    int failed = sync_send(CHILD_SYNC_FD, SYNC_READY, NULL, -1);
    if (!failed)
        failed = sync_wait(CHILD_SYNC_FD, SYNC_START);
    return failed ? error_set(err, -failed, "wait for the start") : 0;
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

static int process_run(const struct launch *launch, const struct trees *trees, struct error *err)
{
    char path[PATH_MAX];
    if (step_begin(launch, err))
        return -1;
    int failed =
        launch_is_init(launch) ? step_build_container(launch, trees, err) : step_enter_container(launch, err);
    if (failed || step_take_null(launch, err) || step_become_user(launch, err) ||
        program_find(launch->process, path, err) || step_wait_for_start(err))
        return -1;
    if (launch_is_init(launch) &&
        hooks_run(launch, &launch->spec->start_hooks, "startContainer", "created", NULL, err))
        return -1;
    if (step_filter_and_settle(launch, err))
        return -1;
    return program_run(launch->process, path, &launch->activation, err);
}

/* Stage 1, step 3: the process, whose parent is the agent. In the agent's pid namespace its pid means
 * something, so it is told from here. */
static int stage_fork_process(const struct launch *launch, const struct trees *trees, struct error *err)
{
    /* The cgroup namespace comes later: it is rooted where its maker is. User and time namespace were before.
     */
    const uint64_t not_here = CLONE_NEWCGROUP | CLONE_NEWUSER | CLONE_NEWTIME;
    int pidfd = -1;
    struct clone_args args = {.flags = CLONE_PARENT | CLONE_PIDFD |
                                       (launch_is_init(launch) ? launch->spec->namespaces & ~not_here : 0),
                              .pidfd = (uintptr_t)&pidfd};
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid < 0)
        return error_set(err, errno, "fork");
    if (pid == 0)
        return process_run(launch, trees, err);
    int failed = sync_send_child(CHILD_SYNC_FD, pid, pidfd);
    return failed ? error_set(err, -failed, "report to the agent") : 0;
}

/* 0 in stage 1 when all is done; -1 in either process. */
static int stage_run(struct launch *launch, struct error *err)
{
    struct trees trees = {.root_fd = -1};
    if (!launch_is_init(launch) && credentials_place(0, &launch->process->cpus_initial, err))
        return -1;
    if (stage_leave_agent(launch, err) || credentials_prepare(launch->process, err) ||
        stage_give_streams(launch, err))
        return -1;
    int failed =
        launch_is_init(launch) ? stage_prepare_init(launch, &trees, err) : stage_join_init(launch, err);
    return failed ? -1 : stage_fork_process(launch, &trees, err);
}

/* The cgroup that a process is in, open; the caller's. fd or -errno. */
static int cgroup_of(pid_t pid)
{
    char path[PATH_MAX];
    cleanup_free char *text = NULL;
    snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
    ssize_t length = fd_read_file_at(AT_FDCWD, path, PATH_MAX, &text);
    if (length < 0)
        return (int)length;
    text[strcspn(text, "\n")] = '\0';
    /* Version 2's line: "0::/path". */
    if (strncmp(text, "0::", 3) != 0 ||
        snprintf(path, sizeof(path), CGROUP_ROOT "%s", text + 3) >= (int)sizeof(path))
        return -ENOENT;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static pid_t fork_into(int cgroup_fd)
{
    struct clone_args args = {
        .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (unsigned)cgroup_fd};
    return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

pid_t launch_start(const struct launch *launch, struct error *err)
{
    pid_t pid = fork_into(launch->cgroup_fd);
    /* The container has passed controllers on to cgroups of its own, so that its topmost one can't have
     * processes any more (cgroup-v2.rst, "No Internal Process Constraint"): then where its init is, as with
     * runc. */
    if (pid < 0 && errno == EBUSY && !launch_is_init(launch)) {
        cleanup_fd int cgroup_fd = cgroup_of(launch->init_pid);
        if (cgroup_fd < 0)
            return error_set(err, -cgroup_fd, "the cgroup of the container's init");
        pid = fork_into(cgroup_fd);
    }
    if (pid < 0)
        return error_set(err, errno, "fork");
    if (pid == 0) {
        struct error child_err = {0};
        struct launch own = *launch;
        own.user_fd = -1;
        if (stage_run(&own, &child_err) == 0)
            _exit(0);
        sync_send(CHILD_SYNC_FD, SYNC_ERROR, &child_err, -1);
        _exit(255);
    }
    return pid;
}
