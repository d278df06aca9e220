/*
 * A process of a container: its init, or a further one.
 *
 *   PROCESS_SETTING_UP --(SYNC_READY)--> PROCESS_CREATED --(exec)--> PROCESS_RUNNING --> PROCESS_ENDED
 *
 * Each state may go to PROCESS_ENDED. Requests that ask for a change are kept until it has happened.
 */
#ifndef HUSK_AGENT_PROCESS_H
#define HUSK_AGENT_PROCESS_H

#include "agent/connection.h"
#include "agent/launch.h"
#include "agent/process_streams.h"
#include "common/loop.h"
#include "protocol/protocol.h"

#include <sys/queue.h>
#include <sys/types.h>

struct container;

/* How the host wants a process to be. */
struct process_wish {
    bool terminal;
    bool start; /* at once, once it is set up */
    struct process_streams_wish streams;
    struct program_activation activation; /* names: of the params */
    const struct connection *owner;       /* whose loss kills the process, or NULL */
};

enum process_state { PROCESS_SETTING_UP, PROCESS_CREATED, PROCESS_RUNNING, PROCESS_ENDED };

struct process {
    LIST_ENTRY(process) link;
    struct container *container;
    char name[PROCESS_NAME_MAX + 1];
    struct spec_process own_spec; /* of a further process; empty for an init */
    const struct spec_process *spec;
    struct process_wish wish;
    enum process_state state;
    pid_t pid; /* stage 1's (launch.h) until it has forked; 0 once it has been reaped */
    int pidfd;
    bool forked;       /* stage 1 has */
    bool vanished;     /* ended before its pid was known, so that nobody will reap it by that */
    int wait_status;   /* as of waitpid, when ended */
    struct watch sync; /* the agent's end of sync.h; fd -1 once the program runs */
    struct process_streams streams;
    struct request *create_request, *start_request;
    struct request_list waiters;
    bool waited_for;      /* its end was told to somebody */
    struct error failure; /* code 0: none; why it never came to run */
};
LIST_HEAD(process_list, process);

/* Takes the wish from a request's params: "terminal" (default as given), "start", "owner", "stdio", "fds" and
 * "activation". 0 or -1. */
int process_wish_parse(struct process_wish *wish, const json_t *params, bool terminal, struct error *err);

/* Starts making a process: forks it. `request` is answered when it is ready (with wish->start: when its
 * program runs) or has failed. For an init,
 * `launch` brings root and mount sources; spec, process, stdio and the rest are filled in here. New process,
 * or NULL with err filled and the request still the caller's. */
struct process *process_new(struct container *container, const char *name, const struct spec_process *spec,
                            const struct process_wish *wish, struct launch *launch, struct request *request,
                            struct error *err);

/* Frees a process that has been reaped, or whose fork is to be forgotten. Requests it keeps are failed. */
void process_free(struct process *process);

/* The stream that a host's first frame (protocol.h) names. NULL with err: ENOENT when it has none of the
 * name. */
struct stream *process_open_stream(struct process *process, const json_t *first_frame, struct error *err);

/* Lets the program run. The request is answered when it does or can't. 0, or -1 with err filled and the
 * request still the caller's. */
int process_start(struct process *process, struct request *request, struct error *err);

/* 0 or -errno: -ESRCH when it has ended. */
int process_signal(const struct process *process, int signal);

/* Its owner is gone: kills it, and expects nothing more of the host. */
void process_abandon(struct process *process);

/* Answers the request when the process has ended and its output was handed over. */
void process_wait(struct process *process, struct request *request);

/* `pid`, which is its pid, was reaped with that status. May free it. */
void process_reaped(struct process *process, pid_t pid, int wait_status);

/* Whether it has ended, its end was waited for, and its streams are over: nothing of it is wanted any more.
 */
bool process_is_over(const struct process *process);

#endif
