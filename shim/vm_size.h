/*
 * How large a sandbox's VM is made: its vCPUs and memory from the container's limits, within the
 * configuration's floors and ceilings.
 *
 *   vCPUs   stated (annotation), or quota / period rounded up, or the number of processors in the cpuset (the
 * smaller of the two), or the default. memory  stated (annotation), or the limit and what the guest's kernel
 * needs beside the container, or the default.
 *
 * The VM is made with vcpus_max vCPUs of which the guest boots with `vcpus`, and with room for memory up to
 * memory_max_mib: `update` can raise a container's limits while it runs. Pure arithmetic: called at create
 * and by update.
 */
#ifndef HUSK_SHIM_VM_SIZE_H
#define HUSK_SHIM_VM_SIZE_H

#include "common/error.h"
#include "shim/config.h"
#include "shim/host_resources.h"

#include <jansson.h>
#include <stdint.h>

struct vm_size {
    uint64_t vcpus, vcpus_max;
    uint64_t memory_mib, memory_max_mib;
    uint64_t memory_boot_mib; /* what the VM was made with: it can't have less */
};

/* What a host can give. */
struct vm_host {
    uint64_t cpus;       /* online */
    uint64_t memory_mib; /* in all */
};

void vm_host_read(struct vm_host *host);

/* The size of a new sandbox. 0, or -1 with err naming the setting when a stated size is above its ceiling. */
int vm_size_plan(struct vm_size *size, const struct config *config, const struct host_resources *resources,
                 const struct vm_host *host, struct error *err);

/* The size that a running VM of size `present` should have after `resources` changed: members that are not
 * set in `resources` leave their part of the size alone, and so does a size that was stated. Never above
 * present's ceilings. */
void vm_size_adapt(struct vm_size *size, const struct vm_size *present, const struct config *config,
                   const struct host_resources *resources);

/* {"vcpus", "vcpus_max", "memory_mib", ...}: a new reference or NULL, and back: 0, or -1 with
 * err. */
json_t *vm_size_to_json(const struct vm_size *size);
int vm_size_from_json(const json_t *object, struct vm_size *size, struct error *err);

#endif
