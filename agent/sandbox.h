/*
 * The guest as the agent keeps it: its containers and the host's connections.
 */
#ifndef HUSK_AGENT_SANDBOX_H
#define HUSK_AGENT_SANDBOX_H

#include "agent/connection.h"
#include "common/loop.h"

#include <sys/queue.h>

struct container;
struct network;
LIST_HEAD(container_list, container);

/* From a connection's arrival to its first frame. */
#define FIRST_FRAME_MS 10000

struct sandbox {
    struct loop *loop;
    struct container_list containers;
    struct connection_list connections;
    unsigned connection_count;
    struct watch first_frame_timer; /* a timerfd, running while a connection has not said what it is */
    unsigned silent_connections;
    /* Makes the guest ready for containers: set by main; called once, after the first control connection has
     * been answered and before its first request. NULL: nothing is left to do. */
    void (*complete)(void);
    /* Ends the guest: set by main; called at most once, when everything in it is to end. */
    void (*power_off)(struct sandbox *sandbox);
    struct network *network; /* as the host wants it; NULL until it says so */
    bool ending;
};

/* 0, or -1 with err filled. sandbox_fini frees whatever the outcome. */
int sandbox_init(struct sandbox *sandbox, struct error *err);

/* Calls `complete` if that is still to be done. */
void sandbox_complete(struct sandbox *sandbox);

/* Frees connections and containers; for tests, since the agent's sandbox ends with the guest. */
void sandbox_fini(struct sandbox *sandbox);

/* NULL when there is none of that id. */
struct container *sandbox_find(struct sandbox *sandbox, const char *id);

/* Reaps every child that has ended and tells the process it was. Call on SIGCHLD. */
void sandbox_reap(struct sandbox *sandbox);

/* A control connection that owned containers has gone: they end, and with the last of all the guest. */
void sandbox_owner_lost(struct sandbox *sandbox, const struct connection *connection);

/* A connection that owned further processes has gone: they are killed. */
void sandbox_process_owner_lost(struct sandbox *sandbox, const struct connection *connection);

/* Lets connections that wait for a stream (see connection.h) look again whether it is there. */
void sandbox_open_waiting_streams(struct sandbox *sandbox);

/* Has power_off called from the loop, once. */
void sandbox_end(struct sandbox *sandbox);

/* Keeps the timer of first frames running while one is awaited. */
void sandbox_count_silent(struct sandbox *sandbox, int change);

#endif
