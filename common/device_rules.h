/*
 * What linux.resources.devices (OCI runtime-spec config-linux.md "Allowed Device list") says of
 * linux.devices. Used by the shim, which finds the host's block devices, and by the agent, which makes the
 * device files. config.json is untrusted to both.
 */
#ifndef HUSK_COMMON_DEVICE_RULES_H
#define HUSK_COMMON_DEVICE_RULES_H

#include <jansson.h>
#include <stdbool.h>

/* Whether the only rule allows every device, as callers write it for a privileged container: linux.devices
 * then is no request for single devices but the list of all that the host happens to have. In a VM such a
 * container is privileged over its own kernel. Its device files are made, and stand for the guest's devices
 * of those numbers; none of the host's devices is handed over, and one that the guest's kernel has not is no
 * error until it is opened. `linux_section` is config.json's `linux`, of any form, or NULL. */
bool device_rules_are_privileged(const json_t *linux_section);

#endif
