/*
 * exec-server: the testbed's process 1. It hands one command after another, or many at a time, from
 * exec-client to the testbed and carries standard streams, signals and exit status; it also reaps orphans.
 *
 * It listens on a network interface of its own, moved into a network namespace that commands do not see, so
 * that whatever a test does to its networks and packet filters, the testbed stays in reach. Every connection
 * is served by a process of its own (serve_connection), whose command lives in a cgroup of its own: when the
 * client goes away before the command has ended, the whole cgroup is killed, when the command has ended, what
 * it left running is left alone.
 *
 * Started by `init` after switch_root: exec-server TOKEN PORT INTERFACE ADDRESS/BITS SYNC-DIRECTORY
 */
#include "channel.h"
#include "nudge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

static const char BUSYBOX[] = "/run/testbed/busybox";

struct command {
    struct channel channel;
    const char *sync_directory;
    int main_netns;
    pid_t pid;
    int pidfd;
    bool terminal;
    int master; /* of the pseudo-terminal, else -1 */
    char cgroup[64];
    struct sink in;
    struct source out, err;
};

static int run_program(char *const argv[])
{
    pid_t pid = fork();
    if (pid == 0) {
        execv(argv[0], argv);
        _exit(127);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return status;
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, text, strlen(text)) < 0)
        perror(path);
    close(fd);
}

static void refuse(struct channel *c, const char *what)
{
    char text[256];
    int n = snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
    channel_send(c, FRAME_ERROR, text, (size_t)n, NULL, 0);
}

