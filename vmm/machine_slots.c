/*
 * The machine's slots for virtio devices: see machine.h. Slots 0 to LAYOUT_VIRTIO_SLOTS - 1 are virtio-mmio
 * windows (machine_mmio.c), those after them are places on the PCI bus (machine_pci.c).
 *
 * Trust boundary: vCPU threads access a slot at any time, also while its device comes or goes. A vCPU inside
 * a device may be waiting for the loop's thread (virtio/transport_state.c), so that thread never waits for
 * vCPUs: it takes the device out of the slot, and whoever leaves it last has it freed.
 */
#include "vmm/machine_internal.h"

#include "common/fd.h"
#include "vmm/virtio/transport.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/ioctl.h>

/* In the loop's thread: nobody is inside the detached device. */
static void free_leaving(void *arg)
{
    struct virtio_slot *slot = arg;
    pthread_mutex_lock(&slot->lock);
    struct virtio_transport *leaving = slot->users == 0 ? take_ptr(&slot->leaving) : NULL;
    slot->busy = slot->busy && !leaving;
    pthread_mutex_unlock(&slot->lock);
    if (leaving)
        slot->bus->free(slot, leaving);
}

struct virtio_transport *slot_enter(struct virtio_slot *slot)
{
    pthread_mutex_lock(&slot->lock);
    struct virtio_transport *transport = slot->transport;
    if (transport)
        slot->users++;
    pthread_mutex_unlock(&slot->lock);
    return transport;
}

void slot_leave(struct virtio_slot *slot)
{
    pthread_mutex_lock(&slot->lock);
    bool last = --slot->users == 0 && slot->leaving;
    pthread_mutex_unlock(&slot->lock);
    if (last && loop_post(slot->machine->loop, free_leaving, slot) < 0)
        log_err("machine: a detached device stays: out of memory");
}

void slot_init(struct virtio_slot *slot, struct machine *machine, const struct slot_bus *bus)
{
    *slot = (struct virtio_slot){.machine = machine, .bus = bus, .irq_fd = -1};
    pthread_mutex_init(&slot->lock, NULL);
}

int slot_bind_interrupt(const struct virtio_slot *slot, int fd, unsigned gsi, bool bind)
{
    struct kvm_irqfd irqfd = {
        .fd = (uint32_t)fd, .gsi = gsi, .flags = bind ? 0 : (uint32_t)KVM_IRQFD_FLAG_DEASSIGN};
    return ioctl(slot->machine->kvm.vm_fd, KVM_IRQFD, &irqfd) < 0 ? -errno : 0;
}

static int kick_ioctl(const struct virtio_slot *slot, unsigned queue, int fd, uint32_t flags)
{
    struct kvm_ioeventfd kick = slot->bus->notification(slot);
    kick.fd = fd;
    kick.datamatch = queue;
    kick.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH | flags;
    return ioctl(slot->machine->kvm.vm_fd, KVM_IOEVENTFD, &kick) < 0 ? -errno : 0;
}

static void unbind_kicks(const struct virtio_slot *slot, const struct virtio_transport *transport,
                         unsigned queues)
{
    for (unsigned queue = 0; queue < queues; queue++) {
        int rc =
            kick_ioctl(slot, queue, virtio_transport_queue_fd(transport, queue), KVM_IOEVENTFD_FLAG_DEASSIGN);
        if (rc < 0)
            log_err("machine: slot=%u queue=%u kick not unbound: %s", slot_index(slot), queue, strerror(-rc));
    }
}

/* Binds each queue's eventfd to writes of its number into its notification address. 0 or -errno; then none is
 * bound. */
static int bind_kicks(const struct virtio_slot *slot, const struct virtio_transport *transport)
{
    unsigned queues = virtio_transport_device(transport)->queue_count;
    for (unsigned queue = 0; queue < queues; queue++) {
        int rc = kick_ioctl(slot, queue, virtio_transport_queue_fd(transport, queue), 0);
        if (rc < 0) {
            unbind_kicks(slot, transport, queue);
            return rc;
        }
    }
    return 0;
}

/* Takes the device, also on failure. */
static int slot_populate(struct virtio_slot *slot, struct virtio_device *device, struct error *err)
{
    const char *name = device->ops->name;
    struct virtio_transport *transport = slot->bus->make(slot, device, err);
    if (!transport)
        return -1;
    int rc = bind_kicks(slot, transport);
    if (rc < 0) {
        slot->bus->unbind(slot, transport);
        slot->bus->free(slot, transport);
        return error_set(err, -rc, "machine: virtio %s: kicks", name);
    }
    pthread_mutex_lock(&slot->lock);
    slot->busy = true;
    slot->transport = transport;
    pthread_mutex_unlock(&slot->lock);
    if (slot->bus->show)
        slot->bus->show(slot, transport, true);
    return 0;
}

