/*
 * Containers: see container.h. Requests come from the host and were only checked for being JSON.
 */
#include "agent/container.h"

#include "agent/cgroup_delegate.h"
#include "agent/disks.h"
#include "agent/freezer.h"
#include "agent/joins.h"
#include "agent/notify.h"
#include "agent/oom.h"
#include "agent/proc_file.h"
#include "agent/spec_fields.h"
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PROCESSES_MAX 4096 /* of one container, made by the host */

struct loop *container_loop(const struct container *container)
{
    return container->sandbox->loop;
}

/* Ids and process names become parts of paths and log lines. */
static int name_check(const char *name, size_t max, const char *what, struct error *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.";
    size_t length = strlen(name);
    if (length == 0 || length > max || strspn(name, allowed) != length || strcmp(name, ".") == 0 ||
        strcmp(name, "..") == 0)
        return error_set(err, 0, "%s: '%.*s' is not valid", what, CONTAINER_ID_MAX, name);
    return 0;
}

static bool container_has_ended(const struct container *container)
{
    return (!container->init || container->init->state == PROCESS_ENDED) &&
           !(container->cgroup.fd >= 0 && cgroup_is_populated(&container->cgroup));
}

static void container_check_end(struct container *container)
{
    struct sandbox *sandbox = container->sandbox;
    if (!container->removing || !container_has_ended(container))
        return;
    bool orphaned = container->orphaned;
    container_free(container);
    if (orphaned && LIST_EMPTY(&sandbox->containers))
        sandbox_end(sandbox);
}

static void container_cgroup_changed(struct watch *watch, uint32_t events)
{
    (void)events;
    struct container *container = watch->arg;
    cgroup_take_event(watch->fd);
    freezer_changed(container);
    container_check_end(container);
}

/* The user that the container's cgroup is given to: the one that runs its process, if config.json mounts the
 * cgroup filesystem, writable and in a cgroup namespace of the container's own (config-linux.md "Cgroup
 * ownership"). -1: it stays the agent's. */
static int64_t container_cgroup_owner(const struct spec *spec)
{
    const struct spec_id_maps *maps = &spec->id_maps;
    if (!(spec->namespaces & CLONE_NEWCGROUP))
        return -1;
    for (size_t i = 0; i < spec->mount_count; i++) {
        const struct spec_mount *mount = &spec->mounts[i];
        uint64_t set = mount->attributes.set | mount->attributes.recursive_set;
        if (strncmp(mount->type, "cgroup", 6) == 0 && !(set & MOUNT_ATTR_RDONLY))
            return spec_id_outside(maps->uids, maps->uid_count, spec->process.uid);
    }
    return -1;
}

static int container_make_cgroup(struct container *container, struct error *err)
{
    if (cgroup_init(&container->cgroup, container->id, err) ||
        cgroup_apply(&container->cgroup, &container->spec->resources, err))
        return -1;
    int64_t owner = container_cgroup_owner(container->spec);
    if (owner > 0 && cgroup_delegate(container->cgroup.fd, (uid_t)owner, err))
        return -1;
    container->cgroup_events.fd = cgroup_open_events(&container->cgroup);
    int failed = container->cgroup_events.fd < 0
                     ? container->cgroup_events.fd
                     : loop_add(container_loop(container), &container->cgroup_events, EPOLLPRI);
    return failed ? error_set(err, -failed, "watch the cgroup") : 0;
}

/* Paths below SHARED_DIR by the index of what they are for, from params[key], {"<index>": path}. Heap array
 * of `count` borrowed strings. */
static const char **shared_paths_parse(const json_t *params, const char *name, size_t count,
                                       struct error *err)
{
    json_t *map = NULL, *value;
    const char *key;
    const char **paths = calloc(count + 1, sizeof(*paths));
    if (!paths) {
        error_set(err, ENOMEM, "%s", name);
        return NULL;
    }
    int failed = json_get_object(params, "", name, &map, err) < 0;
    json_object_foreach(map, key, value)
    {
        char *end;
        unsigned long index = strtoul(key, &end, 10);
        if (failed)
            break;
        if (*end || !*key || index >= count || !json_is_string(value))
            failed = error_set(err, 0, "%s: '%s' is no index of %s with a path", name, key, name);
        else
            paths[index] = json_string_value(value);
    }
    if (failed) {
        free(paths);
        return NULL;
    }
    return paths;
}

