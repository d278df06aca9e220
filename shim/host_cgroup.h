/*
 * A container's cgroup on the host: it holds the VMM with all its threads and the monitors, of init and of
 * each exec, and so is what /proc/PID/cgroup of state.pid names and what engines read statistics from.
 *
 * cgroupsPath (OCI runtime-spec "Control groups") has two forms, told apart by --systemd-cgroup and
 * --cgroup-manager:
 *
 *   cgroupfs  a path: absolute ones start at the hierarchy's mount point, relative ones at the caller's own
 * cgroup (in version 2 at its parent, since a cgroup that holds processes can't lend controllers to those
 * below it); absent, the container's ID as a relative path. As runc. systemd   "slice:prefix:name": the
 * transient scope prefix-name.scope in that slice, asked of systemd over D-Bus; absent, husk-ID.scope in
 * system.slice (user.slice for a user's own manager).
 *
 * Order: plan (nothing changes; what was planned is written into the state, so that a crash leaves nothing
 * unknown), make (cgroup, limits, the calling monitor moves in), then the VMM is born in it, before it has
 * any memory. Only what was made is removed. A cgroup that was there before is joined and stays; with
 * processes in it, it is refused (as by runc from 1.2 on).
 *
 * A caller who may not make cgroups (rootless) and asks for neither a path nor limits goes without, as with
 * runc; all other failures are errors. Without a cgroup on the host (--cgroup-manager disabled) limits hold
 * in the guest, and by the VM's size.
 */
#ifndef HUSK_SHIM_HOST_CGROUP_H
#define HUSK_SHIM_HOST_CGROUP_H

#include "common/error.h"
#include "shim/cgroup_mounts.h"
#include "shim/cgroup_tree.h"
#include "shim/host_resources.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum cgroup_manager { CGROUP_MANAGER_CGROUPFS, CGROUP_MANAGER_SYSTEMD, CGROUP_MANAGER_DISABLED };

struct host_cgroup {
    enum cgroup_manager manager;
    bool rootless;      /* the caller has no right to the host's cgroups by its uid */
    bool path_given;    /* by cgroupsPath */
    char *unit, *slice; /* with systemd: names of the scope and its slice */
    bool unit_made;     /* by us */
    char *unit_marker;  /* the scope's description: tells ours from others' */
    size_t count;       /* of directories; 0 before the scope is there, and when disabled */
    struct cgroup_directory directories[CGROUP_HIERARCHIES_MAX];
    size_t origin_count;
    int origin_fds[CGROUP_HIERARCHIES_MAX]; /* cgroup.procs of where the maker came from */
};

/* The manager that the global options ask for (both may be NULL or false: cgroupfs). 0, or -1 with err. */
int host_cgroup_choose_manager(const char *name, bool systemd_cgroup, enum cgroup_manager *out,
                               struct error *err);

/* Where the cgroup of container `id` will be. cgroups_path: linux.cgroupsPath or NULL. 0, or -1 with err
 * naming what is wrong with the path. Undone by host_cgroup_fini in both cases. */
int host_cgroup_plan(struct host_cgroup *cgroup, enum cgroup_manager manager, const char *cgroups_path,
                     const char *id, struct error *err);

/* Makes the cgroup, sets its limits (cgroup_limits_plan's) and moves the calling process in. 0, or -1 with
 * err: then what it made is gone again and the process is where it was. */
int host_cgroup_make(struct host_cgroup *cgroup, const struct host_resources *limits, struct error *err);

/* Moves the calling process back to where it was before host_cgroup_make, as far as that is allowed. Only
 * system calls: fit for a child between fork and exec, as the host's hooks are, which are not the
 * container's. */
void host_cgroup_return_to_origin(const struct host_cgroup *cgroup);

/* Ends the possibility of that: frees its fds. */
void host_cgroup_forget_origin(struct host_cgroup *cgroup);

/* Moves a process with its threads into a cgroup that was made: an exec's monitor at its birth. 0, or -1 with
 * err. */
int host_cgroup_enter(const struct host_cgroup *cgroup, pid_t pid, struct error *err);

/* Changes the limits: what is not set in `limits` stays as it is. 0, or -1 with err. */
int host_cgroup_update(const struct host_cgroup *cgroup, const struct host_resources *limits,
                       struct error *err);

/* Ends the scope and removes what was made; the calling process leaves it first, if it made it. What is still
 * in it is given time to end, then killed. 0, also when it has gone already, or -1 with err. */
int host_cgroup_remove(const struct host_cgroup *cgroup, struct error *err);

/* The directory of the controller ("memory"; in version 2 any) or NULL: for statistics. Borrowed. */
const char *host_cgroup_path(const struct host_cgroup *cgroup, const char *controller);

/* For state.json: a new reference or NULL; and back, where an absent object is a container without cgroup. 0,
 * or -1 with err. Undone by host_cgroup_fini in both cases. */
json_t *host_cgroup_to_json(const struct host_cgroup *cgroup);
int host_cgroup_from_json(const json_t *object, struct host_cgroup *cgroup, struct error *err);

void host_cgroup_fini(struct host_cgroup *cgroup);

#endif
