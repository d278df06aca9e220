/*
 * Block devices of the host that config.json names: found here, opened, and handed to the VMM as disks.
 *
 * config.json means the host's devices by number (linux.devices, with linux.resources.devices saying what may
 * be done with them) or by path (a mount whose source is a block device). The guest gets each as a virtio
 * disk; the agent (agent/disks.h) puts it where the device belongs. What a container may only read is opened
 * read-only: that is what keeps it from being written, whatever the guest does.
 */
#ifndef HUSK_SHIM_HOST_DISKS_H
#define HUSK_SHIM_HOST_DISKS_H

#include "common/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define HOST_DISKS_MAX    8u /* the VMM's OPTIONS_BLKS_MAX */
#define DISK_SERIAL_BYTES 21 /* VIRTIO_BLK_ID_BYTES and a NUL */

struct host_disk {
    dev_t rdev;
    bool writable;
    mode_t mode; /* of the host's device file, with its owner */
    uid_t uid;
    gid_t gid;
    json_t *mounts; /* indices in config.json's mounts */
    char serial[DISK_SERIAL_BYTES];
};

struct host_disks {
    struct host_disk disk[HOST_DISKS_MAX];
    size_t count;
};

/* Adds the block devices of linux.devices that exist on this host; others are left to the agent. None of a
 * privileged container's (common/device_rules.h): all disks of the host, in use there and writable, are not
 * what such a container needs. `linux_section` may be NULL. 0, or -1 with err. */
int host_disks_add_devices(struct host_disks *disks, const json_t *linux_section, struct error *err);
/* Adds the source of mounts[index], a block device at `path`. 0, or -1 with err. */
int host_disks_add_mount(struct host_disks *disks, size_t index, const char *path, bool writable,
                         struct error *err);
void host_disks_fini(struct host_disks *disks);

/* Opens all; `writable` is then what they are. fds of all disks in their order, the caller's. 0, or -1 with
 * err: then none is open. */
int host_disks_open(struct host_disks *disks, int fds[HOST_DISKS_MAX], struct error *err);

/* container.create's "disks" (protocol.h). New reference, or NULL without memory. */
json_t *host_disks_describe(const struct host_disks *disks);

/* Whether linux.resources.devices (an array, or NULL) lets a block device be written: rules are looked at in
 * their order, the last that fits counts; without any rule all is allowed. */
bool host_disks_may_write(const json_t *rules, unsigned major, unsigned minor);

#endif
