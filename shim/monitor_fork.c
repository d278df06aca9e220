/*
 * Birth and end of monitors: see monitor_fork.h.
 */
#include "shim/monitor_fork.h"

#include "common/fd.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIGNALS_BYTES 8 /* of the kernel's signal set */

static void monitor_reap(struct monitor *monitor)
{
    while (waitpid(monitor->pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

int monitor_fork(void (*main)(const void *task, int channel_fd), const void *task, struct monitor *monitor,
                 struct error *err)
{
    int ends[2];
    struct error report;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return error_set(err, errno, "socketpair");
    cleanup_fd int own = ends[0], its = ends[1];
    *monitor = (struct monitor){.pid = fork(), .channel_fd = -1};
    if (monitor->pid < 0)
        return error_set(err, errno, "fork");
    if (monitor->pid == 0) {
        fd_close(&own);
        main(task, take_fd(&its));
        _exit(1);
    }
    fd_close(&its);
    int got = fd_read_full(own, &report, sizeof(report));
    if (got == 0 && report.code == 0) {
        monitor->channel_fd = take_fd(&own);
        return 0;
    }
    monitor_reap(monitor);
    if (got < 0)
        return error_say(err, ECHILD, "the monitor was killed before its process was made");
    report.text[sizeof(report.text) - 1] = '\0';
    if (err)
        *err = report;
    return -1;
}

int monitor_commit(struct monitor *monitor, struct error *err)
{
    int result = fd_write_full(monitor->channel_fd, "", 1);
    fd_close(&monitor->channel_fd);
    return result ? error_set(err, -result, "the monitor is gone") : 0;
}

void monitor_abandon(struct monitor *monitor)
{
    fd_close(&monitor->channel_fd);
    monitor_reap(monitor);
}

static int compare_fds(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

void monitor_close_other_fds(const int *own, size_t count, const struct preserved_fds *preserved)
{
    int kept[MONITOR_FDS_MAX + PROCESS_FDS_MAX];
    size_t kept_count = 0;
    unsigned first = STDERR_FILENO + 1;
    for (size_t i = 0; i < count && i < MONITOR_FDS_MAX; i++)
        kept[kept_count++] = own[i];
    for (unsigned i = 0; i < preserved->count; i++)
        kept[kept_count++] = preserved->fd[i].number;
    qsort(kept, kept_count, sizeof(*kept), compare_fds);
    for (size_t i = 0; i < kept_count; i++) {
        if (kept[i] < (int)first)
            continue;
        if (first < (unsigned)kept[i])
            close_range(first, (unsigned)kept[i] - 1, 0);
        first = (unsigned)kept[i] + 1;
    }
    close_range(first, ~0u, 0);
}

static void *nothing(void *arg)
{
    return arg;
}

int monitor_take_signals(struct error *err)
{
    /* The C library leaves two real-time signals out of its sets, for its own use of threads that husk makes
     * no use of. A caller may send them all the same. With the first thread it unblocks them: so that comes
     * first. */
    sigset_t all;
    pthread_t first;
    int failed = pthread_create(&first, NULL, nothing, NULL);
    if (failed)
        return error_set(err, failed, "threads");
    pthread_join(first, NULL);
    memset(&all, 0xff, sizeof(all));
    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, SIGNALS_BYTES) < 0)
        return error_set(err, errno, "signals");
    int fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? error_set(err, errno, "signalfd") : fd;
}

bool monitor_report(int channel_fd, const struct error *err)
{
    char byte;
    return fd_write_full(channel_fd, err, sizeof(*err)) == 0 && err->code == 0 &&
           fd_read_full(channel_fd, &byte, 1) == 0;
}

void monitor_end_like(int status, int number)
{
    if (number == 0)
        _exit(status);
    static const struct {
        uintptr_t handler, flags, restorer;
        uint64_t mask;
    } by_default = {(uintptr_t)SIG_DFL, 0, 0, 0}; /* the kernel's sigaction */
    struct rlimit none = {0, 0};
    sigset_t one;
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0);
    /* The C library has a handler for one of its own signals, and lets nobody take it away. */
    syscall(SYS_rt_sigaction, number, &by_default, NULL, SIGNALS_BYTES);
    memset(&one, 0, sizeof(one));
    ((unsigned char *)&one)[(number - 1) / 8] = (unsigned char)(1u << ((number - 1) % 8));
    syscall(SYS_tgkill, getpid(), gettid(), number);
    syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &one, NULL, SIGNALS_BYTES);
    _exit(128 + number);
}
