/*
 * Requests of the host: see requests.h and protocol.h. A handler takes its parameters out of the JSON, finds
 * the object and leaves the work to it. It either keeps or answers the request, or fails with err filled.
 */
#include "agent/requests.h"

#include "agent/cgroup_update.h"
#include "agent/container.h"
#include "agent/cpus.h"
#include "agent/freezer.h"
#include "agent/network.h"
#include "agent/notify.h"
#include "agent/oom.h"
#include "agent/process.h"
#include "agent/processes.h"
#include "agent/spec.h"
#include "agent/stats.h"
#include "common/json.h"
#include "common/log.h"
#include "protocol/protocol.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

typedef int (*handler_fn)(struct sandbox *sandbox, struct request *request, const json_t *params,
                          struct error *err);

static struct container *params_container(struct sandbox *sandbox, const json_t *params, struct error *err)
{
    const char *id = NULL;
    if (json_require(json_get_string(params, "", "container", &id, err), "", "container", err) < 0)
        return NULL;
    struct container *container = sandbox_find(sandbox, id);
    if (!container)
        error_say(err, ENOENT, "container %.*s does not exist", CONTAINER_ID_MAX, id);
    return container;
}

static struct process *params_process(struct sandbox *sandbox, const json_t *params, struct error *err)
{
    const char *name = PROCESS_INIT;
    struct container *container = params_container(sandbox, params, err);
    if (!container || json_get_string(params, "", "process", &name, err) < 0)
        return NULL;
    struct process *process = container_find_process(container, name);
    if (!process)
        error_say(err, ENOENT, "process %.*s of container %s does not exist", PROCESS_NAME_MAX, name,
                  container->id);
    return process;
}

static int handle_info(struct sandbox *sandbox, struct request *request, const json_t *params,
                       struct error *err)
{
    (void)sandbox, (void)params;
    struct utsname kernel;
    struct sysinfo info;
    if (uname(&kernel) < 0 || sysinfo(&info) < 0)
        return error_set(err, errno, "agent.info");
    request_succeed(request, json_pack("{s:s, s:s, s:i, s:I}", "version", HUSK_VERSION, "kernel",
                                       kernel.release, "cpus", get_nprocs(), "memory_bytes",
                                       (json_int_t)info.totalram * info.mem_unit));
    return 0;
}

static int handle_create(struct sandbox *sandbox, struct request *request, const json_t *params,
                         struct error *err)
{
    return container_create(sandbox, params, request, err);
}

static int handle_start(struct sandbox *sandbox, struct request *request, const json_t *params,
                        struct error *err)
{
    struct process *process = params_process(sandbox, params, err);
    return process ? process_start(process, request, err) : -1;
}

static int handle_state(struct sandbox *sandbox, struct request *request, const json_t *params,
                        struct error *err)
{
    struct container *container = params_container(sandbox, params, err);
    if (!container)
        return -1;
    request_succeed(request, json_pack("{s:s, s:i}", "status", container_status(container), "pid",
                                       (int)container->init->pid));
    return 0;
}

static int handle_kill(struct sandbox *sandbox, struct request *request, const json_t *params,
                       struct error *err)
{
    struct process *process = params_process(sandbox, params, err);
    int64_t signal = 0;
    bool all = false;
    if (!process ||
        json_require(json_get_int(params, "", "signal", 0, NSIG - 1, &signal, err), "", "signal", err) < 0 ||
        json_get_bool(params, "", "all", &all, err) < 0)
        return -1;
    int failed =
        all ? cgroup_kill(&process->container->cgroup, (int)signal) : process_signal(process, (int)signal);
    if (failed == -ESRCH)
        return error_say(err, ESRCH, "container not running"); /* callers look for these words */
    if (failed)
        return error_set(err, -failed, "signal %d", (int)signal);
    request_succeed(request, NULL);
    return 0;
}

static int handle_delete(struct sandbox *sandbox, struct request *request, const json_t *params,
                         struct error *err)
{
    struct container *container = params_container(sandbox, params, err);
    bool force = false;
    if (!container || json_get_bool(params, "", "force", &force, err) < 0)
        return -1;
    return container_delete(container, force, request, err);
}

static int handle_pause(struct sandbox *sandbox, struct request *request, const json_t *params,
                        struct error *err)
{
    struct container *container = params_container(sandbox, params, err);
    return container ? freezer_pause(container, request, err) : -1;
}

static int handle_resume(struct sandbox *sandbox, struct request *request, const json_t *params,
                         struct error *err)
{
    struct container *container = params_container(sandbox, params, err);
    return container ? freezer_resume(container, request, err) : -1;
}

static int handle_processes(struct sandbox *sandbox, struct request *request, const json_t *params,
                            struct error *err)
{
    struct container *container = params_container(sandbox, params, err);
    bool details = false;
    if (!container || json_get_bool(params, "", "details", &details, err) < 0)
        return -1;
    json_t *list = processes_list(&container->cgroup, details, err);
    if (!list)
        return -1;
    request_succeed(request, list);
    return 0;
}

static int handle_proc(struct sandbox *sandbox, struct request *request, const json_t *params,
                       struct error *err)
{
    struct container *container = params_container(sandbox, params, err);
    const char *path = NULL;
    if (!container || json_require(json_get_string(params, "", "path", &path, err), "", "path", err) < 0)
        return -1;
    json_t *result = container_read_proc(container, path, err);
    if (!result)
        return -1;
    request_succeed(request, result);
    return 0;
}

