/*
 * Host limits of a sandbox: see cgroup_limits.h. Values were checked by host_resources.c; the kernel judges
 * the rest.
 */
#include "shim/cgroup_limits.h"

#include "shim/cgroup_mounts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MIB_BYTES (1ll << 20)
/* KVM's page tables of a guest (nested paging: 8 bytes a page of 4096) and what it keeps beside them. */
#define KVM_SHARE 256

uint64_t cgroup_limits_cpu_weight(uint64_t shares)
{
    return 1 + ((shares < 2 ? 0 : shares - 2) * 9999) / 262142;
}

uint64_t cgroup_limits_io_weight(uint64_t weight)
{
    return 1 + (weight < 10 ? 0 : weight - 10) * 9999 / 990;
}

void cgroup_limits_plan(struct host_resources *limits, const struct config *config,
                        const struct host_resources *resources, const struct vm_size *size)
{
    *limits = *resources;
    if (resources->memory_limit > 0) {
        /* The VM was sized from the limit, unless a floor or somebody made it larger; and it may be smaller,
         * at its ceiling. */
        uint64_t beside =
            config->guest_overhead_mib + config->vmm_overhead_mib + size->memory_mib / KVM_SHARE;
        uint64_t vm = size->memory_mib + config->vmm_overhead_mib + size->memory_mib / KVM_SHARE;
        int64_t with_guest, with_vm = (int64_t)vm * MIB_BYTES;
        if (__builtin_add_overflow(resources->memory_limit, (int64_t)beside * MIB_BYTES, &with_guest))
            with_guest = INT64_MAX;
        limits->memory_limit = with_guest > with_vm ? with_guest : with_vm;
        int64_t swap_alone = resources->memory_swap - resources->memory_limit;
        if (resources->memory_swap > 0 &&
            __builtin_add_overflow(limits->memory_limit, swap_alone, &limits->memory_swap))
            limits->memory_swap = -1;
    }
    if (resources->memory_reservation > 0 &&
        __builtin_add_overflow(resources->memory_reservation,
                               (int64_t)(config->guest_overhead_mib + config->vmm_overhead_mib) * MIB_BYTES,
                               &limits->memory_reservation))
        limits->memory_reservation = -1;
    if (resources->cpu_quota > 0) {
        uint64_t period = resources->cpu_period ? resources->cpu_period : CPU_PERIOD_DEFAULT_US;
        limits->cpu_period = period;
        if (__builtin_add_overflow(resources->cpu_quota, (int64_t)(period * config->vmm_overhead_cpu / 100),
                                   &limits->cpu_quota))
            limits->cpu_quota = -1;
    }
}

/* Writes one value, or tells which member asked for it. */
static int __attribute__((format(printf, 5, 6)))
limit_write(const struct cgroup_directory *directory, const char *member, const char *file, struct error *err,
            const char *format, ...)
{
    char value[256];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(value, sizeof(value), format, args);
    va_end(args);
    if (length < 0 || (size_t)length >= sizeof(value))
        return error_set(err, EINVAL, "linux.resources.%s", member);
    int result = cgroup_tree_write(directory, file, value);
    if (!result)
        return 0;
    return error_set(err, -result, "linux.resources.%s: write '%s' to %s/%s", member, value, directory->path,
                     file);
}

static const char *limit_text(int64_t limit, char text[24])
{
    if (limit < 0)
        return "max";
    snprintf(text, 24, "%" PRId64, limit);
    return text;
}

static int write_memory_v2(const struct host_resources *limits, const struct cgroup_directory *directory,
                           struct error *err)
{
    char text[24];
    if (limits->memory_swap) {
        int64_t swap = limits->memory_swap < 0 ? -1 : limits->memory_swap - limits->memory_limit;
        if (swap < -1)
            swap = 0; /* memory_limit is not given: the kernel has no sum in version 2 */
        /* A kernel without swap accounting lacks the file; "no limit" and "none" then hold as well as they
         * can. */
        if (limit_write(directory, "memory.swap", "memory.swap.max", err, "%s", limit_text(swap, text)) < 0 &&
            !(err->code == ENOENT && swap <= 0))
            return -1;
    }
    if (limits->memory_limit && limit_write(directory, "memory.limit", "memory.max", err, "%s",
                                            limit_text(limits->memory_limit, text)) < 0)
        return -1;
    if (limits->memory_reservation && limit_write(directory, "memory.reservation", "memory.low", err, "%s",
                                                  limit_text(limits->memory_reservation, text)) < 0)
        return -1;
    return 0;
}

