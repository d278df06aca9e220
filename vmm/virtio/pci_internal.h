/*
 * Inside the virtio-pci transport: what pci.c (registers, vCPU threads), pci_config.c (configuration space)
 * and pci_msix.c (interrupts) share. Nobody else includes this.
 */
#ifndef HUSK_VMM_VIRTIO_PCI_INTERNAL_H
#define HUSK_VMM_VIRTIO_PCI_INTERNAL_H

#include "vmm/virtio/pci.h"
#include "vmm/virtio/transport_core.h"

#define PCI_INTERRUPTS_MAX (VIRTIO_DEVICE_QUEUES_MAX + 1u)
#define PCI_CONFIG_MAX     256u /* bytes of device configuration */

/* Region 0. */
#define PCI_COMMON 0x0000u
#define PCI_ISR    0x1000u
#define PCI_DEVICE 0x2000u
#define PCI_TABLE  0x3000u /* MSI-X table and pending bits */
#define PCI_PBA    0x3800u

/* An entry of the MSI-X table (PCI Local Bus 3.0 §6.8.2.6 on). */
struct msix_entry {
    uint32_t word[4]; /* address low, high, data, vector control */
};

struct virtio_pci {
    struct transport_core core; /* first */
    struct virtio_pci_place place;
    int fd[PCI_INTERRUPTS_MAX]; /* raise the interrupts; their number is queue_count + 1 */

    /* Guarded by the core's lock. */
    uint8_t space[VIRTIO_PCI_CONFIG_BYTES]; /* configuration space as it reads */
    uint8_t msix_at, access_at;             /* where in it the MSI-X and the VIRTIO_PCI_CAP_PCI_CFG
                                               capabilities are */
    struct msix_entry table[PCI_INTERRUPTS_MAX];
    uint16_t vector[PCI_INTERRUPTS_MAX]; /* of each interrupt, or VIRTIO_MSI_NO_VECTOR */

    /* Any thread. */
    atomic_uint isr;          /* without MSI-X */
    atomic_bool msix_enabled; /* as configuration space has it */
    /* Guards `shown`, and that it and the generation change together; a leaf. */
    pthread_mutex_t shown_lock;
    uint8_t shown[PCI_CONFIG_MAX]; /* the device's configuration as the driver reads it */
};

/* pci_config.c. Writes configuration space as it is before the first access. */
void pci_config_init(struct virtio_pci *pci);
/* Puts a byte where it can be written; false when it cannot and is another one. Before the guest runs. */
bool pci_config_set(struct virtio_pci *pci, uint32_t offset, uint8_t value);
/* Whether the function answers in region 0. The caller holds the lock, as for all below but pci_raise. */
bool pci_config_decodes(const struct virtio_pci *pci);

/* pci_msix.c. */
void pci_msix_init(struct virtio_pci *pci);
uint32_t pci_msix_read(const struct virtio_pci *pci, uint32_t offset);
void pci_msix_write(struct virtio_pci *pci, uint32_t offset, uint32_t value);
/* The interrupt's vector, as the driver writes it: one that is not there reads as none. */
void pci_msix_set_vector(struct virtio_pci *pci, unsigned interrupt, uint16_t vector);
/* Has the interrupts routed as table, vectors and the capability have them. */
int pci_msix_update(struct virtio_pci *pci);
/* Raises an interrupt. Any thread. */
void pci_raise(struct virtio_pci *pci, unsigned interrupt);

/* pci.c: region 0 without its lock, for VIRTIO_PCI_CAP_PCI_CFG. */
void pci_region_read(struct virtio_pci *pci, uint64_t offset, void *data, uint32_t length);
void pci_region_write(struct virtio_pci *pci, uint64_t offset, const void *data, uint32_t length);

#endif
