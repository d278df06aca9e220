/*
 * Directories of a cgroup hierarchy: see cgroup_tree.h. Used by host_cgroup.c alone.
 */
#include "shim/cgroup_tree.h"

#include "common/fd.h"
#include "common/log.h"
#include "shim/cgroup_mounts.h"
#include "shim/deadline.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#define FILE_BYTES_MAX (4u << 20)
#define MAKE_ATTEMPTS  10
#define DEPTH_MAX      32
#define REMOVE_GRACE_MS                                                                                      \
    2000 /* for what is just ending: the kernel lets go of a dead process a little later */
#define REMOVE_MAX_MS   10000
#define REMOVE_STEP_US  5000
#define CONTROLLERS_MAX 4096

/* Writes a file below a directory. 0 or -errno. */
static int write_file(const char *dir, const char *file, const char *value)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        return -errno;
    return 0;
}

/* Reads a small file below a directory: heap text without its last newline, or NULL with errno. */
static char *read_file(const char *dir, const char *file)
{
    char path[PATH_MAX];
    char *text = NULL;
    if (snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path)) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    ssize_t length = fd_read_file_at(AT_FDCWD, path, FILE_BYTES_MAX, &text);
    if (length < 0) {
        errno = (int)-length;
        return NULL;
    }
    if (length > 0 && text[length - 1] == '\n')
        text[length - 1] = '\0';
    return text;
}

/* Cuts the last component off a copy of a path, but nothing of the mount point. false: there is none left. */
static bool cut_component(char *path, size_t mount_length)
{
    char *slash = strrchr(path, '/');
    if (!slash || (size_t)(slash - path) < mount_length || path[mount_length] == '\0')
        return false;
    *slash = '\0';
    return true;
}

void cgroup_tree_count_missing(struct cgroup_directory *directory)
{
    cleanup_free char *path = strdup(directory->path);
    size_t mount_length = strlen(directory->mount_point);
    directory->made = 0;
    while (path && strlen(path) > mount_length && access(path, F_OK) < 0) {
        directory->made++;
        if (!cut_component(path, mount_length))
            break;
    }
}

/* Lets all controllers of `dir` be used below it: all at once, or those that can be. */
static void enable_controllers(const char *dir)
{
    char enable[CONTROLLERS_MAX] = "";
    size_t at = 0;
    cleanup_free char *names = read_file(dir, "cgroup.controllers");
    cleanup_free char *again = names ? strdup(names) : NULL;
    if (!again)
        return;
    char *rest = names;
    for (char *name; (name = strsep(&rest, " ")) != NULL;) {
        if (*name && at + strlen(name) + 3 < sizeof(enable))
            at += (size_t)snprintf(enable + at, sizeof(enable) - at, "%s+%s", at ? " " : "", name);
    }
    if (!at || write_file(dir, "cgroup.subtree_control", enable) == 0)
        return;
    rest = again;
    for (char *name; (name = strsep(&rest, " ")) != NULL;) {
        snprintf(enable, sizeof(enable), "+%s", name);
        int result = *name ? write_file(dir, "cgroup.subtree_control", enable) : 0;
        if (result)
            log_debug("controller not enabled dir=%s name=%s: %s", dir, name, strerror(-result));
    }
}

/* A new version 1 cpuset has neither processors nor nodes. */
static void inherit_cpuset(const char *parent, const char *dir)
{
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        cleanup_free char *own = read_file(dir, files[i]);
        cleanup_free char *above = read_file(parent, files[i]);
        if (own && above && !*own && *above)
            write_file(dir, files[i], above);
    }
}

/* Makes one component, `path` cut behind it; `parent_length` is where its parent ends. 1: made, 0: it was
 * there, or -errno. */
static int make_component(const struct cgroup_directory *directory, char *path, size_t parent_length)
{
    bool version2 = !*directory->controllers;
    cleanup_free char *parent = strndup(path, parent_length);
    if (!parent)
        return -ENOMEM;
    if (version2)
        enable_controllers(parent);
    if (mkdir(path, 0755) < 0)
        return errno == EEXIST ? 0 : -errno;
    if (!version2 && cgroup_list_has(directory->controllers, "cpuset"))
        inherit_cpuset(parent, path);
    return 1;
}

/* Makes the components from the mount point on. `first_made` is the first that an attempt made (UINT_MAX:
 * none), kept over attempts: what an earlier attempt made is ours though it is there. 0, or -errno with
 * `path` cut behind the component that failed; -ENOENT when a parent was removed under our hands. */
static int make_components(struct cgroup_directory *directory, char *path, size_t mount_length,
                           bool first_attempt, unsigned *first_made)
{
    unsigned index = 0;
    for (char *at = path + mount_length; *at == '/'; index++) {
        char *end = at + 1 + strcspn(at + 1, "/");
        char kept = *end;
        *end = '\0';
        int result = make_component(directory, path, (size_t)(at - path));
        if (result == 1 && index < *first_made)
            *first_made = index;
        else if (result == 0 && first_attempt)
            *first_made = UINT_MAX; /* somebody else's, perhaps in a parent that we just made */
        directory->made = *first_made <= index ? index + 1 - *first_made : 0;
        if (result < 0) {
            directory->made -= directory->made > 0;
            return result;
        }
        *end = kept;
        at = end;
    }
    return 0;
}

