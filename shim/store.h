/*
 * The directories of state below --root, and the locks on them.
 *
 *   ROOT/containers/ID/   state.json (shim/container_state.h)
 *   ROOT/sandboxes/ID/    vsock.sock, vmm.sock, vmm.json, vmm.log, console.log, status.json, monitor.log
 * (shim/sandbox.h)
 *
 * A container's lock is flock(2) on its directory: it belongs to an open file description, so it ends with
 * the process that holds it however that ends. Whoever changes a container's state holds it; readers need
 * not, because state files are replaced whole.
 */
#ifndef HUSK_SHIM_STORE_H
#define HUSK_SHIM_STORE_H

#include "common/error.h"

struct store {
    char *root; /* absolute */
    int containers_fd;
    int sandboxes_fd;
};

/* Opens (with 0700 makes) the directories below root. 0, or -1 with err filled; undone by store_fini. */
int store_init(struct store *store, const char *root, struct error *err);
void store_fini(struct store *store);

/* Whether `id` may name a container: as runc, letters, digits, "_", "+", "-", "." but neither "." nor "..",
 * and at most CONTAINER_ID_MAX of them. 0, or -1 with err filled. */
int store_check_id(const char *id, struct error *err);

/* Opens a container's directory without a lock. fd, the caller's, or -1 ("container does not exist"). */
int store_open_container(const struct store *store, const char *id, struct error *err);

/* The same, locked: waits for whoever holds the lock. Closing the last copy of the fd unlocks. */
int store_lock_container(const struct store *store, const char *id, struct error *err);

/* Makes a container's directory and locks it. An ID that is taken is an error; what a creator that died
 * before it wrote a state left there is not. fd, the caller's, or -1 with err filled. */
int store_create_container(const struct store *store, const char *id, struct error *err);

/* Makes and opens, or only opens, a sandbox's directory. fd, the caller's, or -1 with err filled. */
int store_create_sandbox(const struct store *store, const char *id, struct error *err);
int store_open_sandbox(const struct store *store, const char *id, struct error *err);

/* Removes a sandbox's or a container's directory and the files in it, the state file last so that what is
 * left by a crash can be found again. Missing ones are fine. 0, or -1 with err filled. */
int store_remove_sandbox(const struct store *store, const char *id, struct error *err);
int store_remove_container(const struct store *store, const char *id, struct error *err);

#define STORE_STATE_FILE "state.json"

#endif
