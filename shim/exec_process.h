/*
 * The process that `exec` is asked for: its options, and the OCI process object they make. It comes whole
 * from a file (--process), or it is the container's own with what the options say, as in runc's exec.
 */
#ifndef HUSK_SHIM_EXEC_PROCESS_H
#define HUSK_SHIM_EXEC_PROCESS_H

#include "common/error.h"
#include "shim/container_state.h"
#include "shim/options.h"

#include <jansson.h>

enum exec_flag { EXEC_FLAG_UNSET, EXEC_FLAG_FALSE, EXEC_FLAG_TRUE };

struct exec_options {
    const char *process_file;
    const char *cwd;
    const char *user; /* UID[:GID] */
    const char *apparmor;
    const char *process_label;
    struct option_list env, capabilities, additional_gids;
    bool tty;
    enum exec_flag no_new_privileges;

    /* not of the process object: */
    const char *pid_file;
    const char *console_socket;
    const char *pidfd_socket;
    const char *cgroup;
    bool detach;
    bool ignore_paused;
    bool no_subreaper;
    unsigned preserve_fds;
};

/* Makes the process object for the container; args (NULL-terminated) are the words after its ID. New
 * reference, or NULL with err filled. */
json_t *exec_process_make(const struct exec_options *options, const struct container_state *state,
                          char *const *args, struct error *err);

#endif
