/*
 * husk update: changes the limits of a container that lives. The options are those of runc 1.1 and crun 1.8;
 * each becomes a member of linux.resources, which the agent judges like config.json's.
 */
#include "common/fd.h"
#include "common/json.h"
#include "shim/container.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#define RESOURCES_BYTES_MAX (1u << 20)

struct update_options {
    const char *resources;
    const char *blkio_weight;
    const char *cpu_period, *cpu_quota, *cpu_share, *cpu_rt_period, *cpu_rt_runtime;
    const char *cpuset_cpus, *cpuset_mems;
    const char *kernel_memory, *kernel_memory_tcp, *memory, *memory_reservation, *memory_swap;
    const char *pids_limit;
    const char *l3_cache_schema, *mem_bw_schema;
};

#define UPDATE(name) option_set_string, offsetof(struct update_options, name)
static const struct option_row option_rows[] = {
    {"resources", 'r', "FILE", "linux.resources as JSON (\"-\": standard input); other options are ignored",
     UPDATE(resources)},
    {"blkio-weight", 0, "N", "relative weight of block I/O, 10 to 1000", UPDATE(blkio_weight)},
    {"cpu-period", 0, "US", "period of the CPU limit, in microseconds", UPDATE(cpu_period)},
    {"cpu-quota", 0, "US", "CPU time in each period, in microseconds; -1: unlimited", UPDATE(cpu_quota)},
    {"cpu-share", 0, "N", "relative weight of CPU time", UPDATE(cpu_share)},
    {"cpu-rt-period", 0, "US", "period of the real-time limit", UPDATE(cpu_rt_period)},
    {"cpu-rt-runtime", 0, "US", "real-time CPU time in each period", UPDATE(cpu_rt_runtime)},
    {"cpuset-cpus", 0, "LIST", "CPUs of the host to use", UPDATE(cpuset_cpus)},
    {"cpuset-mems", 0, "LIST", "memory nodes of the host to use", UPDATE(cpuset_mems)},
    {"kernel-memory", 0, "BYTES", "limit of kernel memory", UPDATE(kernel_memory)},
    {"kernel-memory-tcp", 0, "BYTES", "limit of TCP buffers", UPDATE(kernel_memory_tcp)},
    {"memory", 0, "BYTES", "memory limit (suffixes k, m, g, t; -1: unlimited)", UPDATE(memory)},
    {"memory-reservation", 0, "BYTES", "soft memory limit", UPDATE(memory_reservation)},
    {"memory-swap", 0, "BYTES", "limit of memory and swap together; -1: unlimited", UPDATE(memory_swap)},
    {"pids-limit", 0, "N", "largest number of processes; -1: unlimited", UPDATE(pids_limit)},
    {"l3-cache-schema", 0, "TEXT", "not supported (Intel RDT)", UPDATE(l3_cache_schema)},
    {"mem-bw-schema", 0, "TEXT", "not supported (Intel RDT)", UPDATE(mem_bw_schema)},
    {0}};
#undef UPDATE

/* Bytes with a suffix as docker's units.RAMInBytes reads them: powers of 1024, "m", "MB" and "MiB" alike. */
static int parse_bytes(const char *text, json_int_t *out)
{
    static const char units[] = "kmgtp";
    char *end;
    if (strcmp(text, "-1") == 0) {
        *out = -1;
        return 0;
    }
    errno = 0;
    if (*text < '0' || *text > '9')
        return -1;
    long long number = strtoll(text, &end, 10);
    if (errno)
        return -1;
    const char *unit = *end ? strchr(units, *end | 0x20) : NULL;
    if (unit) {
        for (const char *at = units; at <= unit; at++) {
            if (__builtin_mul_overflow(number, 1024, &number))
                return -1;
        }
        end++;
        if (*end == 'i' && (end[1] | 0x20) == 'b')
            end++;
    }
    if ((*end | 0x20) == 'b')
        end++;
    *out = number;
    return *end ? -1 : 0;
}

static int parse_number(const char *text, json_int_t *out)
{
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return errno || end == text || *end ? -1 : 0;
}

/* What a single option sets: resources.SECTION.MEMBER. */
struct update_row {
    size_t offset; /* of the option's text */
    const char *option, *section, *member;
    int (*parse)(const char *text, json_int_t *out); /* NULL: a string */
};

#define ROW(field, option, section, member, parse)                                                           \
    {                                                                                                        \
        offsetof(struct update_options, field), option, section, member, parse                               \
    }
