/*
 * The machine's virtio-mmio slots: see machine.h. A slot is a window, an interrupt line and perhaps a device.
 *
 * virtio-mmio knows no hot plug, but a window whose DeviceID reads 0 is one without a device (virtio 1.2
 * §4.2.2), and Linux looks at it again whenever its platform device is bound to the driver. So devices come
 * and go in slots that the guest was told of at boot.
 *
 * The registers that the guest reads are pages of memory (virtio/mmio_page.c), which KVM maps read-only: a
 * read costs no exit, a write goes to an ioeventfd or comes here.
 *
 * Trust boundary: vCPU threads access a window at any time, also while its device comes or goes. A vCPU
 * inside a device may be waiting for the loop's thread (virtio/mmio_state.c), so that thread never waits for
 * vCPUs: it takes the device out of the window, and whoever leaves it last has it freed.
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
    return LAYOUT_VIRTIO + (uint64_t)(slot - slot->machine->slot) * LAYOUT_VIRTIO_STRIDE;
}

/* In the loop's thread: nobody is inside the detached device. */
static void free_leaving(void *arg)
{
    struct virtio_slot *slot = arg;
    pthread_mutex_lock(&slot->lock);
    struct virtio_mmio *leaving = slot->users == 0 ? take_ptr(&slot->leaving) : NULL;
    pthread_mutex_unlock(&slot->lock);
    virtio_mmio_free(leaving);
}

/* Where the guest reads the slot's registers; NULL when each read is an exit. */
static void *slot_page(const struct virtio_slot *slot)
{
    uint8_t *windows = slot->machine->windows;
    return windows ? windows + (size_t)(slot - slot->machine->slot) * LAYOUT_VIRTIO_STRIDE : NULL;
}

/* The device that the vCPU may now access, until slot_leave; NULL in a placeholder. */
static struct virtio_mmio *slot_enter(struct virtio_slot *slot)
{
    pthread_mutex_lock(&slot->lock);
    struct virtio_mmio *mmio = slot->mmio;
    if (mmio)
        slot->users++;
    pthread_mutex_unlock(&slot->lock);
    return mmio;
}

static void slot_leave(struct virtio_slot *slot)
{
    pthread_mutex_lock(&slot->lock);
    bool last = --slot->users == 0 && slot->leaving;
    pthread_mutex_unlock(&slot->lock);
    if (last && loop_post(slot->machine->loop, free_leaving, slot) < 0)
        log_err("machine: a detached device stays: out of memory");
}

