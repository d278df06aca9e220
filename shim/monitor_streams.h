/*
 * What a monitor carries between its host and the process it stands for: standard streams, each by a relay of
 * its own, or a terminal, whose two directions are two relays on one stream.
 *
 * A standard stream that is /dev/null is not carried: the process gets the guest's own. A standard error that
 * is the same open file as standard output is carried with it, so that what is written keeps its order.
 * Further fds that the caller passes on (shim/preserved_fds.h) have a relay each, beside a terminal too;
 * sockets are monitor_sockets.h's.
 */
#ifndef HUSK_SHIM_MONITOR_STREAMS_H
#define HUSK_SHIM_MONITOR_STREAMS_H

#include "common/error.h"
#include "shim/agent_client.h"
#include "shim/monitor_sockets.h"
#include "shim/preserved_fds.h"
#include "shim/relay.h"

#include <jansson.h>
#include <stdbool.h>
#include <sys/ioctl.h>

#define MONITOR_STREAM_NAME_BYTES 16

enum { STREAM_STDIN, STREAM_STDOUT, STREAM_STDERR, STREAM_COUNT };

struct monitor_streams {
    bool terminal;
    bool hang_up;                 /* the terminal is our own: its master's end is a hang-up */
    bool keep_stderr;             /* this process has a use of its own for standard error */
    int tty_fd;                   /* with terminal: whose size is the process's; ours, or -1 */
    bool carried[STREAM_COUNT];   /* without terminal */
    bool one_output;              /* stderr goes with stdout */
    int stream_fds[STREAM_COUNT]; /* of the agent's streams; the terminal's is the first */
    struct preserved_fds preserved;
    int preserved_stream_fds[PROCESS_FDS_MAX]; /* by index in preserved; -1 for /dev/null */
    char preserved_names[PROCESS_FDS_MAX][MONITOR_STREAM_NAME_BYTES];
    struct relay relays[STREAM_COUNT + PROCESS_FDS_MAX];
    unsigned relay_count;
    int socket_fds[PROCESS_FDS_MAX]; /* of the host, by index in preserved; -1 where it is no socket */
    struct monitor_sockets *sockets; /* NULL without any */
};

/* Fills *streams for this process's own fds 0, 1 and 2, or with a terminal for tty_fd, which is taken, and
 * for `preserved`, which is copied. */
void monitor_streams_init(struct monitor_streams *streams, bool terminal, int tty_fd,
                          const struct preserved_fds *preserved);

/* Closes what is not yet a relay's. */
void monitor_streams_fini(struct monitor_streams *streams);

/* The "stdio" of a request to make the process. New reference, or NULL. */
json_t *monitor_streams_describe(const struct monitor_streams *streams);

/* Begins to open the streams of a process that is made, or asked for. 0, or -1 with err filled. */
int monitor_streams_begin(struct monitor_streams *streams, const struct agent_address *address,
                          const char *container, const char *process, struct error *err);

/* Waits for the agent's answers and takes fds 0, 1 and 2 for the relays: /dev/null takes their place, so that
 * the other ends of pipes see what the relays do. Preserved fds change their numbers. 0, or -1 with err
 * filled. */
int monitor_streams_finish(struct monitor_streams *streams, const struct agent_address *address,
                           int64_t deadline, struct error *err);

/* What is told, in its thread, by each of the relays that carries output, and by each connection of a socket,
 * when it has ended. */
struct monitor_streams_ends {
    void (*output)(void *arg);
    void (*connection)(void *arg);
    void *arg;
};

/* Starts the relays, and carries the sockets of a container's process. The number of relays that carry
 * output, or -1 with err filled. */
int monitor_streams_start(struct monitor_streams *streams, const struct agent_address *address,
                          const char *container, const char *process, const struct monitor_streams_ends *ends,
                          struct error *err);

/* The terminal's size. False when there is none to be had. */
bool monitor_streams_get_size(const struct monitor_streams *streams, struct winsize *size);

#endif
