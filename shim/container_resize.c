/*
 * Growing and shrinking what a container has on the host: see container_resize.h. The VMM's and the agent's
 * answers are checked where they are read; a VM that ends up smaller than asked for is told of, and is no
 * failure: the guest's own limits hold all the same.
 */
#include "shim/container_resize.h"

#include "common/json.h"
#include "common/log.h"
#include "shim/cgroup_limits.h"
#include "shim/vmm_control.h"

#include <errno.h>
#include <string.h>

#define RESIZE_TIMEOUT_MS 30000

/* The vCPUs: the VMM has them exist, the guest brings them online (or takes them offline). */
static int resize_vcpus(struct container_resize *resize, uint64_t vcpus, struct error *err)
{
    if (vcpus == resize->sandbox.size.vcpus)
        return 0;
    if (vcpus > resize->sandbox.size.vcpus) {
        cleanup_json json_t *params = json_pack("{s:I}", "cpus", (json_int_t)vcpus);
        if (vmm_control_call(resize->sandbox.dir_fd, "cpus.resize", params, NULL, 0, RESIZE_TIMEOUT_MS, NULL,
                             err) < 0)
            return error_wrap(err, "make %llu vCPUs", (unsigned long long)vcpus);
    }
    cleanup_json json_t *result =
        container_call(resize->store, resize->state, "sandbox.resize",
                       json_pack("{s:I}", "cpus", (json_int_t)vcpus), RESIZE_TIMEOUT_MS, err);
    if (!result)
        return error_wrap(err, "use %llu vCPUs", (unsigned long long)vcpus);
    resize->sandbox.size.vcpus = vcpus;
    return 0;
}

/* The memory: the VMM asks the guest to plug or unplug, which may take less than it is asked for. */
static int resize_memory(struct container_resize *resize, uint64_t mib, struct error *err)
{
    struct vm_size *size = &resize->sandbox.size;
    json_t *answer = NULL;
    if (mib == size->memory_mib)
        return 0;
    cleanup_json json_t *params = json_pack("{s:I}", "mib", (json_int_t)mib);
    if (vmm_control_call(resize->sandbox.dir_fd, "memory.resize", params, NULL, 0, RESIZE_TIMEOUT_MS, &answer,
                         err) < 0)
        return error_wrap(err, "resize the VM's memory to %llu MiB", (unsigned long long)mib);
    uint64_t got = 0;
    int result = json_require(json_get_u64(answer, "memory.resize", "mib", size->memory_max_mib, &got, err),
                              "memory.resize", "mib", err);
    json_decref(answer);
    if (result < 0)
        return -1;
    if (got != mib)
        log_warn("container %s: the VM has %llu MiB instead of %llu", resize->state->id,
                 (unsigned long long)got, (unsigned long long)mib);
    size->memory_mib = got;
    return 0;
}

/* The host's limits for a VM of at least that much memory. */
static int resize_limits(struct container_resize *resize, const struct host_resources *resources,
                         uint64_t memory_mib, struct error *err)
{
    struct host_resources limits;
    struct vm_size size = resize->sandbox.size;
    if (size.memory_mib < memory_mib)
        size.memory_mib = memory_mib;
    cgroup_limits_plan(&limits, &resize->config, resources, &size);
    return host_cgroup_update(&resize->cgroup, &limits, err);
}

static void warn_of_ceilings(const struct container_resize *resize)
{
    const struct vm_size *wanted = &resize->wanted;
    struct vm_size unbounded, free_size = resize->sandbox.size;
    free_size.vcpus_max = free_size.memory_max_mib = UINT64_MAX;
    vm_size_adapt(&unbounded, &free_size, &resize->config, &resize->after);
    if (unbounded.vcpus > wanted->vcpus)
        log_warn("container %s: the new limits allow %llu CPUs, the VM can have %llu", resize->state->id,
                 (unsigned long long)unbounded.vcpus, (unsigned long long)wanted->vcpus);
    if (unbounded.memory_mib > wanted->memory_mib)
        log_warn("container %s: the new limits need %llu MiB of memory, the VM can have %llu",
                 resize->state->id, (unsigned long long)unbounded.memory_mib,
                 (unsigned long long)wanted->memory_mib);
}

