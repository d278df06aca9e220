/*
 * The monitor's own structure, shared by the three files of its life: monitor.c (fork, handshake, end),
 * monitor_create.c (from the VM's start to a created container), monitor_run.c (the event loop).
 */
#ifndef HUSK_SHIM_MONITOR_INTERNAL_H
#define HUSK_SHIM_MONITOR_INTERNAL_H

#include "common/loop.h"
#include "shim/agent_client.h"
#include "shim/container_state.h"
#include "shim/monitor.h"
#include "shim/relay.h"
#include "shim/sandbox.h"

enum monitor_stream { STREAM_STDIN, STREAM_STDOUT, STREAM_STDERR, STREAM_COUNT };

struct monitor_process {
    const struct monitor_task *task;
    struct container_state state;
    struct sandbox sandbox;
    struct agent_client *agent;
    struct relay relays[STREAM_COUNT];
    int64_t wait_id; /* of the process.wait request */

    /* the event loop's */
    struct loop *loop;
    struct watch signals, control, vmm;
    unsigned outputs_open; /* relays of stdout and stderr still at work */
    bool process_ended;
    bool lost;            /* the VMM, the guest or the agent is gone */
    struct error failure; /* with lost: why, as far as the connection told */
};

/* Starts the sandbox and creates the container in it; the relays are ready but not started. 0, or -1 with
 * err filled; what was made is left to monitor_process_undo. */
int monitor_process_create(struct monitor_process *monitor, struct error *err);

/* Ends the sandbox and removes its directory. */
void monitor_process_undo(struct monitor_process *monitor);

/* Carries streams, signals and the wait until the process has ended and its output is delivered, or until
 * the sandbox is lost. signal_fd: a signalfd of all signals. 0, or -1 with err filled. */
int monitor_process_run(struct monitor_process *monitor, int signal_fd, struct error *err);

#endif