static int container_make_init(struct container *container, struct launch *launch, struct request *request,
                               struct error *err)
{
    struct process_wish wish;
    if (json_require(json_get_string(container->params, "", "root", &launch->root, err), "", "root", err) <
            0 ||
        json_get_string(container->params, "", "bundle", &launch->bundle, err) < 0 ||
        process_wish_parse(&wish, container->params, container->spec->process.terminal, err))
        return -1;
    const struct spec *spec = container->spec;
    cleanup_free const char **sources =
        shared_paths_parse(container->params, "mounts", spec->mount_count, err);
    cleanup_free const char **hooks =
        sources ? shared_paths_parse(container->params, "hooks", spec->create_hooks.count, err) : NULL;
    if (!hooks)
        return -1;
    launch->spec = spec;
    launch->id = container->id;
    launch->hook_programs = hooks;
    launch->cgroup_fd = container->cgroup.fd;
    launch->cgroup_name = container->cgroup.name;
    launch->mount_sources = sources;
    launch->submounts = json_object_get(container->params, "submounts");
    container->init =
        process_new(container, PROCESS_INIT, &container->spec->process, &wish, launch, request, err);
    if (!container->init)
        return -1;
    LIST_INSERT_HEAD(&container->processes, container->init, link);
    container->process_count++;
    return 0;
}

static struct container *container_new(struct sandbox *sandbox, const char *id, const json_t *params,
                                       struct error *err)
{
    struct container *container = calloc(1, sizeof(*container));
    if (!container) {
        error_set(err, ENOMEM, "container");
        return NULL;
    }
    container->sandbox = sandbox;
    container->cgroup.fd = -1;
    container->cgroup_events = (struct watch){.fd = -1, .fn = container_cgroup_changed, .arg = container};
    container->params = json_incref((json_t *)params);
    strncpy(container->id, id, sizeof(container->id) - 1);
    container->oom_events.fd = -1;
    container->proc_fd = -1;
    LIST_INIT(&container->pause_requests);
    LIST_INIT(&container->oom_requests);
    LIST_INIT(&container->processes);
    LIST_INSERT_HEAD(&sandbox->containers, container, link);
    return container;
}

int container_create(struct sandbox *sandbox, const json_t *params, struct request *request,
                     struct error *err)
{
    const char *id = NULL;
    json_t *config = NULL;
    const char *notify = NULL;
    bool owner = false;
    if (json_require(json_get_string(params, "", "container", &id, err), "", "container", err) < 0 ||
        name_check(id, CONTAINER_ID_MAX, "container", err) ||
        json_require(json_get_object(params, "", "spec", &config, err), "", "spec", err) < 0 ||
        json_get_bool(params, "", "owner", &owner, err) < 0 ||
        json_get_string(params, "", "notify", &notify, err) < 0)
        return -1;
    if (sandbox_find(sandbox, id))
        return error_say(err, EEXIST, "container %s exists already", id);
    struct container *container = container_new(sandbox, id, params, err);
    if (!container)
        return -1;
    struct launch launch = {.init_pidfd = -1, .bundle = ""};
    container->spec = spec_new(config, err);
    if (notify)
        container->notify = notify_new(sandbox->loop, notify, err);
    if (!container->spec || disks_apply(container->spec, params, DISKS_SYSFS, err) ||
        (notify && !container->notify) || joins_resolve(container, launch.join_pidfds, err) ||
        container_make_cgroup(container, err) || container_make_init(container, &launch, request, err)) {
        container_free(container);
        return -1;
    }
    if (owner) {
        container->owner = request->connection;
        connection_set_owner(request->connection);
    }
    sandbox_open_waiting_streams(sandbox);
    return 0;
}

