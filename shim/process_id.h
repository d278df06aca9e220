/*
 * A process that cannot be mistaken for another: its pid together with its start time.
 *
 * State files outlive processes and pids are reused; what is looked up later is only taken for the process
 * that was written down when the start time (proc(5), /proc/PID/stat field 22) agrees. All functions are safe
 * in any thread.
 */
#ifndef HUSK_SHIM_PROCESS_ID_H
#define HUSK_SHIM_PROCESS_ID_H

#include "common/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct process_id {
    pid_t pid;           /* 0: none */
    uint64_t start_time; /* clock ticks since boot */
};

/* Reads the start time of a living process. 0, or -ESRCH when there is none or it is a zombie. */
int process_id_get(pid_t pid, struct process_id *out);

/* Whether exactly this process still runs (a zombie does not). */
bool process_id_alive(const struct process_id *id);

/* A pidfd of exactly this process, CLOEXEC, the caller's; -ESRCH when it has ended, or another -errno. */
int process_id_open(const struct process_id *id);

/* Sends SIGKILL (if it still runs) and waits for the end, at most timeout_ms. 0, or -ETIMEDOUT. */
int process_id_kill(const struct process_id *id, int timeout_ms);

/* Waits until the process behind the pidfd has ended, at most timeout_ms (-1: for ever). 0, or -ETIMEDOUT. */
int process_wait_end(int pidfd, int timeout_ms);

/* {"pid": N, "start_time": N}: a new reference, and back; an absent member leaves `out` at 0. 0, or -1. */
json_t *process_id_to_json(const struct process_id *id);
int process_id_from_json(const json_t *object, const char *key, struct process_id *out, struct error *err);

#endif
