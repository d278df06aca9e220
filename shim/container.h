/*
 * What commands do with containers: create one, reach its agent, take it away. Built on the store, the state,
 * the sandbox and the monitor; called by cmd_*.c.
 */
#ifndef HUSK_SHIM_CONTAINER_H
#define HUSK_SHIM_CONTAINER_H

#include "common/error.h"
#include "shim/agent_client.h"
#include "shim/command.h"
#include "shim/container_state.h"
#include "shim/monitor.h"
#include "shim/options.h"
#include "shim/store.h"

/* The options that create and run share; create_option_rows describes the first members of any struct that
 * begins with this one. */
struct create_options {
    const char *bundle;
    const char *config;
    const char *pid_file;
    const char *pidfd_socket;
    const char *console_socket;
    bool no_pivot, no_new_keyring, no_subreaper;
    unsigned preserve_fds;
    bool foreground; /* no option: the command stays, and its terminal is the container's */
};

#define CREATE_OPTION(name) offsetof(struct create_options, name)

/* clang-format off */
#define CREATE_OPTION_ROWS                                                                                   \
    {"bundle", 'b', "DIR", "the bundle (default: the current directory)",                                    \
     option_set_string, CREATE_OPTION(bundle)},                                                              \
    {"config", 'f', "FILE", "instead of the bundle's config.json",                                           \
     option_set_string, CREATE_OPTION(config)},                                                              \
    {"pid-file", 0, "FILE", "where to write the process's pid",                                              \
     option_set_string, CREATE_OPTION(pid_file)},                                                            \
    {"pidfd-socket", 0, "SOCKET", "where to send a pidfd of the process",                                    \
     option_set_string, CREATE_OPTION(pidfd_socket)},                                                        \
    {"console-socket", 0, "SOCKET", "where to send the terminal's master",                                   \
     option_set_string, CREATE_OPTION(console_socket)},                                                      \
    {"no-pivot", 0, NULL, "accepted: the root is the guest's business",                                      \
     option_set_flag, CREATE_OPTION(no_pivot)},                                                              \
    {"no-new-keyring", 0, NULL, "accepted: the guest has keyrings of its own",                               \
     option_set_flag, CREATE_OPTION(no_new_keyring)},                                                        \
    {"no-subreaper", 0, NULL, "accepted: husk is no subreaper",                                              \
     option_set_flag, CREATE_OPTION(no_subreaper)},                                                          \
    {"preserve-fds", 0, "N", "pass N more fds on: sockets, pipes, and files by their bytes", \
     option_set_number, CREATE_OPTION(preserve_fds)}
/* clang-format on */

/* What a creation leaves with its caller. */
struct created {
    pid_t monitor;
    int tty_fd; /* with a terminal in the foreground: the caller's terminal, to be made raw; else -1 */
};

/* Creates a container and sets its monitor on its own. 0, or -1 with err filled: then nothing is left.
 * Single-threaded callers only. */
int container_create(const struct context *context, const char *id, const struct create_options *options,
                     struct created *created, struct error *err);

/* Writes a pid, without a newline, so that a reader sees all of it or no file. 0, or -1 with err filled. */
int container_write_pid_file(const char *path, pid_t pid, struct error *err);

/* Starts a created container's program. 0, or -1 with err filled. */
int container_start(const struct context *context, const char *id, struct error *err);

/* Connects to the agent of a container's sandbox. The client, the caller's, or NULL with err filled. */
struct agent_client *container_connect(const struct store *store, const struct container_state *state,
                                       int timeout_ms, struct error *err);

/* Connects, calls a method and waits for its answer. `params` is taken. The result's new reference, or NULL
 * with err filled. */
json_t *container_call(const struct store *store, const struct container_state *state, const char *method,
                       json_t *params, int timeout_ms, struct error *err);

/* Opens a container's directory under its lock (`*fd`, the caller's) and reads its true state. The caller
 * frees `state`, also after a failure. 0, or -1 with err filled. */
int container_open_locked(const struct store *store, const char *id, int *fd, struct container_state *state,
                          struct error *err);

/* Pauses a created or running container; lets a paused one go on. 0, or -1 with err filled. */
int container_pause(const struct context *context, const char *id, struct error *err);
int container_resume(const struct context *context, const char *id, struct error *err);

/* Changes a container's limits: `resources` (linux.resources of the runtime-spec) holds what changes. 0, or
 * -1 with err filled: then the old values hold. */
int container_update(const struct context *context, const char *id, const json_t *resources,
                     struct error *err);

/* Deletes a container: one that is stopped or merely created, or with force any. 0, or -1 with err filled. */
int container_delete(const struct context *context, const char *id, bool force, struct error *err);

/* Calls fn for each container whose ID matches the extended regular expression, as crun's --regex. 0, or -1
 * with err filled by the first that failed (the others are tried all the same) or by the expression. */
int container_for_each_match(const struct context *context, const char *expression,
                             int (*fn)(const struct context *context, const char *id, void *arg,
                                       struct error *err),
                             void *arg, struct error *err);

/* Ends whatever is left of a container (monitor, VMM) and removes its cgroup and files. With `force` a cgroup
 * that can't be removed is only a warning. The caller holds the lock on container_fd. 0, or -1 with err
 * filled. */
int container_destroy(const struct store *store, const char *id, int container_fd, bool force,
                      struct error *err);

#endif
