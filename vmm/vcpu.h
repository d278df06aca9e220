/*
 * A virtual CPU: a thread that runs the guest and answers the accesses it makes.
 *
 * Trust boundary: everything in struct kvm_run describes what the guest did. No exit is a surprise: the run
 * loop is a closed switch, and what it does not know ends the machine with a reason and a register dump.
 */
#ifndef HUSK_VMM_VCPU_H
#define HUSK_VMM_VCPU_H

#include "common/error.h"
#include "common/log.h"
#include "vmm/bus.h"
#include "vmm/exit_history.h"
#include "vmm/ioapic.h"
#include "vmm/kvm.h"
#include "vmm/status.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct snapshot_reader;
struct snapshot_writer;

/* The signal that takes a vCPU thread out of KVM_RUN. */
#define VCPU_KICK_SIGNAL SIGUSR1

enum vcpu_wanted { VCPU_RUN, VCPU_PAUSE, VCPU_STOP };

/* What all vCPUs wait at between two runs. A vCPU stands when it waits here or its thread has ended. */
struct vcpu_gate {
    atomic_int wanted; /* enum vcpu_wanted */
    /* The last running vCPU has come to stand. From its thread, without the lock. */
    void (*all_standing)(void *arg);
    void *arg;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    unsigned members; /* threads started */
    unsigned standing;
};

/* What a vCPU needs of its machine. Constant while it runs. */
struct vcpu_host {
    const struct bus *mmio, *pio;
    struct ioapic *ioapic;
    struct vcpu_gate *gate;
    /* In the vCPU's thread before its first KVM_RUN: name, privileges, seccomp. 0 or -errno. */
    int (*thread_start)(void *arg, unsigned index);
    void *thread_start_arg;
    /* The guest has come to its end. From the vCPU's thread. */
    void (*end)(void *arg, enum end_reason reason, const char *detail);
    void *end_arg;
};

struct vcpu {
    const struct vcpu_host *host;
    unsigned index; /* also its APIC id */
    int fd;
    struct kvm_run *run;
    size_t run_bytes, xsave_bytes;
    pthread_t thread;
    bool started;
    atomic_ullong exits[EXIT_KINDS];
    struct exit_history history; /* the thread's */
    struct log_limit limit;      /* the thread's */
};

/* Creates vCPU `index` with its CPUID (patched in place) and reset state. After the irqchip. 0, or -1 with
 * err; vcpu is then as after vcpu_fini. */
int vcpu_init(struct vcpu *vcpu, const struct kvm *kvm, const struct vcpu_host *host, unsigned index,
              struct kvm_cpuid2 *cpuid, struct error *err);
/* Stopped, or never started. */
void vcpu_fini(struct vcpu *vcpu);

/* The kick signal's handler: it only has to interrupt. */
void vcpu_kick_handler(int signal);

/* Starts the thread, which runs as soon as the gate lets it. 0 or -errno. */
int vcpu_start(struct vcpu *vcpu);
/* Takes the thread out of KVM_RUN, so that it looks at the gate. Any thread. */
void vcpu_kick(struct vcpu *vcpu);
/* Waits for the thread's end, after the gate was set to VCPU_STOP and the vCPU kicked. */
void vcpu_join(struct vcpu *vcpu);

/* Closed at first: VCPU_PAUSE. */
void vcpu_gate_init(struct vcpu_gate *gate, void (*all_standing)(void *arg), void *arg);
/* Sets what is wanted and wakes those who wait; the caller kicks those who run. VCPU_STOP is for good. Any
 * thread. */
void vcpu_gate_set(struct vcpu_gate *gate, enum vcpu_wanted wanted);
/* Whether no vCPU runs. True when there is none. */
bool vcpu_gate_all_standing(struct vcpu_gate *gate);

/* The vCPU's whole state; `msrs` lists what KVM says is to be saved (kvm_msr_list_new). While it does not
 * run: paused, or not started. Restore wants a vCPU with the same CPUID. 0 or -errno: -EPROTO for a broken
 * stream. */
int vcpu_save(const struct vcpu *vcpu, const struct kvm_msr_list *msrs, struct snapshot_writer *writer);
int vcpu_restore(const struct vcpu *vcpu, struct snapshot_reader *reader);

/* Writes the registers and the last exits to the log. From the vCPU's thread, or while it does not run. */
void vcpu_log_state(const struct vcpu *vcpu);

#endif
