/*
 * The machine's virtio-mmio slots: see machine.h. A slot is a window, an interrupt line and perhaps a device.
 *
 * virtio-mmio knows no hot plug, but a window whose DeviceID reads 0 is one without a device (virtio 1.2
 * §4.2.2), and Linux looks at it again whenever its platform device is bound to the driver. So devices come
 * and go in slots that the guest was told of at boot.
 *
 * The registers that the guest reads are pages of memory (virtio/mmio_page.c), which KVM maps read-only: a
 * read costs no exit, a write goes to an ioeventfd or comes here.
 */
#include "vmm/machine_internal.h"

#include "common/fd.h"
#include "vmm/device_tree.h"
#include "vmm/virtio/mmio.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* KVM's number for it, behind those of RAM (memory.h). */
#define WINDOWS_MEMORY_SLOT 30u

static uint64_t slot_base(const struct virtio_slot *slot)
{
    return LAYOUT_VIRTIO + (uint64_t)slot_index(slot) * LAYOUT_VIRTIO_STRIDE;
}

/* Where the guest reads the slot's registers; NULL when each read is an exit. */
static void *slot_page(const struct virtio_slot *slot)
{
    uint8_t *windows = slot->machine->windows;
    return windows ? windows + (size_t)slot_index(slot) * LAYOUT_VIRTIO_STRIDE : NULL;
}

static void read_slot(void *device, uint64_t offset, void *data, uint32_t length)
{
    struct virtio_slot *slot = device;
    struct virtio_transport *transport = slot_enter(slot);
    if (transport) {
        virtio_mmio_read(virtio_mmio_of(transport), offset, data, length);
        slot_leave(slot);
    } else {
        _Alignas(8) uint8_t page[VIRTIO_MMIO_SIZE];
        virtio_mmio_show_placeholder(page);
        memcpy(data, page + offset, length); /* within the window: bus.h */
    }
}

static void write_slot(void *device, uint64_t offset, const void *data, uint32_t length)
{
    struct virtio_slot *slot = device;
    struct virtio_transport *transport = slot_enter(slot);
    if (!transport)
        return;
    virtio_mmio_write(virtio_mmio_of(transport), offset, data, length);
    slot_leave(slot);
}

/* An acknowledgement of used buffers alone, which Linux writes after each interrupt, ends in the kernel: in
 * an eventfd that nobody reads. One of a configuration change differs in value and comes to the device. */
static int ack_ioctl(const struct virtio_slot *slot, uint32_t flags)
{
    struct kvm_ioeventfd ack = {.addr = slot_base(slot) + VIRTIO_MMIO_INTERRUPT_ACK,
                                .len = 4,
                                .fd = slot->machine->ack_fd,
                                .datamatch = VIRTIO_MMIO_INT_VRING,
                                .flags = KVM_IOEVENTFD_FLAG_DATAMATCH | flags};
    return ioctl(slot->machine->kvm.vm_fd, KVM_IOEVENTFD, &ack) < 0 ? -errno : 0;
}

static struct kvm_ioeventfd notification(const struct virtio_slot *slot)
{
    return (struct kvm_ioeventfd){.addr = slot_base(slot) + VIRTIO_MMIO_QUEUE_NOTIFY, .len = 4};
}

static struct virtio_transport *make(struct virtio_slot *slot, struct virtio_device *device,
                                     struct error *err)
{
    const char *name = device->ops->name;
    struct virtio_mmio *mmio = virtio_mmio_new(device, &slot->machine->memory.map, slot->irq_fd);
    if (!mmio) {
        error_set(err, errno, "machine: virtio %s: transport", name);
        return NULL;
    }
    int rc = ack_ioctl(slot, 0);
    if (rc < 0) {
        virtio_transport_free(virtio_mmio_transport(mmio));
        error_set(err, -rc, "machine: virtio %s: acknowledgements", name);
        return NULL;
    }
    virtio_mmio_ignore_call_acks(mmio);
    return virtio_mmio_transport(mmio);
}

