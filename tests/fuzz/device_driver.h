/*
 * A hostile driver for the fuzz targets of virtio devices: turns an input into requests, register accesses,
 * resets, pauses and raw writes to the rings. After any of it the device must come up again.
 */
#ifndef HUSK_TESTS_FUZZ_DEVICE_DRIVER_H
#define HUSK_TESTS_FUZZ_DEVICE_DRIVER_H

#include "tests/unit/fake_driver.h"

#define DEVICE_DRIVER_QUEUES 8

struct device_driver {
    struct fake_memory memory;
    struct fake_queue queue[DEVICE_DRIVER_QUEUES];
    struct loop *loop;
    struct virtio_device *device;
    struct virtio_mmio *mmio;
    int irq_fd;
    gpa_t buffers; /* where requests' bytes lie */
    uint64_t features;
    bool started;
    /* An operation that only this device has. NULL: none. */
    void (*own)(struct device_driver *driver, uint32_t value);
    /* Lets threads of the device's own finish what was kicked. NULL: it has none. */
    void (*settle)(struct device_driver *driver);
};

/* RAM and a loop; the caller makes the device, with memory.map and loop, before the next call. */
void device_driver_init(struct device_driver *driver);
/* Attaches the device to a transport. */
void device_driver_attach(struct device_driver *driver, struct virtio_device *device);
void device_driver_run(struct device_driver *driver, const uint8_t *data, size_t size);
/* Resets the device and brings it up with all it offers: asserts that this works. */
void device_driver_start_anew(struct device_driver *driver);
void device_driver_fini(struct device_driver *driver);

#endif
