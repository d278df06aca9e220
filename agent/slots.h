/*
 * The guest's slots that the VMM fills and empties while the guest runs (vmm/machine_slots.h), virtio-mmio
 * windows and places on the PCI bus: the kernel looks at them when it is told to, by files in sysfs. Called
 * by the agent's only thread, for names that came from the host.
 */
#ifndef HUSK_AGENT_SLOTS_H
#define HUSK_AGENT_SLOTS_H

#include "common/error.h"

#include <stdbool.h>

#define SLOT_NAME_BYTES 64

/* Whether `name` can be a device's in sysfs: one component of a path, and short enough. */
bool slot_name_is_valid(const char *name);

/* Has the kernel find the device in the slot of that name (on PCI: all that are new); the device is there on
 * return. 0, or -1 with err filled: ENODEV (no such slot, or it is empty), EBUSY (found before). */
int slot_bind(const char *name, struct error *err);

/* Has the kernel let go of the slot that a virtio device is in, which `path` in sysfs is
 * ("/sys/class/net/eth0/device"), and says which it was. 0, or -1 with err filled. */
int slot_unbind(const char *path, char name[SLOT_NAME_BYTES], struct error *err);

#endif
