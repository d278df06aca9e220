/*
 * linux.resources (OCI runtime-spec config-linux.md "Control groups") as values of the guest's cgroup v2
 * files: see spec.h.
 *
 * The specification's numbers are cgroup v1's; where version 2 has another scale, the conversion is the one
 * that runc and crun use, so that the container reads the same figures under husk.
 */
#include "agent/spec_sections.h"

#include "agent/spec_fields.h"
#include "common/fd.h"
#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Adds a value for `file`, that came from where.key. */
static int __attribute__((format(printf, 6, 7)))
resources_add(struct spec_resources *resources, struct error *err, const char *where, const char *key,
              const char *file, const char *format, ...)
{
    if (resources->value_count == SPEC_VALUES_MAX)
        return error_set(err, 0, "%s.%s: more than %d cgroup values", where, key, SPEC_VALUES_MAX);
    struct spec_cgroup_value *value = &resources->values[resources->value_count++];
    char origin[SPEC_PATH_MAX];
    va_list args;
    va_start(args, format);
    int length = vasprintf(&value->value, format, args);
    va_end(args);
    if (length < 0)
        value->value = NULL;
    spec_path_member(origin, where, key);
    value->origin = strdup(origin);
    value->file = strdup(file);
    if (!value->value || !value->origin || !value->file)
        return error_set(err, ENOMEM, "%s", origin);
    return 0;
}

/* Adds a number, or "max" for -1 ("unlimited" in the specification). */
static int resources_add_limit(struct spec_resources *resources, const char *where, const char *key,
                               const char *file, int64_t limit, struct error *err)
{
    if (limit == -1)
        return resources_add(resources, err, where, key, file, "max");
    return resources_add(resources, err, where, key, file, "%lld", (long long)limit);
}

static int resources_memory(void *into, const json_t *object, const char *where, const char *key,
                            struct error *err)
{
    static const struct spec_field others[] = {
        {"kernel", NULL, "cgroup version 2 has no such limit", false},
        {"kernelTCP", NULL, "cgroup version 2 has no such limit", false},
        {"swappiness", NULL, "cgroup version 2 has no such value", false},
        {"disableOOMKiller", NULL, "cgroup version 2 can't do it", false},
        {"useHierarchy", spec_field_elsewhere, NULL, false}, /* always so in version 2 */
        {NULL, NULL, NULL, false},
    };
    json_t *memory = NULL;
    char path[SPEC_PATH_MAX];
    int64_t limit = 0, reservation = 0, swap = 0;
    if (json_get_object(object, where, key, &memory, err) < 0)
        return -1;
    spec_path_member(path, where, key);
    int has_limit = json_get_int(memory, path, "limit", -1, INT64_MAX, &limit, err);
    int has_reservation = json_get_int(memory, path, "reservation", -1, INT64_MAX, &reservation, err);
    int has_swap = json_get_int(memory, path, "swap", -1, INT64_MAX, &swap, err);
    struct spec_resources *resources = into;
    if (has_limit < 0 || has_reservation < 0 || has_swap < 0 ||
        json_get_bool(memory, path, "checkBeforeUpdate", &resources->check_memory, err) < 0 ||
        spec_fields_parse(others, into, memory, path, err))
        return -1;
    /* 0 means "not set" to every caller. The specification's swap is memory and swap together. */
    if (swap > 0 && (limit <= 0 || swap < limit))
        return error_set(err, 0, "%s.swap: %lld is memory and swap together, and the memory limit is %lld",
                         path, (long long)swap, (long long)limit);
    if (limit != 0 && resources_add_limit(into, path, "limit", "memory.max", limit, err))
        return -1;
    if (swap != 0 &&
        resources_add_limit(into, path, "swap", "memory.swap.max", swap > 0 ? swap - limit : -1, err))
        return -1;
    if (reservation != 0 && resources_add_limit(into, path, "reservation", "memory.low", reservation, err))
        return -1;
    return 0;
}

