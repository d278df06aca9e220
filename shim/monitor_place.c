/*
 * Where a container's host side lives and how large its VM is: see monitor_internal.h. The first steps of the
 * monitor, before it starts the VMM, which is then born in the cgroup: what it allocates is counted there
 * from its first page.
 */
#include "common/log.h"
#include "shim/cgroup_limits.h"
#include "shim/monitor_internal.h"

#include <sched.h>
#include <unistd.h>

int monitor_plan_cgroup(struct monitor_container *monitor, struct error *err)
{
    const struct monitor_task *task = monitor->task;
    if (host_cgroup_plan(&monitor->cgroup, task->cgroup_manager, task->bundle->cgroups_path, task->id, err) <
        0)
        return -1;
    monitor->state.cgroup = host_cgroup_to_json(&monitor->cgroup);
    return monitor->state.cgroup ? 0 : error_set(err, 0, "cgroup: a name is no UTF-8");
}

static int place_in_cgroup(struct monitor_container *monitor, const struct host_resources *limits,
                           struct error *err)
{
    if (host_cgroup_make(&monitor->cgroup, limits, err) < 0)
        return -1;
    json_t *made = host_cgroup_to_json(&monitor->cgroup);
    if (!made)
        return error_set(err, 0, "cgroup: a name is no UTF-8");
    json_decref(monitor->state.cgroup);
    monitor->state.cgroup = made;
    return container_state_write(monitor->task->container_fd, &monitor->state, err);
}

int monitor_place(struct monitor_container *monitor, struct vm_size *size, struct error *err)
{
    const struct monitor_task *task = monitor->task;
    struct host_resources resources, limits;
    struct vm_host host;
    vm_host_read(&host);
    int result = host_resources_read(&resources, task->bundle->resources, "linux.resources", err);
    if (result == 0)
        result = host_resources_read_sandbox(&resources, task->bundle->annotations, err);
    if (result == 0)
        result = vm_size_plan(size, task->config, &resources, &host, err);
    if (result == 0) {
        log_debug("VM's size vcpus=%d of %d memory_mib=%d of %d", (int)size->vcpus, (int)size->vcpus_max,
                  (int)size->memory_mib, (int)size->memory_max_mib);
        cgroup_limits_plan(&limits, task->config, &resources, size);
        result = place_in_cgroup(monitor, &limits, err);
    }
    host_resources_fini(&resources);
    return result;
}

void monitor_return_home(void *arg)
{
    const struct monitor_container *monitor = arg;
    host_cgroup_return_to_origin(&monitor->cgroup);
    if (setns(network_runtime_fd(monitor->process.network), CLONE_NEWNET) < 0)
        _exit(126); /* a hook must not take the pod's network for the host's */
}
