/*
 * The life of a container's cgroup on the host: see host_cgroup.h. Called by the monitor (make, enter), by
 * `update` and by whoever deletes a container.
 */
#include "shim/host_cgroup.h"

#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "shim/cgroup_limits.h"
#include "shim/cgroup_path.h"
#include "shim/cgroup_systemd.h"
#include "shim/rootless.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define MADE_MAX PATH_MAX /* components */

static const char *const manager_names[] = {[CGROUP_MANAGER_CGROUPFS] = "cgroupfs",
                                            [CGROUP_MANAGER_SYSTEMD] = "systemd",
                                            [CGROUP_MANAGER_DISABLED] = "disabled"};
#define MANAGERS (sizeof(manager_names) / sizeof(manager_names[0]))

static int find_manager(const char *name, enum cgroup_manager *out)
{
    for (size_t i = 0; i < MANAGERS; i++) {
        if (strcmp(manager_names[i], name) == 0) {
            *out = (enum cgroup_manager)i;
            return 0;
        }
    }
    return -1;
}

int host_cgroup_choose_manager(const char *name, bool systemd_cgroup, enum cgroup_manager *out,
                               struct error *err)
{
    *out = systemd_cgroup ? CGROUP_MANAGER_SYSTEMD : CGROUP_MANAGER_CGROUPFS;
    if (name && find_manager(name, out) < 0)
        return error_set(err, 0, "--cgroup-manager: unknown manager \"%s\"", name);
    return 0;
}

static int add_directory(struct host_cgroup *cgroup, const struct cgroup_hierarchy *hierarchy,
                         const char *below, struct error *err)
{
    struct cgroup_directory *directory = &cgroup->directories[cgroup->count++];
    const char *mount = strcmp(hierarchy->mount_point, "/") == 0 ? "" : hierarchy->mount_point;
    *directory = (struct cgroup_directory){.controllers = strdup(hierarchy->controllers),
                                           .mount_point = strdup(hierarchy->mount_point)};
    if (asprintf(&directory->path, "%s%s", mount, below) < 0)
        directory->path = NULL;
    if (!directory->controllers || !directory->mount_point || !directory->path)
        return error_set(err, ENOMEM, "cgroup");
    if (strlen(directory->path) >= PATH_MAX)
        return error_set(err, ENAMETOOLONG, "linux.cgroupsPath");
    return 0;
}

/* In the unified arrangement the one hierarchy, else every one: /proc/PID/cgroup then tells the same of all.
 */
static bool hierarchy_counts(const struct cgroup_mounts *mounts, size_t i)
{
    return !mounts->unified || !*mounts->hierarchies[i].controllers;
}

static int plan_cgroupfs(struct host_cgroup *cgroup, const char *cgroups_path, const char *id,
                         struct error *err)
{
    struct cgroup_mounts mounts;
    int result = cgroup_mounts_read(&mounts, err);
    for (size_t i = 0; result == 0 && i < mounts.count; i++) {
        if (!hierarchy_counts(&mounts, i))
            continue;
        const struct cgroup_hierarchy *hierarchy = &mounts.hierarchies[i];
        cleanup_free char *below = cgroup_path_resolve(cgroups_path, id, hierarchy->own, mounts.unified, err);
        result = below ? add_directory(cgroup, hierarchy, below, err) : -1;
        if (result == 0)
            cgroup_tree_count_missing(&cgroup->directories[cgroup->count - 1]);
    }
    if (result == 0 && cgroup->count == 0 && !cgroup->rootless)
        result = error_set(err, 0, "no cgroup hierarchy is mounted (--cgroup-manager disabled does without)");
    cgroup_mounts_fini(&mounts);
    return result;
}

static int plan_systemd(struct host_cgroup *cgroup, const char *cgroups_path, const char *id,
                        struct error *err)
{
    if (cgroup_path_parse_systemd(cgroups_path, id, cgroup->rootless, &cgroup->slice, &cgroup->unit, err) < 0)
        return -1;
    cleanup_free char *path = cgroup_path_expand_slice(cgroup->slice, err);
    if (!path)
        return -1;
    if (asprintf(&cgroup->unit_marker, "husk container %s, made by process %d", id, (int)getpid()) < 0) {
        cgroup->unit_marker = NULL;
        return error_set(err, ENOMEM, "cgroup");
    }
    cgroup->unit_made = true;
    return 0;
}