/* Time that the CPUs were not idle, from the first line of /proc/stat. */
static uint64_t busy_ms(void)
{
    unsigned long long user = 0, nice = 0, system = 0;
    FILE *f = fopen("/proc/stat", "re");
    if (!f)
        return 0;
    if (fscanf(f, "cpu %llu %llu %llu", &user, &nice, &system) != 3)
        user = nice = system = 0;
    fclose(f);
    return (user + nice + system) * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

/* Splits the request's strings; the vectors point into the frame. */
static bool parse_request(const struct frame *f, const char *token, struct request *r, char **cwd,
                          char ***argv, char ***envp)
{
    if (f->type != FRAME_REQUEST || f->length < sizeof *r || f->payload[f->length - 1] != '\0')
        return false;
    memcpy(r, f->payload, sizeof *r);
    if (memcmp(r->token, token, CHANNEL_TOKEN_BYTES) != 0 || r->argc == 0)
        return false;
    if (r->argc > f->length || r->envc > f->length)
        return false;
    char **v = calloc((size_t)r->argc + r->envc + 2, sizeof *v);
    char *p = (char *)f->payload + sizeof *r, *end = (char *)f->payload + f->length;
    if (!v || p == end)
        return false;
    *cwd = p;
    *argv = v;
    *envp = v + r->argc + 1;
    for (uint32_t i = 0; i < r->argc + r->envc; i++) {
        p += strlen(p) + 1;
        if (p >= end)
            return false;
        v[i < r->argc ? i : i + 1] = p;
    }
    return true;
}

/* In the child: joins the commands' network namespace and cgroup, takes the streams, executes. */
__attribute__((noreturn)) static void start_child(const struct command *k, const int fds[3], const char *cwd,
                                                  char **argv, char **envp)
{
    char procs[96];
    snprintf(procs, sizeof procs, "%s/cgroup.procs", k->cgroup);
    write_file(procs, "0");
    setsid();
    if (k->terminal)
        ioctl(fds[0], TIOCSCTTY, 0);
    for (int i = 0; i < 3; i++)
        dup2(fds[i], i);
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    signal(SIGPIPE, SIG_DFL);
    if (setns(k->main_netns, CLONE_NEWNET) < 0)
        perror("testbed: setns");
    else if (chdir(cwd) < 0)
        fprintf(stderr, "testbed: %s: %s\n", cwd, strerror(errno));
    else {
        environ = envp;
        execvpe(argv[0], argv, envp);
        fprintf(stderr, "testbed: %s: %s\n", argv[0], strerror(errno));
        _exit(errno == ENOENT ? 127 : 126);
    }
    _exit(125);
}

static int open_streams(struct command *k, const struct request *r, int child[3])
{
    if (k->terminal) {
        struct winsize w = {.ws_row = r->rows, .ws_col = r->cols};
        int slave;
        if (openpty(&k->master, &slave, NULL, NULL, &w) < 0)
            return -errno;
        child[0] = child[1] = child[2] = slave;
        k->in.fd = dup(k->master);
        k->out.fd = dup(k->master);
        return 0;
    }
    int p[3][2];
    for (int i = 0; i < 3; i++)
        if (pipe2(p[i], O_CLOEXEC) < 0)
            return -errno;
    child[0] = p[0][0];
    child[1] = p[1][1];
    child[2] = p[2][1];
    k->in.fd = p[0][1];
    k->out.fd = p[1][0];
    k->err.fd = p[2][0];
    return 0;
}

static bool start_command(struct command *k, const struct frame *f, const char *token)
{
    struct request r;
    char *cwd, **argv, **envp;
    errno = EPERM;
    if (!parse_request(f, token, &r, &cwd, &argv, &envp)) {
        refuse(&k->channel, "request refused");
        return false;
    }
    k->terminal = r.terminal != 0;
    snprintf(k->cgroup, sizeof k->cgroup, "/sys/fs/cgroup/command-%d", getpid());
    mkdir(k->cgroup, 0755);
    int child[3];
    if (open_streams(k, &r, child) < 0 || (k->pid = fork()) < 0) {
        refuse(&k->channel, "cannot start");
        return false;
    }
    if (k->pid == 0)
        start_child(k, child, cwd, argv, envp);
    free(argv);
    for (int i = 0; i < (k->terminal ? 1 : 3); i++)
        close(child[i]);
    k->pidfd = (int)syscall(SYS_pidfd_open, k->pid, 0);
    channel_send(&k->channel, FRAME_STARTED, NULL, 0, NULL, 0);
    return true;
}

static bool take_data(struct command *k, const struct frame *f)
{
    if (f->length < 1 || f->payload[0] != STDIN_FILENO)
        return false;
    if (f->length == 1 && k->terminal) { /* a terminal's end of file is a character */
        static const uint8_t eof = 4;
        return sink_take(&k->in, &eof, 1);
    }
    return sink_take(&k->in, f->payload + 1, f->length - 1);
}

static bool take_frame(struct command *k, const struct frame *f)
{
    struct grant g;
    switch (f->type) {
    case FRAME_DATA:
        return take_data(k, f);
    case FRAME_GRANT:
        if (f->length != sizeof g)
            return false;
        memcpy(&g, f->payload, sizeof g);
        *(g.stream == STDERR_FILENO ? &k->err.window : &k->out.window) += g.bytes;
        return true;
    case FRAME_CLOSE:
        if (f->length == 1)
            source_close(f->payload[0] == STDERR_FILENO ? &k->err : &k->out);
        return f->length == 1;
    case FRAME_SIGNAL:
        if (f->length == 1)
            kill(-k->pid, f->payload[0]);
        return f->length == 1;
    case FRAME_WINSIZE:
        return f->length == sizeof(struct winsize) &&
               (!k->terminal || ioctl(k->master, TIOCSWINSZ, f->payload) == 0);
    default:
        return false;
    }
}

/* After the command's end: sends what it has written; does not wait for what its children may still write. */
static bool drained(struct source *s, struct channel *c)
{
    while (s->fd >= 0 && s->window) {
        struct pollfd p = {.fd = s->fd, .events = POLLIN};
        if (poll(&p, 1, 0) <= 0)
            return true;
        source_pump(s, c);
    }
    return s->fd < 0;
}

static void finish(struct command *k, int status)
{
    uint8_t code = (uint8_t)(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
    int fd = open(k->sync_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) { /* what the command wrote through mmap must reach the machine before the testbed may go */
        syncfs(fd);
        close(fd);
    }
    channel_send(&k->channel, FRAME_EXIT, &code, 1, NULL, 0);
    while (k->channel.out_used && !k->channel.ended) {
        struct pollfd p = {.fd = k->channel.fd, .events = POLLOUT};
        poll(&p, 1, -1);
        channel_flush(&k->channel);
    }
    rmdir(k->cgroup); /* stays when the command left processes behind */
}

static void kill_command(struct command *k)
{
    char path[96];
    snprintf(path, sizeof path, "%s/cgroup.kill", k->cgroup);
    kill(-k->pid, SIGHUP);
    usleep(100 * 1000);
    write_file(path, "1");
    kill(-k->pid, SIGKILL);
    waitpid(k->pid, NULL, 0);
    for (int i = 0; i < 50 && rmdir(k->cgroup) < 0; i++)
        usleep(20 * 1000);
}

enum { SLOT_CHANNEL, SLOT_PID, SLOT_BEAT, SLOT_IN, SLOT_OUT, SLOT_ERR, SLOT_COUNT };

/* Carries the streams until the command has ended and all is sent. */
static void serve_command(struct command *k)
{
    struct itimerspec second = {.it_interval.tv_sec = 1, .it_value.tv_nsec = 1};
    int beat = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), status = 0;
    bool exited = false;
    timerfd_settime(beat, 0, &second, NULL);
    for (;;) {
        struct pollfd p[SLOT_COUNT] = {
            [SLOT_CHANNEL] = {.fd = k->channel.fd, .events = channel_events(&k->channel)},
            [SLOT_PID] = {.fd = exited ? -1 : k->pidfd, .events = POLLIN},
            [SLOT_BEAT] = {.fd = beat, .events = POLLIN},
            [SLOT_IN] = {.fd = k->in.used ? k->in.fd : -1, .events = POLLOUT},
            [SLOT_OUT] = {.fd = k->out.window ? k->out.fd : -1, .events = POLLIN},
            [SLOT_ERR] = {.fd = k->err.window ? k->err.fd : -1, .events = POLLIN},
        };
        if (poll(p, SLOT_COUNT, -1) < 0 && errno != EINTR)
            return;
        if (p[SLOT_OUT].revents)
            source_pump(&k->out, &k->channel);
        if (p[SLOT_ERR].revents)
            source_pump(&k->err, &k->channel);
        if (p[SLOT_IN].revents)
            sink_pump(&k->in, &k->channel);
        if (p[SLOT_PID].revents && waitpid(k->pid, &status, WNOHANG) == k->pid)
            exited = true;
        if (exited && drained(&k->out, &k->channel) && drained(&k->err, &k->channel)) {
            finish(k, status);
            return;
        }
        if (p[SLOT_BEAT].revents) {
            uint64_t ticks;
            struct beat b = {.busy_ms = busy_ms()};
            if (read(beat, &ticks, sizeof ticks) > 0)
                channel_send(&k->channel, FRAME_BEAT, &b, sizeof b, NULL, 0);
        }
        if (p[SLOT_CHANNEL].revents & POLLOUT)
            channel_flush(&k->channel);
        if (p[SLOT_CHANNEL].revents & (POLLIN | POLLHUP | POLLERR))
            channel_receive(&k->channel);
        struct frame f;
        while (!k->channel.ended && channel_next(&k->channel, &f))
            k->channel.ended = !take_frame(k, &f);
        if (k->channel.ended) {
            if (!exited)
                kill_command(k);
            return;
        }
    }
}

static void serve_connection(int fd, const char *token, int main_netns, const char *sync_directory)
{
    struct command *k = calloc(1, sizeof *k);
    struct frame f;
    if (!k)
        return;
    k->sync_directory = sync_directory;
    k->main_netns = main_netns;
    k->master = -1;
    k->in = (struct sink){.fd = -1, .stream = STDIN_FILENO};
    k->out = (struct source){.fd = -1, .stream = STDOUT_FILENO, .window = CHANNEL_WINDOW_BYTES};
    k->err = (struct source){.fd = -1, .stream = STDERR_FILENO, .window = CHANNEL_WINDOW_BYTES};
    channel_init(&k->channel, fd);
    while (!k->channel.ended && !channel_next(&k->channel, &f)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 10000) <= 0)
            return;
        channel_receive(&k->channel);
    }
    if (!k->channel.ended && start_command(k, &f, token))
        serve_command(k);
    channel_fini(&k->channel);
}

