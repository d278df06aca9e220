/*
 * Relays: see relay.h. Started by the monitor; a relay's fds belong to its thread alone.
 *
 * Where one side is a pipe, splice(2) moves the bytes without copying them; otherwise, and where splice
 * refuses the pair, a buffer does. Ends travel on: the end of input becomes a half-close of the guest's
 * stream, a reader that went away becomes a closed stream, so that the guest's writer gets its SIGPIPE.
 */
#include "shim/relay.h"

#include "common/fd.h"
#include "common/log.h"
#include "shim/thread_start.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define BUFFER_BYTES (64u << 10)
#define SPLICE_BYTES (1u << 20)

enum relay_end { RELAY_END_OF_INPUT, RELAY_READER_GONE, RELAY_SPLICE_REFUSED };

/* A caller may have handed us an fd that is non-blocking for it. */
static bool relay_wait(int fd, short events)
{
    struct pollfd pfd = {.fd = fd, .events = events};
    return poll(&pfd, 1, -1) >= 0 || errno == EINTR;
}

/* A splice that sleeps keeps the pipe's lock meanwhile, and whoever is at the pipe's other end then sleeps
 * uninterruptibly, whatever lies in the pipe: so all waiting is done before, and the guest's stream, which is
 * the relay's own, is non-blocking (SPLICE_F_NONBLOCK does not reach a socket that is written to). */
static enum relay_end relay_splice(const struct relay *relay)
{
    bool moved = false;
    if (fd_set_nonblock(relay->to_socket ? relay->to_fd : relay->from_fd, 1) < 0)
        return RELAY_SPLICE_REFUSED;
    for (;;) {
        if (!relay_wait(relay->from_fd, POLLIN) || !relay_wait(relay->to_fd, POLLOUT))
            return RELAY_END_OF_INPUT;
        ssize_t got =
            splice(relay->from_fd, NULL, relay->to_fd, NULL, SPLICE_BYTES, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (got > 0) {
            moved = true;
            continue;
        }
        if (got == 0)
            return RELAY_END_OF_INPUT;
        if (errno == EINTR || errno == EAGAIN)
            continue;
        if (errno == EINVAL && !moved)
            return RELAY_SPLICE_REFUSED;
        return errno == EPIPE || errno == ECONNRESET ? RELAY_READER_GONE : RELAY_SPLICE_REFUSED;
    }
}

static enum relay_end relay_copy(const struct relay *relay)
{
    cleanup_free char *buffer = malloc(BUFFER_BYTES);
    if (!buffer)
        return RELAY_READER_GONE;
    for (;;) {
        ssize_t got = read(relay->from_fd, buffer, BUFFER_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN && relay_wait(relay->from_fd, POLLIN))
            continue;
        /* An input that fails (a terminal hung up: EIO, a stream reset) has ended. */
        if (got <= 0)
            return RELAY_END_OF_INPUT;
        if (fd_write_full(relay->to_fd, buffer, (size_t)got) < 0)
            return RELAY_READER_GONE;
    }
}

void relay_run(struct relay *relay)
{
    enum relay_end end = relay_splice(relay);
    if (end == RELAY_SPLICE_REFUSED)
        end = relay_copy(relay);
    log_debug("relay ended stream=%s reader_gone=%d", relay->name, end == RELAY_READER_GONE);
    if (relay->to_socket && end == RELAY_END_OF_INPUT && !relay->keep_open)
        shutdown(relay->to_fd, SHUT_WR);
    else
        fd_close(&relay->to_fd);
    /* Closing the input tells its writer: the caller's gets SIGPIPE, the guest's stream is shut down. */
    fd_close(&relay->from_fd);
}

static void *relay_thread(void *arg)
{
    struct relay *relay = arg;
    relay_run(relay);
    if (relay->ended)
        relay->ended(relay->ended_arg);
    return NULL;
}

int relay_start(struct relay *relay, struct error *err)
{
    int result = thread_start(&relay->thread, relay_thread, relay);
    return result ? error_set(err, result, "start the relay of %s", relay->name) : 0;
}

void relay_join(struct relay *relay)
{
    pthread_join(relay->thread, NULL);
}
