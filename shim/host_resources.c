/*
 * Reading linux.resources for the host: see host_resources.h. Called when a container is created and by
 * `update`.
 */
#include "shim/host_resources.h"

#include "common/fd.h"
#include "common/json.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHERE_MAX       128
#define LIST_NUMBER_MAX 8191 /* NR_CPUS of the largest kernels, less one */
#define SHARES_MAX      262144
#define PERIOD_MAX_US   1000000
#define IO_WEIGHT_MIN   10
#define IO_WEIGHT_MAX   1000

static int read_memory(struct host_resources *resources, const json_t *object, const char *where,
                       struct error *err)
{
    json_t *memory = NULL;
    char path[WHERE_MAX];
    snprintf(path, sizeof(path), "%s.memory", where);
    if (json_get_object(object, where, "memory", &memory, err) < 0 ||
        json_get_int(memory, path, "limit", -1, INT64_MAX, &resources->memory_limit, err) < 0 ||
        json_get_int(memory, path, "swap", -1, INT64_MAX, &resources->memory_swap, err) < 0 ||
        json_get_int(memory, path, "reservation", -1, INT64_MAX, &resources->memory_reservation, err) < 0)
        return -1;
    return 0;
}

static int read_list(const json_t *cpu, const char *where, const char *key, const char **list,
                     struct error *err)
{
    if (json_get_string(cpu, where, key, list, err) < 0)
        return -1;
    if (*list && !**list)
        *list = NULL; /* engines send "" for "not set" */
    if (*list && host_resources_count_list(*list, NULL, 0) < 0)
        return error_set(err, 0, "%s.%s: \"%s\" is no list of numbers", where, key, *list);
    return 0;
}

static int read_cpu(struct host_resources *resources, const json_t *object, const char *where,
                    struct error *err)
{
    json_t *cpu = NULL;
    int64_t idle = -1;
    char path[WHERE_MAX];
    snprintf(path, sizeof(path), "%s.cpu", where);
    if (json_get_object(object, where, "cpu", &cpu, err) < 0 ||
        json_get_u64(cpu, path, "shares", SHARES_MAX, &resources->cpu_shares, err) < 0 ||
        json_get_int(cpu, path, "quota", -1, INT64_MAX, &resources->cpu_quota, err) < 0 ||
        json_get_u64(cpu, path, "period", PERIOD_MAX_US, &resources->cpu_period, err) < 0 ||
        json_get_int(cpu, path, "burst", 0, INT64_MAX, &resources->cpu_burst, err) < 0 ||
        json_get_int(cpu, path, "idle", 0, 1, &idle, err) < 0 ||
        read_list(cpu, path, "cpus", &resources->cpus, err) < 0 ||
        read_list(cpu, path, "mems", &resources->mems, err) < 0)
        return -1;
    resources->cpu_idle = (int)idle;
    return 0;
}

static int read_device(struct host_resources *resources, enum host_device_limit_kind kind,
                       const json_t *entry, const char *where, struct error *err)
{
    int64_t major = 0, minor = 0;
    uint64_t value = 0;
    const char *key = kind == DEVICE_WEIGHT ? "weight" : "rate";
    if (!json_is_object(entry))
        return error_set(err, 0, "%s: expected an object", where);
    if (json_require(json_get_int(entry, where, "major", 0, UINT32_MAX, &major, err), where, "major", err) <
            0 ||
        json_require(json_get_int(entry, where, "minor", 0, UINT32_MAX, &minor, err), where, "minor", err) <
            0 ||
        json_get_u64(entry, where, key, INT64_MAX, &value, err) < 0)
        return -1;
    if (kind == DEVICE_WEIGHT && value == 0)
        return 0; /* only a leaf weight, which no kernel has any more */
    if (kind == DEVICE_WEIGHT && (value < IO_WEIGHT_MIN || value > IO_WEIGHT_MAX))
        return error_set(err, 0, "%s.weight: %llu is not within %d and %d", where, (unsigned long long)value,
                         IO_WEIGHT_MIN, IO_WEIGHT_MAX);
    if (resources->device_count == HOST_DEVICE_LIMITS_MAX)
        return error_set(err, 0, "%s: more than %d limits of devices", where, HOST_DEVICE_LIMITS_MAX);
    resources->devices[resources->device_count++] = (struct host_device_limit){
        .kind = kind, .major = (unsigned)major, .minor = (unsigned)minor, .value = value};
    return 0;
}