static int write_cpu_v2(const struct host_resources *limits, const struct cgroup_directory *directory,
                        struct error *err)
{
    char text[24];
    if (limits->cpu_idle >= 0 &&
        limit_write(directory, "cpu.idle", "cpu.idle", err, "%d", limits->cpu_idle) < 0)
        return -1;
    /* An idle group has no weight. */
    if (limits->cpu_shares && limits->cpu_idle <= 0 &&
        limit_write(directory, "cpu.shares", "cpu.weight", err, "%" PRIu64,
                    cgroup_limits_cpu_weight(limits->cpu_shares)) < 0)
        return -1;
    if ((limits->cpu_quota || limits->cpu_period) &&
        limit_write(directory, "cpu.quota", "cpu.max", err, "%s %" PRIu64,
                    limit_text(limits->cpu_quota ? limits->cpu_quota : -1, text),
                    limits->cpu_period ? limits->cpu_period : CPU_PERIOD_DEFAULT_US) < 0)
        return -1;
    if (limits->cpu_burst >= 0 &&
        limit_write(directory, "cpu.burst", "cpu.max.burst", err, "%" PRId64, limits->cpu_burst) < 0)
        return -1;
    return 0;
}

static int write_cpuset(const struct host_resources *limits, const struct cgroup_directory *directory,
                        struct error *err)
{
    if (limits->cpus && limit_write(directory, "cpu.cpus", "cpuset.cpus", err, "%s", limits->cpus) < 0)
        return -1;
    if (limits->mems && limit_write(directory, "cpu.mems", "cpuset.mems", err, "%s", limits->mems) < 0)
        return -1;
    return 0;
}

/* The BFQ scheduler takes the specification's own range, where it is in use; else io.weight has another
 * range. */
static int write_io_v2(const struct host_resources *limits, const struct cgroup_directory *directory,
                       struct error *err)
{
    static const char *const keys[DEVICE_LIMIT_KINDS] = {[DEVICE_READ_BPS] = "rbps",
                                                         [DEVICE_WRITE_BPS] = "wbps",
                                                         [DEVICE_READ_IOPS] = "riops",
                                                         [DEVICE_WRITE_IOPS] = "wiops"};
    struct error ignored;
    if (limits->io_weight &&
        limit_write(directory, "blockIO.weight", "io.bfq.weight", &ignored, "%u", limits->io_weight) < 0 &&
        limit_write(directory, "blockIO.weight", "io.weight", err, "default %" PRIu64,
                    cgroup_limits_io_weight(limits->io_weight)) < 0)
        return -1;
    for (size_t i = 0; i < limits->device_count; i++) {
        const struct host_device_limit *device = &limits->devices[i];
        int result;
        if (device->kind == DEVICE_WEIGHT) {
            result = limit_write(directory, "blockIO.weightDevice", "io.bfq.weight", &ignored,
                                 "%u:%u %" PRIu64, device->major, device->minor, device->value);
            if (result < 0)
                result = limit_write(directory, "blockIO.weightDevice", "io.weight", err, "%u:%u %" PRIu64,
                                     device->major, device->minor, cgroup_limits_io_weight(device->value));
        } else {
            char text[24];
            result = limit_write(directory, "blockIO", "io.max", err, "%u:%u %s=%s", device->major,
                                 device->minor, keys[device->kind],
                                 limit_text(device->value ? (int64_t)device->value : -1, text));
        }
        if (result < 0)
            return -1;
    }
    return 0;
}

