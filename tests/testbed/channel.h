/*
 * The wire between exec-client (on the machine) and exec-server (in the testbed): frames over one stream
 * socket, and the two kinds of end that a standard stream has there.
 *
 * One connection carries one command. A frame is {type, length, payload}. Standard input, output and error
 * are DATA frames with a window per stream: the receiver grants what it has written to the final file, so
 * that a reader who stops reading one stream stalls the writer of that stream only, never the other streams
 * nor the signals.
 *
 * Both sides are the project's own and are checked by a token, not by much more: lengths are capped, unknown
 * types end the connection. Single-threaded; nothing here blocks but where said.
 */
#ifndef HUSK_TESTBED_CHANNEL_H
#define HUSK_TESTBED_CHANNEL_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHANNEL_TOKEN_BYTES  32
#define CHANNEL_PAYLOAD_MAX  (4u << 20) /* a request with a large environment; ARG_MAX is 2 MiB */
#define CHANNEL_WINDOW_BYTES (256u << 10)

enum frame_type {
    FRAME_REQUEST = 1, /* client: struct request and its strings */
    FRAME_STARTED,     /* server: the command runs */
    FRAME_DATA,        /* both: u8 stream, bytes; no bytes: end of file */
    FRAME_GRANT,       /* both: struct grant */
    FRAME_CLOSE,       /* both: u8 stream: nobody reads it any more */
    FRAME_SIGNAL,      /* client: u8 number, for the command's process group */
    FRAME_WINSIZE,     /* client: struct winsize of <sys/ioctl.h> */
    FRAME_BEAT,        /* server, each second: struct beat */
    FRAME_EXIT,        /* server: u8 exit status, 128 + n for signal n */
    FRAME_ERROR,       /* server: text */
};

struct request {
    char token[CHANNEL_TOKEN_BYTES];
    uint32_t terminal; /* 1: one pseudo-terminal instead of three pipes */
    uint16_t rows, cols;
    uint32_t argc, envc;
    /* then NUL-terminated: working directory, argc arguments, envc assignments */
};

struct grant {
    uint32_t stream, bytes;
};

/* Busy time of all the testbed's CPUs since its boot; what a watchdog takes for progress. */
struct beat {
    uint64_t busy_ms;
};

struct frame {
    uint32_t type, length;
    uint8_t *payload; /* valid until the next channel_next() */
};

struct channel {
    int fd;
    bool ended; /* the peer closed, or the connection broke */
    uint8_t *in, *out;
    size_t in_used, in_taken, in_size, out_used, out_size;
};

/* Takes over fd, which becomes non-blocking. */
void channel_init(struct channel *c, int fd);
void channel_fini(struct channel *c);
/* Queues a frame made of two parts (either may be empty) and sends what the socket takes. */
void channel_send(struct channel *c, uint32_t type, const void *a, size_t a_bytes, const void *b,
                  size_t b_bytes);
/* Sends more of what is queued. */
void channel_flush(struct channel *c);
/* Reads once; sets c->ended at the end. */
void channel_receive(struct channel *c);
/* Gives the next whole frame, false when there is none yet. */
bool channel_next(struct channel *c, struct frame *f);
/* The poll events that the channel waits for. */
short channel_events(const struct channel *c);

/* The end of a stream that reads a local file and sends it. */
struct source {
    int fd; /* -1: finished */
    uint8_t stream;
    size_t window, total;
};

/* The end of a stream that writes what comes in to a local file. */
struct sink {
    int fd; /* -1: finished or nobody reads */
    uint8_t stream;
    bool eof, broken;
    size_t start, used, total;
    uint8_t buffer[CHANNEL_WINDOW_BYTES];
};

/* Reads once from s->fd, which poll() has said to be readable, and sends it. */
void source_pump(struct source *s, struct channel *c);
void source_close(struct source *s);
/* Takes the bytes of a DATA frame; false when the peer overran its window. */
bool sink_take(struct sink *s, const uint8_t *data, size_t bytes);
/* Writes once to s->fd, which poll() has said to be writable, and grants as much. Never blocks on a pipe. */
void sink_pump(struct sink *s, struct channel *c);
void sink_close(struct sink *s);

#endif
