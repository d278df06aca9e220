/*
 * From fork to exec: how the agent makes a process of a container.
 *
 * launch_start forks stage 1, which has the agent's rights, is in the container's cgroup and makes ready what
 * needs both; it forks the process itself, as a child of the agent and into the container's namespaces, tells
 * the agent by SYNC_CHILD and ends. The process waits for SYNC_GO, walks the staircase in launch.c, tells
 * SYNC_READY, waits for SYNC_START and runs the program. What goes wrong on the way comes back as SYNC_ERROR,
 * with the step in its text.
 */
#ifndef HUSK_AGENT_LAUNCH_H
#define HUSK_AGENT_LAUNCH_H

#include "agent/program.h"
#include "agent/spec.h"
#include "common/error.h"
#include "protocol/protocol.h"

#include <jansson.h>
#include <sys/types.h>

/* What a process is made of. All is borrowed, and the fds stay the caller's: the child has copies. */
struct launch {
    const struct spec *spec; /* the container's */
    const struct spec_process *process;
    bool terminal;
    int stdio[3];             /* without a terminal: what becomes fd 0, 1 and 2 */
    int fds[PROCESS_FDS_MAX]; /* what becomes the fds from PROCESS_FDS_FIRST on, or -1 */
    struct program_activation activation;
    int sync_fd;    /* the child's end, see sync.h */
    int cgroup_fd;  /* the directory of the cgroup to be born in */
    int init_pidfd; /* -1: the process is the container's init; else the init whose namespaces it joins */
    pid_t init_pid;
    int user_fd; /* stage 1's own: the user namespace with the container's mappings, or -1 */
    /* For an init: */
    int join_pidfds[SPEC_NAMESPACES]; /* by index in spec->joins: the init that has the namespace */
    const char *id, *bundle;          /* of the container's state, for its hooks */
    const char *cgroup_name;          /* path below CGROUP_ROOT */
    const char *const *hook_programs; /* by index in spec->create_hooks: path below SHARED_DIR, or NULL */
    const char *root;                 /* path below SHARED_DIR */
    const char *const *mount_sources; /* by index in spec->mounts: path below SHARED_DIR, or NULL */
    const json_t *submounts;          /* "root" or an index in spec->mounts: paths below it (protocol.h) */
};

/* Forks. The pid of stage 1, or -1 with err filled. */
pid_t launch_start(const struct launch *launch, struct error *err);

#endif