/* Keys whose numbers are the host's; all others are the guest's. */
static bool unified_is_host(const char *key)
{
    return (strncmp(key, "cpuset.", 7) == 0 || strncmp(key, "io.", 3) == 0) && !strchr(key, '/');
}

const char *cgroup_limits_host_only(const struct host_resources *limits)
{
    const char *key;
    json_t *value;
    if (limits->cpus)
        return "cpu.cpus";
    if (limits->mems)
        return "cpu.mems";
    if (limits->device_count)
        return "blockIO";
    json_object_foreach(limits->unified, key, value)
    {
        if (unified_is_host(key))
            return "unified";
    }
    return NULL;
}

static int write_unified(const struct host_resources *limits, const struct cgroup_directory *directory,
                         struct error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(limits->unified, key, value)
    {
        if (!unified_is_host(key))
            continue;
        if (!json_is_string(value))
            return error_set(err, 0, "linux.resources.unified.%s: expected a string", key);
        int result = cgroup_tree_write(directory, key, json_string_value(value));
        if (result)
            return error_set(err, -result, "linux.resources.unified: write '%s' to %s/%s",
                             json_string_value(value), directory->path, key);
    }
    return 0;
}

/* --- version 1 ---------------------------------------------------------------- */

static int write_memory_v1(const struct host_resources *limits, const struct cgroup_directory *directory,
                           struct error *err)
{
    const char *limit_file = "memory.limit_in_bytes", *swap_file = "memory.memsw.limit_in_bytes";
    int64_t limit = limits->memory_limit, swap = limits->memory_swap;
    if (limit == -1 && swap == 0)
        swap = -1; /* memory may not be above the sum, which an earlier limit left behind */
    /* The sum must stay at or above the limit at each step: which of the two goes first depends on where they
     * were. */
    struct error first;
    bool limit_done =
        limit && limit_write(directory, "memory.limit", limit_file, &first, "%" PRId64, limit) == 0;
    if (swap && limit_write(directory, "memory.swap", swap_file, err, "%" PRId64, swap) < 0) {
        bool unaccounted = err->code == ENOENT || err->code == EACCES; /* no swap accounting */
        if (!unaccounted || (swap > 0 && swap != limit))
            return -1;
    }
    if (limit && !limit_done &&
        limit_write(directory, "memory.limit", limit_file, err, "%" PRId64, limit) < 0)
        return -1;
    if (limits->memory_reservation &&
        limit_write(directory, "memory.reservation", "memory.soft_limit_in_bytes", err, "%" PRId64,
                    limits->memory_reservation) < 0)
        return -1;
    return 0;
}

static int write_cpu_v1(const struct host_resources *limits, const struct cgroup_directory *directory,
                        struct error *err)
{
    struct error ignored;
    if (limits->cpu_idle >= 0 &&
        limit_write(directory, "cpu.idle", "cpu.idle", err, "%d", limits->cpu_idle) < 0)
        return -1;
    if (limits->cpu_shares && limits->cpu_idle <= 0 &&
        limit_write(directory, "cpu.shares", "cpu.shares", err, "%" PRIu64, limits->cpu_shares) < 0)
        return -1;
    /* The pair is judged as a ratio after each write: a period that is too short for the old quota goes
     * second. */
    bool period_done = limits->cpu_period && limit_write(directory, "cpu.period", "cpu.cfs_period_us",
                                                         &ignored, "%" PRIu64, limits->cpu_period) == 0;
    if (limits->cpu_quota &&
        limit_write(directory, "cpu.quota", "cpu.cfs_quota_us", err, "%" PRId64, limits->cpu_quota) < 0)
        return -1;
    if (limits->cpu_period && !period_done &&
        limit_write(directory, "cpu.period", "cpu.cfs_period_us", err, "%" PRIu64, limits->cpu_period) < 0)
        return -1;
    if (limits->cpu_burst >= 0 &&
        limit_write(directory, "cpu.burst", "cpu.cfs_burst_us", err, "%" PRId64, limits->cpu_burst) < 0)
        return -1;
    return 0;
}