static const char *const device_keys[DEVICE_LIMIT_KINDS] = {
    [DEVICE_WEIGHT] = "weightDevice",
    [DEVICE_READ_BPS] = "throttleReadBpsDevice",
    [DEVICE_WRITE_BPS] = "throttleWriteBpsDevice",
    [DEVICE_READ_IOPS] = "throttleReadIOPSDevice",
    [DEVICE_WRITE_IOPS] = "throttleWriteIOPSDevice",
};

static int read_block_io(struct host_resources *resources, const json_t *object, const char *where,
                         struct error *err)
{
    json_t *block = NULL;
    int64_t weight = 0;
    char path[WHERE_MAX];
    snprintf(path, sizeof(path), "%s.blockIO", where);
    if (json_get_object(object, where, "blockIO", &block, err) < 0)
        return -1;
    if (!block)
        return 0;
    if (json_get_int(block, path, "weight", 0, IO_WEIGHT_MAX, &weight, err) < 0)
        return -1;
    if (weight > 0 && weight < IO_WEIGHT_MIN)
        return error_set(err, 0, "%s.weight: %lld is not within %d and %d", path, (long long)weight,
                         IO_WEIGHT_MIN, IO_WEIGHT_MAX);
    resources->io_weight = (unsigned)weight;
    resources->devices = calloc(HOST_DEVICE_LIMITS_MAX, sizeof(*resources->devices));
    if (!resources->devices)
        return error_set(err, ENOMEM, "%s", path);
    for (unsigned kind = 0; kind < DEVICE_LIMIT_KINDS; kind++) {
        json_t *list = NULL;
        if (json_get_array(block, path, device_keys[kind], &list, err) < 0)
            return -1;
        for (size_t i = 0; i < json_array_size(list); i++) {
            char element[WHERE_MAX + 64];
            snprintf(element, sizeof(element), "%s.%s[%zu]", path, device_keys[kind], i);
            if (read_device(resources, (enum host_device_limit_kind)kind, json_array_get(list, i), element,
                            err) < 0)
                return -1;
        }
    }
    return 0;
}

/* "max", or a number: -1 or the number; 0 for what is neither, which the kernel of the guest refuses by
 * itself. */
static int64_t parse_limit(const char *text)
{
    char *end;
    if (strncmp(text, "max", 3) == 0)
        return -1;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    return errno || end == text || value < 0 ? 0 : value;
}

/* The unified values that size the VM: they overrule the older members, as the kernel would see them last. */
static int read_unified(struct host_resources *resources, const json_t *object, const char *where,
                        struct error *err)
{
    char path[WHERE_MAX];
    const char *memory = NULL, *cpu = NULL, *cpus = NULL;
    snprintf(path, sizeof(path), "%s.unified", where);
    if (json_get_object(object, where, "unified", &resources->unified, err) < 0 ||
        json_get_string(resources->unified, path, "memory.max", &memory, err) < 0 ||
        json_get_string(resources->unified, path, "cpu.max", &cpu, err) < 0 ||
        read_list(resources->unified, path, "cpuset.cpus", &cpus, err) < 0)
        return -1;
    if (memory)
        resources->memory_limit = parse_limit(memory);
    if (cpu) {
        const char *period = strchr(cpu, ' ');
        resources->cpu_quota = parse_limit(cpu);
        int64_t us = period ? parse_limit(period + 1) : 0;
        resources->cpu_period = us > 0 && us <= PERIOD_MAX_US ? (uint64_t)us : 0;
    }
    if (cpus)
        resources->cpus = cpus;
    return 0;
}

int host_resources_read(struct host_resources *resources, const json_t *object, const char *where,
                        struct error *err)
{
    *resources = (struct host_resources){.cpu_burst = -1, .cpu_idle = -1};
    if (!object)
        return 0;
    if (read_memory(resources, object, where, err) < 0 || read_cpu(resources, object, where, err) < 0 ||
        read_block_io(resources, object, where, err) < 0 || read_unified(resources, object, where, err) < 0)
        return -1;
    return 0;
}

/* An annotation's number; absent ones leave `out`. 0, or -1 with err filled. */
static int read_annotation(const json_t *annotations, const char *name, int64_t *out, struct error *err)
{
    const char *text = json_string_value(json_object_get(annotations, name));
    char *end;
    if (!text)
        return 0;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || value < -1)
        return error_set(err, 0, "annotation %s: \"%s\" is no number", name, text);
    *out = value;
    return 1;
}

