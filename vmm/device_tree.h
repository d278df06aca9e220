/*
 * The device tree that tells the guest's kernel what its machine is made of: processors, local APIC, IOAPIC,
 * virtio-mmio windows, pvpanic (panic and power-off) and vmgenid. There is no ACPI to look at
 * instead, and what is on PCI (pci.h) is found there.
 */
#ifndef HUSK_VMM_DEVICE_TREE_H
#define HUSK_VMM_DEVICE_TREE_H

#include <stddef.h>

/* Flattened trees stay below this (32 processors and all virtio slots need about 6 KiB). */
#define DEVICE_TREE_BYTES_MAX 16384u

/* The name of the virtio windows' nodes, after which the guest's kernel names their platform devices. */
#define DEVICE_TREE_VIRTIO_NODE "virtio"

struct device_tree_config {
    unsigned cpus;         /* APIC ids 0 .. cpus - 1, the boot processor first */
    unsigned virtio_slots; /* slots 0 .. virtio_slots - 1 exist (layout.h) */
};

/* Builds the flattened tree in `blob` (capacity bytes, 8-byte aligned). Its size in bytes, or -errno: -ENOSPC
 * when it does not fit, -EIO for any other failure of libfdt. */
int device_tree_build(const struct device_tree_config *config, void *blob, size_t capacity);

#endif
