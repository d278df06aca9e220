/*
 * /dev/kvm: opening it, knowing that it can do what husk needs, and making the VM.
 *
 * Nothing here comes from a guest. Setup functions fill a struct error with a sentence for the person who
 * started the sandbox.
 */
#ifndef HUSK_VMM_KVM_H
#define HUSK_VMM_KVM_H

#include "common/error.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>

struct kvm {
    int fd;             /* /dev/kvm */
    int vm_fd;          /* -1 until kvm_create_vm */
    size_t run_bytes;   /* of each vCPU's struct kvm_run mapping */
    size_t xsave_bytes; /* of KVM_GET_XSAVE2's buffer, at least sizeof(struct kvm_xsave) */
    unsigned vcpus_max;
    bool sync_regs; /* general registers come with each exit (KVM_CAP_SYNC_REGS) */
};

/* Takes `fd`, an open /dev/kvm (owned from here on, also on failure), and checks API version and every
 * capability husk builds on. 0, or -1 with err naming what is missing. */
int kvm_init(struct kvm *kvm, int fd, struct error *err);

/* Creates the VM, without memory or interrupt controllers. 0 or -1. */
int kvm_create_vm(struct kvm *kvm, struct error *err);

/* The split irqchip: local APICs in KVM, IOAPIC ours. After the memory slots, before the first vCPU
 * (KVM api.rst, KVM_CAP_SPLIT_IRQCHIP). Also places the pages KVM needs on Intel. 0 or -1. */
int kvm_create_irqchip(const struct kvm *kvm, struct error *err);

/* The numbers of the MSRs that make up a vCPU's state on this host. Heap, the caller frees it; NULL with
 * errno. */
struct kvm_msr_list *kvm_msr_list_new(const struct kvm *kvm);

/* Closes what is open. */
void kvm_fini(struct kvm *kvm);

#endif
