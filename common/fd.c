/*
 * File descriptor helpers: see fd.h. Used by all pieces of husk; nothing here trusts the length or the
 * content that the other end of an fd delivers.
 */
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define NULL_MAJOR          1 /* of /dev/null, Documentation/admin-guide/devices.txt */
#define NULL_MINOR          3
#define FDS_PER_MESSAGE_MAX 16

void fd_close(int *fd)
{
    fd_close_cleanup(fd);
    *fd = -1;
}

/* Waits until the fd is ready for `events` (POLLIN, POLLOUT). */
static int fd_wait(int fd, short events)
{
    struct pollfd pfd = {.fd = fd, .events = events};
    while (poll(&pfd, 1, -1) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

/* Whether a failed read or write is worth another try; waits for the fd where that is what it takes. */
static int fd_retry(int fd, short events)
{
    if (errno == EINTR)
        return 0;
    if (errno == EAGAIN)
        return fd_wait(fd, events);
    return -errno;
}

int fd_read_full(int fd, void *buffer, size_t length)
{
    char *at = buffer;
    while (length > 0) {
        ssize_t got = read(fd, at, length);
        if (got == 0)
            return -EPIPE;
        if (got < 0) {
            int err = fd_retry(fd, POLLIN);
            if (err)
                return err;
            continue;
        }
        at += got;
        length -= (size_t)got;
    }
    return 0;
}

int fd_write_full(int fd, const void *buffer, size_t length)
{
    const char *at = buffer;
    while (length > 0) {
        ssize_t put = write(fd, at, length);
        if (put < 0) {
            int err = fd_retry(fd, POLLOUT);
            if (err)
                return err;
            continue;
        }
        at += put;
        length -= (size_t)put;
    }
    return 0;
}

int fd_set_nonblock(int fd, int on)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

int fd_set_cloexec(int fd, int on)
{
    return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) < 0 ? -errno : 0;
}

bool fd_is_dev_null(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) &&
           status.st_rdev == makedev(NULL_MAJOR, NULL_MINOR);
}

ssize_t fd_read_file_at(int dir_fd, const char *path, size_t max_bytes, char **content)
{
    cleanup_fd int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    /* Files of /proc and /sys have no size to ask for: the buffer grows as the content comes. */
    size_t capacity = 4096, length = 0;
    cleanup_free char *buffer = malloc(capacity);
    if (!buffer)
        return -ENOMEM;
    for (;;) {
        ssize_t got = read(fd, buffer + length, capacity - length - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        length += (size_t)got;
        if (length > max_bytes)
            return -EFBIG;
        if (capacity - length < 2) {
            capacity *= 2;
            char *grown = realloc(buffer, capacity);
            if (!grown)
                return -ENOMEM;
            buffer = grown;
        }
    }
    buffer[length] = '\0';
    *content = take_ptr(&buffer);
    return (ssize_t)length;
}

int fd_write_file_atomic(int dir_fd, const char *name, const void *content, size_t length, mode_t mode)
{
    char temporary[NAME_MAX + 1];
    int written = snprintf(temporary, sizeof(temporary), ".%s.%d", name, (int)getpid());
    if (written < 0 || (size_t)written >= sizeof(temporary))
        return -ENAMETOOLONG;
    cleanup_fd int fd =
        openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return -errno;
    int err = fd_write_full(fd, content, length);
    if (!err && fsync(fd) < 0)
        err = -errno;
    if (!err && renameat(dir_fd, temporary, dir_fd, name) < 0)
        err = -errno;
    if (err)
        unlinkat(dir_fd, temporary, 0);
    return err;
}

int fd_send(int socket_fd, const int *fds, size_t count)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * FDS_PER_MESSAGE_MAX)];
    } control = {0};
    if (count == 0 || count > FDS_PER_MESSAGE_MAX)
        return -EINVAL;
    char byte = 0;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = CMSG_SPACE(sizeof(int) * count)};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * count);
    while (sendmsg(socket_fd, &message, MSG_NOSIGNAL) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

int fd_receive(int socket_fd, int *fds, size_t max)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * FDS_PER_MESSAGE_MAX)];
    } control;
    char byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
    ssize_t got;
    while ((got = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC)) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    if (got == 0)
        return -EPIPE;
    int received[FDS_PER_MESSAGE_MAX];
    size_t count = 0;
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message); cmsg; cmsg = CMSG_NXTHDR(&message, cmsg)) {
        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
            continue;
        size_t here = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(received + count, CMSG_DATA(cmsg), here * sizeof(int));
        count += here;
    }
    /* More than the caller asked for is none of its business and must not leak. */
    for (size_t i = max; i < count; i++)
        close(received[i]);
    if (count > max)
        count = max;
    memcpy(fds, received, count * sizeof(int));
    return (int)count;
}
