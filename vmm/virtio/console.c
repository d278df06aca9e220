/*
 * virtio-console (virtio 1.2 §5.3): see console.h. Port 0's transmitq is copied into a bounded buffer and
 * from there written to the output as fast as its reader takes it; the receiveq is accepted and never used.
 *
 * Trust boundary: the guest chooses what it prints, how much and how fast. Linux waits with interrupts off
 * until a console chain is given back, so each is given back at once, whatever the output does: what does not
 * fit the buffer is dropped and counted.
 */
#include "vmm/virtio/console.h"

#include "common/loop.h"
#include "vmm/virtio/device.h"

#include <errno.h>
#include <limits.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONSOLE_RECEIVEQ, CONSOLE_TRANSMITQ, CONSOLE_QUEUES };

#define QUEUE_SIZE      64
#define CHAINS_PER_TURN 64
#define BUFFER_BYTES    65536
/* More than this in one write to a pipe may block although poll said writable (pipe(7)). */
#define PIECE_BYTES PIPE_BUF

struct virtio_console {
    struct virtio_device device;
    struct virtio_chain chain;
    struct watch output;  /* waits for EPOLLOUT while the buffer holds something */
    bool always_writable; /* a regular file: cannot be polled */
    bool watching;
    bool failed;           /* the output is gone: everything is dropped */
    unsigned long left;    /* bytes of the limit not used up */
    unsigned long dropped; /* since the last note */
    size_t start, filled;  /* of the ring in buffer */
    char buffer[BUFFER_BYTES];
};

static uint64_t console_features(const struct virtio_device *device)
{
    (void)device;
    return 0;
}

static int console_activate(struct virtio_device *device, uint64_t features)
{
    (void)device;
    (void)features;
    return 0;
}

/* Contiguous room in the ring, at most `*length`. */
static char *buffer_room(struct virtio_console *console, size_t *length)
{
    size_t at = (console->start + console->filled) % BUFFER_BYTES;
    size_t room = BUFFER_BYTES - console->filled;
    if (room > BUFFER_BYTES - at)
        room = BUFFER_BYTES - at;
    if (*length > room)
        *length = room;
    return console->buffer + at;
}

static void buffer_put(struct virtio_console *console, const char *text, size_t length)
{
    while (length > 0) {
        size_t piece = length;
        char *to = buffer_room(console, &piece);
        if (piece == 0)
            return;
        memcpy(to, text, piece);
        console->filled += piece;
        text += piece;
        length -= piece;
    }
}

static bool output_writable(const struct virtio_console *console)
{
    struct pollfd pollfd = {.fd = console->output.fd, .events = POLLOUT};
    return console->always_writable || poll(&pollfd, 1, 0) != 0;
}

