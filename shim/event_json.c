/*
 * Events in runc's form: see event_json.h.
 *
 * Written by hand, not by a library: "no limit" is 18446744073709551615 here, which jansson has no integer
 * for, and the order and omission of members are those of Go's encoder. The mapping from cgroup version 2 to
 * the names of version 1 is runc's (libcontainer/cgroups/fs2).
 */
#include "shim/event_json.h"

#include "common/fd.h"
#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_US 1000

/* A text under construction that remembers whether its object has a member already. */
struct writer {
    FILE *out;
    bool comma;
};

static void write_key(struct writer *writer, const char *key)
{
    fprintf(writer->out, "%s\"%s\":", writer->comma ? "," : "", key);
    writer->comma = true;
}

static void write_number(struct writer *writer, const char *key, uint64_t value)
{
    write_key(writer, key);
    fprintf(writer->out, "%" PRIu64, value);
}

/* Go's "omitempty". */
static void write_unless_zero(struct writer *writer, const char *key, uint64_t value)
{
    if (value)
        write_number(writer, key, value);
}

static void write_open(struct writer *writer, const char *key, char bracket)
{
    write_key(writer, key);
    putc(bracket, writer->out);
    writer->comma = false;
}

static void write_close(struct writer *writer, char bracket)
{
    putc(bracket, writer->out);
    writer->comma = true;
}

/* object[key], a counter; absent: `missing`. -1 with err filled when it is no such number. */
static int take(const json_t *object, const char *where, const char *key, uint64_t missing, uint64_t *out,
                struct error *err)
{
    *out = missing;
    return json_get_u64(object, where, key, UINT64_MAX, out, err) < 0 ? -1 : 0;
}

/* A member that is an object, or NULL. */
static int take_object(const json_t *object, const char *where, const char *key, json_t **out,
                       struct error *err)
{
    *out = NULL;
    return object && json_get_object(object, where, key, out, err) < 0 ? -1 : 0;
}

static int write_cpu(struct writer *writer, const json_t *stats, struct error *err)
{
    json_t *cpu;
    uint64_t usage, user, system, periods, throttled, throttled_us;
    if (take_object(stats, "", "cpu", &cpu, err) < 0 || take(cpu, "cpu", "usage_usec", 0, &usage, err) < 0 ||
        take(cpu, "cpu", "user_usec", 0, &user, err) < 0 ||
        take(cpu, "cpu", "system_usec", 0, &system, err) < 0 ||
        take(cpu, "cpu", "nr_periods", 0, &periods, err) < 0 ||
        take(cpu, "cpu", "nr_throttled", 0, &throttled, err) < 0 ||
        take(cpu, "cpu", "throttled_usec", 0, &throttled_us, err) < 0)
        return -1;
    write_open(writer, "cpu", '{');
    write_open(writer, "usage", '{');
    write_unless_zero(writer, "total", usage * NS_PER_US);
    write_number(writer, "kernel", system * NS_PER_US);
    write_number(writer, "user", user * NS_PER_US);
    write_close(writer, '}');
    write_open(writer, "throttling", '{');
    write_unless_zero(writer, "periods", periods);
    write_unless_zero(writer, "throttledPeriods", throttled);
    write_unless_zero(writer, "throttledTime", throttled_us * NS_PER_US);
    write_close(writer, '}');
    write_close(writer, '}');
    return 0;
}

/* cgroup version 1's cpuset, which version 2 tells nothing of: runc writes it empty. */
static void write_cpuset(struct writer *writer)
{
    static const char *const names[] = {"cpu_exclusive",   "mem_hardwall",       "mem_exclusive",
                                        "memory_migrate",  "memory_spread_page", "memory_spread_slab",
                                        "memory_pressure", "sched_load_balance", "sched_relax_domain_level"};
    write_open(writer, "cpuset", '{');
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        write_number(writer, names[i], 0);
    write_close(writer, '}');
}

