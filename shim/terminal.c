/*
 * Terminals on the host: see terminal.h. Called by commands and monitors; what comes in is the caller's own.
 */
#include "shim/terminal.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

int terminal_check_options(bool terminal, bool detach, const char *console_socket, struct error *err)
{
    if (detach && terminal && !console_socket)
        return error_set(err, 0, "cannot allocate tty if husk will detach without setting console socket");
    if ((!detach || !terminal) && console_socket)
        return error_set(err, 0, "cannot use console socket if husk will not detach or allocate tty");
    return 0;
}

int terminal_connect_socket(const char *path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* By an fd of the file: sun_path holds 108 bytes only. */
    cleanup_fd int file = fd < 0 ? -1 : open(path, O_PATH | O_CLOEXEC);
    if (file < 0)
        return error_set(err, errno, "socket %s", path);
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", file);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return error_set(err, errno, "connect to socket %s", path);
    return take_fd(&fd);
}

int terminal_send_fd(int socket_fd, int fd, const char *name, struct error *err)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec data = {(void *)(uintptr_t)name, strlen(name)};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
    ssize_t sent;
    do {
        sent = sendmsg(socket_fd, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? error_set(err, errno, "send %s over the socket", name) : 0;
}

int terminal_make(int console_fd, const struct winsize *size, struct error *err)
{
    struct termios mode;
    char name[64];
    int unlock = 0;
    cleanup_fd int slave = -1;
    cleanup_fd int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0 || ptsname_r(master, name, sizeof(name)) != 0 ||
        (slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0)
        return error_set(err, errno, "pseudo-terminal");
    if (tcgetattr(slave, &mode) < 0)
        return error_set(err, errno, "pseudo-terminal");
    cfmakeraw(&mode);
    if (tcsetattr(slave, TCSANOW, &mode) < 0)
        return error_set(err, errno, "pseudo-terminal");
    if ((size->ws_row || size->ws_col) && ioctl(slave, TIOCSWINSZ, size) < 0)
        return error_set(err, errno, "pseudo-terminal");
    if (ioctl(slave, TIOCSCTTY, 0) < 0)
        return error_set(err, errno, "controlling terminal");
    if (terminal_send_fd(console_fd, master, name, err) < 0)
        return -1;
    return take_fd(&slave);
}

int terminal_find(struct error *err)
{
    static const int streams[] = {STDERR_FILENO, STDOUT_FILENO, STDIN_FILENO};
    int fd = -1;
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        if (isatty(streams[i])) {
            fd = fcntl(streams[i], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
            return fd < 0 ? error_set(err, errno, "terminal") : fd;
        }
    }
    fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    return fd < 0 ? error_set(err, errno, "a terminal is wanted and there is none: /dev/tty") : fd;
}

/* Waits for a byte (all is well) or for the end of the other side (it was killed). In a session of its own,
 * so that what ends the terminal's processes does not end it first. */
static void __attribute__((noreturn)) guard_run(const struct terminal_raw *raw, int read_fd)
{
    char byte;
    sigset_t all;
    prctl(PR_SET_NAME, "husk-terminal");
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    setsid();
    int kept[2] = {raw->fd < read_fd ? raw->fd : read_fd, raw->fd < read_fd ? read_fd : raw->fd};
    close_range(0, (unsigned)kept[0] - 1, 0);
    if (kept[1] > kept[0] + 1)
        close_range((unsigned)kept[0] + 1, (unsigned)kept[1] - 1, 0);
    close_range((unsigned)kept[1] + 1, ~0u, 0);
    if (fd_read_full(read_fd, &byte, 1) < 0)
        tcsetattr(raw->fd, TCSANOW, &raw->saved);
    _exit(0);
}

static int guard_start(struct terminal_raw *raw, struct error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set(err, errno, "pipe");
    raw->guard = fork();
    if (raw->guard == 0)
        guard_run(raw, ends[0]);
    close(ends[0]);
    raw->guard_fd = ends[1];
    return raw->guard < 0 ? error_set(err, errno, "fork") : 0;
}

int terminal_raw_enter(struct terminal_raw *raw, int tty_fd, struct error *err)
{
    *raw = (struct terminal_raw){.fd = -1, .guard_fd = -1};
    cleanup_fd int fd = fcntl(tty_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (fd < 0 || tcgetattr(fd, &raw->saved) < 0)
        return error_set(err, errno, "terminal");
    struct termios mode = raw->saved;
    cfmakeraw(&mode);
    raw->fd = fd;
    int failed = guard_start(raw, err);
    if (!failed && tcsetattr(fd, TCSANOW, &mode) < 0)
        failed = error_set(err, errno, "terminal");
    take_fd(&fd);
    if (failed)
        terminal_raw_leave(raw);
    return failed;
}

void terminal_raw_leave(struct terminal_raw *raw)
{
    if (raw->fd < 0)
        return;
    tcsetattr(raw->fd, TCSANOW, &raw->saved);
    if (raw->guard_fd >= 0 && raw->guard > 0) {
        fd_write_full(raw->guard_fd, "", 1);
        while (waitpid(raw->guard, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    fd_close(&raw->guard_fd);
    fd_close(&raw->fd);
}
