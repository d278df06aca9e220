/*
 * A guest's driver over virtio-pci, beside fake_driver.h: finds the structures of a function by its
 * capabilities, and brings the device up. Shared by the unit tests and the fuzz target.
 */
#ifndef HUSK_TESTS_UNIT_FAKE_PCI_H
#define HUSK_TESTS_UNIT_FAKE_PCI_H

#include "tests/unit/fake_driver.h"
#include "vmm/virtio/pci.h"

/* What a driver knows of a function; 0: it has no such thing. */
struct fake_pci {
    struct virtio_pci *pci;
    uint32_t msix_at, ea_at;                                     /* capabilities, in configuration space */
    uint32_t common_at, isr_at, notify_at, device_at, access_at; /* the virtio ones, by type */
    uint32_t common, isr, device, table, pba;                    /* in region 0 */
};

/* Walks the list of capabilities. Ends the process when the list does not end. */
void fake_pci_find(struct fake_pci *fake, struct virtio_pci *pci);

uint32_t fake_pci_config_get(const struct fake_pci *fake, uint32_t offset, uint32_t bytes);
void fake_pci_config_set(const struct fake_pci *fake, uint32_t offset, uint32_t bytes, uint32_t value);
/* Region 0. */
uint32_t fake_pci_get(const struct fake_pci *fake, uint64_t offset, uint32_t bytes);
void fake_pci_set(const struct fake_pci *fake, uint64_t offset, uint32_t bytes, uint32_t value);
/* A field of the common configuration, in its own width: VIRTIO_PCI_COMMON_*. */
uint32_t fake_pci_common_get(const struct fake_pci *fake, uint32_t field);
void fake_pci_common_set(const struct fake_pci *fake, uint32_t field, uint32_t value);
uint32_t fake_pci_field_bytes(uint32_t field);

/* Has the function answer at its addresses. */
void fake_pci_decode(const struct fake_pci *fake);
/* Tells the device where queue `index` is, gives it the vector of the same number, and enables it. */
void fake_pci_set_queue(const struct fake_pci *fake, unsigned index, const struct virtqueue_config *config);
/* Reset to DRIVER_OK with VERSION_1 and `features`; queue i of the device is queues[i]. The final status. */
uint32_t fake_pci_start(const struct fake_pci *fake, uint64_t features, const struct fake_queue *queues,
                        unsigned count);
/* Notifies through region 1, as without an ioeventfd. */
void fake_pci_notify(const struct fake_pci *fake, uint16_t queue);

/* MSI-X: the capability's enable and function mask bits, and an entry of the table. */
void fake_pci_msix(const struct fake_pci *fake, bool enabled, bool masked);
void fake_pci_set_entry(const struct fake_pci *fake, unsigned vector, const struct irq_message *message,
                        bool masked);
void fake_pci_mask_entry(const struct fake_pci *fake, unsigned vector, bool masked);

#endif