static const struct update_row update_rows[] = {
    ROW(blkio_weight, "blkio-weight", "blockIO", "weight", parse_number),
    ROW(cpu_period, "cpu-period", "cpu", "period", parse_number),
    ROW(cpu_quota, "cpu-quota", "cpu", "quota", parse_number),
    ROW(cpu_share, "cpu-share", "cpu", "shares", parse_number),
    ROW(cpu_rt_period, "cpu-rt-period", "cpu", "realtimePeriod", parse_number),
    ROW(cpu_rt_runtime, "cpu-rt-runtime", "cpu", "realtimeRuntime", parse_number),
    ROW(cpuset_cpus, "cpuset-cpus", "cpu", "cpus", NULL),
    ROW(cpuset_mems, "cpuset-mems", "cpu", "mems", NULL),
    ROW(kernel_memory, "kernel-memory", "memory", "kernel", parse_bytes),
    ROW(kernel_memory_tcp, "kernel-memory-tcp", "memory", "kernelTCP", parse_bytes),
    ROW(memory, "memory", "memory", "limit", parse_bytes),
    ROW(memory_reservation, "memory-reservation", "memory", "reservation", parse_bytes),
    ROW(memory_swap, "memory-swap", "memory", "swap", parse_bytes),
    ROW(pids_limit, "pids-limit", "pids", "limit", parse_number),
};
#undef ROW

/* Sets resources.SECTION.MEMBER. 0 or -1. */
static int update_set(json_t *resources, const struct update_row *row, const char *text, struct error *err)
{
    json_int_t number = 0;
    if (row->parse && row->parse(text, &number) < 0)
        return error_set(err, 0, "invalid value for %s: \"%s\"", row->option, text);
    json_t *section = json_object_get(resources, row->section);
    if (!section) {
        section = json_object();
        json_object_set_new(resources, row->section, section);
    }
    if (json_object_set_new(section, row->member, row->parse ? json_integer(number) : json_string(text)) < 0)
        return error_set(err, 0, "invalid value for %s", row->option);
    return 0;
}

/* linux.resources from the single options. New reference, or NULL with err filled. */
static json_t *update_from_options(const struct update_options *options, struct error *err)
{
    if (options->l3_cache_schema || options->mem_bw_schema) {
        error_set(err, 0, "--%s is not supported: a VM has no Intel RDT",
                  options->l3_cache_schema ? "l3-cache-schema" : "mem-bw-schema");
        return NULL;
    }
    cleanup_json json_t *resources = json_object();
    for (size_t i = 0; i < sizeof(update_rows) / sizeof(update_rows[0]); i++) {
        const char *text = *(const char *const *)((const char *)options + update_rows[i].offset);
        if (text && *text && update_set(resources, &update_rows[i], text, err) < 0)
            return NULL;
    }
    return json_incref(resources);
}

/* Standard input may be a pipe or a socket, which have no name to be opened by. Bytes or -errno. */
static ssize_t read_stdin(char **content)
{
    size_t length = 0;
    cleanup_free char *text = malloc(RESOURCES_BYTES_MAX + 1);
    while (text && length <= RESOURCES_BYTES_MAX) {
        ssize_t got = read(STDIN_FILENO, text + length, RESOURCES_BYTES_MAX + 1 - length);
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got == 0) {
            *content = take_ptr(&text);
            return (ssize_t)length;
        }
        length += got > 0 ? (size_t)got : 0;
    }
    return text ? -EFBIG : -ENOMEM;
}

static json_t *update_from_file(const char *path, struct error *err)
{
    cleanup_free char *text = NULL;
    bool standard_input = strcmp(path, "-") == 0;
    ssize_t length =
        standard_input ? read_stdin(&text) : fd_read_file_at(AT_FDCWD, path, RESOURCES_BYTES_MAX, &text);
    const char *name = standard_input ? "standard input" : path;
    if (length < 0) {
        error_set(err, (int)-length, "read %s", name);
        return NULL;
    }
    json_t *resources = json_parse_object(text, (size_t)length, err);
    if (!resources)
        error_wrap(err, "%s", name);
    return resources;
}

static int update_run(const struct context *context, int argc, char **argv, struct error *err)
{
    struct update_options options = {0};
    int count = command_parse(&cmd_update, &options, argc, argv, err);
    if (count < 0)
        return count;
    cleanup_json json_t *resources =
        options.resources ? update_from_file(options.resources, err) : update_from_options(&options, err);
    if (!resources)
        return error_wrap(err, "update");
    return container_update(context, argv[0], resources, err) < 0 ? -1 : 0;
}

const struct command cmd_update = {.name = "update",
                                   .arguments = "ID",
                                   .help = "change the limits of a container",
                                   .options = option_rows,
                                   .arguments_min = 1,
                                   .arguments_max = 1,
                                   .run = update_run};
