/*
 * One cgroup of one hierarchy, as a directory: made with its missing parents, written to, joined, removed.
 *
 * Only what was made is removed: `made` counts the components at the end of the path that did not exist.
 * Parents are shared with others, who may make and remove them at the same time; both directions retry. Paths
 * are absolute, below the hierarchy's mount point and free of "." and "..".
 */
#ifndef HUSK_SHIM_CGROUP_TREE_H
#define HUSK_SHIM_CGROUP_TREE_H

#include "common/error.h"

#include <sys/types.h>

struct cgroup_directory {
    char *controllers; /* as in struct cgroup_hierarchy; "" is version 2 */
    char *mount_point;
    char *path;    /* absolute */
    unsigned made; /* how many of its last components are ours */
};

/* Sets `made` to how many components are missing now: written down before cgroup_tree_make, so that what a
 * crash leaves is found. */
void cgroup_tree_count_missing(struct cgroup_directory *directory);

/* Makes what is missing. Version 2: lets the parents' controllers be used below them, as far as they allow;
 * the "no internal processes" rule of cgroups(7) may forbid it, and then a limit that needs the controller
 * fails later. Version 1: new cpuset cgroups get their parents' processors and nodes, without which nothing
 * can join. Sets `made`. 0, or -1 with err; then nothing it made is left. */
int cgroup_tree_make(struct cgroup_directory *directory, struct error *err);

/* How many processes are in the cgroup and in those below it, as far as it can be read: more than 0 in one
 * that was there before means that it is in somebody's use. */
unsigned cgroup_tree_count_processes(const struct cgroup_directory *directory);

/* Writes one of the cgroup's files. 0 or -errno. */
int cgroup_tree_write(const struct cgroup_directory *directory, const char *file, const char *value);

/* Moves a process with all its threads. 0, or -1 with err. */
int cgroup_tree_join(const struct cgroup_directory *directory, pid_t pid, struct error *err);

/* Removes what `made` tells of: the cgroup with empty ones below it, then its parents while they are empty.
 * Processes left in it get time to end, then SIGKILL (never the caller). 0, also when it has gone already, or
 * -1 with err. */
int cgroup_tree_remove(const struct cgroup_directory *directory, struct error *err);

#endif
