/* See fake_pci.h. */
#include "tests/unit/fake_pci.h"

#include <endian.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAPABILITIES_MAX 48 /* as many as there is room for */

uint32_t fake_pci_config_get(const struct fake_pci *fake, uint32_t offset, uint32_t bytes)
{
    uint32_t value = 0;
    virtio_pci_config_read(fake->pci, offset, &value, bytes);
    return le32toh(value);
}

void fake_pci_config_set(const struct fake_pci *fake, uint32_t offset, uint32_t bytes, uint32_t value)
{
    value = htole32(value);
    virtio_pci_config_write(fake->pci, offset, &value, bytes);
}

uint32_t fake_pci_get(const struct fake_pci *fake, uint64_t offset, uint32_t bytes)
{
    uint32_t value = 0;
    virtio_pci_read(fake->pci, offset, &value, bytes);
    return le32toh(value);
}

void fake_pci_set(const struct fake_pci *fake, uint64_t offset, uint32_t bytes, uint32_t value)
{
    value = htole32(value);
    virtio_pci_write(fake->pci, offset, &value, bytes);
}

static void find_structure(struct fake_pci *fake, uint32_t at)
{
    uint32_t offset = fake_pci_config_get(fake, at + VIRTIO_PCI_CAP_OFFSET, 4);
    switch (fake_pci_config_get(fake, at + VIRTIO_PCI_CAP_CFG_TYPE, 1)) {
    case VIRTIO_PCI_CAP_COMMON_CFG:
        fake->common_at = at;
        fake->common = offset;
        break;
    case VIRTIO_PCI_CAP_ISR_CFG:
        fake->isr_at = at;
        fake->isr = offset;
        break;
    case VIRTIO_PCI_CAP_NOTIFY_CFG:
        fake->notify_at = at;
        break;
    case VIRTIO_PCI_CAP_DEVICE_CFG:
        fake->device_at = at;
        fake->device = offset;
        break;
    case VIRTIO_PCI_CAP_PCI_CFG:
        fake->access_at = at;
        break;
    default:
        break;
    }
}

void fake_pci_find(struct fake_pci *fake, struct virtio_pci *pci)
{
    *fake = (struct fake_pci){.pci = pci};
    unsigned count = 0;
    for (uint32_t at = fake_pci_config_get(fake, PCI_CAPABILITY_LIST, 1); at != 0;
         at = fake_pci_config_get(fake, at + PCI_CAP_LIST_NEXT, 1)) {
        uint32_t id = fake_pci_config_get(fake, at, 1);
        if (++count > CAPABILITIES_MAX || at < PCI_STD_HEADER_SIZEOF || at % 4 != 0) {
            fprintf(stderr, "fake pci: capability %u at 0x%x\n", count, at);
            abort();
        }
        if (id == PCI_CAP_ID_MSIX) {
            fake->msix_at = at;
            fake->table = fake_pci_config_get(fake, at + PCI_MSIX_TABLE, 4) & PCI_MSIX_TABLE_OFFSET;
            fake->pba = fake_pci_config_get(fake, at + PCI_MSIX_PBA, 4) & PCI_MSIX_PBA_OFFSET;
        } else if (id == PCI_CAP_ID_EA) {
            fake->ea_at = at;
        } else if (id == PCI_CAP_ID_VNDR) {
            find_structure(fake, at);
        }
    }
}

uint32_t fake_pci_field_bytes(uint32_t field)
{
    switch (field) {
    case VIRTIO_PCI_COMMON_STATUS:
    case VIRTIO_PCI_COMMON_CFGGENERATION:
        return 1;
    case VIRTIO_PCI_COMMON_MSIX:
    case VIRTIO_PCI_COMMON_NUMQ:
    case VIRTIO_PCI_COMMON_Q_SELECT:
    case VIRTIO_PCI_COMMON_Q_SIZE:
    case VIRTIO_PCI_COMMON_Q_MSIX:
    case VIRTIO_PCI_COMMON_Q_ENABLE:
    case VIRTIO_PCI_COMMON_Q_NOFF:
        return 2;
    default:
        return 4;
    }
}

