/*
 * The host's part of `update`: the limits of the container's cgroup on the host, and the VM's size.
 *
 * Around the agent's container.update: what grows (host's limits, vCPUs, memory) grows before, since the
 * guest's limits must find room; what shrinks shrinks after. A VM gives back memory as far as its guest lets
 * go of it; the host's limit never falls below what the VM has. Called by shim/container_update.c under the
 * container's lock.
 */
#ifndef HUSK_SHIM_CONTAINER_RESIZE_H
#define HUSK_SHIM_CONTAINER_RESIZE_H

#include "shim/config.h"
#include "shim/container.h"
#include "shim/host_cgroup.h"
#include "shim/host_resources.h"
#include "shim/sandbox.h"

struct container_resize {
    const struct store *store;
    const struct container_state *state;
    struct config config;
    struct host_cgroup cgroup;
    struct sandbox sandbox;
    struct host_resources before, after;
    struct vm_size wanted;
};

/* Applies what grows. resources: linux.resources as it is to be, whole; borrowed until fini. 0, or -1 with
 * err, naming the member that can't be; then what it did is undone. container_resize_fini in both cases. */
int container_resize_begin(struct container_resize *resize, const struct context *context,
                           const struct container_state *state, const json_t *resources, struct error *err);

/* Applies what shrinks, and notes the VM's size. 0, or -1 with err. */
int container_resize_finish(struct container_resize *resize, struct error *err);

/* Back to the limits before; what fails is logged. */
void container_resize_undo(struct container_resize *resize);

void container_resize_fini(struct container_resize *resize);

#endif
