/*
 * Connections to a process: see monitor_sockets.h. What a thread works on is on the heap and its own; all
 * share struct monitor_sockets, which is never freed, because a thread may sleep in accept until the process
 * ends.
 */
#include "shim/monitor_sockets.h"

#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "protocol/protocol.h"
#include "shim/deadline.h"
#include "shim/socket_ends.h"
#include "shim/socket_relay.h"
#include "shim/thread_start.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define OPEN_TIMEOUT_MS   60000
#define BACKLOG_RETRY_NS  (10 * 1000 * 1000) /* while the process does not accept */
#define ACCEPT_RETRY_MS   100                /* when this process has no fds left */
#define STREAM_NAME_BYTES 16

struct monitor_sockets {
    struct agent_address address;
    char container[CONTAINER_ID_MAX + 1];
    char process[PROCESS_NAME_MAX + 1];
    void (*ended)(void *arg);
    void *arg;
    sem_t room;
    atomic_uint connections;
    atomic_bool over;
};

struct listener {
    struct monitor_sockets *sockets;
    int fd;
    char stream[STREAM_NAME_BYTES];
};

struct connection {
    struct monitor_sockets *sockets;
    int host_fd, guest_fd;          /* guest_fd -1: to be opened */
    char stream[STREAM_NAME_BYTES]; /* of an accepted one */
};

struct monitor_sockets *monitor_sockets_new(const struct agent_address *address, const char *container,
                                            const char *process, void (*ended)(void *arg), void *arg,
                                            struct error *err)
{
    struct monitor_sockets *sockets = calloc(1, sizeof(*sockets));
    if (!sockets) {
        error_set(err, ENOMEM, "sockets");
        return NULL;
    }
    sockets->address = *address;
    sockets->ended = ended;
    sockets->arg = arg;
    snprintf(sockets->container, sizeof(sockets->container), "%s", container);
    snprintf(sockets->process, sizeof(sockets->process), "%s", process);
    sem_init(&sockets->room, 0, MONITOR_CONNECTIONS_MAX);
    return sockets;
}

static int start_detached(void *(*run)(void *arg), void *arg, struct error *err)
{
    pthread_t thread;
    int failed = thread_start(&thread, run, arg);
    if (failed)
        return error_set(err, failed, "start a socket's thread");
    pthread_detach(thread);
    return 0;
}

/* The guest's end of an accepted connection. fd, or -1 with err: EAGAIN while the process's backlog is full.
 */
static int connection_open(const struct connection *connection, struct error *err)
{
    const struct monitor_sockets *sockets = connection->sockets;
    json_t *local = socket_ends_local(connection->host_fd), *peer = socket_ends_peer(connection->host_fd);
    cleanup_json json_t *ends = local && peer ? json_pack("{s:o, s:o}", "local", local, "peer", peer) : NULL;
    if (!ends) {
        int code = errno;
        json_decref(local);
        json_decref(peer);
        return error_set(err, code, "ends of a connection");
    }
    cleanup_fd int fd = agent_begin_stream(&sockets->address, sockets->container, sockets->process,
                                           connection->stream, ends, err);
    if (fd < 0 ||
        agent_finish_stream(&sockets->address, fd, connection->stream, deadline_in(OPEN_TIMEOUT_MS), err) < 0)
        return -1;
    return take_fd(&fd);
}

static void *connection_thread(void *arg)
{
    struct connection *connection = arg;
    struct monitor_sockets *sockets = connection->sockets;
    struct error err = {0};
    bool is_accepted = connection->guest_fd < 0;
    while (connection->guest_fd < 0 && (connection->guest_fd = connection_open(connection, &err)) < 0 &&
           err.code == EAGAIN)
        nanosleep(&(struct timespec){.tv_nsec = BACKLOG_RETRY_NS}, NULL);
    if (connection->guest_fd >= 0)
        socket_relay_run(connection->host_fd, connection->guest_fd);
    else
        log_debug("connection refused stream=%s: %s", connection->stream, err.text);
    fd_close(&connection->guest_fd);
    fd_close(&connection->host_fd);
    free(connection);
    if (is_accepted)
        sem_post(&sockets->room);
    atomic_fetch_sub(&sockets->connections, 1);
    sockets->ended(sockets->arg);
    return NULL;
}

/* Takes both fds on success. */
static int connection_start(struct monitor_sockets *sockets, int host_fd, int guest_fd, const char *stream,
                            struct error *err)
{
    struct connection *connection = malloc(sizeof(*connection));
    if (!connection)
        return error_set(err, ENOMEM, "connection");
    *connection = (struct connection){.sockets = sockets, .host_fd = host_fd, .guest_fd = guest_fd};
    snprintf(connection->stream, sizeof(connection->stream), "%s", stream);
    atomic_fetch_add(&sockets->connections, 1);
    if (start_detached(connection_thread, connection, err) == 0)
        return 0;
    atomic_fetch_sub(&sockets->connections, 1);
    free(connection);
    return -1;
}

int monitor_sockets_add_connection(struct monitor_sockets *sockets, int host_fd, int guest_fd,
                                   struct error *err)
{
    return connection_start(sockets, host_fd, guest_fd, "", err);
}

/* The service manager shares the listening socket: what comes after the process's end is the next one's, and
 * who waits for a connection may find it taken by another. */
static void *listener_thread(void *arg)
{
    struct listener *listener = arg;
    struct monitor_sockets *sockets = listener->sockets;
    struct pollfd pfd = {.fd = listener->fd, .events = POLLIN};
    struct error err;
    for (;;) {
        sem_wait(&sockets->room);
        int ready = poll(&pfd, 1, -1);
        if (atomic_load(&sockets->over) || (ready > 0 && (pfd.revents & (POLLERR | POLLNVAL))))
            break;
        int fd = ready > 0 ? accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC) : -1;
        if (ready > 0 && fd < 0 && (errno == EMFILE || errno == ENFILE))
            poll(NULL, 0, ACCEPT_RETRY_MS);
        if (fd >= 0 && connection_start(sockets, fd, -1, listener->stream, &err) == 0)
            continue;
        if (fd >= 0) {
            log_warn("connection refused stream=%s: %s", listener->stream, err.text);
            close(fd);
        }
        sem_post(&sockets->room);
    }
    fd_close(&listener->fd);
    free(listener);
    return NULL;
}

int monitor_sockets_add_listener(struct monitor_sockets *sockets, int host_fd, const char *stream,
                                 struct error *err)
{
    struct listener *listener = malloc(sizeof(*listener));
    if (!listener)
        return error_set(err, ENOMEM, "listener");
    *listener = (struct listener){.sockets = sockets, .fd = host_fd};
    snprintf(listener->stream, sizeof(listener->stream), "%s", stream);
    if (start_detached(listener_thread, listener, err) < 0) {
        free(listener);
        return -1;
    }
    return 0;
}

bool monitor_sockets_finish(struct monitor_sockets *sockets)
{
    if (!sockets)
        return true;
    atomic_store(&sockets->over, true);
    return atomic_load(&sockets->connections) == 0;
}
