/*
 * What the guest's CPUID instruction says: what KVM supports on this host, minus what husk does not offer
 * (nested virtualisation, performance counters, SGX, processor trace) or was told to mask, with a topology of
 * its own: one package of `cpus` cores with one thread each, APIC ids 0 .. cpus - 1.
 *
 * The host's own topology and APIC ids do not get through: leaves that KVM copies from the CPU it runs on are
 * rewritten.
 */
#ifndef HUSK_VMM_CPUID_X86_H
#define HUSK_VMM_CPUID_X86_H

#include "common/error.h"

#include <linux/kvm.h>

/* Asks KVM and applies everything that is the same for all vCPUs. mask: comma-separated feature names as in
 * /proc/cpuinfo, or NULL. Heap, the caller frees it; NULL with err (unknown feature names are named). */
struct kvm_cpuid2 *cpuid_new(int kvm_fd, unsigned cpus, const char *mask, struct error *err);

/* The parts of cpuid_new, on a table in memory: for tests, and in this order. */
void cpuid_restrict(struct kvm_cpuid2 *table);
int cpuid_mask(struct kvm_cpuid2 *table, const char *mask, struct error *err);
/* Adds leaves 0xb and 0x1f anew: the table needs room for CPUID_ENTRIES_MAX entries. */
void cpuid_set_topology(struct kvm_cpuid2 *table, unsigned cpus);

/* Writes the APIC id into the leaves that hold it. */
void cpuid_set_apic_id(struct kvm_cpuid2 *table, unsigned apic_id);

#define CPUID_ENTRIES_MAX 256u

#endif
