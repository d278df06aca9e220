/*
 * The limits of a sandbox's cgroup on the host: the container's, with room for the guest's kernel and the
 * VMM, and how each kind of hierarchy takes them.
 *
 * What is not among them, and why, is told in host_resources.h.
 */
#ifndef HUSK_SHIM_CGROUP_LIMITS_H
#define HUSK_SHIM_CGROUP_LIMITS_H

#include "common/error.h"
#include "shim/cgroup_tree.h"
#include "shim/config.h"
#include "shim/host_resources.h"
#include "shim/vm_size.h"

#include <stddef.h>

/* What the host's cgroup gets for a container of these resources in a VM of that size. The VMM may always
 * hold all of its guest's memory: a limit below it would have the host's OOM killer end a VM that keeps
 * within its own. `limits` borrows everything from `resources`; nothing to free. */
void cgroup_limits_plan(struct host_resources *limits, const struct config *config,
                        const struct host_resources *resources, const struct vm_size *size);

/* Writes the limits into the files of a cgroup in version 2, or of the cgroups in each hierarchy of
 * version 1. A controller that is not there is an error only when a limit needs it, as with runc. 0, or -1
 * with err naming the member of linux.resources. */
int cgroup_limits_write(const struct host_resources *limits, const struct cgroup_directory *directories,
                        size_t count, struct error *err);

/* The member of linux.resources that only the host's cgroup can honour, since its numbers are those of the
 * host's processors, nodes or devices; NULL when none is set. */
const char *cgroup_limits_host_only(const struct host_resources *limits);

/* cpu.weight (1..10000) from cpu.shares (2..262144), and io.weight (1..10000) from blkio.weight (10..1000):
 * the conversions that runc and crun use (OCI runtime-spec leaves them open). */
uint64_t cgroup_limits_cpu_weight(uint64_t shares);
uint64_t cgroup_limits_io_weight(uint64_t weight);

#endif
