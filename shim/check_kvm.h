/*
 * A scratch VM that answers the question whether guest kernel code really executes on this machine.
 *
 * A /dev/kvm that opens proves little: one that emulates supervisor mode runs a few instructions and stops at
 * the first it does not know. So tiny guests run at CPL 0 in long mode the instructions every Linux kernel
 * needs, one guest each. The code is the architecture's: check_kvm_x86.c.
 */
#ifndef HUSK_SHIM_CHECK_KVM_H
#define HUSK_SHIM_CHECK_KVM_H

#include "common/error.h"

#include <stddef.h>

/* How many guests there are, and what the i-th executes ("int3"). */
size_t check_kvm_guest_count(void);
const char *check_kvm_guest_name(size_t index);

/* Runs the i-th guest in a VM of its own. 0 when it came to its end, or -1 with err filled (what stopped
 * it). */
int check_kvm_guest_run(int kvm_fd, size_t index, struct error *err);

#endif