static void read_slot(void *device, uint64_t offset, void *data, uint32_t length)
{
    struct virtio_slot *slot = device;
    struct virtio_mmio *mmio = slot_enter(slot);
    if (mmio) {
        virtio_mmio_read(mmio, offset, data, length);
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
    struct virtio_mmio *mmio = slot_enter(slot);
    if (!mmio)
        return;
    virtio_mmio_write(mmio, offset, data, length);
    slot_leave(slot);
}

/* An eventfd that raises the pin's interrupt without leaving the kernel. The fd, or -errno. */
static int irq_fd_new(const struct machine *machine, unsigned pin)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    struct kvm_irqfd irqfd = {.fd = (uint32_t)fd, .gsi = pin};
    if (ioctl(machine->kvm.vm_fd, KVM_IRQFD, &irqfd) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

static int kick_ioctl(const struct virtio_slot *slot, unsigned queue, int fd, uint32_t flags)
{
    struct kvm_ioeventfd kick = {.addr = slot_base(slot) + VIRTIO_MMIO_QUEUE_NOTIFY,
                                 .len = 4,
                                 .fd = fd,
                                 .datamatch = queue,
                                 .flags = KVM_IOEVENTFD_FLAG_DATAMATCH | flags};
    return ioctl(slot->machine->kvm.vm_fd, KVM_IOEVENTFD, &kick) < 0 ? -errno : 0;
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

/* KVM keeps an eventfd until it is told otherwise, whatever becomes of the descriptor. */
static void unbind_kicks(const struct virtio_slot *slot, const struct virtio_mmio *mmio, unsigned queues)
{
    for (unsigned queue = 0; queue < queues; queue++) {
        int rc = kick_ioctl(slot, queue, virtio_mmio_queue_fd(mmio, queue), KVM_IOEVENTFD_FLAG_DEASSIGN);
        if (rc < 0)
            log_err("machine: slot=%u queue=%u kick not unbound: %s", (unsigned)(slot - slot->machine->slot),
                    queue, strerror(-rc));
    }
}

/* Binds each queue's eventfd to writes of its number into QueueNotify. 0 or -errno; then none is bound. */
static int bind_kicks(const struct virtio_slot *slot, const struct virtio_mmio *mmio)
{
    unsigned queues = virtio_mmio_device(mmio)->queue_count;
    for (unsigned queue = 0; queue < queues; queue++) {
        int rc = kick_ioctl(slot, queue, virtio_mmio_queue_fd(mmio, queue), 0);
        if (rc < 0) {
            unbind_kicks(slot, mmio, queue);
            return rc;
        }
    }
    return 0;
}

/* The next slot, without a device, as a window of the bus. NULL with err. */
static struct virtio_slot *slot_add(struct machine *machine, struct error *err)
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
    *slot =
        (struct virtio_slot){.machine = machine, .irq_fd = irq_fd_new(machine, LAYOUT_PIN_VIRTIO + index)};
    if (slot->irq_fd < 0) {
        error_set(err, -slot->irq_fd, "machine: virtio slot %u: interrupt", index);
        return NULL;
    }
    struct bus_window window = {slot_base(slot), VIRTIO_MMIO_SIZE, read_slot, write_slot, slot};
    int rc = bus_add(&machine->mmio, &window);
    if (rc < 0) {
        fd_close(&slot->irq_fd);
        error_set(err, -rc, "machine: virtio slot %u: registers", index);
        return NULL;
    }
    pthread_mutex_init(&slot->lock, NULL);
    if (machine->windows)
        virtio_mmio_show_placeholder(slot_page(slot));
    machine->slots++;
    ioapic_set_pins(machine->ioapic, LAYOUT_PIN_VIRTIO + machine->slots);
    return slot;
}

/* Takes the device, also on failure. */
static int slot_populate(struct virtio_slot *slot, struct virtio_device *device, struct error *err)
{
    const char *name = device->ops->name;
    struct virtio_mmio *mmio = virtio_mmio_new(device, &slot->machine->memory.map, slot->irq_fd);
    if (!mmio)
        return error_set(err, errno, "machine: virtio %s: transport", name);
    int rc = bind_kicks(slot, mmio);
    if (rc == 0 && (rc = ack_ioctl(slot, 0)) < 0)
        unbind_kicks(slot, mmio, device->queue_count);
    if (rc < 0) {
        virtio_mmio_free(mmio);
        return error_set(err, -rc, "machine: virtio %s: kicks", name);
    }
    virtio_mmio_ignore_call_acks(mmio);
    pthread_mutex_lock(&slot->lock);
    slot->mmio = mmio;
    pthread_mutex_unlock(&slot->lock);
    if (slot->machine->windows)
        virtio_mmio_show(mmio, slot_page(slot));
    return 0;
}

int machine_add_virtio(struct machine *machine, struct virtio_device *device, struct error *err)
{
    struct virtio_slot *slot = slot_add(machine, err);
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
        if (!slot_add(machine, err))
            return -1;
    }
    return 0;
}

static bool slot_is_free(struct virtio_slot *slot)
{
    pthread_mutex_lock(&slot->lock);
    bool empty = !slot->mmio && !slot->leaving;
    pthread_mutex_unlock(&slot->lock);
    return empty;
}

int machine_attach(struct machine *machine, struct virtio_device *device, unsigned *slot, struct error *err)
{
    const char *name = device->ops->name;
    if (machine->paused || machine->pause_done) {
        device->ops->free(device);
        return error_set(err, EBUSY, "machine: virtio %s: the machine is paused", name);
    }
    for (unsigned i = 0; i < machine->slots; i++) {
        if (!slot_is_free(&machine->slot[i]))
            continue;
        *slot = i;
        return slot_populate(&machine->slot[i], device, err);
    }
    device->ops->free(device);
    return error_set(err, ENOSPC, "machine: virtio %s: no free slot", name);
}

int machine_detach(struct machine *machine, unsigned index, bool force, struct error *err)
{
    struct virtio_slot *slot = index < machine->slots ? &machine->slot[index] : NULL;
    if (!slot || !slot->mmio)
        return error_set(err, ENODEV, "machine: virtio slot %u", index);
    const char *name = virtio_mmio_device(slot->mmio)->ops->name;
    if (machine->paused || machine->pause_done)
        return error_set(err, EBUSY, "machine: virtio %s: the machine is paused", name);
    if (!force && virtio_mmio_in_use(slot->mmio))
        return error_set(err, EBUSY, "machine: virtio %s: the guest's driver holds the device", name);
    unbind_kicks(slot, slot->mmio, virtio_mmio_device(slot->mmio)->queue_count);
    int rc = ack_ioctl(slot, KVM_IOEVENTFD_FLAG_DEASSIGN);
    if (rc < 0)
        log_err("machine: slot=%u acknowledgements not unbound: %s", index, strerror(-rc));
    pthread_mutex_lock(&slot->lock);
    slot->leaving = take_ptr(&slot->mmio);
    pthread_mutex_unlock(&slot->lock);
    if (slot->machine->windows) {
        virtio_mmio_show(slot->leaving, NULL);
        virtio_mmio_show_placeholder(slot_page(slot));
    }
    free_leaving(slot);
    return 0;
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

void machine_slot_name(unsigned slot, char name[MACHINE_SLOT_NAME_BYTES])
{
    /* As of_device_make_bus_id of Linux makes it from the node "virtio@<address>". */
    snprintf(name, MACHINE_SLOT_NAME_BYTES, "%llx." DEVICE_TREE_VIRTIO_NODE,
             LAYOUT_VIRTIO + (unsigned long long)slot * LAYOUT_VIRTIO_STRIDE);
}

int machine_slot_find(const struct machine *machine, const char *name)
{
    char candidate[MACHINE_SLOT_NAME_BYTES];
    for (unsigned i = 0; i < machine->slots; i++) {
        machine_slot_name(i, candidate);
        if (strcmp(candidate, name) == 0)
            return (int)i;
    }
    return -1;
}

unsigned machine_slot_count(const struct machine *machine)
{
    return machine->slots;
}

struct virtio_mmio *machine_slot_device(const struct machine *machine, unsigned slot)
{
    return slot < machine->slots ? machine->slot[slot].mmio : NULL;
}

void machine_free_slots(struct machine *machine)
{
    for (unsigned i = 0; i < machine->slots; i++) {
        struct virtio_slot *slot = &machine->slot[i];
        virtio_mmio_free(slot->mmio);
        virtio_mmio_free(slot->leaving);
        fd_close(&slot->irq_fd);
        pthread_mutex_destroy(&slot->lock);
    }
    fd_close(&machine->ack_fd);
    if (machine->windows)
        munmap(machine->windows, (size_t)LAYOUT_VIRTIO_SLOTS * LAYOUT_VIRTIO_STRIDE);
}
