/*
 * The VM's size: see vm_size.h.
 */
#include "shim/vm_size.h"

#include "common/json.h"

#include <sys/sysinfo.h>
#include <unistd.h>

#define MIB_BYTES (1ll << 20)
/* The kernel's 64 bytes of struct page for each page of 4096. */
#define PAGE_TABLE_SHARE 64
/* What the VMM accepts (vmm/layout.h), and what a guest without a container needs at least. */
#define VCPUS_LIMIT      32u
#define MEMORY_LIMIT_MIB (512ull * 1024)
/* Without a stated ceiling: each possible vCPU costs the guest its per-CPU data from the start. */
#define VCPUS_MAX_DEFAULT 8u
/* Guest memory is made of pages of 2 MiB where the host has them. */
#define MEMORY_STEP_MIB 2u

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

void vm_host_read(struct vm_host *host)
{
    struct sysinfo info = {0};
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    sysinfo(&info);
    host->cpus = cpus > 0 ? (uint64_t)cpus : 1;
    host->memory_mib = (uint64_t)info.totalram * info.mem_unit / (uint64_t)MIB_BYTES;
}

/* How many vCPUs can be busy at once under the limits; 0: as many as there are. */
static uint64_t size_vcpus(const struct host_resources *resources)
{
    uint64_t vcpus = 0;
    if (resources->cpu_quota > 0) {
        uint64_t period = resources->cpu_period ? resources->cpu_period : CPU_PERIOD_DEFAULT_US;
        uint64_t quota = (uint64_t)resources->cpu_quota;
        vcpus = quota / period + (quota % period != 0);
    }
    int listed = resources->cpus ? host_resources_count_list(resources->cpus, NULL, 0) : 0;
    if (listed > 0)
        vcpus = vcpus ? smaller(vcpus, (uint64_t)listed) : (uint64_t)listed;
    return vcpus;
}

/* The VM that holds a container of that limit beside the guest's kernel. */
static uint64_t size_memory(const struct config *config, int64_t limit_bytes)
{
    uint64_t limit_mib = (uint64_t)limit_bytes / MIB_BYTES + (limit_bytes % MIB_BYTES != 0);
    uint64_t mib = limit_mib + config->guest_overhead_mib + limit_mib / PAGE_TABLE_SHARE;
    return (mib + MEMORY_STEP_MIB - 1) / MEMORY_STEP_MIB * MEMORY_STEP_MIB;
}

static int plan_vcpus(struct vm_size *size, const struct config *config,
                      const struct host_resources *resources, const struct vm_host *host, struct error *err)
{
    uint64_t ceiling = config->vcpus_max;
    if (config->vcpus_stated && ceiling && config->vcpus > ceiling)
        return error_set(err, 0, "vcpus: %llu is above vcpus_max, which is %llu",
                         (unsigned long long)config->vcpus, (unsigned long long)ceiling);
    uint64_t limit = size_vcpus(resources);
    uint64_t wanted = limit && !config->vcpus_stated ? limit : config->vcpus;
    if (!ceiling) {
        /* More vCPUs than processors only when somebody asked for them by number. */
        ceiling = smaller(host->cpus, larger(wanted, VCPUS_MAX_DEFAULT));
        ceiling = smaller(larger(ceiling, config->vcpus), VCPUS_LIMIT);
    }
    size->vcpus = smaller(wanted, ceiling);
    size->vcpus_max = ceiling;
    return 0;
}

static int plan_memory(struct vm_size *size, const struct config *config,
                       const struct host_resources *resources, const struct vm_host *host, struct error *err)
{
    uint64_t ceiling = config->memory_max_mib;
    if (config->memory_stated && ceiling && config->memory_mib > ceiling)
        return error_set(err, 0, "memory_mib: %llu is above memory_max_mib, which is %llu",
                         (unsigned long long)config->memory_mib, (unsigned long long)ceiling);
    uint64_t wanted = config->memory_mib;
    if (resources->memory_limit > 0 && !config->memory_stated)
        wanted = larger(size_memory(config, resources->memory_limit), config->memory_min_mib);
    if (!ceiling)
        ceiling = smaller(larger(host->memory_mib, config->memory_mib), MEMORY_LIMIT_MIB);
    size->memory_mib = smaller(wanted, ceiling);
    /* What is plugged later cannot come from the pool of huge pages. */
    size->memory_max_mib = config->hugepages ? size->memory_mib : ceiling;
    size->memory_boot_mib = size->memory_mib;
    return 0;
}

int vm_size_plan(struct vm_size *size, const struct config *config, const struct host_resources *resources,
                 const struct vm_host *host, struct error *err)
{
    if (plan_vcpus(size, config, resources, host, err) < 0 ||
        plan_memory(size, config, resources, host, err) < 0)
        return -1;
    return 0;
}

void vm_size_adapt(struct vm_size *size, const struct vm_size *present, const struct config *config,
                   const struct host_resources *resources)
{
    *size = *present;
    if (!config->vcpus_stated) {
        uint64_t vcpus = size_vcpus(resources);
        /* A limit that was lifted gives what an unlimited container gets. */
        if (resources->cpu_quota == -1 && !vcpus)
            vcpus = config->vcpus;
        if (vcpus)
            size->vcpus = smaller(vcpus, present->vcpus_max);
    }
    if (!config->memory_stated) {
        if (resources->memory_limit > 0)
            size->memory_mib = larger(size_memory(config, resources->memory_limit), config->memory_min_mib);
        else if (resources->memory_limit == -1)
            size->memory_mib = larger(config->memory_mib, present->memory_mib);
        size->memory_mib =
            larger(smaller(size->memory_mib, present->memory_max_mib), present->memory_boot_mib);
    }
}

json_t *vm_size_to_json(const struct vm_size *size)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "vcpus", (json_int_t)size->vcpus, "vcpus_max",
                     (json_int_t)size->vcpus_max, "memory_mib", (json_int_t)size->memory_mib,
                     "memory_max_mib", (json_int_t)size->memory_max_mib, "memory_boot_mib",
                     (json_int_t)size->memory_boot_mib);
}

int vm_size_from_json(const json_t *object, struct vm_size *size, struct error *err)
{
    const struct {
        const char *key;
        uint64_t *field;
        uint64_t max;
    } members[] = {{"vcpus", &size->vcpus, VCPUS_LIMIT},
                   {"vcpus_max", &size->vcpus_max, VCPUS_LIMIT},
                   {"memory_mib", &size->memory_mib, MEMORY_LIMIT_MIB},
                   {"memory_max_mib", &size->memory_max_mib, MEMORY_LIMIT_MIB},
                   {"memory_boot_mib", &size->memory_boot_mib, MEMORY_LIMIT_MIB}};
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        int got = json_get_u64(object, "size", members[i].key, members[i].max, members[i].field, err);
        if (json_require(got, "size", members[i].key, err) < 0)
            return -1;
    }
    return 0;
}
