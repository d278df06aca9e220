/*
 * Figures of a cgroup: see stats.h. The files are the kernel's (cgroup-v2, "Interface Files"): single values,
 * flat-keyed lists, and io.stat's nested keys. A file that a controller lacks is left out.
 */
#include "agent/stats.h"

#include "common/fd.h"
#include "common/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define STATS_FILE_MAX (1u << 20)

/* A counter of the kernel is below 2^63 in practice; what is not is cut there. */
static json_t *stats_number(const char *text)
{
    unsigned long long number = strtoull(text, NULL, 10);
    return json_integer(number > INT64_MAX ? INT64_MAX : (json_int_t)number);
}

/* Sets object[key] to the number in a file; "max" is no number and leaves it absent. */
static void stats_take_value(json_t *object, const char *key, int dir_fd, const char *file)
{
    cleanup_free char *text = NULL;
    if (fd_read_file_at(dir_fd, file, STATS_FILE_MAX, &text) > 0 && *text >= '0' && *text <= '9')
        json_object_set_new(object, key, stats_number(text));
}

/* Sets object[key] to an object of the file's "name number" lines. */
static void stats_take_list(json_t *object, const char *key, int dir_fd, const char *file)
{
    cleanup_free char *text = NULL;
    if (fd_read_file_at(dir_fd, file, STATS_FILE_MAX, &text) < 0)
        return;
    json_t *list = json_object();
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        char *number = strchr(line, ' ');
        if (!number)
            continue;
        *number++ = '\0';
        json_object_set_new(list, line, stats_number(number));
    }
    json_object_set_new(object, key, list);
}

/* io.stat: "8:0 rbytes=1 wbytes=2 ...". */
static json_t *stats_read_io(int dir_fd)
{
    cleanup_free char *text = NULL;
    if (fd_read_file_at(dir_fd, "io.stat", STATS_FILE_MAX, &text) < 0)
        return NULL;
    json_t *list = json_array();
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        unsigned device_major, device_minor;
        if (sscanf(line, "%u:%u", &device_major, &device_minor) != 2)
            continue;
        json_t *entry =
            json_pack("{s:I, s:I}", "major", (json_int_t)device_major, "minor", (json_int_t)device_minor);
        strsep(&line, " ");
        for (char *word; (word = strsep(&line, " ")) != NULL;) {
            char *number = strchr(word, '=');
            if (!number)
                continue;
            *number++ = '\0';
            json_object_set_new(entry, word, stats_number(number));
        }
        json_array_append_new(list, entry);
    }
    return list;
}

/* One object for each page size that has a hugetlb.SIZE.current. */
static json_t *stats_read_hugetlb(int dir_fd)
{
    static const char prefix[] = "hugetlb.", suffix[] = ".current";
    int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir) {
        fd_close(&copy);
        return NULL;
    }
    json_t *sizes = json_object();
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char size[32], file[64];
        size_t length = strlen(entry->d_name);
        if (strncmp(entry->d_name, prefix, sizeof(prefix) - 1) != 0 ||
            length < sizeof(prefix) + sizeof(suffix) - 1 || length > 40 ||
            strcmp(entry->d_name + length - (sizeof(suffix) - 1), suffix) != 0 ||
            strstr(entry->d_name, ".rsvd"))
            continue;
        snprintf(size, sizeof(size), "%.*s", (int)(length - (sizeof(prefix) - 1) - (sizeof(suffix) - 1)),
                 entry->d_name + sizeof(prefix) - 1);
        json_t *values = json_object();
        stats_take_value(values, "current", dir_fd, entry->d_name);
        snprintf(file, sizeof(file), "hugetlb.%s.max", size);
        stats_take_value(values, "max", dir_fd, file);
        snprintf(file, sizeof(file), "hugetlb.%s.events", size);
        stats_take_list(values, "events", dir_fd, file);
        json_object_set_new(sizes, size, values);
    }
    closedir(dir);
    return sizes;
}

static json_t *stats_read_memory(int dir_fd)
{
    static const struct {
        const char *key, *file;
    } values[] = {{"current", "memory.current"},
                  {"max", "memory.max"},
                  {"peak", "memory.peak"},
                  {"swap_current", "memory.swap.current"},
                  {"swap_max", "memory.swap.max"}};
    json_t *memory = json_object();
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        stats_take_value(memory, values[i].key, dir_fd, values[i].file);
    stats_take_list(memory, "events", dir_fd, "memory.events");
    stats_take_list(memory, "stat", dir_fd, "memory.stat");
    return memory;
}

json_t *stats_read(const struct cgroup *cgroup, struct error *err)
{
    json_t *pids = json_object();
    stats_take_value(pids, "current", cgroup->fd, "pids.current");
    stats_take_value(pids, "max", cgroup->fd, "pids.max");
    json_t *stats = json_pack("{s:o, s:o, s:o*, s:o*}", "pids", pids, "memory", stats_read_memory(cgroup->fd),
                              "io", stats_read_io(cgroup->fd), "hugetlb", stats_read_hugetlb(cgroup->fd));
    if (!stats) {
        error_set(err, ENOMEM, "figures");
        return NULL;
    }
    stats_take_list(stats, "cpu", cgroup->fd, "cpu.stat");
    return stats;
}
