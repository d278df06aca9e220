/*
 * Device files and links in a container's /dev (OCI runtime-spec config-linux.md "Default Devices",
 * "Devices", runtime-linux.md "Dev symbolic links").
 */
#ifndef HUSK_AGENT_DEVICES_H
#define HUSK_AGENT_DEVICES_H

#include "agent/spec.h"
#include "common/error.h"

/* For a container whose own processes may not make device files: makes them on a filesystem of the agent's,
 * with the owners that the container's mapping gives them, in a copy of the agent's mount namespace which the
 * caller enters. *fds is a heap array of detached mounts, one a device: what devices_make wants. 0 or -1. */
int devices_prepare(const struct spec *spec, int **fds, struct error *err);

/* Makes the default devices and links and those of linux.devices in root_fd: by mknod, or by binding `fds`.
 * None if config.json brings a /dev of its own. 0 or -1. */
int devices_make(const struct spec *spec, int root_fd, const int *fds, struct error *err);

#endif