/* Writes from the buffer until it is empty or the reader slow. */
static void console_write_out(struct virtio_console *console)
{
    while (console->filled > 0 && output_writable(console)) {
        size_t length = console->filled;
        if (length > BUFFER_BYTES - console->start)
            length = BUFFER_BYTES - console->start;
        if (!console->always_writable && length > PIECE_BYTES)
            length = PIECE_BYTES;
        ssize_t written = write(console->output.fd, console->buffer + console->start, length);
        if (written < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (written <= 0) {
            log_warn("console: the guest's log is lost from here on: %s", strerror(errno));
            console->failed = true;
            console->filled = 0;
            return;
        }
        console->start = (console->start + (size_t)written) % BUFFER_BYTES;
        console->filled -= (size_t)written;
    }
}

/* Tells a reader that was slow what it missed, once the note fits. */
static void console_note_dropped(struct virtio_console *console)
{
    char note[96];
    int length = snprintf(note, sizeof(note), "\n[husk: %lu bytes of console output dropped here]\n",
                          console->dropped);
    if (console->dropped == 0 || console->filled + (size_t)length > BUFFER_BYTES)
        return;
    buffer_put(console, note, (size_t)length);
    console->dropped = 0;
}

/* Moves on what can be moved, and waits for the reader if something is left. */
static void console_flush(struct virtio_console *console)
{
    if (console->failed)
        return;
    console_write_out(console);
    if (console->filled == 0 && console->dropped > 0) {
        console_note_dropped(console);
        console_write_out(console);
    }
    bool wait = console->filled > 0;
    if (wait == console->watching)
        return;
    if (!wait)
        loop_del(console->device.loop, &console->output);
    else if (loop_add(console->device.loop, &console->output, EPOLLOUT))
        return; /* tried again with the next chain */
    console->watching = wait;
}

static void console_on_writable(struct watch *watch, uint32_t events)
{
    (void)events;
    struct virtio_console *console = watch->arg;
    console_flush(console);
    if (console->failed && console->watching) {
        loop_del(console->device.loop, watch);
        console->watching = false;
    }
}

static void console_take(struct virtio_console *console, struct virtio_chain *chain)
{
    while (chain->out_left > 0 && console->left > 0 && !console->failed) {
        size_t length = chain->out_left < console->left ? chain->out_left : console->left;
        char *to = buffer_room(console, &length);
        if (length == 0) {
            console_flush(console);
            length = 1;
            buffer_room(console, &length);
            if (length == 0)
                break; /* the reader is slow */
            continue;
        }
        virtio_chain_read(chain, to, length);
        console->filled += length;
        console->left -= length;
        if (console->left == 0) {
            static const char note[] = "\n[husk: limit of the console log reached, the rest is dropped]\n";
            log_warn("console: the guest's log has reached its limit, the rest is dropped");
            console_flush(console);
            buffer_put(console, note, sizeof(note) - 1);
        }
    }
    if (console->left > 0 && !console->failed)
        console->dropped += chain->out_left;
}

static void console_kick(struct virtio_device *device, unsigned index)
{
    struct virtio_console *console = (struct virtio_console *)device;
    if (index != CONSOLE_TRANSMITQ)
        return;
    struct virtqueue *queue = device->queue[index];
    unsigned served = 0;
    int got = 0;
    do {
        while (served < CHAINS_PER_TURN && (got = virtqueue_pop(queue, &console->chain)) > 0) {
            console_take(console, &console->chain);
            virtqueue_push(queue, &console->chain);
            served++;
        }
    } while (served < CHAINS_PER_TURN && got == 0 && virtqueue_enable_kicks(queue));
    virtqueue_notify(queue);
    console_flush(console);
    if (got < 0)
        virtio_device_broken(device, index);
    else if (served == CHAINS_PER_TURN)
        device->transport->kick_again(device->transport, index);
}

static void console_reset(struct virtio_device *device)
{
    (void)device; /* no chain outlives a kick; what the guest printed before still goes out */
}

static int console_save(const struct virtio_device *device, struct snapshot_writer *writer)
{
    (void)device; /* the buffer and the limit belong to this process's log, not to the guest */
    (void)writer;
    return 0;
}

static int console_restore(struct virtio_device *device, struct snapshot_reader *reader)
{
    (void)device;
    (void)reader;
    return 0;
}

static void console_free(struct virtio_device *device)
{
    struct virtio_console *console = (struct virtio_console *)device;
    console_flush(console); /* a last chance for what the guest printed before its end */
    if (console->watching)
        loop_del(device->loop, &console->output);
    free(console);
}

static const struct virtio_device_ops console_ops = {
    .name = "console",
    .id = VIRTIO_ID_CONSOLE,
    .features = console_features,
    .activate = console_activate,
    .kick = console_kick,
    .reset = console_reset,
    .save = console_save,
    .restore = console_restore,
    .free = console_free,
};

struct virtio_device *virtio_console_new(struct loop *loop, int output_fd, unsigned long limit_bytes)
{
    struct stat stat;
    if (fstat(output_fd, &stat) < 0)
        return NULL;
    struct virtio_console *console = calloc(1, sizeof(*console));
    if (!console)
        return NULL;
    console->device = (struct virtio_device){
        .ops = &console_ops, .loop = loop, .queue_count = CONSOLE_QUEUES, .queue_size_max = QUEUE_SIZE};
    console->output = (struct watch){.fd = output_fd, .fn = console_on_writable, .arg = console};
    console->always_writable = S_ISREG(stat.st_mode);
    console->left = limit_bytes;
    return &console->device;
}