static void container_remove_process(struct container *container, struct process *process)
{
    LIST_REMOVE(process, link);
    container->process_count--;
    process_free(process);
}

/* Whether a further process of that name can be made. Those of which nothing is wanted any more go first. */
static int container_make_room(struct container *container, const char *name, struct error *err)
{
    struct process *next;
    for (struct process *at = LIST_FIRST(&container->processes); at; at = next) {
        next = LIST_NEXT(at, link);
        if (at != container->init && process_is_over(at))
            container_remove_process(container, at);
    }
    if (container_find_process(container, name))
        return error_say(err, EEXIST, "process %s exists already", name);
    if (container->process_count >= PROCESSES_MAX)
        return error_say(err, EAGAIN, "container %s has %d processes", container->id, PROCESSES_MAX);
    return 0;
}

/* The cgroup below the container's that a further process is to be born in; the container may have made it,
 * so no link is followed and no way leads out. *fd stays -1 when none is named. 0 or -1. */
static int container_open_cgroup(const struct container *container, const json_t *params, int *fd,
                                 struct error *err)
{
    const char *path = NULL;
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
    if (json_get_string(params, "", "cgroup", &path, err) < 0)
        return -1;
    if (!path)
        return 0;
    while (*path == '/')
        path++;
    *fd = (int)syscall(SYS_openat2, container->cgroup.fd, *path ? path : ".", &how, sizeof(how));
    return *fd < 0 ? error_set(err, errno, "cgroup %s", path) : 0;
}

int container_add_process(struct container *container, const json_t *params, struct request *request,
                          struct error *err)
{
    const char *name = NULL;
    json_t *object = NULL;
    struct launch launch = {.spec = container->spec,
                            .cgroup_fd = container->cgroup.fd,
                            .init_pidfd = container->init->pidfd,
                            .init_pid = container->init->pid};
    if (json_require(json_get_string(params, "", "process", &name, err), "", "process", err) < 0 ||
        name_check(name, PROCESS_NAME_MAX, "process", err) ||
        json_require(json_get_object(params, "", "spec", &object, err), "", "spec", err) < 0)
        return -1;
    /* Into a created container too, as runc allows: its namespaces are there. */
    if (container->removing ||
        (container->init->state != PROCESS_RUNNING && container->init->state != PROCESS_CREATED))
        return error_say(err, ESRCH, "container %s is not running", container->id);
    if (container_make_room(container, name, err))
        return -1;
    struct spec_process own;
    struct process_wish wish;
    struct process *process = NULL;
    bool owner = false;
    cleanup_fd int cgroup_fd = -1;
    if (container_open_cgroup(container, params, &cgroup_fd, err))
        return -1;
    if (cgroup_fd >= 0)
        launch.cgroup_fd = cgroup_fd;
    if (spec_process_init(&own, object, "process", err) == 0 &&
        process_wish_parse(&wish, params, own.terminal, err) == 0 &&
        json_get_bool(params, "", "owner", &owner, err) >= 0) {
        wish.owner = owner ? request->connection : NULL;
        process = process_new(container, name, &own, &wish, &launch, request, err);
    }
    if (!process) {
        spec_process_fini(&own);
        return -1;
    }
    process->own_spec = own;
    process->spec = &process->own_spec;
    LIST_INSERT_HEAD(&container->processes, process, link);
    container->process_count++;
    if (owner)
        connection_set_process_owner(request->connection);
    sandbox_open_waiting_streams(container->sandbox);
    return 0;
}

struct process *container_find_process(const struct container *container, const char *name)
{
    struct process *process;
    LIST_FOREACH(process, &container->processes, link)
    {
        if (strcmp(process->name, name) == 0)
            return process;
    }
    return NULL;
}

const char *container_status(const struct container *container)
{
    switch (container->init->state) {
    case PROCESS_SETTING_UP:
        return "creating";
    case PROCESS_CREATED:
        return "created";
    case PROCESS_RUNNING:
        return "running";
    default:
        return "stopped";
    }
}

