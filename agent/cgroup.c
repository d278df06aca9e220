/*
 * Containers' cgroups: see cgroup.h. The agent stays in the root, which may have processes beside its
 * children; each container's cgroup is a child of the root, and what lies below it is the container's own.
 */
#include "agent/cgroup.h"

#include "agent/cgroup_devices.h"
#include "common/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX (1u << 20)
#define DEPTH_MAX      64

int cgroup_write_file(int dir_fd, const char *file, const char *value)
{
    cleanup_fd int fd = openat(dir_fd, file, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        return -errno;
    return 0;
}

int cgroup_enable_controllers(struct error *err)
{
    cleanup_fd int root = open(CGROUP_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_free char *names = NULL;
    ssize_t length = root < 0 ? -errno : fd_read_file_at(root, "cgroup.controllers", 4096, &names);
    if (length < 0)
        return error_set(err, (int)-length, "cgroup controllers");
    char enable[4096] = "";
    size_t at = 0;
    char *rest = names;
    for (char *name; (name = strsep(&rest, " \n")) != NULL;) {
        if (*name && at + strlen(name) + 3 < sizeof(enable))
            at += (size_t)snprintf(enable + at, sizeof(enable) - at, "%s+%s", at ? " " : "", name);
    }
    int failed = at ? cgroup_write_file(root, "cgroup.subtree_control", enable) : 0;
    return failed ? error_set(err, -failed, "enable the cgroup controllers %s", enable) : 0;
}

int cgroup_init(struct cgroup *cgroup, const char *id, struct error *err)
{
    cgroup->fd = -1;
    /* A prefix, since the kernel's own files lie in the same directory. */
    if (snprintf(cgroup->name, sizeof(cgroup->name), "container-%s", id) >= (int)sizeof(cgroup->name))
        return error_set(err, ENAMETOOLONG, "cgroup");
    cleanup_fd int root = open(CGROUP_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || mkdirat(root, cgroup->name, 0755) < 0)
        return error_set(err, errno, "make the cgroup");
    cgroup->fd = openat(root, cgroup->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return cgroup->fd < 0 ? error_set(err, errno, "open the cgroup") : 0;
}

void cgroup_fini(struct cgroup *cgroup)
{
    fd_close(&cgroup->fd);
}

static bool has_controller(const struct cgroup *cgroup, const char *name, size_t length)
{
    cleanup_free char *text = NULL;
    if (fd_read_file_at(cgroup->fd, "cgroup.controllers", FILE_BYTES_MAX, &text) < 0)
        return true; /* not known to be missing */
    for (const char *at = text; *at; at += strcspn(at, " \n")) {
        at += strspn(at, " \n");
        if (strcspn(at, " \n") == length && strncmp(at, name, length) == 0)
            return true;
    }
    return false;
}

/* Which of the two there isn't: the file, or its controller (in crun's words, which callers know). */
static int apply_error(const struct cgroup *cgroup, const struct spec_cgroup_value *value, int code,
                       struct error *err)
{
    size_t length = strcspn(value->file, ".");
    if (code == ENOENT && !has_controller(cgroup, value->file, length))
        return error_set(err, 0, "%s: the requested cgroup controller `%.*s` is not available", value->origin,
                         (int)length, value->file);
    return error_set(err, code, "%s: write '%s' to %s", value->origin, value->value, value->file);
}

int cgroup_apply(const struct cgroup *cgroup, const struct spec_resources *resources, struct error *err)
{
    for (size_t i = 0; i < resources->value_count; i++) {
        const struct spec_cgroup_value *value = &resources->values[i];
        int failed = cgroup_write_file(cgroup->fd, value->file, value->value);
        if (failed)
            return apply_error(cgroup, value, -failed, err);
    }
    return cgroup_devices_set(cgroup->fd, resources->device_rules, resources->device_rule_count, err);
}

/* Calls fn for the cgroup and each below it, the deepest first. 0 or the first negative result. */
static int cgroup_walk(int dir_fd, unsigned depth,
                       int (*fn)(int parent_fd, const char *name, int fd, void *arg), void *arg)
{
    int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = copy < 0 ? NULL : fdopendir(copy);
    if (!stream)
        return -errno;
    int failed = depth > DEPTH_MAX ? -ELOOP : 0;
    struct dirent *entry;
    while (!failed && (entry = readdir(stream)) != NULL) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        cleanup_fd int child = openat(dir_fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (child < 0)
            continue; /* removed meanwhile */
        failed = cgroup_walk(child, depth + 1, fn, arg);
        if (!failed)
            failed = fn(dir_fd, entry->d_name, child, arg);
    }
    closedir(stream);
    return failed;
}

/* Adds the processes of one cgroup to the list. */
static int collect_pids(int parent_fd, const char *name, int fd, void *arg)
{
    (void)parent_fd, (void)name;
    struct cgroup_pids *list = arg;
    cleanup_free char *text = NULL;
    ssize_t length = fd_read_file_at(fd, "cgroup.procs", FILE_BYTES_MAX, &text);
    /* Removed meanwhile; or a threaded one, whose processes its domain lists. */
    if (length == -ENODEV || length == -ENOENT || length == -EOPNOTSUPP)
        return 0;
    if (length < 0)
        return (int)length;
    /* Each pid takes two bytes or more. */
    pid_t *grown = reallocarray(list->pids, list->count + (size_t)length / 2 + 1, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    list->pids = grown;
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        pid_t pid = (pid_t)strtol(line, NULL, 10);
        if (pid > 0)
            list->pids[list->count++] = pid;
    }
    return 0;
}

static int compare_pids(const void *a, const void *b)
{
    pid_t first = *(const pid_t *)a, second = *(const pid_t *)b;
    return (first > second) - (first < second);
}

int cgroup_list_pids(const struct cgroup *cgroup, struct cgroup_pids *out)
{
    *out = (struct cgroup_pids){0};
    int failed = cgroup_walk(cgroup->fd, 0, collect_pids, out);
    if (!failed)
        failed = collect_pids(-1, NULL, cgroup->fd, out);
    if (failed) {
        free(take_ptr(&out->pids));
        out->count = 0;
        return failed;
    }
    if (out->count > 1)
        qsort(out->pids, out->count, sizeof(*out->pids), compare_pids);
    return 0;
}

int cgroup_kill(const struct cgroup *cgroup, int signal)
{
    /* The kernel kills a whole tree in a way that no fork escapes. */
    if (signal == SIGKILL)
        return cgroup_write_file(cgroup->fd, "cgroup.kill", "1");
    struct cgroup_pids list;
    int failed = cgroup_list_pids(cgroup, &list);
    for (size_t i = 0; i < list.count; i++)
        kill(list.pids[i], signal);
    free(list.pids);
    return failed;
}

int cgroup_open_events(const struct cgroup *cgroup)
{
    int fd = openat(cgroup->fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    cgroup_take_event(fd); /* an event is pending from the start */
    return fd;
}

void cgroup_take_event(int events_fd)
{
    char text[256];
    (void)!pread(events_fd, text, sizeof(text), 0);
}

bool cgroup_is_populated(const struct cgroup *cgroup)
{
    cleanup_free char *events = NULL;
    return fd_read_file_at(cgroup->fd, "cgroup.events", 4096, &events) > 0 && strstr(events, "populated 1");
}

static int remove_child(int parent_fd, const char *name, int fd, void *arg)
{
    (void)fd, (void)arg;
    return unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int cgroup_remove(const struct cgroup *cgroup)
{
    int failed = cgroup_walk(cgroup->fd, 0, remove_child, NULL);
    if (failed)
        return failed;
    cleanup_fd int root = open(CGROUP_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return -errno;
    return remove_child(root, cgroup->name, -1, NULL);
}