static int resources_cpu(void *into, const json_t *object, const char *where, const char *key,
                         struct error *err)
{
    static const struct spec_field others[] = {
        {"realtimeRuntime", NULL, "cgroup version 2 has no real-time group scheduling", false},
        {"realtimePeriod", NULL, "cgroup version 2 has no real-time group scheduling", false},
        /* Numbers of the host's processors and memory nodes: they hold for the virtual machine as a whole. */
        {"cpus", spec_field_elsewhere, NULL, false},
        {"mems", spec_field_elsewhere, NULL, false},
        {NULL, NULL, NULL, false},
    };
    json_t *cpu = NULL;
    char path[SPEC_PATH_MAX];
    uint64_t shares = 0, period = 0, burst = 0;
    int64_t quota = 0, idle = 0;
    if (json_get_object(object, where, key, &cpu, err) < 0)
        return -1;
    spec_path_member(path, where, key);
    int has_burst, has_idle;
    if (json_get_u64(cpu, path, "shares", 262144, &shares, err) < 0 ||
        json_get_int(cpu, path, "quota", -1, INT64_MAX, &quota, err) < 0 ||
        json_get_u64(cpu, path, "period", 1000000, &period, err) < 0 ||
        (has_burst = json_get_u64(cpu, path, "burst", INT64_MAX, &burst, err)) < 0 ||
        (has_idle = json_get_int(cpu, path, "idle", 0, 1, &idle, err)) < 0 ||
        spec_fields_parse(others, into, cpu, path, err))
        return -1;
    if (has_idle && resources_add(into, err, path, "idle", "cpu.idle", "%lld", (long long)idle))
        return -1;
    /* 2..262144 of version 1 become 1..10000 of version 2. An idle group has no weight. */
    uint64_t weight = 1 + ((shares < 2 ? 0 : shares - 2) * 9999) / 262142;
    if (shares > 0 && !idle && resources_add(into, err, path, "shares", "cpu.weight", "%" PRIu64, weight))
        return -1;
    if (quota > 0 && resources_add(into, err, path, "quota", "cpu.max", "%lld %llu", (long long)quota,
                                   (unsigned long long)(period ? period : 100000)))
        return -1;
    if (quota <= 0 && (quota == -1 || period > 0) &&
        resources_add(into, err, path, quota ? "quota" : "period", "cpu.max", "max %llu",
                      (unsigned long long)(period ? period : 100000)))
        return -1;
    if (has_burst &&
        resources_add(into, err, path, "burst", "cpu.max.burst", "%llu", (unsigned long long)burst))
        return -1;
    return 0;
}

static int resources_pids(void *into, const json_t *object, const char *where, const char *key,
                          struct error *err)
{
    json_t *pids = NULL;
    char path[SPEC_PATH_MAX];
    int64_t limit = 0;
    if (json_get_object(object, where, key, &pids, err) < 0)
        return -1;
    spec_path_member(path, where, key);
    if (json_get_int(pids, path, "limit", -1, INT64_MAX, &limit, err) < 0)
        return -1;
    return limit == 0 ? 0 : resources_add_limit(into, path, "limit", "pids.max", limit, err);
}

static int resources_block_io(void *into, const json_t *object, const char *where, const char *key,
                              struct error *err)
{
    static const struct spec_field others[] = {
        {"leafWeight", NULL, "cgroup version 2 has no leaf weight", false},
        /* The device numbers are the host's, and so is the input and output. */
        {"weightDevice", spec_field_elsewhere, NULL, false},
        {"throttleReadBpsDevice", spec_field_elsewhere, NULL, false},
        {"throttleWriteBpsDevice", spec_field_elsewhere, NULL, false},
        {"throttleReadIOPSDevice", spec_field_elsewhere, NULL, false},
        {"throttleWriteIOPSDevice", spec_field_elsewhere, NULL, false},
        {NULL, NULL, NULL, false},
    };
    json_t *block = NULL;
    char path[SPEC_PATH_MAX];
    int64_t weight = 0;
    if (json_get_object(object, where, key, &block, err) < 0)
        return -1;
    spec_path_member(path, where, key);
    if (json_get_int(block, path, "weight", 0, 1000, &weight, err) < 0 ||
        spec_fields_parse(others, into, block, path, err))
        return -1;
    if (weight == 0)
        return 0;
    if (weight < 10)
        return error_set(err, 0, "%s.weight: %lld is not within 10 and 1000", path, (long long)weight);
    /* 10..1000 become 1..10000. */
    weight = 1 + (weight - 10) * 9999 / 990;
    return resources_add(into, err, path, "weight", "io.weight", "default %" PRId64, weight);
}

static int resources_hugepages(void *into, const json_t *object, const char *where, const char *key,
                               struct error *err)
{
    json_t *list = NULL;
    int got = spec_get_objects(object, where, key, 16, &list, err);
    for (size_t i = 0; got == 1 && i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        char path[SPEC_PATH_MAX], file[64];
        const char *size = NULL;
        uint64_t limit = 0;
        spec_path_element(path, where, key, i);
        if (json_require(json_get_string(entry, path, "pageSize", &size, err), path, "pageSize", err) < 0 ||
            json_require(json_get_u64(entry, path, "limit", UINT64_MAX, &limit, err), path, "limit", err) < 0)
            return -1;
        if (strlen(size) > 16 || strspn(size, "0123456789KMGB") != strlen(size))
            return error_set(err, 0, "%s.pageSize: '%s' is no page size", path, size);
        snprintf(file, sizeof(file), "hugetlb.%s.max", size);
        if (resources_add(into, err, path, "limit", file, "%llu", (unsigned long long)limit))
            return -1;
    }
    return got;
}

