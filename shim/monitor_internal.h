/*
 * The monitor's own structures, shared by the files of its life: monitor.c (a container's monitor from its
 * fork to its end), monitor_create.c (from the VM's start to a created container), monitor_exec.c (a further
 * process's), monitor_run.c (the event loop of either).
 */
#ifndef HUSK_SHIM_MONITOR_INTERNAL_H
#define HUSK_SHIM_MONITOR_INTERNAL_H

#include "common/loop.h"
#include "shim/agent_client.h"
#include "shim/container_state.h"
#include "shim/monitor.h"
#include "shim/monitor_streams.h"
#include "shim/network_follow.h"
#include "shim/notify.h"
#include "shim/sandbox.h"
#include "shim/vm_size.h"

/* A process of a sandbox and what its monitor holds of it. */
struct monitor_process {
    const char *container; /* ID; both are borrowed */
    const char *name;      /* as the agent knows it */
    struct sandbox sandbox;
    struct agent_client *agent;
    struct monitor_streams streams;
    int64_t wait_id;         /* of the process.wait request */
    const char *notify_path; /* shim/notify.h: the host's socket, or NULL */
    char notify_kept[NOTIFY_KEPT_MAX];
    int64_t notify_id;       /* of the container.notify request under way */
    struct network *network; /* the sandbox's, to be followed: its owner's monitor has it; else NULL */
    int64_t network_id;      /* of the last sandbox.network.set */
    int exit_status;         /* once it has ended: 0..255, -1 when it ended by a signal */
    int exit_signal;         /* 0: none */

    /* the event loop's */
    struct loop *loop;
    struct watch signals, control, vmm;
    unsigned outputs_open; /* relays of output still at work */
    bool process_ended;
    bool lost;            /* the VMM, the guest or the agent is gone */
    struct error failure; /* with lost: why, as far as the connection told */
};

/* A container's monitor: of its init, and the owner of its sandbox. */
struct monitor_container {
    const struct monitor_task *task;
    struct container_state state;
    struct host_cgroup cgroup;
    bool joined;   /* the sandbox is another container's, and not ours to end */
    json_t *disks; /* of a container that joins, as the agent is told of them; or NULL */
    struct monitor_process process;
    int signal_fd;
    int fuse_fd;                       /* proc_view.h; -1: none */
    struct agent_address view_address; /* who answers for it; its own descriptors: the sandbox's are closed at
                                          the container's end */
};

/* Plans the container's cgroup on the host and notes it in the state, before anything is made. 0, or -1 with
 * err. */
int monitor_plan_cgroup(struct monitor_container *monitor, struct error *err);

/* Sizes the VM, makes the cgroup with limits that fit and moves this process in; the state is written again.
 * 0, or -1 with err; undone by monitor_create_undo. */
int monitor_place(struct monitor_container *monitor, struct vm_size *size, struct error *err);

/* For the host's hooks, between fork and exec: back to where the caller's command runs. `arg` is the monitor.
 */
void monitor_return_home(void *arg);

/* Starts the sandbox and creates the container in it; the streams are ready but not started. 0, or -1 with
 * err filled; what was made is left to monitor_create_undo. */
int monitor_create(struct monitor_container *monitor, struct error *err);

/* Ends the sandbox and removes its directory. */
void monitor_create_undo(struct monitor_container *monitor);

/* Asks the agent for the container's next notification. 0, or -1 with err filled. */
int monitor_process_ask_notification(struct monitor_process *process, struct error *err);

/* Has the agent give the process its terminal's size, if it has one. Not waited for. */
void monitor_process_resize(struct monitor_process *process);

/* Carries streams, signals and the wait until the process has ended and its output is delivered, or until the
 * sandbox is lost. signal_fd: a signalfd of all signals. 0, or -1 with err filled. */
int monitor_process_run(struct monitor_process *process, int signal_fd, struct error *err);

/* The sandbox was lost while the process ran: it counts as killed by SIGKILL. Writes why into text. */
void monitor_process_judge_loss(struct monitor_process *process, char *text, size_t size);

#endif