static int handle_update(struct sandbox *sandbox, struct request *request, const json_t *params,
                         struct error *err)
{
    struct container *container = params_container(sandbox, params, err);
    json_t *object = NULL;
    struct spec_resources resources;
    if (!container ||
        json_require(json_get_object(params, "", "resources", &object, err), "", "resources", err) < 0)
        return -1;
    int failed = spec_resources_init(&resources, object, "resources", err) ||
                 cgroup_update(&container->cgroup, &resources, err);
    spec_resources_fini(&resources);
    if (failed)
        return -1;
    request_succeed(request, NULL);
    return 0;
}

static int handle_stats(struct sandbox *sandbox, struct request *request, const json_t *params,
                        struct error *err)
{
    struct container *container = params_container(sandbox, params, err);
    json_t *stats = container ? stats_read(&container->cgroup, err) : NULL;
    if (!stats)
        return -1;
    request_succeed(request, stats);
    return 0;
}

static int handle_events(struct sandbox *sandbox, struct request *request, const json_t *params,
                         struct error *err)
{
    struct container *container = params_container(sandbox, params, err);
    return container ? oom_watch(container, request, err) : -1;
}

static int handle_add_process(struct sandbox *sandbox, struct request *request, const json_t *params,
                              struct error *err)
{
    struct container *container = params_container(sandbox, params, err);
    return container ? container_add_process(container, params, request, err) : -1;
}

static int handle_wait(struct sandbox *sandbox, struct request *request, const json_t *params,
                       struct error *err)
{
    struct process *process = params_process(sandbox, params, err);
    if (!process)
        return -1;
    process_wait(process, request);
    return 0;
}

static int handle_resize(struct sandbox *sandbox, struct request *request, const json_t *params,
                         struct error *err)
{
    struct process *process = params_process(sandbox, params, err);
    int64_t rows = 0, columns = 0;
    if (!process ||
        json_require(json_get_int(params, "", "rows", 0, UINT16_MAX, &rows, err), "", "rows", err) < 0 ||
        json_require(json_get_int(params, "", "columns", 0, UINT16_MAX, &columns, err), "", "columns", err) <
            0)
        return -1;
    struct stream *terminal = process->streams.streams[STREAM_TERMINAL];
    if (!terminal)
        return error_set(err, ENOTTY, "process %s", process->name);
    int failed = stream_resize(terminal, (unsigned short)rows, (unsigned short)columns);
    if (failed)
        return error_set(err, -failed, "terminal size");
    request_succeed(request, NULL);
    return 0;
}

static int handle_network(struct sandbox *sandbox, struct request *request, const json_t *params,
                          struct error *err)
{
    json_t *removed = NULL;
    if (network_set(&sandbox->network, params, &removed, err) < 0)
        return -1;
    request_succeed(request, json_pack("{s:o}", "removed", removed));
    return 0;
}

static int handle_notify(struct sandbox *sandbox, struct request *request, const json_t *params,
                         struct error *err)
{
    struct container *container = params_container(sandbox, params, err);
    if (!container)
        return -1;
    if (!container->notify)
        return error_say(err, ENOENT, "container %s has no notify socket", container->id);
    return notify_wait(container->notify, request, err);
}

static int handle_sandbox_resize(struct sandbox *sandbox, struct request *request, const json_t *params,
                                 struct error *err)
{
    int64_t cpus = 0;
    if (json_require(json_get_int(params, "", "cpus", 1, UINT16_MAX, &cpus, err), "", "cpus", err) < 0)
        return -1;
    int online = cpus_set_online(CPUS_DIR, (unsigned)cpus, err);
    if (online < 0)
        return -1;
    network_use_cpus(sandbox->network, (unsigned)online);
    request_succeed(request, json_pack("{s:i}", "cpus", online));
    return 0;
}

static int handle_shutdown(struct sandbox *sandbox, struct request *request, const json_t *params,
                           struct error *err)
{
    (void)params, (void)err;
    request_succeed(request, NULL);
    sandbox_end(sandbox);
    return 0;
}

static const struct {
    const char *method;
    handler_fn handle;
} methods[] = {
    {"agent.info", handle_info},
    {"container.create", handle_create},
    {"container.start", handle_start},
    {"container.state", handle_state},
    {"container.kill", handle_kill},
    {"container.notify", handle_notify},
    {"container.delete", handle_delete},
    {"container.pause", handle_pause},
    {"container.resume", handle_resume},
    {"container.processes", handle_processes},
    {"container.proc", handle_proc},
    {"container.update", handle_update},
    {"container.stats", handle_stats},
    {"container.events", handle_events},
    {"process.create", handle_add_process},
    {"process.wait", handle_wait},
    {"process.resize", handle_resize},
    {"sandbox.network.set", handle_network},
    {"sandbox.resize", handle_sandbox_resize},
    {"sandbox.shutdown", handle_shutdown},
};

void requests_handle(struct sandbox *sandbox, struct request *request, const char *method,
                     const json_t *params)
{
    struct error err = {0};
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(methods[i].method, method) != 0)
            continue;
        if (methods[i].handle(sandbox, request, params, &err))
            request_fail(request, &err);
        return;
    }
    error_set(&err, ENOSYS, "method '%.64s'", method);
    request_fail(request, &err);
}

struct stream *requests_find_stream(struct sandbox *sandbox, const json_t *first_frame, struct error *err)
{
    struct process *process = params_process(sandbox, first_frame, err);
    return process ? process_open_stream(process, first_frame, err) : NULL;
}
