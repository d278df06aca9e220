/*
 * What husk remembers of a container: containers/ID/state.json.
 *
 * Written by the monitor while it creates the container and when it ends, and by `start`; each under the
 * container's lock and replacing the file whole, so a reader always finds one consistent state. The true
 * status needs a second look: a monitor that was killed wrote nothing (container_state_settle).
 */
#ifndef HUSK_SHIM_CONTAINER_STATE_H
#define HUSK_SHIM_CONTAINER_STATE_H

#include "common/error.h"
#include "shim/process_id.h"
#include "shim/store.h"

#include <jansson.h>
#include <stdbool.h>

/* OCI runtime-spec "State": creating, created, running, stopped. That a created or running container is
 * paused is told beside it: it goes on where it was. */
enum container_status { STATUS_CREATING, STATUS_CREATED, STATUS_RUNNING, STATUS_STOPPED };

struct container_state {
    char *id;
    char *sandbox; /* ID of its sandbox */
    char *bundle;  /* absolute */
    char *config;  /* path of its config.json where that is not the bundle's, or NULL */
    char *rootfs;  /* absolute */
    char *oci_version;
    char *owner;   /* name of the user who created it */
    char *created; /* RFC 3339 */
    enum container_status status;
    bool paused;      /* written before it is frozen and after it is thawed: what is frozen is always told */
    bool has_process; /* config.json had `process`: start needs it */
    json_t *annotations; /* object, or NULL */
    json_t *hooks;       /* config.json's, or NULL */
    json_t *resources;   /* linux.resources without devices, as last updated; or NULL */
    json_t *cgroup;      /* on the host, as host_cgroup_to_json wrote it; or NULL */
    struct process_id monitor;
    int exit_status; /* 0..255, -1 while unknown or ended by a signal */
    int exit_signal; /* 0: none */
    char *reason;    /* why it stopped, when not by its own process's end; or NULL */
};

/* Frees what the state holds. */
void container_state_fini(struct container_state *state);

/* Reads and checks state.json of an open container directory. 0, or -1 with err filled ("container does not
 * exist" when there is none). The caller frees with container_state_fini. */
int container_state_read(int container_fd, struct container_state *out, struct error *err);

/* Replaces state.json. The caller holds the container's lock. 0, or -1 with err filled. */
int container_state_write(int container_fd, const struct container_state *state, struct error *err);

/* Turns the recorded status into the true one: without its monitor a container is stopped, and `reason` says
 * so. */
void container_state_settle(struct container_state *state);

/* Opens, reads and settles in one step; without lock. 0, or -1 with err filled. */
int container_state_load(const struct store *store, const char *id, struct container_state *out,
                         struct error *err);

/* "running" and so on. */
const char *container_status_name(enum container_status status);

/* The status as the user is told it: that of container_status_name, or "paused". */
const char *container_state_word(const struct container_state *state);

/* The state as OCI runtime-spec's "State" wants it, with runc's additional members. New reference, or NULL
 * when memory is short. */
json_t *container_state_to_oci(const struct container_state *state);

/* Sets *field to a copy of text (NULL: none). 0, or -1 with err filled. */
int container_state_set_text(char **field, const char *text, struct error *err);

#endif