static int run_ip(const char *a, const char *b, const char *c, const char *d, const char *e, const char *f)
{
    const char *argv[] = {BUSYBOX, "ip", a, b, c, d, e, f, NULL};
    return run_program((char *const *)argv);
}

/* The commands' network: loopback, and the way out through QEMU's user-mode network. */
static int set_main_network(void)
{
    if (run_ip("link", "set", "lo", "up", NULL, NULL) || run_ip("link", "set", "eth0", "up", NULL, NULL) ||
        run_ip("addr", "add", "10.0.2.15/24", "dev", "eth0", NULL))
        return -EIO;
    return run_ip("route", "add", "default", "via", "10.0.2.2", NULL) ? -EIO : 0;
}

/* Goes into a new network namespace and brings the interface there; returns a listening socket. */
static int listen_apart(const char *interface, const char *address, const char *port)
{
    char pid[16];
    int go[2], status = 1;
    snprintf(pid, sizeof pid, "%d", getpid());
    if (pipe2(go, O_CLOEXEC) < 0)
        return -errno;
    pid_t mover = fork(); /* stays in the old namespace and gives the interface away */
    if (mover == 0) {
        char c;
        if (read(go[0], &c, 1) != 1 || run_ip("link", "set", interface, "netns", pid, NULL))
            _exit(1);
        _exit(0);
    }
    if (mover < 0 || unshare(CLONE_NEWNET) < 0 || write(go[1], "", 1) != 1)
        return -EIO;
    if (waitpid(mover, &status, 0) < 0 || status)
        return -EIO;
    if (run_ip("addr", "add", address, "dev", interface, NULL) ||
        run_ip("link", "set", interface, "up", NULL, NULL))
        return -EIO;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 64) < 0)
        return -errno;
    return fd;
}