static int resize_open(struct container_resize *resize, const struct context *context,
                       const json_t *resources, struct error *err)
{
    const struct container_state *state = resize->state;
    if (config_load(&resize->config, context->options.config_dir, err) < 0 ||
        config_apply_annotations(&resize->config, state->annotations, err) < 0 ||
        host_resources_read(&resize->before, state->resources, "linux.resources", err) < 0 ||
        host_resources_read(&resize->after, resources, "linux.resources", err) < 0 ||
        host_cgroup_from_json(state->cgroup, &resize->cgroup, err) < 0)
        return -1;
    return sandbox_open(&resize->sandbox, resize->store, state->sandbox, err);
}

int container_resize_begin(struct container_resize *resize, const struct context *context,
                           const struct container_state *state, const json_t *resources, struct error *err)
{
    *resize = (struct container_resize){
        .store = &context->store, .state = state, .sandbox = {.dir_fd = -1, .vmm_pidfd = -1}};
    if (resize_open(resize, context, resources, err) < 0)
        return -1;
    const struct vm_size *present = &resize->sandbox.size;
    vm_size_adapt(&resize->wanted, present, &resize->config, &resize->after);
    warn_of_ceilings(resize);
    bool more_memory = resize->wanted.memory_mib > present->memory_mib;
    if (resize_limits(resize, &resize->after, resize->wanted.memory_mib, err) < 0 ||
        (more_memory && resize_memory(resize, resize->wanted.memory_mib, err) < 0)) {
        container_resize_undo(resize);
        return -1;
    }
    /* With fewer vCPUs than its limit allows a container is slower, but keeps its limits. */
    struct error fewer;
    if (resize->wanted.vcpus > present->vcpus && resize_vcpus(resize, resize->wanted.vcpus, &fewer) < 0)
        log_warn("container %s: %s", state->id, fewer.text);
    return 0;
}

int container_resize_finish(struct container_resize *resize, struct error *err)
{
    const struct vm_size *present = &resize->sandbox.size;
    /* What a guest does not give back it keeps; its limits are lower already. */
    struct error kept;
    if (resize->wanted.vcpus < present->vcpus && resize_vcpus(resize, resize->wanted.vcpus, &kept) < 0)
        log_warn("container %s: %s", resize->state->id, kept.text);
    if (resize->wanted.memory_mib < present->memory_mib &&
        resize_memory(resize, resize->wanted.memory_mib, &kept) < 0)
        log_warn("container %s: %s", resize->state->id, kept.text);
    if (resize_limits(resize, &resize->after, 0, err) < 0)
        return -1;
    return sandbox_set_size(&resize->sandbox, present, err);
}

/* What was limited only by the update becomes unlimited again. */
static void resources_back(struct host_resources *back, const struct host_resources *before,
                           const struct host_resources *after)
{
    *back = *before;
    if (after->memory_limit && !before->memory_limit)
        back->memory_limit = -1;
    if (after->memory_swap && !before->memory_swap)
        back->memory_swap = -1;
    if (after->cpu_quota && !before->cpu_quota)
        back->cpu_quota = -1;
    if (after->cpu_shares && !before->cpu_shares)
        back->cpu_shares = 1024; /* the kernel's default */
}

void container_resize_undo(struct container_resize *resize)
{
    struct host_resources back;
    struct vm_size size;
    struct error err;
    if (resize->sandbox.dir_fd < 0)
        return;
    resources_back(&back, &resize->before, &resize->after);
    vm_size_adapt(&size, &resize->sandbox.size, &resize->config, &back);
    if (resize_vcpus(resize, size.vcpus, &err) < 0 || resize_memory(resize, size.memory_mib, &err) < 0 ||
        resize_limits(resize, &back, 0, &err) < 0 ||
        sandbox_set_size(&resize->sandbox, &resize->sandbox.size, &err) < 0)
        log_warn("container %s: %s", resize->state->id, err.text);
}

void container_resize_fini(struct container_resize *resize)
{
    sandbox_fini(&resize->sandbox);
    host_cgroup_fini(&resize->cgroup);
    host_resources_fini(&resize->before);
    host_resources_fini(&resize->after);
    config_fini(&resize->config);
}