uint32_t fake_pci_common_get(const struct fake_pci *fake, uint32_t field)
{
    return fake_pci_get(fake, fake->common + field, fake_pci_field_bytes(field));
}

void fake_pci_common_set(const struct fake_pci *fake, uint32_t field, uint32_t value)
{
    fake_pci_set(fake, fake->common + field, fake_pci_field_bytes(field), value);
}

void fake_pci_decode(const struct fake_pci *fake)
{
    fake_pci_config_set(fake, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

void fake_pci_set_queue(const struct fake_pci *fake, unsigned index, const struct virtqueue_config *config)
{
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_SELECT, index);
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_SIZE, config->size);
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_DESCLO, (uint32_t)config->desc);
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_DESCHI, (uint32_t)(config->desc >> 32));
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_AVAILLO, (uint32_t)config->avail);
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_AVAILHI, (uint32_t)(config->avail >> 32));
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_USEDLO, (uint32_t)config->used);
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_USEDHI, (uint32_t)(config->used >> 32));
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_MSIX, index);
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_ENABLE, 1);
}

static uint32_t add_status(const struct fake_pci *fake, uint32_t bits)
{
    uint32_t status = fake_pci_common_get(fake, VIRTIO_PCI_COMMON_STATUS);
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_STATUS, status | bits);
    return fake_pci_common_get(fake, VIRTIO_PCI_COMMON_STATUS);
}

uint32_t fake_pci_start(const struct fake_pci *fake, uint64_t features, const struct fake_queue *queues,
                        unsigned count)
{
    features |= 1ULL << VIRTIO_F_VERSION_1;
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_STATUS, 0);
    add_status(fake, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    add_status(fake, VIRTIO_CONFIG_S_DRIVER);
    for (uint32_t half = 0; half < 2; half++) {
        fake_pci_common_set(fake, VIRTIO_PCI_COMMON_GFSELECT, half);
        fake_pci_common_set(fake, VIRTIO_PCI_COMMON_GF, (uint32_t)(features >> (32 * half)));
    }
    uint32_t status = add_status(fake, VIRTIO_CONFIG_S_FEATURES_OK);
    if (!(status & VIRTIO_CONFIG_S_FEATURES_OK))
        return status;
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_MSIX, fake_pci_common_get(fake, VIRTIO_PCI_COMMON_NUMQ));
    for (unsigned i = 0; i < count; i++)
        fake_pci_set_queue(fake, i, &queues[i].config);
    return add_status(fake, VIRTIO_CONFIG_S_DRIVER_OK);
}

void fake_pci_notify(const struct fake_pci *fake, uint16_t queue)
{
    queue = htole16(queue);
    virtio_pci_notify(fake->pci, 0, &queue, sizeof(queue));
}

void fake_pci_msix(const struct fake_pci *fake, bool enabled, bool masked)
{
    fake_pci_config_set(fake, fake->msix_at + PCI_MSIX_FLAGS, 2,
                        (enabled ? PCI_MSIX_FLAGS_ENABLE : 0u) | (masked ? PCI_MSIX_FLAGS_MASKALL : 0u));
}

void fake_pci_mask_entry(const struct fake_pci *fake, unsigned vector, bool masked)
{
    fake_pci_set(fake, fake->table + vector * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL, 4,
                 masked ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0);
}

void fake_pci_set_entry(const struct fake_pci *fake, unsigned vector, const struct irq_message *message,
                        bool masked)
{
    uint64_t at = fake->table + vector * PCI_MSIX_ENTRY_SIZE;
    fake_pci_set(fake, at + PCI_MSIX_ENTRY_LOWER_ADDR, 4, (uint32_t)message->address);
    fake_pci_set(fake, at + PCI_MSIX_ENTRY_UPPER_ADDR, 4, (uint32_t)(message->address >> 32));
    fake_pci_set(fake, at + PCI_MSIX_ENTRY_DATA, 4, message->data);
    fake_pci_mask_entry(fake, vector, masked);
}