int host_cgroup_plan(struct host_cgroup *cgroup, enum cgroup_manager manager, const char *cgroups_path,
                     const char *id, struct error *err)
{
    *cgroup = (struct host_cgroup){
        .manager = manager, .rootless = rootless_caller(), .path_given = cgroups_path && *cgroups_path};
    if (manager == CGROUP_MANAGER_DISABLED)
        return 0;
    return manager == CGROUP_MANAGER_SYSTEMD ? plan_systemd(cgroup, cgroups_path, id, err)
                                             : plan_cgroupfs(cgroup, cgroups_path, id, err);
}

static void origin_open(struct host_cgroup *cgroup)
{
    struct cgroup_mounts mounts;
    if (cgroup_mounts_read(&mounts, NULL) < 0)
        mounts.count = 0;
    for (size_t i = 0; i < mounts.count; i++) {
        char path[PATH_MAX];
        const struct cgroup_hierarchy *hierarchy = &mounts.hierarchies[i];
        if (snprintf(path, sizeof(path), "%s%s/cgroup.procs", hierarchy->mount_point, hierarchy->own) >=
            (int)sizeof(path))
            continue;
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd >= 0)
            cgroup->origin_fds[cgroup->origin_count++] = fd;
    }
    cgroup_mounts_fini(&mounts);
}

void host_cgroup_return_to_origin(const struct host_cgroup *cgroup)
{
    for (size_t i = 0; i < cgroup->origin_count; i++) {
        /* Where it is not allowed to, the process stays: that is no reason to fail. */
        ssize_t put = write(cgroup->origin_fds[i], "0", 1);
        (void)put;
    }
}

void host_cgroup_forget_origin(struct host_cgroup *cgroup)
{
    while (cgroup->origin_count > 0)
        fd_close(&cgroup->origin_fds[--cgroup->origin_count]);
}

static void directory_fini(struct cgroup_directory *directory)
{
    free(directory->controllers);
    free(directory->mount_point);
    free(directory->path);
}

static void drop_directory(struct host_cgroup *cgroup, size_t i)
{
    directory_fini(&cgroup->directories[i]);
    cgroup->count--;
    memmove(&cgroup->directories[i], &cgroup->directories[i + 1],
            (cgroup->count - i) * sizeof(cgroup->directories[0]));
}

/* runc: a user without rights to cgroups who asks for nothing gets nothing; everybody else an error. */
static bool may_do_without(const struct host_cgroup *cgroup, const struct host_resources *limits, int code)
{
    return cgroup->rootless && !cgroup->path_given && !host_resources_are_set(limits) &&
           (code == EACCES || code == EPERM || code == EROFS);
}

/* With systemd the scope that was asked for is there, and holds this process. All else that was there before
 * may be another container's, and perhaps another runtime's, which would take our processes for its own. */
static int make_directory(const struct host_cgroup *cgroup, struct cgroup_directory *directory,
                          struct error *err)
{
    if (cgroup_tree_make(directory, err) < 0)
        return -1;
    unsigned used = cgroup->unit_made || directory->made ? 0 : cgroup_tree_count_processes(directory);
    return used ? error_set(err, 0, "container's cgroup is not empty: %u process(es) found in %s", used,
                            directory->path)
                : 0;
}

/* Makes the directories and moves the process in; those that a rootless caller may not make are left out. */
static int make_directories(struct host_cgroup *cgroup, const struct host_resources *limits,
                            struct error *err)
{
    struct error own;
    for (size_t i = 0; i < cgroup->count;) {
        if (make_directory(cgroup, &cgroup->directories[i], &own) == 0) {
            i++;
            continue;
        }
        cgroup->directories[i].made = 0;
        if (!may_do_without(cgroup, limits, own.code)) {
            for (size_t rest = i + 1; rest < cgroup->count; rest++)
                cgroup->directories[rest].made = 0;
            return error_say(err, own.code, "%s%s", own.text,
                             cgroup->rootless
                                 ? " (without rights to cgroups there can be neither limits nor a "
                                   "cgroupsPath; --cgroup-manager disabled leaves limits to the guest)"
                                 : "");
        }
        log_debug("cgroup left out path=%s: %s", cgroup->directories[i].path, own.text);
        drop_directory(cgroup, i);
    }
    if (cgroup_limits_write(limits, cgroup->directories, cgroup->count, err) < 0)
        return -1;
    for (size_t i = 0; i < cgroup->count;) {
        if (cgroup_tree_join(&cgroup->directories[i], getpid(), &own) == 0) {
            i++;
            continue;
        }
        if (!may_do_without(cgroup, limits, own.code))
            return error_say(err, own.code, "%s", own.text);
        cgroup_tree_remove(&cgroup->directories[i], NULL);
        drop_directory(cgroup, i);
    }
    return 0;
}

