/*
 * A monitor's streams: see monitor_streams.h. The other side of each is the guest's.
 */
#include "shim/monitor_streams.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const stream_names[STREAM_COUNT] = {"stdin", "stdout", "stderr"};

/* Where the kernel does not tell, they count as two. */
static bool is_same_file(int a, int b)
{
    pid_t own = getpid();
    return syscall(SYS_kcmp, own, own, KCMP_FILE, a, b) == 0;
}

void monitor_streams_init(struct monitor_streams *streams, bool terminal, int tty_fd,
                          const struct preserved_fds *preserved)
{
    *streams = (struct monitor_streams){
        .terminal = terminal, .tty_fd = tty_fd, .stream_fds = {-1, -1, -1}, .preserved = *preserved};
    for (unsigned i = 0; i < preserved->count; i++) {
        streams->preserved_stream_fds[i] = -1;
        streams->socket_fds[i] = -1;
        snprintf(streams->preserved_names[i], sizeof(streams->preserved_names[i]), "fd%d",
                 preserved->fd[i].number);
    }
    if (terminal)
        return;
    for (int i = 0; i < STREAM_COUNT; i++)
        streams->carried[i] = !fd_is_dev_null(i);
    streams->one_output = streams->carried[STREAM_STDOUT] && is_same_file(STDOUT_FILENO, STDERR_FILENO);
    if (streams->one_output)
        streams->carried[STREAM_STDERR] = false;
}

void monitor_streams_fini(struct monitor_streams *streams)
{
    for (int i = 0; i < STREAM_COUNT; i++)
        fd_close(&streams->stream_fds[i]);
    for (unsigned i = 0; i < streams->preserved.count; i++) {
        fd_close(&streams->preserved_stream_fds[i]);
        fd_close(&streams->socket_fds[i]);
    }
    fd_close(&streams->tty_fd);
}

json_t *monitor_streams_describe(const struct monitor_streams *streams)
{
    json_t *object = json_object();
    for (int i = 0; object && !streams->terminal && i < STREAM_COUNT; i++) {
        const char *what = streams->carried[i] ? "stream" : "null";
        if (i == STREAM_STDERR && streams->one_output)
            what = "stdout";
        json_object_set_new(object, stream_names[i], json_string(what));
    }
    return object;
}

/* A listening socket has one for each connection, /dev/null none. */
static bool has_one_stream(const struct preserved_fd *preserved)
{
    return preserved->kind != PRESERVED_NULL && preserved->kind != PRESERVED_LISTENER;
}

static int begin_preserved(struct monitor_streams *streams, const struct agent_address *address,
                           const char *container, const char *process, struct error *err)
{
    for (unsigned i = 0; i < streams->preserved.count; i++) {
        if (!has_one_stream(&streams->preserved.fd[i]))
            continue;
        streams->preserved_stream_fds[i] =
            agent_begin_stream(address, container, process, streams->preserved_names[i], NULL, err);
        if (streams->preserved_stream_fds[i] < 0)
            return -1;
    }
    return 0;
}

int monitor_streams_begin(struct monitor_streams *streams, const struct agent_address *address,
                          const char *container, const char *process, struct error *err)
{
    if (begin_preserved(streams, address, container, process, err) < 0)
        return -1;
    if (streams->terminal) {
        streams->stream_fds[0] = agent_begin_stream(address, container, process, "terminal", NULL, err);
        return streams->stream_fds[0] < 0 ? -1 : 0;
    }
    for (int i = 0; i < STREAM_COUNT; i++) {
        if (!streams->carried[i])
            continue;
        streams->stream_fds[i] = agent_begin_stream(address, container, process, stream_names[i], NULL, err);
        if (streams->stream_fds[i] < 0)
            return -1;
    }
    return 0;
}

