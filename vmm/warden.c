/* Waiting for the sandbox's process: see warden.h. */
#include "vmm/warden.h"

#include "common/fd.h"
#include "common/log.h"
#include "vmm/files.h"
#include "vmm/options.h"
#include "vmm/status.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child was killed: by its seccomp filter, by the kernel's memory killer, by a person. It wrote no
 * status. */
static int report_killed(const struct files *files, int signal_number)
{
    char detail[96];
    snprintf(detail, sizeof(detail), "husk-vmm was killed by signal %d (%s)", signal_number,
             strsignal(signal_number));
    log_err("%s", detail);
    struct status status = {.reason = END_VMM_ERROR, .detail = detail};
    int rc = files->status < 0 ? 0 : status_write(files->status, &status);
    if (rc < 0)
        log_err("status: %s", strerror(-rc));
    return END_VMM_ERROR;
}

int warden_run(pid_t child, struct files *files, const struct options *options)
{
    sigset_t set;
    int wstatus;
    fd_close(&files->kvm);
    fd_close(&files->kernel);
    fd_close(&files->initrd);
    fd_close(&files->console);
    fd_close(&files->shared);
    fd_close(&files->vsock);
    fd_close(&files->control);
    for (unsigned i = 0; i < files->nets; i++)
        virtio_net_options_close(&files->net[i]);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (;;) {
        pid_t got = waitpid(child, &wstatus, WNOHANG);
        if (got == child)
            break;
        if (got < 0 && errno != EINTR)
            return END_VMM_ERROR;
        siginfo_t info;
        if (sigwaitinfo(&set, &info) > 0 && info.si_signo != SIGCHLD)
            kill(child, SIGTERM);
    }
    if (files->vsock_named)
        unlink(options->vsock);
    if (files->control_named)
        unlink(options->control);
    return WIFEXITED(wstatus) ? WEXITSTATUS(wstatus) : report_killed(files, WTERMSIG(wstatus));
}