static void write_memory_entry(struct writer *writer, const char *key, uint64_t limit, uint64_t usage,
                               uint64_t most)
{
    write_open(writer, key, '{');
    write_number(writer, "limit", limit);
    write_unless_zero(writer, "usage", usage);
    write_unless_zero(writer, "max", most);
    write_number(writer, "failcnt", 0);
    write_close(writer, '}');
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The object's keys made of `allowed` alone, in the order in which Go writes maps: a heap array of borrowed
 * strings, their number in *count. NULL without memory. */
static const char **sorted_keys(const json_t *object, const char *allowed, size_t *count)
{
    const char *key;
    json_t *value;
    const char **keys = calloc(json_object_size(object) + 1, sizeof(*keys));
    *count = 0;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        if (keys && strspn(key, allowed) == strlen(key))
            keys[(*count)++] = key;
    }
    if (keys)
        qsort(keys, *count, sizeof(*keys), compare_names);
    return keys;
}

/* memory.stat's members. */
static int write_raw(struct writer *writer, const json_t *list, struct error *err)
{
    size_t count;
    cleanup_free const char **names = sorted_keys(list, "abcdefghijklmnopqrstuvwxyz0123456789_", &count);
    if (!names)
        return error_set(err, ENOMEM, "memory.stat");
    if (count > 0)
        write_open(writer, "raw", '{');
    for (size_t i = 0; i < count; i++) {
        uint64_t number;
        if (take(list, "memory.stat", names[i], 0, &number, err) < 0)
            return -1;
        write_number(writer, names[i], number);
    }
    if (count > 0)
        write_close(writer, '}');
    return 0;
}

static int write_memory(struct writer *writer, const json_t *stats, struct error *err)
{
    json_t *memory, *raw;
    uint64_t usage, limit, peak, swap, swap_limit, cache;
    if (take_object(stats, "", "memory", &memory, err) < 0 ||
        take_object(memory, "memory", "stat", &raw, err) < 0 ||
        take(memory, "memory", "current", 0, &usage, err) < 0 ||
        take(memory, "memory", "max", UINT64_MAX, &limit, err) < 0 ||
        take(memory, "memory", "peak", 0, &peak, err) < 0 ||
        take(memory, "memory", "swap_current", 0, &swap, err) < 0 ||
        take(memory, "memory", "swap_max", UINT64_MAX, &swap_limit, err) < 0 ||
        take(raw, "memory.stat", "file", 0, &cache, err) < 0)
        return -1;
    /* Version 1 counted memory and swap together, and so does this form. */
    if (swap_limit != UINT64_MAX && limit != UINT64_MAX)
        swap_limit += limit;
    else
        swap_limit = UINT64_MAX;
    write_open(writer, "memory", '{');
    write_unless_zero(writer, "cache", cache);
    write_memory_entry(writer, "usage", limit, usage, peak);
    write_memory_entry(writer, "swap", swap_limit, usage + swap, 0);
    write_memory_entry(writer, "kernel", 0, 0, 0);
    write_memory_entry(writer, "kernelTCP", 0, 0, 0);
    if (write_raw(writer, raw, err) < 0)
        return -1;
    write_close(writer, '}');
    return 0;
}

static int write_pids(struct writer *writer, const json_t *stats, struct error *err)
{
    json_t *pids;
    uint64_t current, limit;
    if (take_object(stats, "", "pids", &pids, err) < 0 ||
        take(pids, "pids", "current", 0, &current, err) < 0 || take(pids, "pids", "max", 0, &limit, err) < 0)
        return -1;
    write_open(writer, "pids", '{');
    write_unless_zero(writer, "current", current);
    write_unless_zero(writer, "limit", limit);
    write_close(writer, '}');
    return 0;
}

