/*
 * How a VM ended, for those outside: one JSON line in the status file, and husk-vmm's exit status.
 */
#ifndef HUSK_VMM_STATUS_H
#define HUSK_VMM_STATUS_H

#include <stdint.h>

struct json_t;

/* The values are husk-vmm's exit statuses; 2 is a usage error. */
enum end_reason {
    END_POWER_OFF = 0,
    END_VMM_ERROR = 1,      /* ours or the host's failure, before or while the guest ran */
    END_RESET = 3,          /* the guest asked for a reboot */
    END_PANIC = 4,          /* the guest's kernel panicked */
    END_TRIPLE_FAULT = 5,   /* KVM_EXIT_SHUTDOWN */
    END_INTERNAL_ERROR = 6, /* KVM could not go on: its reason is in the detail */
    END_TERMINATED = 7,     /* SIGTERM or SIGINT */
};

/* "power-off", "vmm-error", ...; static. */
const char *end_reason_name(enum end_reason reason);

/* VM exits that came back to the VMM, by kind: KVM_EXIT_* numbers below EXIT_KINDS, later ones in the last.
 */
#define EXIT_KINDS 48

struct exit_counts {
    uint64_t kind[EXIT_KINDS];
};

/* A moment worth measuring: what the counters said when it came. */
struct status_mark {
    uint64_t since_start_us; /* since husk-vmm's main began */
    uint64_t since_run_us;   /* since the first KVM_RUN */
    struct exit_counts exits;
};

struct status {
    enum end_reason reason;
    const char *detail;              /* "" when there is nothing to add */
    const struct status_mark *hello; /* the agent's knock; NULL without statistics or when it never came */
    const struct status_mark *end;   /* NULL without statistics */
};

/* {"total", "io", "mmio", ...}: kinds that never came are left out. A new reference, or NULL. */
struct json_t *status_exits_json(const struct exit_counts *exits);

/* Writes the line to fd: {"reason": ..., "detail": ...} and, with statistics, "hello" and "end":
 * {"since_start_us", "since_run_us", "exits": {"total", "io", "mmio", ...}}; kinds that never came are left
 * out. 0 or -errno. */
int status_write(int fd, const struct status *status);

#endif