int container_delete(struct container *container, bool force, struct request *request, struct error *err)
{
    if (container->delete_request)
        return error_say(err, EBUSY, "container %s is being deleted", container->id);
    if (!force && container->init->state != PROCESS_ENDED)
        return error_say(err, EBUSY, "container %s is %s", container->id, container_status(container));
    container->delete_request = request;
    container_abandon(container);
    return 0;
}

void container_abandon(struct container *container)
{
    container->removing = true;
    int failed = cgroup_kill(&container->cgroup, SIGKILL);
    if (failed)
        log_err("container %s: kill: %s", container->id, strerror(-failed));
    container_check_end(container);
}

void container_owner_lost(struct container *container, const struct connection *connection)
{
    struct process *process;
    LIST_FOREACH(process, &container->processes, link)
    {
        if (process->wish.owner == connection)
            process_abandon(process);
    }
}

void container_process_ended(struct container *container, struct process *process)
{
    if (process != container->init) {
        if (process->create_request || process->failure.code)
            container_remove_process(container, process);
        return;
    }
    /* Without its init a container is stopped: with a pid namespace the kernel has ended the others, without
     * one this does. */
    if (cgroup_is_populated(&container->cgroup))
        cgroup_kill(&container->cgroup, SIGKILL);
    freezer_changed(container);
    oom_unwatch(container);
    if (process->create_request)
        container->removing = true;
    container_check_end(container);
}

static bool container_has_disk(const struct container *container, const char *serial)
{
    json_t *entry;
    size_t i;
    json_array_foreach(json_object_get(container->params, "disks"), i, entry)
    {
        const char *own = json_string_value(json_object_get(entry, "serial"));
        if (own && strcmp(own, serial) == 0)
            return true;
    }
    return false;
}

json_t *container_read_proc(struct container *container, const char *path, struct error *err)
{
    const struct process *init = container->init;
    if (init->pidfd < 0 || (init->state != PROCESS_CREATED && init->state != PROCESS_RUNNING)) {
        error_set(err, ESRCH, "container %s is %s", container->id, container_status(container));
        return NULL;
    }
    if (container->proc_fd < 0)
        container->proc_fd = proc_open(init->pidfd, err);
    return container->proc_fd < 0 ? NULL : proc_read(container->proc_fd, path, err);
}

/* The last container with a disk leaves; it is not in the sandbox's list any more. */
static void container_release_disks(const struct container *container)
{
    json_t *entry;
    size_t i;
    json_array_foreach(json_object_get(container->params, "disks"), i, entry)
    {
        const char *serial = json_string_value(json_object_get(entry, "serial"));
        struct container *other;
        bool used = false;
        LIST_FOREACH(other, &container->sandbox->containers, link)
        {
            used |= serial && container_has_disk(other, serial);
        }
        if (!used)
            disks_release(entry, DISKS_SYSFS);
    }
}

void container_free(struct container *container)
{
    struct process *process;
    struct request *request = container->delete_request;
    char id[sizeof(container->id)];
    memcpy(id, container->id, sizeof(id));
    container->removing = true;
    freezer_changed(container);
    oom_unwatch(container);
    if (container->cgroup_events.fd >= 0)
        loop_del(container_loop(container), &container->cgroup_events);
    fd_close(&container->cgroup_events.fd);
    notify_free(container->notify);
    fd_close(&container->proc_fd);
    if (container->cgroup.fd >= 0) {
        int failed = cgroup_remove(&container->cgroup);
        if (failed)
            log_err("container %s: remove the cgroup: %s", id, strerror(-failed));
    }
    cgroup_fini(&container->cgroup);
    LIST_REMOVE(container, link);
    while ((process = LIST_FIRST(&container->processes)) != NULL) {
        LIST_REMOVE(process, link);
        process_free(process);
    }
    container_release_disks(container);
    spec_free(container->spec);
    json_decref(container->params);
    free(container);
    if (request)
        request_succeed(request, NULL);
}
