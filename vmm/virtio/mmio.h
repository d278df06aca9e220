/*
 * The virtio-mmio transport (virtio 1.2 §4.2), modern only: see transport.h for what it has in common with
 * others. One interrupt serves all queues; each has to be acknowledged.
 */
#ifndef HUSK_VMM_VIRTIO_MMIO_H
#define HUSK_VMM_VIRTIO_MMIO_H

#include "vmm/virtio/transport.h"

#define VIRTIO_MMIO_SIZE 0x200 /* bytes of register space, configuration space (256 bytes) included */

struct virtio_mmio;

/* Attaches the device to a new transport. irq_fd is an eventfd bound to the line's GSI; it stays the
 * caller's. The device is owned by the transport from here on (on failure it is freed). Creates queues and
 * their ioeventfds and watches these in device->loop. NULL with errno. */
struct virtio_mmio *virtio_mmio_new(struct virtio_device *device, const struct guest_memory *memory,
                                    int irq_fd);
/* Freed with virtio_transport_free. */
struct virtio_transport *virtio_mmio_transport(struct virtio_mmio *mmio);
/* The reverse, of a transport that virtio_mmio_new made. */
struct virtio_mmio *virtio_mmio_of(struct virtio_transport *transport);

/* Register access from a vCPU thread; offset < VIRTIO_MMIO_SIZE. Wrong widths read as zero and write nothing.
 */
void virtio_mmio_read(struct virtio_mmio *mmio, uint64_t offset, void *data, uint32_t length);
void virtio_mmio_write(struct virtio_mmio *mmio, uint64_t offset, const void *data, uint32_t length);

/* Keeps the first VIRTIO_MMIO_SIZE bytes of `page` (8-byte aligned, the caller's) as the driver is to read
 * them, so that its reads need not come here; NULL: no longer. What lies beside the registers reads as the
 * page has it, zeros. Any thread. */
void virtio_mmio_show(struct virtio_mmio *mmio, void *page);
/* From now on InterruptStatus always tells of used buffers, so that an acknowledgement of nothing else (value
 * 1) changes nothing and need not come here. A driver then looks at its queues once more than it must. Before
 * the guest sees the transport. */
void virtio_mmio_ignore_call_acks(struct virtio_mmio *mmio);
/* The page of a window without a device: DeviceID 0 (§4.2.2). */
void virtio_mmio_show_placeholder(void *page);

#endif
