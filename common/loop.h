/*
 * The event loop of a thread that waits: epoll, with a `struct watch` as each event's data.
 *
 * A loop and everything watched in it belong to one thread, the one inside loop_run. Other threads hand work
 * over with loop_post or loop_call; nothing else here may be called from outside once the loop runs. VMM,
 * agent and shim use it.
 */
#ifndef HUSK_COMMON_LOOP_H
#define HUSK_COMMON_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct watch;

/* Called in the loop's thread with the epoll events (EPOLLIN, EPOLLOUT, EPOLLHUP, ...) that came. May delete
 * any watch, its own too: events already fetched for a deleted watch are dropped. */
typedef void (*watch_fn)(struct watch *watch, uint32_t events);

/* One fd in a loop. The storage belongs to the caller and must stay until loop_del. */
struct watch {
    int fd; /* the caller's; loop_del does not close it */
    watch_fn fn;
    void *arg; /* the caller's */
    uint32_t events;
};

/* A new loop, or NULL with errno. */
struct loop *loop_new(void);

/* Frees a loop that is not running. Posted work that has not run is dropped. NULL is fine. */
void loop_free(struct loop *loop);

/* Watches watch->fd for `events` (level-triggered unless EPOLLET is given). 0 or -errno. */
int loop_add(struct loop *loop, struct watch *watch, uint32_t events);

/* Changes the events waited for; 0 events keeps the watch but waits only for EPOLLERR and EPOLLHUP. 0 or
 * -errno. */
int loop_mod(struct loop *loop, struct watch *watch, uint32_t events);

/* Ends the watch. Does nothing if the watch is not in the loop. */
void loop_del(struct loop *loop, struct watch *watch);

/* Runs until loop_stop. 0, or -errno when epoll itself failed. */
int loop_run(struct loop *loop);

/* Waits at most `timeout_ms` (-1: for ever, 0: not at all) and handles what came. Number of events, or
 * -errno. */
int loop_once(struct loop *loop, int timeout_ms);

/* Makes loop_run return after the callbacks under way. From any thread, and from a callback. */
void loop_stop(struct loop *loop);

/* Has `fn(arg)` run in the loop's thread, in the order posted. From any thread. 0 or -ENOMEM. */
int loop_post(struct loop *loop, void (*fn)(void *arg), void *arg);

/* As loop_post, and returns only after fn has run. Called from the loop's own thread (or when no thread runs
 * the loop) it runs fn at once. The caller must hold no lock that fn takes. 0 or -ENOMEM. */
int loop_call(struct loop *loop, void (*fn)(void *arg), void *arg);

#endif
