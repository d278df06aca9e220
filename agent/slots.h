/*
 * The guest's virtio-mmio slots that the VMM fills and empties while the guest runs (vmm/machine_slots.h):
 * the driver looks at one when it is told to, by its files in sysfs. Called by the agent's only thread, for
 * names that came from the host.
 */
#ifndef HUSK_AGENT_SLOTS_H
#define HUSK_AGENT_SLOTS_H

#include "common/error.h"

#include <stdbool.h>

#define SLOT_NAME_BYTES 64

/* Whether `name` can be a platform device's: one component of a path, and short enough. */
bool slot_name_is_valid(const char *name);

/* Has the driver find the device in the slot of that name; the device is there on return. 0, or -1 with err
 * filled: ENODEV (no such slot, or it is empty), EBUSY (found before). */
int slot_bind(const char *name, struct error *err);

/* Has the driver let go of the slot that a virtio device is in, which `path` in sysfs is
 * ("/sys/class/net/eth0/device"), and says which it was. 0, or -1 with err filled. */
int slot_unbind(const char *path, char name[SLOT_NAME_BYTES], struct error *err);

#endif
