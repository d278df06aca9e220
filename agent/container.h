/*
 * A container of the sandbox: its specification, its cgroup and its processes.
 *
 * It is created, running or stopped as its init is. It ends when its init has been reaped and its cgroup is
 * empty; what asked for its end (a failed create, container.delete, the loss of its owner) is then carried
 * out.
 */
#ifndef HUSK_AGENT_CONTAINER_H
#define HUSK_AGENT_CONTAINER_H

#include "agent/cgroup.h"
#include "agent/process.h"
#include "agent/sandbox.h"
#include "agent/spec.h"

#include <jansson.h>
#include <stdbool.h>

struct container {
    LIST_ENTRY(container) link;
    struct sandbox *sandbox;
    char id[CONTAINER_ID_MAX + 1];
    struct spec *spec;
    json_t *params; /* of its container.create: mount sources are borrowed from it */
    struct cgroup cgroup;
    struct watch cgroup_events;
    struct process_list processes;
    unsigned process_count;
    struct process *init; /* one of the processes, never NULL once created */
    const struct connection *owner;
    bool removing; /* to be freed as soon as it has ended */
    bool orphaned; /* its owner is gone: with the last such container the guest ends */
    struct request *delete_request;
    struct notify *notify;              /* agent/notify.h, or NULL */
    int proc_fd;                        /* agent/proc_file.h: -1 until it is asked for */
    struct request_list pause_requests; /* agent/freezer.h */
    struct request_list oom_requests;   /* agent/oom.h */
    struct watch oom_events;            /* fd -1: nobody wants to know */
    unsigned long long oom_kills;       /* as told last */
};

/* container.create. Keeps the request, or -1 with err filled. */
int container_create(struct sandbox *sandbox, const json_t *params, struct request *request,
                     struct error *err);

/* process.create in a running container. Keeps the request, or -1 with err filled. */
int container_add_process(struct container *container, const json_t *params, struct request *request,
                          struct error *err);

/* The process of that name, or NULL. */
struct process *container_find_process(const struct container *container, const char *name);

/* "creating", "created", "running" or "stopped". */
const char *container_status(const struct container *container);

/* container.delete. Keeps the request, or -1 with err filled (EBUSY). */
int container_delete(struct container *container, bool force, struct request *request, struct error *err);

/* container.proc: what is below the /proc of its pid namespace. New reference, or NULL with err filled. */
json_t *container_read_proc(struct container *container, const char *path, struct error *err);

/* Kills everything in it and frees it once that is done. */
void container_abandon(struct container *container);

/* Kills the further processes that the connection owned. */
void container_owner_lost(struct container *container, const struct connection *connection);

/* Tells the container that one of its processes was reaped. May free the process. */
void container_process_ended(struct container *container, struct process *process);

/* Frees it whatever its state; the cgroup is removed if it can be. */
void container_free(struct container *container);

struct loop *container_loop(const struct container *container);

#endif
