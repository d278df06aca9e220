/*
 * A dispatch table of address windows: one for MMIO, one for port I/O.
 *
 * Filled before the first vCPU runs and constant from then on, so lookups from vCPU threads need no lock;
 * what a window's device does under concurrent accesses is its own matter. Trust boundary: address, length
 * and data are the guest's; a device is called only with offset + length within its window.
 */
#ifndef HUSK_VMM_BUS_H
#define HUSK_VMM_BUS_H

#include <stdbool.h>
#include <stdint.h>

#define BUS_WINDOWS_MAX 32

/* data: length bytes, 1 to 8, little-endian. */
typedef void (*bus_read_fn)(void *device, uint64_t offset, void *data, uint32_t length);
typedef void (*bus_write_fn)(void *device, uint64_t offset, const void *data, uint32_t length);

struct bus_window {
    uint64_t base, bytes;
    bus_read_fn read;
    bus_write_fn write;
    void *device;
};

struct bus {
    struct bus_window window[BUS_WINDOWS_MAX];
    unsigned windows;
};

/* Adds a window. 0; -EINVAL when empty or overflowing; -EEXIST when it overlaps; -ENOSPC. */
int bus_add(struct bus *bus, const struct bus_window *window);

/* Performs the access. False when no window holds all of [address, address + length): a read then has filled
 * data with 0xff, as a bus that nobody drives, and a write has gone nowhere. */
bool bus_read(const struct bus *bus, uint64_t address, void *data, uint32_t length);
bool bus_write(const struct bus *bus, uint64_t address, const void *data, uint32_t length);

#endif
