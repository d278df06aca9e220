/*
 * The virtio-pci transport (virtio 1.2 §4.1), modern only, interrupts by MSI-X only: see transport.h for what
 * it has in common with others. A queue's interrupt is its own, comes from the kernel when vhost serves the
 * queue, and needs no acknowledgement.
 *
 * A function of two regions: registers and the MSI-X table in memory (region 0), one port for notifications
 * (region 1; an access to a port tells KVM its value without an instruction to decode). Where they lie is the
 * machine's choice, told by the Enhanced Allocation capability (PCI-SIG ECN of 2014), and cannot be changed:
 * the BARs read as zero.
 */
#ifndef HUSK_VMM_VIRTIO_PCI_H
#define HUSK_VMM_VIRTIO_PCI_H

#include "vmm/irq_routes.h"
#include "vmm/virtio/transport.h"

#define VIRTIO_PCI_MEMORY_BYTES 0x4000u /* region 0 */
#define VIRTIO_PCI_PORTS        4u      /* region 1; a queue's number is written to the first, in 2 bytes */
#define VIRTIO_PCI_CONFIG_BYTES 256u    /* of configuration space */

struct virtio_pci;

struct virtio_pci_place {
    uint32_t memory; /* addresses of the regions, multiples of their sizes */
    uint16_t port;
    /* Has the `count` interrupts from `first` on send these messages (address 0: none); `messages` then has
     * what they sent before. 0 or -errno: then nothing has changed, and it is as it was. Any thread. */
    int (*route)(void *arg, unsigned first, unsigned count, struct irq_message *messages);
    void *arg;
};

/* Attaches the device to a new transport, which owns it from here on (on failure it is freed). NULL with
 * errno. */
struct virtio_pci *virtio_pci_new(struct virtio_device *device, const struct guest_memory *memory,
                                  const struct virtio_pci_place *place);
/* Freed with virtio_transport_free, which takes the routes away. */
struct virtio_transport *virtio_pci_transport(struct virtio_pci *pci);
/* The reverse, of a transport that virtio_pci_new made. */
struct virtio_pci *virtio_pci_of(struct virtio_transport *transport);

/* How many interrupts it has: one a queue, and the last for changes of configuration; the eventfd that
 * raises one. Borrowed. */
unsigned virtio_pci_interrupts(const struct virtio_pci *pci);
int virtio_pci_interrupt_fd(const struct virtio_pci *pci, unsigned interrupt);

/* Accesses from a vCPU thread. Configuration space: offset + length <= VIRTIO_PCI_CONFIG_BYTES, naturally
 * aligned, of 1, 2 or 4 bytes. Region 0: offset + length <= VIRTIO_PCI_MEMORY_BYTES; wrong widths read as
 * zero and write nothing. Region 1: what no ioeventfd took. */
void virtio_pci_config_read(struct virtio_pci *pci, uint32_t offset, void *data, uint32_t length);
void virtio_pci_config_write(struct virtio_pci *pci, uint32_t offset, const void *data, uint32_t length);
void virtio_pci_read(struct virtio_pci *pci, uint64_t offset, void *data, uint32_t length);
void virtio_pci_write(struct virtio_pci *pci, uint64_t offset, const void *data, uint32_t length);
void virtio_pci_notify(struct virtio_pci *pci, uint64_t offset, const void *data, uint32_t length);

#endif
