/* The PCI bus: see pci.h. Called by the machine's vCPU threads. */
#include "vmm/pci.h"

#include "vmm/snapshot.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define CONFIG_ADDRESS 0u /* offsets from PCI_PORT */
#define CONFIG_DATA    4u

#define ADDRESS_ENABLE      0x80000000u
#define ADDRESS_WRITABLE    0x80fffffcu
#define ADDRESS_BUS(a)      ((a) >> 16 & 0xff)
#define ADDRESS_DEVICE(a)   ((a) >> 11 & 0x1f)
#define ADDRESS_FUNCTION(a) ((a) >> 8 & 7)
#define ADDRESS_OFFSET(a)   ((a)&0xfc)

#define SECTION_NAME    "pci"
#define SECTION_VERSION 1u

void pci_host_init(struct pci_host *host, const struct pci_ops *ops, void *arg)
{
    *host = (struct pci_host){.ops = ops, .arg = arg};
    pthread_mutex_init(&host->lock, NULL);
}

void pci_host_fini(struct pci_host *host)
{
    pthread_mutex_destroy(&host->lock);
}

static uint32_t get_address(struct pci_host *host)
{
    pthread_mutex_lock(&host->lock);
    uint32_t address = host->address;
    pthread_mutex_unlock(&host->lock);
    return address;
}

/* Whether an access to CONFIG_DATA reaches a device's configuration space, and where. */
static bool config_target(uint32_t address, uint64_t offset, uint32_t length, uint32_t *at)
{
    *at = ADDRESS_OFFSET(address) + (uint32_t)(offset - CONFIG_DATA);
    return offset >= CONFIG_DATA && address & ADDRESS_ENABLE && ADDRESS_BUS(address) == 0 &&
           ADDRESS_FUNCTION(address) == 0 && (length == 1 || length == 2 || length == 4) && *at % length == 0;
}

void pci_host_read(void *arg, uint64_t offset, void *data, uint32_t length)
{
    struct pci_host *host = arg;
    uint32_t address = get_address(host), at;
    bool there = false;
    if (offset == CONFIG_ADDRESS && length == sizeof(address)) {
        address = htole32(address);
        memcpy(data, &address, sizeof(address));
        return;
    }
    if (config_target(address, offset, length, &at))
        there = host->ops->read(host->arg, ADDRESS_DEVICE(address), at, data, length);
    if (!there)
        memset(data, 0xff, length);
}

void pci_host_write(void *arg, uint64_t offset, const void *data, uint32_t length)
{
    struct pci_host *host = arg;
    uint32_t address, at;
    if (offset == CONFIG_ADDRESS && length == sizeof(address)) {
        memcpy(&address, data, sizeof(address));
        pthread_mutex_lock(&host->lock);
        host->address = le32toh(address) & ADDRESS_WRITABLE;
        pthread_mutex_unlock(&host->lock);
        return;
    }
    address = get_address(host);
    if (config_target(address, offset, length, &at))
        host->ops->write(host->arg, ADDRESS_DEVICE(address), at, data, length);
}

int pci_host_save(struct pci_host *host, struct snapshot_writer *writer)
{
    snapshot_section_begin(writer, SECTION_NAME, 0, SECTION_VERSION);
    snapshot_put_u32(writer, get_address(host));
    snapshot_section_end(writer);
    return 0;
}

int pci_host_restore(struct pci_host *host, struct snapshot_reader *reader)
{
    int rc = snapshot_section_open(reader, SECTION_NAME, 0, SECTION_VERSION, NULL);
    if (rc < 0)
        return rc;
    uint32_t address = snapshot_get_u32(reader);
    rc = snapshot_section_finish(reader);
    if (rc < 0)
        return rc;
    if (address & ~ADDRESS_WRITABLE)
        return -EPROTO;
    host->address = address;
    return 0;
}
