/*
 * A container's cgroup from systemd: a transient scope, asked for over D-Bus (org.freedesktop.systemd1(5)).
 *
 * systemd owns the tree, so that it alone may make, limit and remove the scope; Delegate=yes leaves what lies
 * in it to us. Each call runs in a child of its own, where libsystemd is loaded: the monitors, forks of one
 * program that live as long as their containers, stay free of it and of what it links, and a bus that hangs
 * can't keep them.
 */
#ifndef HUSK_SHIM_CGROUP_SYSTEMD_H
#define HUSK_SHIM_CGROUP_SYSTEMD_H

#include "common/error.h"
#include "shim/host_resources.h"

#include <stdbool.h>
#include <sys/types.h>

struct systemd_scope {
    const char *unit;  /* NAME.scope */
    const char *slice; /* NAME.slice */
    const char *description;
    bool user;     /* the user's own manager instead of the system's */
    bool version2; /* of the host's cgroups: the properties differ */
};

/* Starts the scope with the process in it, and waits for systemd to have done so. 0, or -1 with err, EEXIST
 * when a unit of that name exists (one that has failed is forgotten first). Single-threaded callers only,
 * like all of these. */
int systemd_scope_start(const struct systemd_scope *scope, pid_t pid, const struct host_resources *limits,
                        struct error *err);

/* Changes the scope's limits, until the next boot at most; what is not set stays. 0, or -1 with err. */
int systemd_scope_update(const struct systemd_scope *scope, const struct host_resources *limits,
                         struct error *err);

/* Stops the scope if it is there and its description is ours; waits for that. 0, or -1 with err. */
int systemd_scope_stop(const struct systemd_scope *scope, struct error *err);

#endif
