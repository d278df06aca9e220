/*
 * The virtio-mmio transport (virtio 1.2 §4.2), modern only.
 *
 * Registers are touched by vCPU threads under the transport's lock; DRIVER_OK and reset cross to the device's
 * thread by loop_call. Each queue has an ioeventfd that the machine binds to QueueNotify, so a kick costs no
 * register access, and one irqfd serves all. Queue configuration is frozen at DRIVER_OK and writes out of
 * turn are ignored (§4.2.2, §2.1).
 */
#ifndef HUSK_VMM_VIRTIO_MMIO_H
#define HUSK_VMM_VIRTIO_MMIO_H

#include "vmm/virtio/device.h"

#define VIRTIO_MMIO_SIZE 0x200 /* bytes of register space, configuration space (256 bytes) included */

struct virtio_mmio;

/* Attaches the device to a new transport. irq_fd is an eventfd bound to the line's GSI; it stays the
 * caller's. The device is owned by the transport from here on (on failure it is freed). Creates queues and
 * their ioeventfds and watches these in device->loop. NULL with errno. */
struct virtio_mmio *virtio_mmio_new(struct virtio_device *device, const struct guest_memory *memory,
                                    int irq_fd);
/* Resets and frees the device too. No vCPU may be inside the transport or come again; the device's loop may
 * run or have ended. NULL is fine. */
void virtio_mmio_free(struct virtio_mmio *mmio);

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

/* The device; the transport's. Any thread. */
struct virtio_device *virtio_mmio_device(const struct virtio_mmio *mmio);
/* Whether a driver holds the device: its status says so, or is just being written. (Linux acknowledges a
 * device again that its driver has left.) Does not wait. Any thread. */
bool virtio_mmio_in_use(struct virtio_mmio *mmio);
/* Interrupts raised so far by the device's side (those of vhost not counted). Any thread. */
uint64_t virtio_mmio_interrupts(const struct virtio_mmio *mmio);

/* The eventfd for KVM_IOEVENTFD at QueueNotify with datamatch `queue`, or -1 past the last queue. Borrowed.
 */
int virtio_mmio_queue_fd(const struct virtio_mmio *mmio, unsigned queue);

/* Stops kicks and waits for in-flight chains (for a snapshot), and undoes that: kicks that came meanwhile are
 * served then, and an interrupt that the driver has not acknowledged is raised anew. The vCPUs stand still
 * from pause to resume. */
void virtio_mmio_pause(struct virtio_mmio *mmio);
void virtio_mmio_resume(struct virtio_mmio *mmio);
/* Transport, queues and device, as two sections: "virtio-mmio" and the device's name. Save: paused (else
 * -EBUSY). Restore: into a transport of the same device that was never activated, before the first vCPU runs;
 * leaves it paused. 0; -EPROTO for state no device can have; another -errno. */
int virtio_mmio_save(struct virtio_mmio *mmio, struct snapshot_writer *writer, uint32_t instance);
int virtio_mmio_restore(struct virtio_mmio *mmio, struct snapshot_reader *reader, uint32_t instance);

#endif
