/*
 * A container's cgroup in the guest (version 2): made before its first process, which is born in it, and
 * removed after its last.
 */
#ifndef HUSK_AGENT_CGROUP_H
#define HUSK_AGENT_CGROUP_H

#include "agent/spec.h"
#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CGROUP_ROOT "/sys/fs/cgroup"

struct cgroup {
    int fd; /* its directory; -1: none */
    char name[160];
};

/* Lets every controller of the kernel be used below the root. At boot. 0 or -1. */
int cgroup_enable_controllers(struct error *err);

/* Makes the cgroup of the container `id`. EEXIST when there is one. 0 or -1. */
int cgroup_init(struct cgroup *cgroup, const char *id, struct error *err);

/* Closes; the cgroup itself stays. */
void cgroup_fini(struct cgroup *cgroup);

/* Writes the values in their order and sets the device rules. 0, or -1 with err naming the member. */
int cgroup_apply(const struct cgroup *cgroup, const struct spec_resources *resources, struct error *err);

/* The processes in it and below, by ascending pid as the agent's pid namespace counts them. */
struct cgroup_pids {
    pid_t *pids; /* the caller frees */
    size_t count;
};
int cgroup_list_pids(const struct cgroup *cgroup, struct cgroup_pids *out); /* 0 or -errno */

/* Writes one of a cgroup's files. 0 or -errno. */
int cgroup_write_file(int dir_fd, const char *file, const char *value);

/* Sends the signal to every process in it and below. 0 or -errno. */
int cgroup_kill(const struct cgroup *cgroup, int signal);

/* Opens cgroup.events: EPOLLPRI when it may have become empty, until cgroup_take_event. fd or -errno. */
int cgroup_open_events(const struct cgroup *cgroup);

/* Acknowledges what EPOLLPRI told about that fd, by reading it. */
void cgroup_take_event(int events_fd);

/* Whether a living process is in it or below. */
bool cgroup_is_populated(const struct cgroup *cgroup);

/* Removes it and what the container made below. 0 or -errno (-EBUSY while it is populated). */
int cgroup_remove(const struct cgroup *cgroup);

#endif