static struct systemd_scope scope_of(const struct host_cgroup *cgroup, bool version2)
{
    return (struct systemd_scope){.unit = cgroup->unit,
                                  .slice = cgroup->slice,
                                  .description = cgroup->unit_marker,
                                  .user = cgroup->rootless,
                                  .version2 = version2};
}

/* Where systemd has put this process, from the hierarchy that it keeps its units in. 0, or -1 with err. */
static int find_scope(struct host_cgroup *cgroup, struct error *err)
{
    struct cgroup_mounts mounts;
    const struct cgroup_hierarchy *home = NULL;
    int result = cgroup_mounts_read(&mounts, err);
    for (size_t i = 0; result == 0 && i < mounts.count; i++) {
        const char *controllers = mounts.hierarchies[i].controllers;
        if (strcmp(controllers, mounts.unified ? "" : "name=systemd") == 0)
            home = &mounts.hierarchies[i];
    }
    const char *last = home ? strrchr(home->own, '/') : NULL;
    bool moved = last && strcmp(last + 1, cgroup->unit) == 0;
    if (result == 0 && !moved)
        result = error_set(err, 0, "systemd started %s but did not move the process %d into it", cgroup->unit,
                           (int)getpid());
    for (size_t i = 0; moved && result == 0 && i < mounts.count; i++) {
        if (hierarchy_counts(&mounts, i))
            result = add_directory(cgroup, &mounts.hierarchies[i], home->own, err);
    }
    cgroup_mounts_fini(&mounts);
    return result;
}

static int make_scope(struct host_cgroup *cgroup, const struct host_resources *limits, struct error *err)
{
    struct cgroup_mounts mounts;
    if (cgroup_mounts_read(&mounts, err) < 0) {
        cgroup_mounts_fini(&mounts);
        return -1;
    }
    struct systemd_scope scope = scope_of(cgroup, mounts.unified);
    cgroup_mounts_fini(&mounts);
    if (systemd_scope_start(&scope, getpid(), limits, err) < 0) {
        cgroup->unit_made = false;
        return -1;
    }
    return find_scope(cgroup, err);
}

/* Without a cgroup the guest limits what it can: numbers of the host mean nothing there. */
static int check_disabled(const struct host_resources *limits, struct error *err)
{
    const char *member = cgroup_limits_host_only(limits);
    return member
               ? error_set(err, 0, "linux.resources.%s: needs a cgroup on the host, and those are disabled",
                           member)
               : 0;
}

int host_cgroup_make(struct host_cgroup *cgroup, const struct host_resources *limits, struct error *err)
{
    struct error own;
    if (cgroup->manager == CGROUP_MANAGER_DISABLED)
        return check_disabled(limits, err);
    origin_open(cgroup);
    /* systemd knows only some limits, and in version 1 only some controllers: the directories get the rest.
     */
    if ((cgroup->manager == CGROUP_MANAGER_SYSTEMD && make_scope(cgroup, limits, &own) < 0) ||
        make_directories(cgroup, limits, &own) < 0) {
        struct error undo;
        if (host_cgroup_remove(cgroup, &undo) < 0)
            log_warn("%s", undo.text);
        return error_say(err, own.code, "%s", own.text);
    }
    return 0;
}

int host_cgroup_enter(const struct host_cgroup *cgroup, pid_t pid, struct error *err)
{
    for (size_t i = 0; i < cgroup->count; i++) {
        if (cgroup_tree_join(&cgroup->directories[i], pid, err) < 0)
            return -1;
    }
    return 0;
}

int host_cgroup_update(const struct host_cgroup *cgroup, const struct host_resources *limits,
                       struct error *err)
{
    if (cgroup->count == 0)
        return check_disabled(limits, err);
    if (cgroup->manager == CGROUP_MANAGER_SYSTEMD) {
        /* systemd too, or it would write the old values again when it reloads its units. */
        struct systemd_scope scope =
            scope_of(cgroup, cgroup->count == 1 && !*cgroup->directories[0].controllers);
        if (systemd_scope_update(&scope, limits, err) < 0)
            return -1;
    }
    return cgroup_limits_write(limits, cgroup->directories, cgroup->count, err);
}

int host_cgroup_remove(const struct host_cgroup *cgroup, struct error *err)
{
    int result = 0;
    host_cgroup_return_to_origin(cgroup);
    for (size_t i = 0; i < cgroup->count; i++) {
        if (cgroup_tree_remove(&cgroup->directories[i], result == 0 ? err : NULL) < 0)
            result = -1;
    }
    if (cgroup->unit_made) {
        struct systemd_scope scope = scope_of(cgroup, true);
        if (systemd_scope_stop(&scope, result == 0 ? err : NULL) < 0)
            result = -1;
    }
    return result;
}