/* CRI's LinuxContainerResources as CRI-O writes it into an annotation. */
static int read_crio(const json_t *annotations, const char *name, int64_t sum[4], struct error *err)
{
    static const char *const keys[4] = {"memory_limit_in_bytes", "cpu_quota", "cpu_period", "cpu_shares"};
    const char *text = json_string_value(json_object_get(annotations, name));
    if (!text || strcmp(text, "null") == 0)
        return 0;
    cleanup_json json_t *object = json_parse_object(text, strlen(text), err);
    if (!object)
        return error_wrap(err, "annotation %s", name);
    for (int i = 0; i < 4; i++) {
        int64_t value = 0;
        if (json_get_int(object, name, keys[i], -1, INT64_MAX / 4, &value, err) < 0)
            return error_wrap(err, "annotation");
        if (value == -1 || sum[i] == -1)
            sum[i] = -1;
        else if (i == 2)
            sum[i] = value ? value : sum[i]; /* a period is no amount */
        else
            sum[i] += value;
    }
    return 1;
}

static bool is_sandbox(const json_t *annotations)
{
    static const char *const names[] = {"io.kubernetes.cri.container-type",
                                        "io.kubernetes.cri-o.ContainerType"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *type = json_string_value(json_object_get(annotations, names[i]));
        if (type && strcmp(type, "sandbox") == 0)
            return true;
    }
    return false;
}

int host_resources_read_sandbox(struct host_resources *resources, const json_t *annotations,
                                struct error *err)
{
    int64_t memory = 0, quota = 0, period = 0, shares = 0;
    if (!is_sandbox(annotations))
        return 0;
    if (read_annotation(annotations, "io.kubernetes.cri.sandbox-memory", &memory, err) < 0 ||
        read_annotation(annotations, "io.kubernetes.cri.sandbox-cpu-quota", &quota, err) < 0 ||
        read_annotation(annotations, "io.kubernetes.cri.sandbox-cpu-period", &period, err) < 0 ||
        read_annotation(annotations, "io.kubernetes.cri.sandbox-cpu-shares", &shares, err) < 0)
        return -1;
    /* CRI-O's PodLinuxOverhead is left out: what the guest's kernel and the VMM need is added by vm_size.c.
     */
    int64_t sum[4] = {memory, quota, period, shares};
    if (read_crio(annotations, "io.kubernetes.cri-o.PodLinuxResources", sum, err) < 0)
        return -1;
    if (sum[0] > 0)
        resources->memory_limit = sum[0];
    if (sum[1] > 0)
        resources->cpu_quota = sum[1];
    if (sum[2] > 0 && sum[2] <= PERIOD_MAX_US)
        resources->cpu_period = (uint64_t)sum[2];
    if (sum[3] > 0)
        resources->cpu_shares = sum[3] < SHARES_MAX ? (uint64_t)sum[3] : SHARES_MAX;
    return 0;
}

void host_resources_fini(struct host_resources *resources)
{
    free(take_ptr(&resources->devices));
    resources->device_count = 0;
}

bool host_resources_are_set(const struct host_resources *resources)
{
    return resources->memory_limit || resources->memory_swap || resources->memory_reservation ||
           resources->cpu_shares || resources->cpu_quota || resources->cpu_period ||
           resources->cpu_burst >= 0 || resources->cpu_idle >= 0 || resources->cpus || resources->mems ||
           resources->io_weight || resources->device_count || json_object_size(resources->unified) > 0;
}

/* One number of a list, at most LIST_NUMBER_MAX; `*text` moves behind it. */
static int parse_list_number(const char **text, unsigned *number)
{
    char *end;
    if (!isdigit((unsigned char)**text))
        return -1;
    unsigned long value = strtoul(*text, &end, 10);
    if (value > LIST_NUMBER_MAX)
        return -1;
    *text = end;
    *number = (unsigned)value;
    return 0;
}

int host_resources_count_list(const char *list, uint8_t *bits, size_t bit_count)
{
    uint8_t seen[(LIST_NUMBER_MAX + 8) / 8] = {0};
    int count = 0;
    while (*list) {
        unsigned first, last;
        if (parse_list_number(&list, &first) < 0)
            return -1;
        last = first;
        if (*list == '-') {
            list++;
            if (parse_list_number(&list, &last) < 0 || last < first)
                return -1;
        }
        for (unsigned n = first; n <= last; n++) {
            count += !(seen[n / 8] & (1u << (n % 8)));
            seen[n / 8] |= (uint8_t)(1u << (n % 8));
            if (bits && n < bit_count)
                bits[n / 8] |= (uint8_t)(1u << (n % 8));
        }
        if (*list && (*list++ != ',' || !*list))
            return -1;
    }
    return count ? count : -1;
}
