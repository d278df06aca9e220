/*
 * Disks for a sandbox that runs already: the host's block devices of a container that joins it (host_disks.h)
 * are put into empty slots of its machine (vmm/control_methods.h, "blk.attach"), and taken out again when no
 * container of the guest uses them. Called by the monitor of the container that joins.
 */
#ifndef HUSK_SHIM_DISK_PLUG_H
#define HUSK_SHIM_DISK_PLUG_H

#include "common/error.h"
#include "shim/host_disks.h"
#include "shim/sandbox.h"

#include <jansson.h>

/* Opens the disks and gives them to the VMM; what the sandbox has already stays as it is. New reference to
 * container.create's "disks" (protocol.h), each with its "device", or NULL with err filled, naming the disk:
 * ENOSPC when there is no empty slot. */
json_t *disk_plug(const struct sandbox *sandbox, const struct host_disks *disks, struct error *err);

/* Takes those out that the guest has let go of. What fails is logged. */
void disk_unplug(const struct sandbox *sandbox, const struct host_disks *disks);

#endif