static int write_io_v1(const struct host_resources *limits, const struct cgroup_directory *directory,
                       struct error *err)
{
    static const char *const files[DEVICE_LIMIT_KINDS] = {
        [DEVICE_WEIGHT] = "blkio.weight_device",
        [DEVICE_READ_BPS] = "blkio.throttle.read_bps_device",
        [DEVICE_WRITE_BPS] = "blkio.throttle.write_bps_device",
        [DEVICE_READ_IOPS] = "blkio.throttle.read_iops_device",
        [DEVICE_WRITE_IOPS] = "blkio.throttle.write_iops_device"};
    struct error ignored;
    if (limits->io_weight &&
        limit_write(directory, "blockIO.weight", "blkio.bfq.weight", &ignored, "%u", limits->io_weight) < 0 &&
        limit_write(directory, "blockIO.weight", "blkio.weight", err, "%u", limits->io_weight) < 0)
        return -1;
    for (size_t i = 0; i < limits->device_count; i++) {
        const struct host_device_limit *device = &limits->devices[i];
        if (device->kind == DEVICE_WEIGHT &&
            limit_write(directory, "blockIO.weightDevice", "blkio.bfq.weight_device", &ignored,
                        "%u:%u %" PRIu64, device->major, device->minor, device->value) == 0)
            continue;
        if (limit_write(directory, "blockIO", files[device->kind], err, "%u:%u %" PRIu64, device->major,
                        device->minor, device->value) < 0)
            return -1;
    }
    return 0;
}

static const struct {
    const char *controller;
    int (*write)(const struct host_resources *limits, const struct cgroup_directory *directory,
                 struct error *err);
} writers_v1[] = {
    {"memory", write_memory_v1}, {"cpu", write_cpu_v1}, {"cpuset", write_cpuset}, {"blkio", write_io_v1}};

static bool limits_need(const struct host_resources *limits, const char *controller)
{
    if (strcmp(controller, "memory") == 0)
        return limits->memory_limit || limits->memory_swap || limits->memory_reservation;
    if (strcmp(controller, "cpu") == 0)
        return limits->cpu_shares || limits->cpu_quota || limits->cpu_period || limits->cpu_burst >= 0 ||
               limits->cpu_idle >= 0;
    if (strcmp(controller, "cpuset") == 0)
        return limits->cpus || limits->mems;
    return limits->io_weight || limits->device_count;
}

static int limits_write_v1(const struct host_resources *limits, const struct cgroup_directory *directories,
                           size_t count, struct error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(limits->unified, key, value)
    {
        if (unified_is_host(key))
            return error_set(err, 0, "linux.resources.unified.%s: the host has cgroup version 1", key);
    }
    for (size_t i = 0; i < sizeof(writers_v1) / sizeof(writers_v1[0]); i++) {
        const char *controller = writers_v1[i].controller;
        const struct cgroup_directory *directory = NULL;
        for (size_t at = 0; at < count && !directory; at++) {
            if (*directories[at].controllers && cgroup_list_has(directories[at].controllers, controller))
                directory = &directories[at];
        }
        if (directory && writers_v1[i].write(limits, directory, err) < 0)
            return -1;
        if (!directory && limits_need(limits, controller))
            return error_set(err, 0, "linux.resources: the host has no cgroup hierarchy of the controller %s",
                             controller);
    }
    return 0;
}

int cgroup_limits_write(const struct host_resources *limits, const struct cgroup_directory *directories,
                        size_t count, struct error *err)
{
    struct error own;
    struct error *to = err ? err : &own;
    if (count == 0)
        return 0;
    if (count > 1 || *directories[0].controllers)
        return limits_write_v1(limits, directories, count, to);
    if (write_memory_v2(limits, directories, to) < 0 || write_cpu_v2(limits, directories, to) < 0 ||
        write_cpuset(limits, directories, to) < 0 || write_io_v2(limits, directories, to) < 0 ||
        write_unified(limits, directories, to) < 0)
        return -1;
    return 0;
}
