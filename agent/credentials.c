/*
 * Limits, user and capabilities of a process: see credentials.h. Calls the kernel directly where glibc's
 * wrappers would work on all threads of a program: between fork and exec there is one.
 */
#include "agent/credentials.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/ioprio.h>
#include <linux/sched/types.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of a process whose specification says nothing: what systemd gives to services. */
#define NOFILE_SOFT 1024
#define NOFILE_HARD 524288

static int set_oom_score_adj(int value)
{
    char text[16];
    int length = snprintf(text, sizeof(text), "%d", value);
    cleanup_fd int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, (size_t)length) < 0)
        return -errno;
    return 0;
}

static int set_scheduler(pid_t pid, const struct spec_scheduler *scheduler)
{
    struct sched_attr attr = {.size = sizeof(attr),
                              .sched_policy = scheduler->policy,
                              .sched_flags = scheduler->flags,
                              .sched_nice = scheduler->nice,
                              .sched_priority = scheduler->priority,
                              .sched_runtime = scheduler->runtime_ns,
                              .sched_deadline = scheduler->deadline_ns,
                              .sched_period = scheduler->period_ns};
    return syscall(SYS_sched_setattr, pid, &attr, 0) < 0 ? -errno : 0;
}

/* The agent has many files open and a limit of its own, which is nothing for others to inherit. */
static int limit_files(pid_t pid)
{
    struct rlimit files;
    if (prlimit(pid, RLIMIT_NOFILE, NULL, &files) < 0)
        return -1;
    files.rlim_max = files.rlim_max < NOFILE_HARD ? files.rlim_max : NOFILE_HARD;
    files.rlim_cur = files.rlim_max < NOFILE_SOFT ? files.rlim_max : NOFILE_SOFT;
    return prlimit(pid, RLIMIT_NOFILE, &files, NULL);
}

int credentials_prepare(const struct spec_process *process, struct error *err)
{
    int failed;
    if (process->oom_score_adj_given && (failed = set_oom_score_adj(process->oom_score_adj)) != 0)
        return error_set(err, -failed, "process.oomScoreAdj");
    if (process->io_priority >= 0 && syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, process->io_priority) < 0)
        return error_set(err, errno, "process.ioPriority");
    return 0;
}

int credentials_limit(pid_t pid, const struct spec_process *process, struct error *err)
{
    int failed = process->scheduler.given ? set_scheduler(pid, &process->scheduler) : 0;
    if (failed)
        return error_set(err, -failed, "process.scheduler");
    if (!process->rlimits[RLIMIT_NOFILE].given && limit_files(pid) < 0)
        return error_set(err, errno, "limit of open files");
    for (int resource = 0; resource < SPEC_RLIMITS; resource++) {
        const struct spec_rlimit *rlimit = &process->rlimits[resource];
        if (rlimit->given && prlimit(pid, (__rlimit_resource_t)resource, &rlimit->limit, NULL) < 0)
            return error_set(err, errno, "process.rlimits: %s", spec_rlimit_name(resource));
    }
    return 0;
}

int credentials_place(pid_t pid, const struct spec_cpus *cpus, struct error *err)
{
    if (cpus->given && sched_setaffinity(pid, sizeof(cpus->set), &cpus->set) < 0)
        return error_set(err, errno, "process.execCPUAffinity");
    return 0;
}

/* Sets the three process sets. Capabilities that the kernel does not have are not asked for: the
 * specification wants a warning at most for those that can't be granted. */
static int set_capabilities(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    for (int half = 0; half < _LINUX_CAPABILITY_U32S_3; half++) {
        data[half].effective = (uint32_t)(effective >> (32 * half));
        data[half].permitted = (uint32_t)(permitted >> (32 * half));
        data[half].inheritable = (uint32_t)(inheritable >> (32 * half));
    }
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

/* What the process has now, all of which it may hand on. */
static uint64_t permitted_now(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    if (syscall(SYS_capget, &header, data) < 0)
        return 0;
    return data[0].permitted | (uint64_t)data[1].permitted << 32;
}

int credentials_set_user(const struct spec_process *process, struct error *err)
{
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if (!(process->capabilities.bounding >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return error_set(err, errno, "process.capabilities.bounding");
    }
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return error_set(err, errno, "keep capabilities");
    if (syscall(SYS_setgroups, process->group_count, process->groups) < 0)
        return error_set(err, errno, "process.user.additionalGids");
    if (syscall(SYS_setresgid, process->gid, process->gid, process->gid) < 0)
        return error_set(err, errno, "process.user.gid");
    if (syscall(SYS_setresuid, process->uid, process->uid, process->uid) < 0)
        return error_set(err, errno, "process.user.uid");
    umask(process->umask);
    return 0;
}

int credentials_narrow(const struct spec_process *process, struct error *err)
{
    uint64_t held = permitted_now();
    uint64_t effective = process->capabilities.effective & process->capabilities.permitted & held;
    int failed = set_capabilities(effective, held,
                                  process->capabilities.inheritable & process->capabilities.bounding & held);
    return failed ? error_set(err, -failed, "process.capabilities") : 0;
}

int credentials_raise_admin(const struct spec_process *process, struct error *err)
{
    uint64_t held = permitted_now();
    uint64_t admin = (uint64_t)1 << CAP_SYS_ADMIN;
    int failed = set_capabilities(admin & held, held,
                                  process->capabilities.inheritable & process->capabilities.bounding & held);
    return failed ? error_set(err, -failed, "capability for the filter") : 0;
}

int credentials_settle(const struct spec_process *process, struct error *err)
{
    const struct spec_capabilities *wanted = &process->capabilities;
    uint64_t permitted = wanted->permitted & permitted_now();
    uint64_t inheritable = wanted->inheritable & wanted->bounding & permitted_now();
    int failed = set_capabilities(wanted->effective & permitted, permitted, inheritable);
    if (failed)
        return error_set(err, -failed, "process.capabilities");
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return error_set(err, errno, "process.capabilities.ambient");
    /* One that is not permitted and inheritable as well can't be ambient. */
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++) {
        if ((wanted->ambient & permitted & inheritable) >> cap & 1 &&
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
            return error_set(err, errno, "process.capabilities.ambient");
    }
    return 0;
}
