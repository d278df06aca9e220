/*
 * MSI-X of the virtio-pci transport (PCI Local Bus 3.0 §6.8.2): see pci_internal.h.
 *
 * Each interrupt is an eventfd that KVM turns into the message of the interrupt's vector. While a vector is
 * masked there is no message, and what is raised meanwhile is not seen here, for it may be vhost that raises
 * it. So unmasking raises an interrupt whenever one may have got lost (one too many is harmless: drivers look
 * at their queues), and the pending bits read as zero.
 */
#include "vmm/virtio/pci_internal.h"

#include <endian.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <string.h>

void pci_msix_init(struct virtio_pci *pci)
{
    for (unsigned i = 0; i < PCI_INTERRUPTS_MAX; i++) {
        pci->table[i].word[3] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
        pci->vector[i] = VIRTIO_MSI_NO_VECTOR;
    }
}

static uint16_t control(const struct virtio_pci *pci)
{
    uint16_t value;
    memcpy(&value, pci->space + pci->msix_at + PCI_MSIX_FLAGS, sizeof(value));
    return le16toh(value);
}

static struct irq_message message(const struct virtio_pci *pci, unsigned interrupt)
{
    uint16_t vector = pci->vector[interrupt];
    if ((control(pci) & (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL)) != PCI_MSIX_FLAGS_ENABLE ||
        vector == VIRTIO_MSI_NO_VECTOR || pci->table[vector].word[3] & PCI_MSIX_ENTRY_CTRL_MASKBIT)
        return (struct irq_message){0};
    const uint32_t *word = pci->table[vector].word;
    return (struct irq_message){.address = word[0] | (uint64_t)word[1] << 32, .data = word[2]};
}

int pci_msix_update(struct virtio_pci *pci)
{
    struct irq_message messages[PCI_INTERRUPTS_MAX], wanted[PCI_INTERRUPTS_MAX];
    unsigned count = virtio_pci_interrupts(pci);
    atomic_store(&pci->msix_enabled, control(pci) & PCI_MSIX_FLAGS_ENABLE);
    for (unsigned i = 0; i < count; i++)
        messages[i] = wanted[i] = message(pci, i);
    int rc = pci->place.route(pci->place.arg, 0, count, messages);
    if (rc < 0) {
        log_limited(&pci->core.device->broken_limit, "virtio-pci: device=%s messages refused: %s",
                    pci->core.device->ops->name, strerror(-rc));
        return rc;
    }
    for (unsigned i = 0; i < count; i++) {
        if (messages[i].address == 0 && wanted[i].address != 0 &&
            pci->core.status & VIRTIO_CONFIG_S_DRIVER_OK)
            pci_raise(pci, i);
    }
    return 0;
}

uint32_t pci_msix_read(const struct virtio_pci *pci, uint32_t offset)
{
    unsigned entry = offset / PCI_MSIX_ENTRY_SIZE;
    return entry < virtio_pci_interrupts(pci) ? pci->table[entry].word[offset % PCI_MSIX_ENTRY_SIZE / 4] : 0;
}

void pci_msix_write(struct virtio_pci *pci, uint32_t offset, uint32_t value)
{
    unsigned entry = offset / PCI_MSIX_ENTRY_SIZE, word = offset % PCI_MSIX_ENTRY_SIZE / 4;
    if (entry >= virtio_pci_interrupts(pci))
        return;
    if (word == 0)
        value &= ~3u; /* reserved */
    else if (word == 3)
        value &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
    pci->table[entry].word[word] = value;
    pci_msix_update(pci);
}

void pci_msix_set_vector(struct virtio_pci *pci, unsigned interrupt, uint16_t vector)
{
    pci->vector[interrupt] = vector < virtio_pci_interrupts(pci) ? vector : VIRTIO_MSI_NO_VECTOR;
    pci_msix_update(pci);
}

void pci_raise(struct virtio_pci *pci, unsigned interrupt)
{
    if (!atomic_load(&pci->msix_enabled))
        atomic_fetch_or(&pci->isr, interrupt == pci->core.device->queue_count ? 2u : 1u);
    core_interrupt(&pci->core, pci->fd[interrupt]);
}
