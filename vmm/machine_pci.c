/*
 * The machine's places on the PCI bus: see machine.h. Device number n + 1 is slot LAYOUT_VIRTIO_SLOTS + n; an
 * empty one is just not there, and the guest finds what comes later when it scans the bus again.
 *
 * Each place has its addresses for good (virtio/pci.h), so what KVM is told of them does not change either.
 */
#include "vmm/machine_internal.h"

#include "vmm/irq_routes.h"
#include "vmm/virtio/pci.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

static unsigned device_number(const struct virtio_slot *slot)
{
    return slot_index(slot) - LAYOUT_VIRTIO_SLOTS + 1;
}

static struct virtio_slot *slot_of(struct machine *machine, uint64_t device)
{
    return device >= 1 && device < PCI_DEVICES_MAX ? &machine->slot[LAYOUT_VIRTIO_SLOTS + device - 1] : NULL;
}

/* --- Accesses of vCPUs --------------------------------------------------------------------------------- */

/* The device that the vCPU may access until slot_leave; NULL in an empty slot. */
static struct virtio_pci *enter(struct virtio_slot *slot)
{
    struct virtio_transport *transport = slot ? slot_enter(slot) : NULL;
    return transport ? virtio_pci_of(transport) : NULL;
}

static bool read_config(void *arg, unsigned device, uint32_t offset, void *data, uint32_t length)
{
    struct virtio_slot *slot = slot_of(arg, device);
    struct virtio_pci *pci = enter(slot);
    if (!pci)
        return false;
    virtio_pci_config_read(pci, offset, data, length);
    slot_leave(slot);
    return true;
}

static bool write_config(void *arg, unsigned device, uint32_t offset, const void *data, uint32_t length)
{
    struct virtio_slot *slot = slot_of(arg, device);
    struct virtio_pci *pci = enter(slot);
    if (!pci)
        return false;
    virtio_pci_config_write(pci, offset, data, length);
    slot_leave(slot);
    return true;
}

static const struct pci_ops pci_ops = {.read = read_config, .write = write_config};

/* True if the access ends where the region that it begins in does, or before. */
static bool within(uint64_t offset, uint32_t length, uint32_t bytes)
{
    return offset % bytes + length <= bytes;
}

static void read_memory(void *arg, uint64_t offset, void *data, uint32_t length)
{
    struct virtio_slot *slot = slot_of(arg, offset / VIRTIO_PCI_MEMORY_BYTES);
    struct virtio_pci *pci = within(offset, length, VIRTIO_PCI_MEMORY_BYTES) ? enter(slot) : NULL;
    if (!pci) {
        memset(data, 0xff, length);
        return;
    }
    virtio_pci_read(pci, offset % VIRTIO_PCI_MEMORY_BYTES, data, length);
    slot_leave(slot);
}

static void write_memory(void *arg, uint64_t offset, const void *data, uint32_t length)
{
    struct virtio_slot *slot = slot_of(arg, offset / VIRTIO_PCI_MEMORY_BYTES);
    struct virtio_pci *pci = within(offset, length, VIRTIO_PCI_MEMORY_BYTES) ? enter(slot) : NULL;
    if (!pci)
        return;
    virtio_pci_write(pci, offset % VIRTIO_PCI_MEMORY_BYTES, data, length);
    slot_leave(slot);
}

static void read_ports(void *arg, uint64_t offset, void *data, uint32_t length)
{
    (void)arg;
    (void)offset;
    memset(data, 0xff, length); /* notifications are written only */
}

static void write_ports(void *arg, uint64_t offset, const void *data, uint32_t length)
{
    struct virtio_slot *slot = slot_of(arg, offset / VIRTIO_PCI_PORTS);
    struct virtio_pci *pci = within(offset, length, VIRTIO_PCI_PORTS) ? enter(slot) : NULL;
    if (!pci)
        return;
    virtio_pci_notify(pci, offset % VIRTIO_PCI_PORTS, data, length);
    slot_leave(slot);
}

/* --- Devices that come and go -------------------------------------------------------------------------- */

static struct kvm_ioeventfd notification(const struct virtio_slot *slot)
{
    return (struct kvm_ioeventfd){.addr = LAYOUT_PCI_PORTS + device_number(slot) * VIRTIO_PCI_PORTS,
                                  .len = 2,
                                  .flags = KVM_IOEVENTFD_FLAG_PIO};
}

/* Any thread. */
static int route(void *arg, unsigned first, unsigned count, struct irq_message *messages)
{
    struct virtio_slot *slot = arg;
    return irq_routes_set(slot->machine->routes, slot->gsi + first, count, messages);
}

