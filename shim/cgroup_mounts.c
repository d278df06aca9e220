/*
 * Finding the host's cgroup hierarchies: see cgroup_mounts.h. The two files are the kernel's, but mount
 * points are whatever somebody chose: they are decoded and their lengths not assumed.
 */
#include "shim/cgroup_mounts.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define PROC_BYTES_MAX (16u << 20)
#define UNIFIED_MOUNT  "/sys/fs/cgroup"

/* The kernel writes space, tab, newline and backslash as \ooo. In place. */
static void decode_octal(char *text)
{
    char *out = text;
    for (const char *in = text; *in;) {
        if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] >= '0' && in[2] <= '7' && in[3] >= '0' &&
            in[3] <= '7') {
            *out++ = (char)((in[1] - '0') * 64 + (in[2] - '0') * 8 + (in[3] - '0'));
            in += 4;
        } else {
            *out++ = *in++;
        }
    }
    *out = '\0';
}

bool cgroup_list_has(const char *controllers, const char *controller)
{
    size_t length = strlen(controller);
    if (!*controllers)
        return true;
    for (const char *at = controllers; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        if (strncmp(at, controller, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    }
    return false;
}

/* The controllers of a version 1 hierarchy stand among its super block's options, beside others ("rw",
 * "release_agent=..."). The result is the list that /proc/self/cgroup shows for it: heap, or NULL. */
static char *find_controllers(const char *super_options, const char *cgroups)
{
    for (const char *line = cgroups; line && *line;) {
        const char *first = strchr(line, ':');
        const char *second = first ? strchr(first + 1, ':') : NULL;
        if (!second)
            break;
        cleanup_free char *list = strndup(first + 1, (size_t)(second - first - 1));
        if (!list)
            return NULL;
        cleanup_free char *head = strndup(list, strcspn(list, ","));
        if (head && *head && cgroup_list_has(super_options, head))
            return take_ptr(&list);
        line = strchr(second, '\n');
        line = line ? line + 1 : NULL;
    }
    return NULL;
}

/* The path that a line "N:CONTROLLERS:PATH" of /proc/self/cgroup gives: heap, or NULL. */
static char *find_own(const char *cgroups, const char *controllers)
{
    size_t length = strlen(controllers);
    for (const char *line = cgroups; line && *line;) {
        const char *first = strchr(line, ':');
        if (first && strncmp(first + 1, controllers, length) == 0 && first[1 + length] == ':') {
            const char *path = first + 2 + length;
            return strndup(path, strcspn(path, "\n"));
        }
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    return NULL;
}

/* A mount may show a part of the hierarchy only: `root` is where it starts. Paths in /proc/self/cgroup start
 * at the hierarchy's root, or at the cgroup namespace's, for which the mount's root is "/". In place. */
static void strip_root(char *own, const char *root)
{
    size_t length = strlen(root);
    if (length > 1 && strncmp(own, root, length) == 0 && (own[length] == '/' || own[length] == '\0'))
        memmove(own, own + length, strlen(own + length) + 1);
    if (!*own)
        memcpy(own, "/", 2); /* at least `root` was there */
}

struct mount_line {
    unsigned major, minor;
    char *root, *mount_point, *type, *super_options;
};

/* proc(5): 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue */
static int parse_mount_line(char *line, struct mount_line *out)
{
    char *fields[5], *rest = line;
    for (int i = 0; i < 5; i++) {
        fields[i] = strsep(&rest, " ");
        if (!fields[i])
            return -1;
    }
    if (sscanf(fields[2], "%u:%u", &out->major, &out->minor) != 2 || !rest)
        return -1;
    char *after = strstr(rest, " - ");
    if (!after)
        return -1;
    after += 3;
    out->root = fields[3];
    out->mount_point = fields[4];
    out->type = strsep(&after, " ");
    strsep(&after, " ");
    out->super_options = after;
    if (!out->super_options)
        return -1;
    decode_octal(out->root);
    decode_octal(out->mount_point);
    return 0;
}

static int add_hierarchy(struct cgroup_mounts *mounts, const struct mount_line *line, const char *cgroups,
                         struct error *err)
{
    bool version2 = strcmp(line->type, "cgroup2") == 0;
    cleanup_free char *controllers = version2 ? strdup("") : find_controllers(line->super_options, cgroups);
    cleanup_free char *own = controllers ? find_own(cgroups, controllers) : NULL;
    if (!own)
        return 0; /* a hierarchy that this process does not know of */
    for (size_t i = 0; i < mounts->count; i++) {
        if (strcmp(mounts->hierarchies[i].controllers, controllers) == 0)
            return 0;
    }
    if (mounts->count == CGROUP_HIERARCHIES_MAX)
        return error_set(err, 0, "more than %d cgroup hierarchies", CGROUP_HIERARCHIES_MAX);
    char *mount_point = strdup(line->mount_point);
    if (!mount_point)
        return error_set(err, ENOMEM, "cgroup mounts");
    strip_root(own, line->root);
    if (version2 && strcmp(mount_point, UNIFIED_MOUNT) == 0)
        mounts->unified = true;
    mounts->hierarchies[mounts->count++] = (struct cgroup_hierarchy){
        .controllers = take_ptr(&controllers), .mount_point = mount_point, .own = take_ptr(&own)};
    return 0;
}

int cgroup_mounts_parse(struct cgroup_mounts *mounts, char *mountinfo, char *cgroups,
                        bool (*visible)(const char *mount_point, unsigned major, unsigned minor),
                        struct error *err)
{
    *mounts = (struct cgroup_mounts){.count = 0};
    char *rest = mountinfo;
    for (char *text; (text = strsep(&rest, "\n")) != NULL;) {
        struct mount_line line;
        if (!*text || parse_mount_line(text, &line) < 0)
            continue;
        if (strcmp(line.type, "cgroup") != 0 && strcmp(line.type, "cgroup2") != 0)
            continue;
        if (visible(line.mount_point, line.major, line.minor) &&
            add_hierarchy(mounts, &line, cgroups, err) < 0)
            return -1;
    }
    return 0;
}

static bool mount_visible(const char *mount_point, unsigned major, unsigned minor)
{
    struct stat status;
    return stat(mount_point, &status) == 0 && major(status.st_dev) == major && minor(status.st_dev) == minor;
}

int cgroup_mounts_read(struct cgroup_mounts *mounts, struct error *err)
{
    *mounts = (struct cgroup_mounts){.count = 0};
    cleanup_free char *mountinfo = NULL, *cgroups = NULL;
    ssize_t length = fd_read_file_at(AT_FDCWD, "/proc/self/mountinfo", PROC_BYTES_MAX, &mountinfo);
    if (length < 0)
        return error_set(err, (int)-length, "/proc/self/mountinfo");
    length = fd_read_file_at(AT_FDCWD, "/proc/self/cgroup", PROC_BYTES_MAX, &cgroups);
    if (length < 0)
        return error_set(err, (int)-length, "/proc/self/cgroup");
    return cgroup_mounts_parse(mounts, mountinfo, cgroups, mount_visible, err);
}

void cgroup_mounts_fini(struct cgroup_mounts *mounts)
{
    for (size_t i = 0; i < mounts->count; i++) {
        free(mounts->hierarchies[i].controllers);
        free(mounts->hierarchies[i].mount_point);
        free(mounts->hierarchies[i].own);
    }
    mounts->count = 0;
}