const char *host_cgroup_path(const struct host_cgroup *cgroup, const char *controller)
{
    for (size_t i = 0; i < cgroup->count; i++) {
        const struct cgroup_directory *directory = &cgroup->directories[i];
        /* Beside version 1 hierarchies the version 2 one has no controllers of its own. */
        if ((*directory->controllers || cgroup->count == 1) &&
            cgroup_list_has(directory->controllers, controller))
            return directory->path;
    }
    return NULL;
}

json_t *host_cgroup_to_json(const struct host_cgroup *cgroup)
{
    json_t *list = json_array();
    for (size_t i = 0; i < cgroup->count; i++) {
        const struct cgroup_directory *directory = &cgroup->directories[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:i}", "controllers", directory->controllers,
                                              "mount_point", directory->mount_point, "path", directory->path,
                                              "made", (int)directory->made));
    }
    return json_pack("{s:s, s:b, s:s*, s:s*, s:s*, s:b, s:o}", "manager", manager_names[cgroup->manager],
                     "rootless", cgroup->rootless, "unit", cgroup->unit, "slice", cgroup->slice,
                     "unit_marker", cgroup->unit_marker, "unit_made", cgroup->unit_made, "directories", list);
}

static int read_text(const json_t *object, const char *key, char **out, struct error *err)
{
    const char *text = NULL;
    if (json_get_string(object, "cgroup", key, &text, err) < 0)
        return -1;
    *out = text ? strdup(text) : NULL;
    return text && !*out ? error_set(err, ENOMEM, "cgroup") : 0;
}

static int read_directory(const json_t *object, struct cgroup_directory *directory, struct error *err)
{
    int64_t made = 0;
    if (!json_is_object(object))
        return error_set(err, 0, "cgroup.directories: expected objects");
    if (read_text(object, "controllers", &directory->controllers, err) < 0 ||
        read_text(object, "mount_point", &directory->mount_point, err) < 0 ||
        read_text(object, "path", &directory->path, err) < 0 ||
        json_get_int(object, "cgroup", "made", 0, MADE_MAX, &made, err) < 0)
        return -1;
    directory->made = (unsigned)made;
    if (!directory->controllers || !directory->mount_point || !directory->path)
        return error_set(err, 0, "cgroup.directories: a member is missing");
    size_t length = strlen(directory->mount_point);
    if (strncmp(directory->path, directory->mount_point, length) != 0)
        return error_set(err, 0, "cgroup.directories: %s is not below %s", directory->path,
                         directory->mount_point);
    return 0;
}

int host_cgroup_from_json(const json_t *object, struct host_cgroup *cgroup, struct error *err)
{
    const char *manager = "disabled";
    json_t *list = NULL;
    *cgroup = (struct host_cgroup){.manager = CGROUP_MANAGER_DISABLED};
    if (!object)
        return 0;
    if (json_get_string(object, "cgroup", "manager", &manager, err) < 0 ||
        json_get_bool(object, "cgroup", "rootless", &cgroup->rootless, err) < 0 ||
        json_get_bool(object, "cgroup", "unit_made", &cgroup->unit_made, err) < 0 ||
        read_text(object, "unit", &cgroup->unit, err) < 0 ||
        read_text(object, "slice", &cgroup->slice, err) < 0 ||
        read_text(object, "unit_marker", &cgroup->unit_marker, err) < 0 ||
        json_get_array(object, "cgroup", "directories", &list, err) < 0)
        return -1;
    if (find_manager(manager, &cgroup->manager) < 0)
        return error_set(err, 0, "cgroup.manager: unknown manager \"%s\"", manager);
    if (cgroup->unit_made && (!cgroup->unit || !cgroup->slice || !cgroup->unit_marker))
        return error_set(err, 0, "cgroup: a scope without its names");
    if (json_array_size(list) > CGROUP_HIERARCHIES_MAX)
        return error_set(err, 0, "cgroup.directories: too many");
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (read_directory(json_array_get(list, i), &cgroup->directories[cgroup->count++], err) < 0)
            return -1;
    }
    return 0;
}

void host_cgroup_fini(struct host_cgroup *cgroup)
{
    host_cgroup_forget_origin(cgroup);
    for (size_t i = 0; i < cgroup->count; i++)
        directory_fini(&cgroup->directories[i]);
    cgroup->count = 0;
    free(take_ptr(&cgroup->unit));
    free(take_ptr(&cgroup->slice));
    free(take_ptr(&cgroup->unit_marker));
}
