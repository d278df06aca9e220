/*
 * Configuration space of the virtio-pci transport (PCI Local Bus 3.0 §6.1, virtio 1.2 §4.1.2 to §4.1.4): see
 * pci_internal.h. Capabilities that Linux asks for most come first: each look at one is an exit.
 */
#include "vmm/virtio/pci_internal.h"

#include <endian.h>
#include <linux/pci_regs.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <string.h>

#define VENDOR_ID      0x1af4u
#define DEVICE_ID_BASE 0x1040u
#define REVISION       1u /* of modern devices */
#define CLASS_NETWORK  0x020000u
#define CLASS_OTHER    0xff0000u

#define COMMAND_WRITABLE (PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE)
#define MSIX_WRITABLE    (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL)

#define CAPABILITIES_AT 0x40u
#define EA_BYTES        28u /* two entries of 12 bytes */
#define MSIX_BYTES      12u

static void put16(struct virtio_pci *pci, uint32_t offset, uint32_t value)
{
    uint16_t le = htole16((uint16_t)value);
    memcpy(pci->space + offset, &le, sizeof(le));
}

static void put32(struct virtio_pci *pci, uint32_t offset, uint32_t value)
{
    uint32_t le = htole32(value);
    memcpy(pci->space + offset, &le, sizeof(le));
}

static uint32_t get32(const struct virtio_pci *pci, uint32_t offset)
{
    uint32_t le;
    memcpy(&le, pci->space + offset, sizeof(le));
    return le32toh(le);
}

/* A capability at the end of the list; where it is. */
static uint8_t add_capability(struct virtio_pci *pci, uint8_t *end, uint8_t id, uint8_t bytes)
{
    uint8_t at = *end, link = PCI_CAPABILITY_LIST;
    while (pci->space[link])
        link = (uint8_t)(pci->space[link] + PCI_CAP_LIST_NEXT);
    pci->space[link] = at;
    pci->space[at] = id;
    *end = (uint8_t)(at + (bytes + 3u) / 4 * 4);
    return at;
}

static void add_region(struct virtio_pci *pci, uint32_t at, uint32_t region, uint32_t kind, uint32_t base,
                       uint32_t bytes)
{
    uint32_t words_that_follow = 2;
    put32(pci, at, PCI_EA_ENABLE | kind << 8 | PCI_EA_SP | region << 4 | words_that_follow);
    put32(pci, at + PCI_EA_BASE, base);
    put32(pci, at + PCI_EA_MAX_OFFSET, (bytes - 1) & PCI_EA_FIELD_MASK);
}

static void add_structure(struct virtio_pci *pci, uint8_t *end, uint8_t type, uint8_t region, uint32_t offset,
                          uint32_t bytes)
{
    uint8_t own = sizeof(struct virtio_pci_cap);
    /* A multiplier of 0: all queues are notified at one place. Data of 4 bytes, for accesses without BARs. */
    if (type == VIRTIO_PCI_CAP_NOTIFY_CFG || type == VIRTIO_PCI_CAP_PCI_CFG)
        own += 4;
    uint8_t at = add_capability(pci, end, PCI_CAP_ID_VNDR, own);
    pci->space[at + VIRTIO_PCI_CAP_LEN] = own;
    pci->space[at + VIRTIO_PCI_CAP_CFG_TYPE] = type;
    pci->space[at + VIRTIO_PCI_CAP_BAR] = region;
    put32(pci, at + VIRTIO_PCI_CAP_OFFSET, offset);
    put32(pci, at + VIRTIO_PCI_CAP_LENGTH, bytes);
    if (type == VIRTIO_PCI_CAP_PCI_CFG)
        pci->access_at = at;
}

void pci_config_init(struct virtio_pci *pci)
{
    uint32_t id = pci->core.device->ops->id;
    uint8_t end = CAPABILITIES_AT;
    put32(pci, PCI_VENDOR_ID, (DEVICE_ID_BASE + id) << 16 | VENDOR_ID);
    put16(pci, PCI_STATUS, PCI_STATUS_CAP_LIST);
    put32(pci, PCI_CLASS_REVISION, (id == VIRTIO_ID_NET ? CLASS_NETWORK : CLASS_OTHER) << 8 | REVISION);
    put32(pci, PCI_SUBSYSTEM_VENDOR_ID, (DEVICE_ID_BASE + id) << 16 | VENDOR_ID);

    pci->msix_at = add_capability(pci, &end, PCI_CAP_ID_MSIX, MSIX_BYTES);
    put16(pci, pci->msix_at + PCI_MSIX_FLAGS, virtio_pci_interrupts(pci) - 1);
    put32(pci, pci->msix_at + PCI_MSIX_TABLE, PCI_TABLE);
    put32(pci, pci->msix_at + PCI_MSIX_PBA, PCI_PBA);

    uint8_t ea = add_capability(pci, &end, PCI_CAP_ID_EA, EA_BYTES);
    pci->space[ea + PCI_EA_NUM_ENT] = 2;
    add_region(pci, ea + PCI_EA_FIRST_ENT, 0, PCI_EA_P_MEM, pci->place.memory, VIRTIO_PCI_MEMORY_BYTES);
    add_region(pci, ea + PCI_EA_FIRST_ENT + 12u, 1, PCI_EA_P_IO, pci->place.port, VIRTIO_PCI_PORTS);

    add_structure(pci, &end, VIRTIO_PCI_CAP_COMMON_CFG, 0, PCI_COMMON, sizeof(struct virtio_pci_common_cfg));
    add_structure(pci, &end, VIRTIO_PCI_CAP_ISR_CFG, 0, PCI_ISR, 1);
    add_structure(pci, &end, VIRTIO_PCI_CAP_NOTIFY_CFG, 1, 0, VIRTIO_PCI_PORTS);
    if (pci->core.device->ops->config_size > 0)
        add_structure(pci, &end, VIRTIO_PCI_CAP_DEVICE_CFG, 0, PCI_DEVICE,
                      pci->core.device->ops->config_size);
    add_structure(pci, &end, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 0);
}