/* Network devices are on PCI, for its interrupts; the others are few requests or long ones. */
static bool belongs_on_pci(const struct virtio_device *device)
{
    return device->ops->id == VIRTIO_ID_NET;
}

static struct virtio_slot *find_free(struct machine *machine, unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++) {
        struct virtio_slot *slot = &machine->slot[i];
        pthread_mutex_lock(&slot->lock);
        bool busy = slot->busy;
        pthread_mutex_unlock(&slot->lock);
        if (!busy)
            return slot;
    }
    return NULL;
}

/* Where the device may go: NULL with err. */
static struct virtio_slot *find_slot_for(struct machine *machine, const struct virtio_device *device,
                                         struct error *err)
{
    struct virtio_slot *slot = belongs_on_pci(device) ? find_free(machine, LAYOUT_VIRTIO_SLOTS, MACHINE_SLOTS)
                                                      : find_free(machine, 0, machine->slots);
    if (!slot)
        error_set(err, ENOSPC, "machine: virtio %s: no free slot", device->ops->name);
    return slot;
}

int machine_add_virtio(struct machine *machine, struct virtio_device *device, struct error *err)
{
    struct virtio_slot *slot =
        belongs_on_pci(device) ? find_slot_for(machine, device, err) : machine_add_window(machine, err);
    if (!slot) {
        error_wrap(err, "virtio %s", device->ops->name);
        device->ops->free(device);
        return -1;
    }
    return slot_populate(slot, device, err);
}

int machine_add_placeholders(struct machine *machine, unsigned count, struct error *err)
{
    for (unsigned i = 0; i < count; i++) {
        if (!machine_add_window(machine, err))
            return -1;
    }
    return 0;
}

int machine_attach(struct machine *machine, struct virtio_device *device, unsigned *slot, struct error *err)
{
    struct virtio_slot *found = NULL;
    if (machine->paused || machine->pause_done)
        error_set(err, EBUSY, "machine: virtio %s: the machine is paused", device->ops->name);
    else
        found = find_slot_for(machine, device, err);
    if (!found) {
        device->ops->free(device);
        return -1;
    }
    *slot = slot_index(found);
    return slot_populate(found, device, err);
}

int machine_detach(struct machine *machine, unsigned index, bool force, struct error *err)
{
    struct virtio_slot *slot = index < MACHINE_SLOTS ? &machine->slot[index] : NULL;
    if (!slot || !slot->transport)
        return error_set(err, ENODEV, "machine: virtio slot %u", index);
    const char *name = virtio_transport_device(slot->transport)->ops->name;
    if (machine->paused || machine->pause_done)
        return error_set(err, EBUSY, "machine: virtio %s: the machine is paused", name);
    if (!force && virtio_transport_in_use(slot->transport))
        return error_set(err, EBUSY, "machine: virtio %s: the guest's driver holds the device", name);
    unbind_kicks(slot, slot->transport, virtio_transport_device(slot->transport)->queue_count);
    slot->bus->unbind(slot, slot->transport);
    pthread_mutex_lock(&slot->lock);
    slot->leaving = take_ptr(&slot->transport);
    pthread_mutex_unlock(&slot->lock);
    if (slot->bus->show)
        slot->bus->show(slot, slot->leaving, false);
    free_leaving(slot);
    return 0;
}

unsigned slot_index(const struct virtio_slot *slot)
{
    return (unsigned)(slot - slot->machine->slot);
}

void machine_slot_name(const struct machine *machine, unsigned slot, char name[MACHINE_SLOT_NAME_BYTES])
{
    machine->slot[slot].bus->name(&machine->slot[slot], name);
}

struct virtio_transport *machine_slot_device(const struct machine *machine, unsigned slot)
{
    return slot < MACHINE_SLOTS ? machine->slot[slot].transport : NULL;
}

unsigned machine_free_windows(struct machine *machine)
{
    unsigned count = 0;
    for (unsigned i = 0; i < machine->slots; i++)
        count += !machine->slot[i].transport;
    return count;
}

void machine_free_slots(struct machine *machine)
{
    for (unsigned i = 0; i < MACHINE_SLOTS; i++) {
        struct virtio_slot *slot = &machine->slot[i];
        if (!slot->bus)
            continue; /* never made */
        if (slot->transport)
            slot->bus->free(slot, slot->transport);
        if (slot->leaving)
            slot->bus->free(slot, slot->leaving);
        fd_close(&slot->irq_fd);
        pthread_mutex_destroy(&slot->lock);
    }
    machine_free_mmio(machine);
    machine_free_pci(machine);
}
