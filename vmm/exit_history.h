/*
 * The last VM exits of a vCPU, kept for the dump that ends a machine.
 *
 * A CPU that shut down has no registers to tell what happened: KVM on AMD resets it before it reports the
 * exit. What the guest did shortly before, and where its instruction pointer was then, is all there is.
 * Recording costs a clock reading and a copy of some words at each exit. All that is recorded is the guest's
 * doing.
 */
#ifndef HUSK_VMM_EXIT_HISTORY_H
#define HUSK_VMM_EXIT_HISTORY_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#define EXIT_HISTORY_LENGTH 16u

struct exit_record {
    uint64_t at_us;   /* CLOCK_MONOTONIC */
    uint64_t rip;     /* 0 where KVM does not hand out registers with an exit (KVM_CAP_SYNC_REGS) */
    uint64_t address; /* of an mmio or io access; the vector of an ioapic-eoi */
    uint64_t data;    /* of a write; 0 for a read, which is recorded before it is answered */
    uint32_t reason;  /* KVM_EXIT_* */
    uint8_t length;
    bool write;
};

struct exit_history {
    struct exit_record record[EXIT_HISTORY_LENGTH];
    uint64_t count; /* of all exits; the next goes to record[count % EXIT_HISTORY_LENGTH] */
};

/* Records the exit that `run` (the vCPU's whole mapping) describes, before it is handled. From the vCPU's
 * thread. */
void exit_history_add(struct exit_history *history, const struct kvm_run *run);

/* Writes the records to the log, oldest first, one a line. From the vCPU's thread, or after its end. */
void exit_history_log(const struct exit_history *history, unsigned vcpu);

#endif