static void release_interrupts(struct virtio_slot *slot, unsigned count)
{
    int rc = irq_routes_release(slot->machine->routes, slot->gsi, count);
    if (rc < 0)
        log_err("machine: slot=%u interrupts not released: %s", slot_index(slot), strerror(-rc));
}

/* The first `count` interrupts. */
static void unbind_interrupts(const struct virtio_slot *slot, const struct virtio_pci *pci, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        int rc = slot_bind_interrupt(slot, virtio_pci_interrupt_fd(pci, i), slot->gsi + i, false);
        if (rc < 0)
            log_err("machine: slot=%u interrupt=%u not unbound: %s", slot_index(slot), i, strerror(-rc));
    }
}

static int bind_interrupts(const struct virtio_slot *slot, const struct virtio_pci *pci)
{
    for (unsigned i = 0; i < virtio_pci_interrupts(pci); i++) {
        int rc = slot_bind_interrupt(slot, virtio_pci_interrupt_fd(pci, i), slot->gsi + i, true);
        if (rc < 0) {
            unbind_interrupts(slot, pci, i);
            return rc;
        }
    }
    return 0;
}

static struct virtio_transport *make(struct virtio_slot *slot, struct virtio_device *device,
                                     struct error *err)
{
    const char *name = device->ops->name;
    unsigned interrupts = device->queue_count + 1;
    int gsi = irq_routes_reserve(slot->machine->routes, interrupts);
    if (gsi < 0) {
        device->ops->free(device);
        error_set(err, -gsi, "machine: virtio %s: %u interrupts", name, interrupts);
        return NULL;
    }
    slot->gsi = (unsigned)gsi;
    unsigned number = device_number(slot);
    struct virtio_pci_place place = {.memory = LAYOUT_PCI_MEMORY + number * VIRTIO_PCI_MEMORY_BYTES,
                                     .port = (uint16_t)(LAYOUT_PCI_PORTS + number * VIRTIO_PCI_PORTS),
                                     .route = route,
                                     .arg = slot};
    struct virtio_pci *pci = virtio_pci_new(device, &slot->machine->memory.map, &place);
    int rc = pci ? bind_interrupts(slot, pci) : -errno;
    if (rc == 0)
        return virtio_pci_transport(pci);
    virtio_transport_free(virtio_pci_transport(pci));
    release_interrupts(slot, interrupts);
    error_set(err, -rc, "machine: virtio %s: transport", name);
    return NULL;
}

static void unbind(struct virtio_slot *slot, struct virtio_transport *transport)
{
    const struct virtio_pci *pci = virtio_pci_of(transport);
    unbind_interrupts(slot, pci, virtio_pci_interrupts(pci));
}

static void slot_free(struct virtio_slot *slot, struct virtio_transport *transport)
{
    unsigned interrupts = virtio_pci_interrupts(virtio_pci_of(transport));
    virtio_transport_free(transport);
    release_interrupts(slot, interrupts);
}

/* As Linux names functions: domain, bus, device, function. */
static void slot_name(const struct virtio_slot *slot, char name[MACHINE_SLOT_NAME_BYTES])
{
    snprintf(name, MACHINE_SLOT_NAME_BYTES, "0000:00:%02x.0", device_number(slot));
}

static const struct slot_bus pci_bus = {
    .make = make, .unbind = unbind, .free = slot_free, .notification = notification, .name = slot_name};

int machine_build_pci(struct machine *machine)
{
    const struct bus_window memory = {LAYOUT_PCI_MEMORY, PCI_DEVICES_MAX * VIRTIO_PCI_MEMORY_BYTES,
                                      read_memory, write_memory, machine};
    const struct bus_window config = {PCI_PORT, PCI_PORTS, pci_host_read, pci_host_write, &machine->pci};
    const struct bus_window ports = {LAYOUT_PCI_PORTS, PCI_DEVICES_MAX * VIRTIO_PCI_PORTS, read_ports,
                                     write_ports, machine};
    pci_host_init(&machine->pci, &pci_ops, machine);
    for (unsigned i = LAYOUT_VIRTIO_SLOTS; i < MACHINE_SLOTS; i++)
        slot_init(&machine->slot[i], machine, &pci_bus);
    int rc = bus_add(&machine->mmio, &memory);
    if (rc == 0)
        rc = bus_add(&machine->pio, &config);
    return rc == 0 ? bus_add(&machine->pio, &ports) : rc;
}

void machine_free_pci(struct machine *machine)
{
    if (machine->slot[LAYOUT_VIRTIO_SLOTS].bus)
        pci_host_fini(&machine->pci);
}