/* Removes the cgroup's own made components, the last first; what is in use stays. */
static void remove_made(const struct cgroup_directory *directory)
{
    cleanup_free char *path = strdup(directory->path);
    for (unsigned i = 0; path && i < directory->made; i++) {
        if (rmdir(path) < 0 && errno != ENOENT)
            return;
        if (!cut_component(path, strlen(directory->mount_point)))
            return;
    }
}

int cgroup_tree_make(struct cgroup_directory *directory, struct error *err)
{
    size_t mount_length = strlen(directory->mount_point);
    unsigned first_made = UINT_MAX;
    int result = -ENOENT;
    for (int attempt = 0; attempt < MAKE_ATTEMPTS && result == -ENOENT; attempt++) {
        cleanup_free char *path = strdup(directory->path);
        if (!path)
            return error_set(err, ENOMEM, "cgroup %s", directory->path);
        result = make_components(directory, path, mount_length, attempt == 0, &first_made);
        if (result && result != -ENOENT) {
            /* `path` is cut where it failed: what was made ends one component before. */
            struct cgroup_directory part = *directory;
            if (cut_component(path, mount_length)) {
                part.path = path;
                remove_made(&part);
            }
        }
    }
    return result ? error_set(err, -result, "make the cgroup %s", directory->path) : 0;
}

int cgroup_tree_write(const struct cgroup_directory *directory, const char *file, const char *value)
{
    return write_file(directory->path, file, value);
}

int cgroup_tree_join(const struct cgroup_directory *directory, pid_t pid, struct error *err)
{
    char text[16];
    snprintf(text, sizeof(text), "%d", (int)pid);
    int result = write_file(directory->path, "cgroup.procs", text);
    return result ? error_set(err, -result, "join the cgroup %s", directory->path) : 0;
}

/* Whether the cgroup, those below it not counted, has the process. */
static bool holds_process(const char *dir, pid_t pid)
{
    cleanup_free char *pids = read_file(dir, "cgroup.procs");
    char *rest = pids;
    for (char *line; rest && (line = strsep(&rest, "\n")) != NULL;) {
        if (strtol(line, NULL, 10) == pid)
            return true;
    }
    return false;
}

static void kill_process(const char *dir, pid_t pid)
{
    /* Held first, then looked for again: by now the number could be another process's. */
    cleanup_fd int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0 || !holds_process(dir, pid))
        return;
    log_warn("process killed that was left in the container's cgroup pid=%d dir=%s", (int)pid, dir);
    pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
}

/* Sends SIGKILL to what is in the cgroup, one by one: cgroup.kill (version 2 alone) would take the caller
 * too. */
static void kill_processes(const char *dir)
{
    cleanup_free char *pids = read_file(dir, "cgroup.procs");
    char *rest = pids;
    for (char *line; rest && (line = strsep(&rest, "\n")) != NULL;) {
        pid_t pid = (pid_t)strtol(line, NULL, 10);
        if (pid > 1 && pid != getpid())
            kill_process(dir, pid);
    }
}

/* Processes in the cgroup and in those below it. */
static unsigned count_processes(const char *dir, unsigned depth)
{
    unsigned count = 0;
    cleanup_free char *pids = read_file(dir, "cgroup.procs");
    char *rest = pids;
    for (char *line; rest && (line = strsep(&rest, "\n")) != NULL;)
        count += *line != '\0';
    DIR *stream = depth > 0 ? opendir(dir) : NULL;
    struct dirent *entry;
    while (stream && (entry = readdir(stream)) != NULL) {
        char child[PATH_MAX];
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.' &&
            snprintf(child, sizeof(child), "%s/%s", dir, entry->d_name) < (int)sizeof(child))
            count += count_processes(child, depth - 1);
    }
    if (stream)
        closedir(stream);
    return count;
}

unsigned cgroup_tree_count_processes(const struct cgroup_directory *directory)
{
    return count_processes(directory->path, DEPTH_MAX);
}

/* Removes a cgroup and those below it. With `kill_left` kills what is in them first. 0 or -errno. */
static int remove_tree(const char *dir, unsigned depth, bool kill_left)
{
    if (rmdir(dir) == 0 || errno == ENOENT)
        return 0;
    int failed = -errno;
    if (depth == 0)
        return failed;
    if (kill_left)
        kill_processes(dir);
    DIR *stream = opendir(dir);
    if (!stream)
        return errno == ENOENT ? 0 : -errno;
    struct dirent *entry;
    while ((entry = readdir(stream)) != NULL) {
        char child[PATH_MAX];
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.' &&
            snprintf(child, sizeof(child), "%s/%s", dir, entry->d_name) < (int)sizeof(child))
            remove_tree(child, depth - 1, kill_left);
    }
    closedir(stream);
    return rmdir(dir) == 0 || errno == ENOENT ? 0 : -errno;
}

int cgroup_tree_remove(const struct cgroup_directory *directory, struct error *err)
{
    if (directory->made == 0)
        return 0;
    int64_t grace = deadline_in(REMOVE_GRACE_MS), deadline = deadline_in(REMOVE_MAX_MS);
    int result;
    while ((result = remove_tree(directory->path, DEPTH_MAX, deadline_left_ms(grace) <= 0)) == -EBUSY &&
           deadline_left_ms(deadline) > 0)
        usleep(REMOVE_STEP_US);
    if (result)
        return error_set(err, -result, "remove the cgroup %s", directory->path);
    remove_made(directory);
    return 0;
}
