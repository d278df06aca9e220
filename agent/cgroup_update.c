/*
 * New values for the files of a cgroup, all or nothing: see cgroup_update.h.
 */
#include "agent/cgroup_update.h"

#include "common/fd.h"
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_BYTES_MAX 65536

/* Writes back what a file said before. A list is taken line by line only; an empty value is an empty line. */
static void cgroup_restore(const struct cgroup *cgroup, const char *file, char *before)
{
    char *rest = before;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (!*line && line != before)
            continue;
        int failed = cgroup_write_file(cgroup->fd, file, *line ? line : "\n");
        if (failed)
            log_warn("%s does not take '%s' back: %s", file, line, strerror(-failed));
    }
}

/* config-linux.md, "checkBeforeUpdate": a limit below what is used would have the kernel kill. */
static int check_memory(const struct cgroup *cgroup, const struct spec_cgroup_value *value, struct error *err)
{
    cleanup_free char *text = NULL;
    ssize_t length = fd_read_file_at(cgroup->fd, "memory.current", VALUE_BYTES_MAX, &text);
    if (length < 0)
        return error_set(err, (int)-length, "memory.current");
    unsigned long long used = strtoull(text, NULL, 10);
    if (strcmp(value->value, "max") == 0 || strtoull(value->value, NULL, 10) >= used)
        return 0;
    return error_set(err, EBUSY, "%s: %s is less than the %llu bytes in use", value->origin, value->value,
                     used);
}

int cgroup_update(const struct cgroup *cgroup, const struct spec_resources *resources, struct error *err)
{
    size_t count = resources->value_count, done = 0;
    cleanup_free char **before = calloc(count + 1, sizeof(*before));
    if (!before)
        return error_set(err, ENOMEM, "update");
    int failed = 0;
    for (; done < count; done++) {
        const struct spec_cgroup_value *value = &resources->values[done];
        if (resources->check_memory && strcmp(value->file, "memory.max") == 0 &&
            (failed = check_memory(cgroup, value, err)) != 0)
            break;
        ssize_t length = fd_read_file_at(cgroup->fd, value->file, VALUE_BYTES_MAX, &before[done]);
        failed = length < 0 ? (int)length : cgroup_write_file(cgroup->fd, value->file, value->value);
        if (failed) {
            error_set(err, -failed, "%s: write '%s' to %s", value->origin, value->value, value->file);
            break;
        }
    }
    for (size_t i = done; failed && i-- > 0;)
        cgroup_restore(cgroup, resources->values[i].file, before[i]);
    for (size_t i = 0; i < count; i++)
        free(before[i]);
    return failed ? -1 : 0;
}
