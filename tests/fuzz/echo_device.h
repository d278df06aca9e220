/* A device that gives each chain back with four bytes in it, for the fuzz targets of transports. */
#ifndef HUSK_TESTS_FUZZ_ECHO_DEVICE_H
#define HUSK_TESTS_FUZZ_ECHO_DEVICE_H

#include "vmm/virtio/device.h"

#define ECHO_QUEUES 2
#define ECHO_BYTES  4 /* what it writes into a chain */

/* In storage that the caller keeps until the transport is freed. */
void echo_device_init(struct virtio_device *device, struct loop *loop);

#endif