static void say(const char *text)
{
    int fd = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        return;
    close(fd);
}

static int serve(char **argv)
{
    int main_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    int fd = set_main_network();
    if (fd == 0)
        fd = listen_apart(argv[3], argv[4], argv[2]);
    if (fd < 0 || main_netns < 0) {
        say("testbed: failed: exec-server has no network\n");
        return 1;
    }
    signal(SIGCHLD, SIG_IGN);
    nudge_start();
    say("testbed: ready\n");
    for (;;) {
        int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (c < 0)
            continue;
        if (fork() == 0) {
            signal(SIGCHLD, SIG_DFL);
            close(fd);
            serve_connection(c, argv[1], main_netns, argv[5]);
            _exit(0);
        }
        close(c);
    }
}

int main(int argc, char **argv)
{
    if (argc != 6 || strlen(argv[1]) != CHANNEL_TOKEN_BYTES) {
        fprintf(stderr, "usage: exec-server TOKEN PORT INTERFACE ADDRESS/BITS SYNC-DIRECTORY\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    if (getpid() != 1)
        return serve(argv);
    pid_t server = fork();
    if (server == 0) {
        _exit(serve(argv));
    }
    for (;;) { /* process 1 adopts orphans, wherever they come from */
        pid_t pid = wait(NULL);
        if (pid == server || (pid < 0 && errno == ECHILD)) {
            say("testbed: failed: exec-server ended\n");
            pause();
        }
    }
}
