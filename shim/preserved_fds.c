/*
 * Open files of the caller: see preserved_fds.h.
 */
#include "shim/preserved_fds.h"

#include "common/fd.h"
#include "shim/socket_ends.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* A count may be any number; fds that nobody has opened are looked for no further than this. */
#define FDS_LOOKED_AT 1024u

static const char *file_kind(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFSOCK:
        return "an unconnected or datagram socket";
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

/* A stream socket that is connected or listens, of a family that the guest can stand in for. */
static bool socket_find(struct preserved_fd *fd)
{
    int type = 0, listens = 0, family = 0;
    struct sockaddr_storage peer;
    socklen_t length = sizeof(int), peer_length = sizeof(peer);
    if (getsockopt(fd->number, SOL_SOCKET, SO_TYPE, &type, &length) < 0 || type != SOCK_STREAM ||
        getsockopt(fd->number, SOL_SOCKET, SO_DOMAIN, &family, &length) < 0 ||
        (family != AF_UNIX && family != AF_INET && family != AF_INET6) ||
        getsockopt(fd->number, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) < 0 ||
        (!listens && getpeername(fd->number, (struct sockaddr *)&peer, &peer_length) < 0))
        return false;
    fd->kind = listens ? PRESERVED_LISTENER : PRESERVED_SOCKET;
    return true;
}

/* What becomes of one of the caller's open fds. 0, or -1 with err. */
static int fd_find(struct preserved_fd *fd, unsigned count, struct error *err)
{
    struct stat status;
    int flags = fcntl(fd->number, F_GETFL);
    if (flags < 0 || fstat(fd->number, &status) < 0)
        return error_set(err, errno, "unable to stat preserved-fd %d (of %u)", fd->number, count);
    if (S_ISSOCK(status.st_mode) && socket_find(fd))
        return 0;
    bool is_bytes = S_ISREG(status.st_mode) || S_ISFIFO(status.st_mode);
    if (fd_is_dev_null(fd->number))
        fd->kind = PRESERVED_NULL;
    else if (is_bytes && (flags & (O_ACCMODE | O_PATH)) == O_RDONLY)
        fd->kind = PRESERVED_INPUT;
    else if (is_bytes && (flags & (O_ACCMODE | O_PATH)) == O_WRONLY)
        fd->kind = PRESERVED_OUTPUT;
    else
        return error_set(
            err, 0,
            "--preserve-fds %u is not supported: fd %d is %s of the host%s and cannot be handed to "
            "a process in a VM",
            count, fd->number, file_kind(status.st_mode), is_bytes ? ", open for reading and writing," : "");
    return 0;
}

int preserved_fds_find(struct preserved_fds *fds, unsigned count, struct error *err)
{
    unsigned long activated = listen_fds();
    *fds = (struct preserved_fds){0};
    if (activated > PROCESS_FDS_MAX)
        return error_set(err, E2BIG, "LISTEN_FDS=%lu: at most %d fds can be passed on", activated,
                         PROCESS_FDS_MAX);
    fds->activated = (unsigned)activated;
    count = count > UINT_MAX - fds->activated ? UINT_MAX : count + fds->activated;
    for (unsigned i = 0; i < count && i < INT_MAX - PROCESS_FDS_FIRST; i++) {
        struct preserved_fd fd = {.number = PROCESS_FDS_FIRST + (int)i};
        int flags = fcntl(fd.number, F_GETFD);
        if (flags < 0 && i >= FDS_LOOKED_AT)
            break;
        if (flags < 0 || (flags & FD_CLOEXEC))
            continue;
        if (i >= PROCESS_FDS_MAX)
            return error_set(err, E2BIG, "--preserve-fds %u: fd %d: fds from %d to %d can be passed on",
                             count, fd.number, PROCESS_FDS_FIRST, PROCESS_FDS_FIRST + PROCESS_FDS_MAX - 1);
        if (fd_find(&fd, count, err) < 0)
            return -1;
        int failed = fd_set_cloexec(fd.number, 1); /* neither the VMM's nor a hook's */
        if (failed)
            return error_set(err, -failed, "--preserve-fds %u: fd %d", count, fd.number);
        fds->fd[fds->count++] = fd;
    }
    return 0;
}

static json_t *fd_describe(const struct preserved_fd *fd)
{
    int ipv6_only = 0;
    socklen_t length = sizeof(ipv6_only);
    switch (fd->kind) {
    case PRESERVED_NULL:
        return json_string("null");
    case PRESERVED_INPUT:
        return json_string("input");
    case PRESERVED_OUTPUT:
        return json_string("output");
    case PRESERVED_SOCKET:
        return json_pack("{s:o, s:o}", "socket", socket_ends_local(fd->number), "peer",
                         socket_ends_peer(fd->number));
    case PRESERVED_LISTENER:
        getsockopt(fd->number, SOL_IPV6, IPV6_V6ONLY, &ipv6_only, &length); /* 0 for other families */
        return json_pack("{s:o, s:b}", "listen", socket_ends_local(fd->number), "ipv6_only", ipv6_only);
    }
    return NULL;
}

json_t *preserved_fds_describe(const struct preserved_fds *fds)
{
    json_t *object = json_object();
    for (unsigned i = 0; object && i < fds->count; i++) {
        char number[16];
        snprintf(number, sizeof(number), "%d", fds->fd[i].number);
        json_object_set_new(object, number, fd_describe(&fds->fd[i]));
    }
    return object;
}

json_t *preserved_fds_describe_activation(const struct preserved_fds *fds)
{
    const char *names = getenv("LISTEN_FDNAMES");
    if (fds->activated == 0)
        return NULL;
    return json_pack("{s:i, s:s*}", "fds", (int)fds->activated, "names", names);
}