bool pci_config_decodes(const struct virtio_pci *pci)
{
    return pci->space[PCI_COMMAND] & PCI_COMMAND_MEMORY;
}

/* The bits of a byte that can be written. */
static uint8_t writable(const struct virtio_pci *pci, uint32_t offset)
{
    switch (offset) {
    case PCI_COMMAND:
        return COMMAND_WRITABLE & 0xff;
    case PCI_COMMAND + 1:
        return COMMAND_WRITABLE >> 8;
    case PCI_INTERRUPT_LINE: /* for the operating system's notes */
        return 0xff;
    }
    if (offset == pci->msix_at + PCI_MSIX_FLAGS + 1u)
        return MSIX_WRITABLE >> 8;
    bool access = offset == pci->access_at + (uint32_t)VIRTIO_PCI_CAP_BAR ||
                  (offset >= pci->access_at + (uint32_t)VIRTIO_PCI_CAP_OFFSET &&
                   offset < pci->access_at + sizeof(struct virtio_pci_cfg_cap));
    return access ? 0xff : 0;
}

bool pci_config_set(struct virtio_pci *pci, uint32_t offset, uint8_t value)
{
    uint8_t mask = writable(pci, offset);
    if ((pci->space[offset] ^ value) & ~mask)
        return false;
    pci->space[offset] = value;
    return true;
}

/* What the access capability (virtio 1.2 §4.1.4.9) points at: true if it is a place in a region. */
static bool accessed(const struct virtio_pci *pci, uint32_t *region, uint32_t *offset, uint32_t *length)
{
    *region = pci->space[pci->access_at + VIRTIO_PCI_CAP_BAR];
    *offset = get32(pci, pci->access_at + VIRTIO_PCI_CAP_OFFSET);
    *length = get32(pci, pci->access_at + VIRTIO_PCI_CAP_LENGTH);
    uint32_t bytes = *region == 0 ? VIRTIO_PCI_MEMORY_BYTES : *region == 1 ? VIRTIO_PCI_PORTS : 0;
    return (*length == 1 || *length == 2 || *length == 4) && *offset % *length == 0 && *offset < bytes;
}

static bool reaches_data(const struct virtio_pci *pci, uint32_t offset, uint32_t length)
{
    uint32_t data = pci->access_at + (uint32_t)sizeof(struct virtio_pci_cap);
    return offset < data + 4 && data < offset + length;
}

void virtio_pci_config_read(struct virtio_pci *pci, uint32_t offset, void *data, uint32_t length)
{
    uint32_t region, at, bytes;
    pthread_mutex_lock(&pci->core.lock);
    if (reaches_data(pci, offset, length) && accessed(pci, &region, &at, &bytes) && region == 0)
        pci_region_read(pci, at, pci->space + pci->access_at + sizeof(struct virtio_pci_cap), bytes);
    memcpy(data, pci->space + offset, length);
    pthread_mutex_unlock(&pci->core.lock);
}

void virtio_pci_config_write(struct virtio_pci *pci, uint32_t offset, const void *data, uint32_t length)
{
    uint32_t region, at, bytes;
    const uint8_t *from = data;
    pthread_mutex_lock(&pci->core.lock);
    for (uint32_t i = 0; i < length; i++) {
        uint8_t mask = writable(pci, offset + i);
        pci->space[offset + i] = (uint8_t)((pci->space[offset + i] & ~mask) | (from[i] & mask));
    }
    if (offset < pci->msix_at + 4u && pci->msix_at < offset + length)
        pci_msix_update(pci);
    if (reaches_data(pci, offset, length) && accessed(pci, &region, &at, &bytes)) {
        const uint8_t *value = pci->space + pci->access_at + sizeof(struct virtio_pci_cap);
        if (region == 0)
            pci_region_write(pci, at, value, bytes);
        else if (at == 0 && bytes >= 2)
            core_notified(&pci->core, value[0] | (uint32_t)value[1] << 8);
    }
    pthread_mutex_unlock(&pci->core.lock);
}