static void show(struct virtio_slot *slot, struct virtio_transport *transport, bool there)
{
    if (!slot->machine->windows)
        return;
    virtio_mmio_show(virtio_mmio_of(transport), there ? slot_page(slot) : NULL);
    if (!there)
        virtio_mmio_show_placeholder(slot_page(slot));
}

static void unbind(struct virtio_slot *slot, struct virtio_transport *transport)
{
    (void)transport;
    int rc = ack_ioctl(slot, KVM_IOEVENTFD_FLAG_DEASSIGN);
    if (rc < 0)
        log_err("machine: slot=%u acknowledgements not unbound: %s", slot_index(slot), strerror(-rc));
}

static void slot_free(struct virtio_slot *slot, struct virtio_transport *transport)
{
    (void)slot;
    virtio_transport_free(transport);
}

/* As of_device_make_bus_id of Linux makes it from the node "virtio@<address>". */
static void slot_name(const struct virtio_slot *slot, char name[MACHINE_SLOT_NAME_BYTES])
{
    snprintf(name, MACHINE_SLOT_NAME_BYTES, "%llx." DEVICE_TREE_VIRTIO_NODE,
             (unsigned long long)slot_base(slot));
}

static const struct slot_bus mmio_bus = {.make = make,
                                         .show = show,
                                         .unbind = unbind,
                                         .free = slot_free,
                                         .notification = notification,
                                         .name = slot_name};

struct virtio_slot *machine_add_window(struct machine *machine, struct error *err)
{
    unsigned index = machine->slots;
    if (index == LAYOUT_VIRTIO_SLOTS) {
        error_set(err, ENOSPC, "machine: more than %u virtio slots", LAYOUT_VIRTIO_SLOTS);
        return NULL;
    }
    if (machine->ack_fd < 0 && (machine->ack_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
        error_set(err, errno, "machine: eventfd");
        return NULL;
    }
    struct virtio_slot *slot = &machine->slot[index];
    slot_init(slot, machine, &mmio_bus); /* from here on machine_free_slots frees it */
    slot->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc =
        slot->irq_fd < 0 ? -errno : slot_bind_interrupt(slot, slot->irq_fd, LAYOUT_PIN_VIRTIO + index, true);
    struct bus_window window = {slot_base(slot), VIRTIO_MMIO_SIZE, read_slot, write_slot, slot};
    if (rc == 0)
        rc = bus_add(&machine->mmio, &window);
    if (rc < 0) {
        error_set(err, -rc, "machine: virtio slot %u", index);
        return NULL;
    }
    if (machine->windows)
        virtio_mmio_show_placeholder(slot_page(slot));
    machine->slots++;
    ioapic_set_pins(machine->ioapic, LAYOUT_PIN_VIRTIO + machine->slots);
    return slot;
}

int machine_map_windows(struct machine *machine, struct error *err)
{
    if (ioctl(machine->kvm.fd, KVM_CHECK_EXTENSION, KVM_CAP_READONLY_MEM) <= 0)
        return 0; /* then each read is an exit */
    size_t bytes = (size_t)LAYOUT_VIRTIO_SLOTS * LAYOUT_VIRTIO_STRIDE;
    void *windows = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (windows == MAP_FAILED)
        return error_set(err, errno, "machine: pages for virtio windows");
    struct kvm_userspace_memory_region region = {.slot = WINDOWS_MEMORY_SLOT,
                                                 .flags = KVM_MEM_READONLY,
                                                 .guest_phys_addr = LAYOUT_VIRTIO,
                                                 .memory_size = bytes,
                                                 .userspace_addr = (uintptr_t)windows};
    if (ioctl(machine->kvm.vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0) {
        munmap(windows, bytes);
        return error_set(err, errno, "KVM: map virtio windows");
    }
    machine->windows = windows;
    return 0;
}

void machine_free_mmio(struct machine *machine)
{
    fd_close(&machine->ack_fd);
    if (machine->windows)
        munmap(machine->windows, (size_t)LAYOUT_VIRTIO_SLOTS * LAYOUT_VIRTIO_STRIDE);
}
