/*
 * A device and what its driver has set up of it (virtio 1.2 §2, §3): status, features, queues, interrupts,
 * whatever bus the registers are on (§4). mmio.h and pci.h make transports; what can be done with any of them
 * is here.
 *
 * Registers are touched by vCPU threads under the transport's lock; DRIVER_OK and reset cross to the device's
 * thread by loop_call. Each queue has an eventfd that the machine binds to its notification address, so a
 * kick costs no register access. Queue configuration is frozen at DRIVER_OK and writes out of turn are
 * ignored (§2.1).
 */
#ifndef HUSK_VMM_VIRTIO_TRANSPORT_H
#define HUSK_VMM_VIRTIO_TRANSPORT_H

#include "vmm/virtio/device.h"

struct snapshot_writer;
struct snapshot_reader;

/* Resets and frees the device too. No vCPU may be inside the transport or come again; the device's loop may
 * run or have ended. NULL is fine. */
void virtio_transport_free(struct virtio_transport *transport);

/* The device; the transport's. Any thread. */
struct virtio_device *virtio_transport_device(const struct virtio_transport *transport);
/* Whether a driver holds the device: its status says so, or is just being written. (Linux acknowledges a
 * device again that its driver has left.) Does not wait. Any thread. */
bool virtio_transport_in_use(struct virtio_transport *transport);
/* Interrupts raised so far by the device's side (those of vhost not counted). Any thread. */
uint64_t virtio_transport_interrupts(const struct virtio_transport *transport);

/* The eventfd for KVM_IOEVENTFD at the notification address of `queue`, or -1 past the last queue. Borrowed.
 */
int virtio_transport_queue_fd(const struct virtio_transport *transport, unsigned queue);

/* Stops kicks and waits for in-flight chains (for a snapshot), and undoes that: kicks that came meanwhile are
 * served then, and an interrupt that the driver may have missed is raised anew. The vCPUs stand still from
 * pause to resume. */
void virtio_transport_pause(struct virtio_transport *transport);
void virtio_transport_resume(struct virtio_transport *transport);
/* Transport, queues and device, as two sections: the bus's name ("virtio-mmio", "virtio-pci") and the
 * device's. Save: paused (else -EBUSY). Restore: into a transport of the same device on the same bus that was
 * never activated, before the first vCPU runs; leaves it paused. 0; -EPROTO for state no device can have;
 * another -errno. */
int virtio_transport_save(struct virtio_transport *transport, struct snapshot_writer *writer,
                          uint32_t instance);
int virtio_transport_restore(struct virtio_transport *transport, struct snapshot_reader *reader,
                             uint32_t instance);

#endif