static int resources_unified(void *into, const json_t *object, const char *where, const char *key,
                             struct error *err)
{
    json_t *map = NULL;
    char path[SPEC_PATH_MAX];
    const char *file;
    json_t *value;
    if (json_get_object(object, where, key, &map, err) < 0)
        return -1;
    spec_path_member(path, where, key);
    json_object_foreach(map, file, value)
    {
        if (!json_is_string(value))
            return error_set(err, 0, "%s.%s: expected a string", path, file);
        /* Values for processes and for the tree belong to the agent; a name is a file of this cgroup. */
        if (!*file || strchr(file, '/') || file[0] == '.' || strncmp(file, "cgroup.", 7) == 0)
            return error_set(err, 0, "%s: '%s' is no file of a controller", path, file);
        if (!strchr(file, '.'))
            return error_set(err, 0, "%s: the specified key has not the form CONTROLLER.VALUE `%s`", path,
                             file);
        /* Numbers of the host's processors, nodes and devices: applied to the VM as a whole, there. */
        if (strncmp(file, "cpuset.", 7) == 0 || strncmp(file, "io.", 3) == 0)
            continue;
        if (resources_add(into, err, path, file, file, "%s", json_string_value(value)))
            return -1;
    }
    return 0;
}

static int device_access(const char *text, unsigned *access)
{
    *access = 0;
    for (; *text; text++) {
        if (*text == 'r')
            *access |= BPF_DEVCG_ACC_READ;
        else if (*text == 'w')
            *access |= BPF_DEVCG_ACC_WRITE;
        else if (*text == 'm')
            *access |= BPF_DEVCG_ACC_MKNOD;
        else
            return -1;
    }
    return 0;
}

static int device_rule(struct spec_device_rule *rule, const json_t *entry, const char *where,
                       struct error *err)
{
    const char *type = "a", *access = "rwm";
    *rule = (struct spec_device_rule){.major = -1, .minor = -1};
    if (json_require(json_get_bool(entry, where, "allow", &rule->allow, err), where, "allow", err) < 0 ||
        json_get_string(entry, where, "type", &type, err) < 0 ||
        json_get_int(entry, where, "major", -1, UINT32_MAX, &rule->major, err) < 0 ||
        json_get_int(entry, where, "minor", -1, UINT32_MAX, &rule->minor, err) < 0 ||
        json_get_string(entry, where, "access", &access, err) < 0)
        return -1;
    if (!*type)
        type = "a";
    /* 'u' is what mknod calls an unbuffered character device. */
    if (!strchr("abcu", *type) || type[1])
        return error_set(err, 0, "%s.type: '%s' is not known", where, type);
    rule->type = *type == 'u' ? 'c' : *type;
    if (device_access(*access ? access : "rwm", &rule->access))
        return error_set(err, 0, "%s.access: '%s' is not made of r, w and m", where, access);
    return 0;
}

static int resources_devices(void *into, const json_t *object, const char *where, const char *key,
                             struct error *err)
{
    struct spec_resources *resources = into;
    json_t *list = NULL;
    int got = spec_get_objects(object, where, key, SPEC_RULES_MAX, &list, err);
    if (got <= 0)
        return got;
    resources->device_rules = calloc(json_array_size(list) + 1, sizeof(*resources->device_rules));
    if (!resources->device_rules)
        return error_set(err, ENOMEM, "%s.%s", where, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        char path[SPEC_PATH_MAX];
        spec_path_element(path, where, key, i);
        if (device_rule(&resources->device_rules[i], json_array_get(list, i), path, err))
            return -1;
        resources->device_rule_count = i + 1;
    }
    return 0;
}

static const struct spec_field resources_fields[] = {
    {"memory", resources_memory, NULL, false},
    {"cpu", resources_cpu, NULL, false},
    {"pids", resources_pids, NULL, false},
    {"blockIO", resources_block_io, NULL, false},
    {"hugepageLimits", resources_hugepages, NULL, false},
    {"devices", resources_devices, NULL, false},
    {"unified", resources_unified, NULL, false}, /* last: it overrules the others */
    {"network", NULL, "cgroup version 2 has no network classes", false},
    {"rdma", NULL, "the guest has no RDMA devices", false},
    {NULL, NULL, NULL, false},
};

int spec_resources_init(struct spec_resources *resources, const json_t *object, const char *where,
                        struct error *err)
{
    memset(resources, 0, sizeof(*resources));
    return spec_fields_parse(resources_fields, resources, object, where, err);
}

void spec_resources_fini(struct spec_resources *resources)
{
    for (size_t i = 0; i < resources->value_count; i++) {
        free(resources->values[i].file);
        free(resources->values[i].value);
        free(resources->values[i].origin);
    }
    free(resources->device_rules);
    memset(resources, 0, sizeof(*resources));
}

int spec_parse_resources(void *into, const json_t *object, const char *where, const char *key,
                         struct error *err)
{
    struct spec *spec = into;
    json_t *section = NULL;
    if (json_get_object(object, where, key, &section, err) < 0)
        return -1;
    char path[SPEC_PATH_MAX];
    spec_path_member(path, where, key);
    return spec_resources_init(&spec->resources, section, path, err);
}
