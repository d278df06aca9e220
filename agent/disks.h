/*
 * Block devices of the host in the guest: the VMM gives the guest a disk for each that config.json names, and
 * here the host's numbers become the guest's.
 *
 * container.create says which disk stands for which device (protocol.h, "disks"); disks are told apart by
 * their serial. config.json's devices, device rules and mounts mean the host's devices, since that is where
 * they were written.
 */
#ifndef HUSK_AGENT_DISKS_H
#define HUSK_AGENT_DISKS_H

#include "agent/spec.h"
#include "common/error.h"

#include <jansson.h>

#define DISKS_SYSFS "/sys/block"
#define DISKS_MAX   64u

/* Puts the guest's disks in place of the host's in linux.devices, linux.resources.devices and mounts of the
 * spec. `sysfs` is DISKS_SYSFS, `params` those of container.create. 0, or -1 with err: a disk that the guest
 * does not have is named. */
int disks_apply(struct spec *spec, const json_t *params, const char *sysfs, struct error *err);

/* Lets go of a disk that came with a container (an element of its "disks" with a "device"), which no
 * container uses any more: the VMM may then take it away. What fails is logged. */
void disks_release(const json_t *entry, const char *sysfs);

#endif
