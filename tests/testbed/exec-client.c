/*
 * exec-client: runs one command in the testbed as if it ran here: standard streams, signals, terminal and
 * exit status.
 *
 * Called by `run`. Waits until the testbed says on its console that it is ready, then talks to exec-server
 * over TCP on the loopback interface. It is also the watchdog: exec-server's beat must come each second, and
 * a command that neither moves a byte nor uses a CPU for a while is taken to hang.
 *
 * Exit status: the command's (128 + n for signal n); 124 on timeout; 125 when the testbed failed or hung. So
 * that a caller can tell 125 of the testbed from 125 of the command, --verdict FILE receives one word: exit,
 * timeout, hang or failure, and the number of bytes taken from standard input.
 */
#include "channel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { STATUS_TIMEOUT = 124, STATUS_TESTBED = 125 };

/* A beat that stays away this long is a dead guest, however slow the machine is. */
enum { BEAT_LOST_S = 60, BOOT_S = 180 };

/* CPU time per second of stall below which the testbed counts as idle: its own timers and heartbeat stay
 * under it. */
enum { IDLE_MS_PER_S = 60 };

struct options {
    const char *console, *verdict, *port, *token, *directory;
    pid_t machine;
    double timeout_s, stall_s;
    bool terminal;
};

struct session {
    struct channel channel;
    struct options o;
    struct source in;
    struct sink out, err;
    double started, last_beat, last_progress;
    uint64_t busy_ms_at_progress, moved;
    struct termios saved;
    bool raw;
    unsigned int interrupts;
};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int conclude(struct session *s, const char *verdict, int status, const char *text)
{
    if (s->raw)
        tcsetattr(STDIN_FILENO, TCSANOW, &s->saved);
    if (text)
        fprintf(stderr, "testbed: %s: %s\n", verdict, text);
    FILE *f = s->o.verdict ? fopen(s->o.verdict, "we") : NULL;
    if (f) {
        fprintf(f, "%s %zu\n", verdict, s->in.total);
        fclose(f);
    }
    channel_fini(&s->channel);
    return status;
}

/* Looks for a line of exec-server or init on the console's log: 1 ready, -1 failed, 0 neither yet. */
static int console_state(const char *path)
{
    char line[512];
    int state = 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f)) {
        if (strstr(line, "testbed: ready"))
            state = 1;
        else if (strstr(line, "testbed: failed") || strstr(line, "Kernel panic"))
            state = -1;
    }
    fclose(f);
    return state;
}

/* NULL when the testbed is ready, else what is wrong. */
static const char *wait_until_ready(const struct options *o)
{
    double deadline = now_s() + BOOT_S;
    while (now_s() < deadline) {
        int state = console_state(o->console);
        if (state > 0)
            return NULL;
        if (state < 0)
            return "did not boot";
        if (kill(o->machine, 0) < 0)
            return "the machine emulator ended";
        usleep(20 * 1000);
    }
    return "did not boot in time";
}

