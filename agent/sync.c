/*
 * Messages between the agent and a process before its program runs: see sync.h. Both ends are the agent's own
 * code, but the process may be killed, or its memory poked at by the container's other processes, so nothing
 * received is believed further than its size.
 */
#include "agent/sync.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union fd_control {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

static int message_send(int fd, struct sync_message *message, int pass_fd)
{
    union fd_control control = {0};
    struct iovec iov = {.iov_base = message, .iov_len = sizeof(*message)};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    if (pass_fd >= 0) {
        header.msg_control = control.space;
        header.msg_controllen = sizeof(control.space);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &pass_fd, sizeof(int));
    }
    while (sendmsg(fd, &header, MSG_NOSIGNAL) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

int sync_send(int fd, enum sync_type type, const struct error *err, int pass_fd)
{
    struct sync_message message = {.type = type};
    if (err)
        message.err = *err;
    return message_send(fd, &message, pass_fd);
}

int sync_send_child(int fd, pid_t pid, int pidfd)
{
    struct sync_message message = {.type = SYNC_CHILD, .pid = pid};
    return message_send(fd, &message, pidfd);
}

int sync_wait(int fd, enum sync_type type)
{
    struct sync_message message;
    int passed;
    int got = sync_receive(fd, &message, &passed);
    if (passed >= 0)
        close(passed);
    if (got <= 0)
        return got < 0 ? got : -ECANCELED;
    return message.type == type ? 0 : -EPROTO;
}

int sync_receive(int fd, struct sync_message *message, int *passed)
{
    union fd_control control = {0};
    struct iovec iov = {.iov_base = message, .iov_len = sizeof(*message)};
    struct msghdr header = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = control.space,
                            .msg_controllen = sizeof(control.space)};
    ssize_t got;
    *passed = -1;
    while ((got = recvmsg(fd, &header, MSG_CMSG_CLOEXEC)) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    if (got == 0)
        return 0;
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);
    if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS &&
        cmsg->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(passed, CMSG_DATA(cmsg), sizeof(int));
    if (got != sizeof(*message)) {
        if (*passed >= 0)
            close(*passed);
        *passed = -1;
        return -EPROTO;
    }
    message->err.text[ERROR_TEXT_MAX - 1] = '\0';
    return 1;
}