/* One list of io.stat's: of each device a read and a write counter. */
static int write_io_list(struct writer *writer, const json_t *list, const char *name, const char *read_key,
                         const char *written_key, struct error *err)
{
    size_t index;
    json_t *device;
    if (json_array_size(list) == 0)
        return 0;
    write_open(writer, name, '[');
    json_array_foreach((json_t *)(uintptr_t)list, index, device)
    {
        uint64_t values[2], device_major, device_minor;
        if (take(device, "io", "major", 0, &device_major, err) < 0 ||
            take(device, "io", "minor", 0, &device_minor, err) < 0 ||
            take(device, "io", read_key, 0, &values[0], err) < 0 ||
            take(device, "io", written_key, 0, &values[1], err) < 0)
            return -1;
        for (int i = 0; i < 2; i++) {
            fputs(writer->comma ? ",{" : "{", writer->out);
            writer->comma = false;
            write_unless_zero(writer, "major", device_major);
            write_unless_zero(writer, "minor", device_minor);
            write_key(writer, "op");
            fputs(i == 0 ? "\"Read\"" : "\"Write\"", writer->out);
            write_unless_zero(writer, "value", values[i]);
            write_close(writer, '}');
        }
    }
    write_close(writer, ']');
    return 0;
}

static int write_blkio(struct writer *writer, const json_t *stats, struct error *err)
{
    json_t *list = NULL;
    if (json_get_array(stats, "", "io", &list, err) < 0)
        return -1;
    write_open(writer, "blkio", '{');
    if (write_io_list(writer, list, "ioServiceBytesRecursive", "rbytes", "wbytes", err) < 0 ||
        write_io_list(writer, list, "ioServicedRecursive", "rios", "wios", err) < 0)
        return -1;
    write_close(writer, '}');
    return 0;
}

static int write_page_size(struct writer *writer, const json_t *sizes, const char *size, struct error *err)
{
    json_t *entry, *events;
    uint64_t usage, failures;
    if (take_object(sizes, "hugetlb", size, &entry, err) < 0 ||
        take(entry, "hugetlb", "current", 0, &usage, err) < 0 ||
        take_object(entry, "hugetlb", "events", &events, err) < 0 ||
        take(events, "hugetlb.events", "max", 0, &failures, err) < 0)
        return -1;
    write_open(writer, size, '{');
    write_unless_zero(writer, "usage", usage);
    write_number(writer, "failcnt", failures);
    write_close(writer, '}');
    return 0;
}

static int write_hugetlb(struct writer *writer, const json_t *stats, struct error *err)
{
    json_t *sizes;
    size_t count;
    if (take_object(stats, "", "hugetlb", &sizes, err) < 0)
        return -1;
    cleanup_free const char **names = sorted_keys(sizes, "0123456789KMGTB", &count);
    if (!names)
        return error_set(err, ENOMEM, "hugetlb");
    write_open(writer, "hugetlb", '{');
    for (size_t i = 0; i < count; i++) {
        if (write_page_size(writer, sizes, names[i], err) < 0)
            return -1;
    }
    write_close(writer, '}');
    return 0;
}

static int write_data(struct writer *writer, const json_t *stats, struct error *err)
{
    write_open(writer, "data", '{');
    if (write_cpu(writer, stats, err) < 0)
        return -1;
    write_cpuset(writer);
    if (write_memory(writer, stats, err) < 0 || write_pids(writer, stats, err) < 0 ||
        write_blkio(writer, stats, err) < 0 || write_hugetlb(writer, stats, err) < 0)
        return -1;
    /* A VM has no resource director of its own. */
    write_open(writer, "intel_rdt", '{');
    write_close(writer, '}');
    write_key(writer, "network_interfaces");
    fputs("null", writer->out);
    write_close(writer, '}');
    return 0;
}

int event_write_stats(FILE *out, const char *id, const json_t *stats, struct error *err)
{
    char *text = NULL;
    size_t length = 0;
    struct writer writer = {.out = open_memstream(&text, &length)};
    if (!writer.out)
        return error_set(err, ENOMEM, "stats");
    fprintf(writer.out, "{\"type\":\"stats\",\"id\":\"%s\"", id); /* an ID needs no escapes */
    writer.comma = true;
    int failed = write_data(&writer, stats, err);
    fputs("}\n", writer.out);
    if (fclose(writer.out) != 0 && !failed)
        failed = error_set(err, ENOMEM, "stats");
    if (!failed)
        fwrite(text, 1, length, out);
    free(text);
    return failed;
}

void event_write_oom(FILE *out, const char *id)
{
    fprintf(out, "{\"type\":\"oom\",\"id\":\"%s\"}\n", id);
}
