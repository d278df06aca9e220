/*
 * Mount points below a tree: see submounts.h. Mount points are whatever somebody chose; getmntent(3) decodes
 * them. Callers of husk may have thousands of mounts, so a line is compared before anything is kept of it.
 */
#include "shim/submounts.h"

#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "protocol/protocol.h"

#include <errno.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* mount(2) takes options of a page; a path has PATH_MAX bytes, each of them four here at the most. */
#define LINE_BYTES_MAX 24576

/* The part of `path` below `tree`, or NULL when it is not below it. Both are absolute, without links. */
static const char *path_below(const char *path, const char *tree)
{
    size_t length = strcmp(tree, "/") == 0 ? 0 : strlen(tree);
    if (strncmp(path, tree, length) != 0 || path[length] != '/' || path[length + 1] == '\0')
        return NULL;
    return path + length + 1;
}

json_t *submounts_list(const char *source, struct error *err)
{
    char line[LINE_BYTES_MAX];
    struct mntent entry;
    cleanup_free char *tree = realpath(source, NULL);
    if (!tree) {
        error_set(err, errno, "%s", source);
        return NULL;
    }
    struct stat status;
    if (stat(tree, &status) == 0 && !S_ISDIR(status.st_mode))
        return json_array();
    FILE *table = setmntent("/proc/self/mounts", "re");
    if (!table) {
        error_set(err, EIO, "/proc/self/mounts");
        return NULL;
    }
    json_t *paths = json_array();
    bool failed = !paths;
    while (!failed && getmntent_r(table, &entry, line, sizeof(line))) {
        const char *path = path_below(entry.mnt_dir, tree);
        if (!path)
            continue;
        if (json_array_size(paths) == SUBMOUNTS_MAX) {
            log_warn("%s: more than %d mounts below it, the rest appear when they are used", source,
                     SUBMOUNTS_MAX);
            break;
        }
        /* A path that is no UTF-8 can't be told, and appears when it is used. */
        json_t *text = json_string(path);
        failed = text && json_array_append_new(paths, text) < 0;
    }
    endmntent(table);
    if (!failed)
        return paths;
    json_decref(paths);
    error_set(err, ENOMEM, "%s", source);
    return NULL;
}
