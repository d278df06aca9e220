/*
 * Frames and stream ends shared by exec-client and exec-server; see channel.h for the rules.
 *
 * The descriptors of standard streams stay in blocking mode, since O_NONBLOCK belongs to the open file and
 * would leak into whoever shares the terminal or pipe with us. Instead a read follows a POLLIN, and a write
 * follows a POLLOUT and is at most PIPE_BUF bytes, which a writable pipe takes without blocking (pipe(7)).
 */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct header {
    uint32_t type, length;
};

static void reserve(uint8_t **buffer, size_t *size, size_t needed)
{
    if (needed <= *size)
        return;
    size_t grown = *size ? *size : 64 << 10;
    while (grown < needed)
        grown *= 2;
    uint8_t *p = realloc(*buffer, grown);
    if (!p)
        abort(); /* a test tool out of memory: the other side sees the connection end */
    *buffer = p;
    *size = grown;
}

void channel_init(struct channel *c, int fd)
{
    *c = (struct channel){.fd = fd};
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

void channel_fini(struct channel *c)
{
    if (c->fd >= 0)
        close(c->fd);
    free(c->in);
    free(c->out);
    *c = (struct channel){.fd = -1, .ended = true};
}

void channel_flush(struct channel *c)
{
    size_t sent = 0;
    while (sent < c->out_used && !c->ended) {
        ssize_t n = write(c->fd, c->out + sent, c->out_used - sent);
        if (n > 0)
            sent += (size_t)n;
        else if (n < 0 && errno == EINTR)
            continue;
        else if (n < 0 && errno == EAGAIN)
            break;
        else
            c->ended = true;
    }
    memmove(c->out, c->out + sent, c->out_used - sent);
    c->out_used -= sent;
}

void channel_send(struct channel *c, uint32_t type, const void *a, size_t a_bytes, const void *b,
                  size_t b_bytes)
{
    struct header h = {.type = type, .length = (uint32_t)(a_bytes + b_bytes)};
    reserve(&c->out, &c->out_size, c->out_used + sizeof h + a_bytes + b_bytes);
    memcpy(c->out + c->out_used, &h, sizeof h);
    c->out_used += sizeof h;
    if (a_bytes)
        memcpy(c->out + c->out_used, a, a_bytes);
    c->out_used += a_bytes;
    if (b_bytes)
        memcpy(c->out + c->out_used, b, b_bytes);
    c->out_used += b_bytes;
    channel_flush(c);
}

void channel_receive(struct channel *c)
{
    memmove(c->in, c->in + c->in_taken, c->in_used - c->in_taken);
    c->in_used -= c->in_taken;
    c->in_taken = 0;
    reserve(&c->in, &c->in_size, c->in_used + (64 << 10));
    ssize_t n = read(c->fd, c->in + c->in_used, c->in_size - c->in_used);
    if (n > 0)
        c->in_used += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        c->ended = true;
}

bool channel_next(struct channel *c, struct frame *f)
{
    struct header h;
    size_t left = c->in_used - c->in_taken;
    if (left < sizeof h)
        return false;
    memcpy(&h, c->in + c->in_taken, sizeof h);
    if (h.length > CHANNEL_PAYLOAD_MAX) {
        c->ended = true;
        return false;
    }
    if (left - sizeof h < h.length)
        return false;
    *f = (struct frame){.type = h.type, .length = h.length, .payload = c->in + c->in_taken + sizeof h};
    c->in_taken += sizeof h + h.length;
    return true;
}

short channel_events(const struct channel *c)
{
    return (short)(POLLIN | (c->out_used ? POLLOUT : 0));
}

void source_close(struct source *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

void source_pump(struct source *s, struct channel *c)
{
    uint8_t buffer[32 << 10];
    size_t want = s->window < sizeof buffer ? s->window : sizeof buffer;
    ssize_t n = read(s->fd, buffer, want);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) { /* EIO is a pseudo-terminal's end of file */
        source_close(s);
        channel_send(c, FRAME_DATA, &s->stream, 1, NULL, 0);
        return;
    }
    s->window -= (size_t)n;
    s->total += (size_t)n;
    channel_send(c, FRAME_DATA, &s->stream, 1, buffer, (size_t)n);
}

void sink_close(struct sink *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

bool sink_take(struct sink *s, const uint8_t *data, size_t bytes)
{
    if (bytes == 0) {
        s->eof = true;
        if (!s->used)
            sink_close(s);
        return true;
    }
    if (s->fd < 0)
        return true; /* crossed with our CLOSE */
    if (bytes > sizeof s->buffer - s->used)
        return false;
    if (s->start) {
        memmove(s->buffer, s->buffer + s->start, s->used);
        s->start = 0;
    }
    memcpy(s->buffer + s->used, data, bytes);
    s->used += bytes;
    return true;
}

void sink_pump(struct sink *s, struct channel *c)
{
    size_t want = s->used < PIPE_BUF ? s->used : PIPE_BUF;
    ssize_t n = write(s->fd, s->buffer + s->start, want);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        s->broken = true;
        s->used = 0;
        sink_close(s);
        channel_send(c, FRAME_CLOSE, &s->stream, 1, NULL, 0);
        return;
    }
    s->start += (size_t)n;
    s->used -= (size_t)n;
    s->total += (size_t)n;
    struct grant g = {.stream = s->stream, .bytes = (uint32_t)n};
    channel_send(c, FRAME_GRANT, &g, sizeof g, NULL, 0);
    if (!s->used && s->eof)
        sink_close(s);
}