/* The fd stays open for the relay alone; /dev/null takes its number. */
static int take_stdio(int number, bool keep, struct error *err)
{
    int fd = fcntl(number, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (fd < 0)
        return error_set(err, errno, "standard stream %d", number);
    cleanup_fd int null = keep ? -1 : open("/dev/null", O_RDWR | O_CLOEXEC);
    if (!keep && (null < 0 || dup2(null, number) < 0)) {
        close(fd);
        return error_set(err, errno, "standard stream %d", number);
    }
    return fd;
}

static void add_relay(struct monitor_streams *streams, const char *name, int from_fd, int to_fd,
                      bool to_guest)
{
    streams->relays[streams->relay_count++] =
        (struct relay){.name = name,
                       .from_fd = from_fd,
                       .to_fd = to_fd,
                       .to_socket = to_guest,
                       .keep_open = to_guest && streams->terminal && !streams->hang_up && name[0] == 't'};
}

/* Our own terminal is carried by its slave; the caller's by standard input and output, as runc does it. */
static int finish_terminal(struct monitor_streams *streams, struct error *err)
{
    cleanup_fd int in = take_stdio(STDIN_FILENO, false, err);
    cleanup_fd int out = take_stdio(STDOUT_FILENO, false, err);
    cleanup_fd int errors = take_stdio(STDERR_FILENO, streams->keep_stderr, err);
    cleanup_fd int to_guest = fcntl(streams->stream_fds[0], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (in < 0 || out < 0 || errors < 0)
        return -1;
    if (to_guest < 0 || (streams->hang_up && (dup3(streams->tty_fd, in, O_CLOEXEC) < 0 ||
                                              dup3(streams->tty_fd, out, O_CLOEXEC) < 0)))
        return error_set(err, errno, "terminal");
    add_relay(streams, "terminal input", take_fd(&in), take_fd(&to_guest), true);
    add_relay(streams, "terminal output", take_fd(&streams->stream_fds[0]), take_fd(&out), false);
    return 0;
}

static int finish_stdio(struct monitor_streams *streams, int number, struct error *err)
{
    int own = take_stdio(number, number == STREAM_STDERR && streams->keep_stderr, err);
    if (own < 0)
        return -1;
    if (!streams->carried[number]) {
        close(own);
        return 0;
    }
    int stream = take_fd(&streams->stream_fds[number]);
    if (number == STREAM_STDIN)
        add_relay(streams, stream_names[number], own, stream, true);
    else
        add_relay(streams, stream_names[number], stream, own, false);
    return 0;
}

/* The caller's fd leaves its number, so that it ends with its relay. */
static int finish_preserved(struct monitor_streams *streams, unsigned index,
                            const struct agent_address *address, int64_t deadline, struct error *err)
{
    const struct preserved_fd *preserved = &streams->preserved.fd[index];
    const char *name = streams->preserved_names[index];
    if (has_one_stream(preserved) &&
        agent_finish_stream(address, streams->preserved_stream_fds[index], name, deadline, err) < 0)
        return -1;
    int own = preserved->kind == PRESERVED_NULL
                  ? -1
                  : fcntl(preserved->number, F_DUPFD_CLOEXEC, PROCESS_FDS_FIRST + PROCESS_FDS_MAX);
    if (preserved->kind != PRESERVED_NULL && own < 0)
        return error_set(err, errno, "%s", name);
    close(preserved->number);
    if (preserved->kind == PRESERVED_INPUT)
        add_relay(streams, name, own, take_fd(&streams->preserved_stream_fds[index]), true);
    else if (preserved->kind == PRESERVED_OUTPUT)
        add_relay(streams, name, take_fd(&streams->preserved_stream_fds[index]), own, false);
    else
        streams->socket_fds[index] = own;
    return 0;
}

int monitor_streams_finish(struct monitor_streams *streams, const struct agent_address *address,
                           int64_t deadline, struct error *err)
{
    for (unsigned i = 0; i < streams->preserved.count; i++) {
        if (finish_preserved(streams, i, address, deadline, err) < 0)
            return -1;
    }
    for (int i = 0; i < STREAM_COUNT; i++) {
        const char *name = streams->terminal ? "terminal" : stream_names[i];
        if (streams->stream_fds[i] >= 0 &&
            agent_finish_stream(address, streams->stream_fds[i], name, deadline, err) < 0)
            return -1;
    }
    if (streams->terminal)
        return finish_terminal(streams, err);
    for (int i = 0; i < STREAM_COUNT; i++) {
        if (finish_stdio(streams, i, err) < 0)
            return -1;
    }
    return 0;
}

static int start_sockets(struct monitor_streams *streams, struct error *err)
{
    for (unsigned i = 0; i < streams->preserved.count; i++) {
        int *host = &streams->socket_fds[i], *guest = &streams->preserved_stream_fds[i], failed = 0;
        if (streams->preserved.fd[i].kind == PRESERVED_SOCKET) {
            failed = monitor_sockets_add_connection(streams->sockets, *host, *guest, err);
            if (!failed)
                take_fd(guest);
        } else if (streams->preserved.fd[i].kind == PRESERVED_LISTENER) {
            failed = monitor_sockets_add_listener(streams->sockets, *host, streams->preserved_names[i], err);
        }
        if (failed)
            return -1;
        take_fd(host);
    }
    return 0;
}

int monitor_streams_start(struct monitor_streams *streams, const struct agent_address *address,
                          const char *container, const char *process, const struct monitor_streams_ends *ends,
                          struct error *err)
{
    int outputs = 0;
    for (unsigned i = 0; i < streams->relay_count; i++) {
        struct relay *relay = &streams->relays[i];
        if (!relay->to_socket) {
            relay->ended = ends->output;
            relay->ended_arg = ends->arg;
            outputs++;
        }
        if (relay_start(relay, err) < 0)
            return -1;
    }
    if (streams->preserved.count == 0)
        return outputs;
    streams->sockets = monitor_sockets_new(address, container, process, ends->connection, ends->arg, err);
    return !streams->sockets || start_sockets(streams, err) < 0 ? -1 : outputs;
}

bool monitor_streams_get_size(const struct monitor_streams *streams, struct winsize *size)
{
    return streams->terminal && streams->tty_fd >= 0 && ioctl(streams->tty_fd, TIOCGWINSZ, size) == 0;
}
