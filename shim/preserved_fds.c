/*
 * Open files of the caller: see preserved_fds.h.
 */
#include "shim/preserved_fds.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */

static const char *file_kind(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFSOCK:
        return "a socket";
    case S_IFIFO:
        return "a pipe";
    case S_IFREG:
        return "a file";
    case S_IFDIR:
        return "a directory";
    case S_IFCHR:
    case S_IFBLK:
        return "a device";
    default:
        return "an object of the kernel";
    }
}

/* How many fds a service manager has handed to this very process, as sd_listen_fds reads it. */
static unsigned long listen_fds(void)
{
    const char *count = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
    if (!count || (pid && strtol(pid, NULL, 10) != getpid()))
        return 0;
    return strtoul(count, NULL, 10);
}

int preserved_fds_check(unsigned count, struct error *err)
{
    struct stat status;
    unsigned long activated = listen_fds();
    if (activated)
        return error_set(
            err, 0,
            "LISTEN_FDS=%lu is not supported: the host's sockets cannot be handed to a process in a VM",
            activated);
    if (count == 0)
        return 0;
    if (fstat(FIRST_FD, &status) < 0)
        return error_set(err, errno, "unable to stat preserved-fd %d (of %u)", FIRST_FD, count);
    return error_set(err, 0,
                     "--preserve-fds %u is not supported: fd %d is %s of the host and cannot be handed to a "
                     "process in a VM",
                     count, FIRST_FD, file_kind(status.st_mode));
}
