/*
 * Where the host's cgroup hierarchies are mounted, and where in them the calling process is.
 *
 * Three arrangements exist: "unified" (version 2 alone), "legacy" (version 1, a hierarchy per controller or
 * pair of them) and "hybrid" (version 1 with an additional version 2 hierarchy without the main controllers).
 * Read from /proc/self/mountinfo and /proc/self/cgroup (proc(5), cgroups(7)); nothing is changed here.
 */
#ifndef HUSK_SHIM_CGROUP_MOUNTS_H
#define HUSK_SHIM_CGROUP_MOUNTS_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>

#define CGROUP_HIERARCHIES_MAX 24

struct cgroup_hierarchy {
    char *controllers; /* "memory", "cpu,cpuacct", "name=systemd"; "" is version 2 */
    char *mount_point; /* absolute */
    char *own;         /* the calling process's cgroup below the mount point: starts with '/' */
};

struct cgroup_mounts {
    bool unified; /* version 2 alone */
    size_t count;
    struct cgroup_hierarchy hierarchies[CGROUP_HIERARCHIES_MAX];
};

/* Reads this process's mounts and cgroups; hierarchies that are mounted several times count once, those
 * hidden below a later mount not at all. No hierarchy is no error: count 0. 0, or -1 with err filled. Undone
 * by cgroup_mounts_fini in both cases. */
int cgroup_mounts_read(struct cgroup_mounts *mounts, struct error *err);

/* The same from texts of those two files. `visible` tells whether a mount point still shows that device. */
int cgroup_mounts_parse(struct cgroup_mounts *mounts, char *mountinfo, char *cgroups,
                        bool (*visible)(const char *mount_point, unsigned major, unsigned minor),
                        struct error *err);

void cgroup_mounts_fini(struct cgroup_mounts *mounts);

/* Whether a list as "cpu,cpuacct" names the controller; "" (version 2) names all. */
bool cgroup_list_has(const char *controllers, const char *controller);

#endif
