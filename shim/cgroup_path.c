/*
 * cgroupsPath in its two forms: see cgroup_path.h. The text is config.json's.
 */
#include "shim/cgroup_path.h"

#include "common/fd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNIT_NAME_MAX 255 /* systemd's */

char *cgroup_path_clean(const char *path)
{
    bool absolute = path[0] == '/';
    char *out = malloc(strlen(path) + 2);
    size_t length = 0;
    if (!out)
        return NULL;
    out[0] = '\0';
    while (*path) {
        path += strspn(path, "/");
        size_t part = strcspn(path, "/");
        if (part == 2 && path[0] == '.' && path[1] == '.') {
            while (length > 0 && out[--length] != '/')
                ;
        } else if (part > 0 && !(part == 1 && path[0] == '.')) {
            if (absolute || length > 0)
                out[length++] = '/';
            memcpy(out + length, path, part);
            length += part;
        }
        out[length] = '\0';
        path += part;
    }
    if (absolute && length == 0)
        memcpy(out, "/", 2);
    return out;
}

char *cgroup_path_resolve(const char *path, const char *id, const char *own, bool version2, struct error *err)
{
    cleanup_free char *clean = cgroup_path_clean(path && *path ? path : id);
    cleanup_free char *base = strdup(own);
    char *joined = NULL;
    if (!clean || !base) {
        error_set(err, ENOMEM, "linux.cgroupsPath");
        return NULL;
    }
    if (!*clean || strcmp(clean, "/") == 0) {
        error_set(err, 0, "linux.cgroupsPath: \"%s\" is the root of the hierarchy", path ? path : id);
        return NULL;
    }
    if (*clean == '/')
        return take_ptr(&clean);
    if (version2)
        *strrchr(base, '/') = '\0';
    else if (strcmp(base, "/") == 0)
        *base = '\0';
    if (asprintf(&joined, "%s/%s", base, clean) < 0) {
        error_set(err, ENOMEM, "linux.cgroupsPath");
        return NULL;
    }
    return joined;
}

/* What systemd allows in unit names (systemd.unit(5)); a slash would make it a path. */
static bool unit_name_is_valid(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:-_.\\@";
    size_t length = strlen(name);
    return length > 0 && length <= UNIT_NAME_MAX && strspn(name, allowed) == length;
}

static bool has_suffix(const char *text, const char *suffix)
{
    size_t length = strlen(text), end = strlen(suffix);
    return length >= end && strcmp(text + length - end, suffix) == 0;
}

int cgroup_path_parse_systemd(const char *path, const char *id, bool user, char **slice, char **unit,
                              struct error *err)
{
    cleanup_free char *copy = strdup(path ? path : "");
    if (!copy)
        return error_set(err, ENOMEM, "linux.cgroupsPath");
    const char *slice_part = "", *prefix = "husk", *name = id;
    if (*copy) {
        char *rest = copy;
        slice_part = strsep(&rest, ":");
        prefix = rest ? strsep(&rest, ":") : "";
        name = rest;
    }
    if (!name || (path && *path && strchr(name, ':')))
        return error_set(err, 0, "linux.cgroupsPath: expected \"slice:prefix:name\" for systemd, not \"%s\"",
                         path);
    *slice = strdup(*slice_part ? slice_part : user ? "user.slice" : "system.slice");
    if (asprintf(unit, "%s%s%s.scope", prefix, *prefix ? "-" : "", name) < 0)
        *unit = NULL;
    if (!*slice || !*unit)
        return error_set(err, ENOMEM, "linux.cgroupsPath");
    if (!has_suffix(*slice, ".slice") || !unit_name_is_valid(*slice))
        return error_set(err, 0, "linux.cgroupsPath: \"%s\" is no name of a slice", *slice);
    if (!*name || !unit_name_is_valid(*unit))
        return error_set(err, 0, "linux.cgroupsPath: \"%s\" is no name of a unit", *unit);
    return 0;
}

char *cgroup_path_expand_slice(const char *slice, struct error *err)
{
    char *out = NULL;
    size_t size = 0;
    if (strcmp(slice, "-.slice") == 0)
        return strdup("/");
    size_t length = strlen(slice) - strlen(".slice");
    FILE *text = open_memstream(&out, &size);
    if (!text) {
        error_set(err, ENOMEM, "slice %s", slice);
        return NULL;
    }
    bool valid = length > 0 && slice[0] != '-' && slice[length - 1] != '-';
    for (size_t i = 1; valid && i <= length; i++) {
        if (i < length && slice[i] == '-' && slice[i + 1] == '-')
            valid = false;
        else if (i == length || slice[i] == '-')
            fprintf(text, "/%.*s.slice", (int)i, slice);
    }
    if (fclose(text) == 0 && valid)
        return out;
    free(out);
    error_set(err, 0, "linux.cgroupsPath: \"%s\" is no name of a slice", slice);
    return NULL;
}
