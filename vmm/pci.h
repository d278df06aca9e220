/*
 * The PCI bus: one bus without bridges, whose configuration space is reached by configuration mechanism #1
 * (ports 0xcf8 and 0xcfc; PCI Local Bus 3.0 §3.2.2.3.2). The host's own bridge is no device on it, which
 * would only cost the guest 180 exits at boot: its kernel is told not to look for one.
 *
 * Devices may come and go while the guest runs; whoever puts them on the bus answers for their lives. Trust
 * boundary: every access is the guest's, from any vCPU thread.
 */
#ifndef HUSK_VMM_PCI_H
#define HUSK_VMM_PCI_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define PCI_PORT        0xcf8u
#define PCI_PORTS       8u
#define PCI_DEVICES_MAX 32u

/* `length` is 1, 2 or 4 and offset + length <= 256, naturally aligned. False when there is no such device:
 * reads give ones then. */
struct pci_ops {
    bool (*read)(void *arg, unsigned device, uint32_t offset, void *data, uint32_t length);
    bool (*write)(void *arg, unsigned device, uint32_t offset, const void *data, uint32_t length);
};

struct pci_host {
    const struct pci_ops *ops; /* of devices 0 to PCI_DEVICES_MAX - 1 */
    void *arg;
    pthread_mutex_t lock; /* guards address */
    uint32_t address;     /* CONFIG_ADDRESS */
};

struct snapshot_writer;
struct snapshot_reader;

void pci_host_init(struct pci_host *host, const struct pci_ops *ops, void *arg);
void pci_host_fini(struct pci_host *host);

/* Port accesses, offset from PCI_PORT: bus.h. */
void pci_host_read(void *host, uint64_t offset, void *data, uint32_t length);
void pci_host_write(void *host, uint64_t offset, const void *data, uint32_t length);

/* The vCPUs are paused. 0 or -errno. */
int pci_host_save(struct pci_host *host, struct snapshot_writer *writer);
int pci_host_restore(struct pci_host *host, struct snapshot_reader *reader);

#endif
