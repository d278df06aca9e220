/*
 * Both directions of a connection in one thread: see socket_relay.h.
 */
#include "shim/socket_relay.h"

#include "common/fd.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

#define BUFFER_BYTES (64u << 10)

/* One direction: read into the empty buffer, then written out. */
struct half {
    int from_fd, to_fd;
    char *buffer;
    size_t start, length;
    bool ended;
};

static bool is_transient(int code)
{
    return code == EAGAIN || code == EINTR;
}

static void half_read(struct half *half)
{
    ssize_t got = recv(half->from_fd, half->buffer, BUFFER_BYTES, MSG_DONTWAIT);
    if (got < 0 && is_transient(errno))
        return;
    half->start = 0;
    half->length = got > 0 ? (size_t)got : 0;
    half->ended = got <= 0;
    if (half->ended)
        shutdown(half->to_fd, SHUT_WR);
}

static void half_write(struct half *half)
{
    ssize_t put = send(half->to_fd, half->buffer + half->start, half->length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0 && is_transient(errno))
        return;
    half->ended = put < 0;
    half->start += put < 0 ? 0 : (size_t)put;
    half->length -= put < 0 ? half->length : (size_t)put;
}

/* What one fd is waited for. When its input has ended its hang-up alone is of interest: before, that would
 * only keep poll awake while there still is something to read. */
static struct pollfd side_wish(const struct half *input, const struct half *output)
{
    struct pollfd side = {.fd = input->from_fd};
    if (!input->ended && input->length == 0)
        side.events |= POLLIN;
    if (!output->ended && output->length > 0)
        side.events |= POLLOUT;
    if (side.events == 0 && !input->ended)
        side.fd = -1;
    return side;
}

static void relay_both(struct half *in, struct half *out)
{
    while (!in->ended || !out->ended) {
        struct pollfd sides[2] = {side_wish(in, out), side_wish(out, in)};
        if (poll(sides, 2, -1) < 0 && errno != EINTR)
            return;
        struct half *const halves[2] = {in, out};
        for (int i = 0; i < 2; i++) {
            if (halves[i]->ended && (sides[i].revents & (POLLHUP | POLLERR)))
                return; /* this side is closed for good: the other direction has no target */
            if (!halves[i]->ended && halves[i]->length > 0 && sides[1 - i].revents)
                half_write(halves[i]);
            else if (!halves[i]->ended && halves[i]->length == 0 && sides[i].revents)
                half_read(halves[i]);
        }
    }
}

void socket_relay_run(int host_fd, int guest_fd)
{
    cleanup_free char *in_buffer = malloc(BUFFER_BYTES), *out_buffer = malloc(BUFFER_BYTES);
    struct half in = {.from_fd = host_fd, .to_fd = guest_fd, .buffer = in_buffer};
    struct half out = {.from_fd = guest_fd, .to_fd = host_fd, .buffer = out_buffer};
    if (in_buffer && out_buffer)
        relay_both(&in, &out);
}