static int connect_loopback(const char *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void send_request(struct session *s, char **argv)
{
    struct request r = {.terminal = s->o.terminal};
    struct winsize w;
    if (s->o.terminal && ioctl(STDIN_FILENO, TIOCGWINSZ, &w) == 0) {
        r.rows = w.ws_row;
        r.cols = w.ws_col;
    }
    memcpy(r.token, s->o.token, CHANNEL_TOKEN_BYTES);
    char *text;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    if (!f)
        abort();
    fputs(s->o.directory, f);
    fputc('\0', f);
    for (; argv[r.argc]; r.argc++) {
        fputs(argv[r.argc], f);
        fputc('\0', f);
    }
    for (; environ[r.envc]; r.envc++) {
        fputs(environ[r.envc], f);
        fputc('\0', f);
    }
    fclose(f);
    channel_send(&s->channel, FRAME_REQUEST, &r, sizeof r, text, bytes);
    free(text);
}

static void enter_raw_mode(struct session *s)
{
    if (!s->o.terminal || tcgetattr(STDIN_FILENO, &s->saved) < 0)
        return;
    struct termios t = s->saved;
    cfmakeraw(&t);
    s->raw = tcsetattr(STDIN_FILENO, TCSANOW, &t) == 0;
}

/* Returns false when the frame makes no sense. An EXIT or ERROR frame is left to the caller. */
static bool take_frame(struct session *s, const struct frame *f)
{
    struct grant g;
    struct beat b;
    switch (f->type) {
    case FRAME_STARTED:
        return true;
    case FRAME_DATA:
        if (f->length < 1)
            return false;
        return sink_take(f->payload[0] == STDERR_FILENO ? &s->err : &s->out, f->payload + 1, f->length - 1);
    case FRAME_GRANT:
        if (f->length != sizeof g)
            return false;
        memcpy(&g, f->payload, sizeof g);
        s->in.window += g.bytes;
        return true;
    case FRAME_CLOSE:
        source_close(&s->in);
        return true;
    case FRAME_BEAT:
        if (f->length != sizeof b)
            return false;
        memcpy(&b, f->payload, sizeof b);
        s->last_beat = now_s();
        uint64_t moved = s->in.total + s->out.total + s->err.total;
        double idle_s = s->last_beat - s->last_progress;
        if (moved != s->moved ||
            (double)(b.busy_ms - s->busy_ms_at_progress) > IDLE_MS_PER_S * (idle_s + 1)) {
            s->moved = moved;
            s->busy_ms_at_progress = b.busy_ms;
            s->last_progress = s->last_beat;
        }
        return true;
    default:
        return false;
    }
}

static void take_signal(struct session *s, int signals)
{
    struct signalfd_siginfo i;
    struct winsize w;
    if (read(signals, &i, sizeof i) != sizeof i)
        return;
    if (i.ssi_signo == SIGWINCH) {
        if (s->o.terminal && ioctl(STDIN_FILENO, TIOCGWINSZ, &w) == 0)
            channel_send(&s->channel, FRAME_WINSIZE, &w, sizeof w, NULL, 0);
        return;
    }
    uint8_t number = (uint8_t)i.ssi_signo;
    channel_send(&s->channel, FRAME_SIGNAL, &number, 1, NULL, 0);
    s->interrupts++;
}

/* The command has ended: writes what is left of its output, however long the reader takes. */
static void write_rest(struct session *s)
{
    struct sink *sinks[] = {&s->out, &s->err};
    for (int i = 0; i < 2; i++)
        while (sinks[i]->fd >= 0 && sinks[i]->used) {
            struct pollfd p = {.fd = sinks[i]->fd, .events = POLLOUT};
            poll(&p, 1, -1);
            sink_pump(sinks[i], &s->channel);
        }
}

/* What the watchdog says now, NULL when all is well. */
static const char *watch(const struct session *s)
{
    double t = now_s();
    if (t - s->last_beat > BEAT_LOST_S)
        return "no heartbeat of the testbed's kernel";
    if (s->o.stall_s > 0 && t - s->last_progress > s->o.stall_s)
        return "no output, no input and no use of the CPU";
    return NULL;
}

enum { SLOT_CHANNEL, SLOT_SIGNALS, SLOT_IN, SLOT_OUT, SLOT_ERR, SLOT_COUNT };

static int carry(struct session *s, int signals)
{
    s->started = s->last_beat = s->last_progress = now_s();
    for (;;) {
        struct pollfd p[SLOT_COUNT] = {
            [SLOT_CHANNEL] = {.fd = s->channel.fd, .events = channel_events(&s->channel)},
            [SLOT_SIGNALS] = {.fd = signals, .events = POLLIN},
            [SLOT_IN] = {.fd = s->in.window ? s->in.fd : -1, .events = POLLIN},
            [SLOT_OUT] = {.fd = s->out.used ? s->out.fd : -1, .events = POLLOUT},
            [SLOT_ERR] = {.fd = s->err.used ? s->err.fd : -1, .events = POLLOUT},
        };
        if (poll(p, SLOT_COUNT, 1000) < 0 && errno != EINTR)
            return conclude(s, "failure", STATUS_TESTBED, strerror(errno));
        if (s->o.timeout_s > 0 && now_s() - s->started > s->o.timeout_s)
            return conclude(s, "timeout", STATUS_TIMEOUT, "the command ran out of its time");
        const char *hang = watch(s);
        if (hang)
            return conclude(s, "hang", STATUS_TESTBED, hang);
        if (p[SLOT_SIGNALS].revents)
            take_signal(s, signals);
        if (s->interrupts > 2)
            return conclude(s, "exit", 128 + SIGINT, NULL);
        if (p[SLOT_IN].revents)
            source_pump(&s->in, &s->channel);
        if (p[SLOT_OUT].revents)
            sink_pump(&s->out, &s->channel);
        if (p[SLOT_ERR].revents)
            sink_pump(&s->err, &s->channel);
        if (p[SLOT_CHANNEL].revents & POLLOUT)
            channel_flush(&s->channel);
        if (p[SLOT_CHANNEL].revents & (POLLIN | POLLHUP | POLLERR))
            channel_receive(&s->channel);
        struct frame f;
        while (channel_next(&s->channel, &f)) {
            if (f.type == FRAME_EXIT && f.length == 1) {
                int status = f.payload[0];
                write_rest(s);
                return conclude(s, "exit", status, NULL);
            }
            if (f.type == FRAME_ERROR) {
                fprintf(stderr, "testbed: %.*s\n", (int)f.length, (char *)f.payload);
                return conclude(s, "failure", STATUS_TESTBED, "exec-server");
            }
            if (!take_frame(s, &f))
                return conclude(s, "failure", STATUS_TESTBED, "exec-server sent a bad frame");
        }
        if (s->channel.ended)
            return conclude(s, "failure", STATUS_TESTBED, "connection lost");
    }
}

static bool parse_options(int argc, char **argv, struct options *o)
{
    static const struct option table[] = {
        {"console", required_argument, NULL, 'c'},   {"machine", required_argument, NULL, 'm'},
        {"port", required_argument, NULL, 'p'},      {"token", required_argument, NULL, 'k'},
        {"directory", required_argument, NULL, 'd'}, {"verdict", required_argument, NULL, 'v'},
        {"timeout", required_argument, NULL, 't'},   {"stall", required_argument, NULL, 's'},
        {"terminal", no_argument, NULL, 'i'},        {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long(argc, argv, "+", table, NULL)) != -1;)
        switch (c) {
        case 'c':
            o->console = optarg;
            break;
        case 'm':
            o->machine = atoi(optarg);
            break;
        case 'p':
            o->port = optarg;
            break;
        case 'k':
            o->token = optarg;
            break;
        case 'd':
            o->directory = optarg;
            break;
        case 'v':
            o->verdict = optarg;
            break;
        case 't':
            o->timeout_s = atof(optarg);
            break;
        case 's':
            o->stall_s = atof(optarg);
            break;
        case 'i':
            o->terminal = true;
            break;
        default:
            return false;
        }
    return o->console && o->machine > 0 && o->port && o->token && strlen(o->token) == CHANNEL_TOKEN_BYTES &&
           o->directory;
}

int main(int argc, char **argv)
{
    struct session *s = calloc(1, sizeof *s);
    if (!s || !parse_options(argc, argv, &s->o)) {
        fprintf(stderr, "usage: exec-client --console LOG --machine PID --port N --token T --directory DIR "
                        "[--verdict FILE] "
                        "[--timeout S] [--stall S] [--terminal] [--] [CMD...]\n");
        return STATUS_TESTBED;
    }
    s->channel.fd = -1;
    const char *wrong = wait_until_ready(&s->o);
    if (wrong)
        return conclude(s, "failure", STATUS_TESTBED, wrong);
    if (optind == argc) /* only asked to wait */
        return 0;
    sigset_t set;
    sigemptyset(&set);
    for (const int *n = (const int[]){SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, 0}; *n; n++)
        sigaddset(&set, *n);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    int signals = signalfd(-1, &set, SFD_CLOEXEC), fd = connect_loopback(s->o.port);
    if (fd < 0)
        return conclude(s, "failure", STATUS_TESTBED, "cannot connect");
    s->in = (struct source){.fd = STDIN_FILENO, .stream = STDIN_FILENO, .window = CHANNEL_WINDOW_BYTES};
    s->out = (struct sink){.fd = STDOUT_FILENO, .stream = STDOUT_FILENO};
    s->err = (struct sink){.fd = STDERR_FILENO, .stream = STDERR_FILENO};
    channel_init(&s->channel, fd);
    send_request(s, argv + optind);
    enter_raw_mode(s);
    return carry(s, signals);
}
