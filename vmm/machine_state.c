/*
 * Pausing a machine, and its state as data: see machine.h. What is saved is everything but memory; memory is
 * its own file.
 */
#include "vmm/machine_internal.h"

#include "vmm/snapshot.h"
#include "vmm/virtio/transport.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define SECTION_NAME    "machine"
#define SECTION_VERSION 3u

/* In the loop's thread: no vCPU runs. What that means depends on who wanted it. */
static void on_all_standing(void *arg)
{
    struct machine *machine = arg;
    if (machine_has_ended(machine)) {
        loop_stop(machine->loop);
        return;
    }
    /* A vCPU may have been let go since: then this is an old message. */
    if (!machine->pause_done || !vcpu_gate_all_standing(&machine->gate))
        return;
    for (unsigned i = 0; i < MACHINE_SLOTS; i++) {
        if (machine->slot[i].transport)
            virtio_transport_pause(machine->slot[i].transport);
    }
    machine->paused = true;
    void (*done)(void *arg) = machine->pause_done;
    machine->pause_done = NULL;
    done(machine->pause_arg);
}

void machine_all_standing(void *arg)
{
    struct machine *machine = arg;
    if (loop_post(machine->loop, on_all_standing, machine) < 0)
        machine_end(machine, END_VMM_ERROR, "out of memory");
}

int machine_pause(struct machine *machine, void (*done)(void *arg), void *arg)
{
    if (machine->pause_done || machine->paused)
        return -EBUSY;
    machine->pause_done = done;
    machine->pause_arg = arg;
    vcpu_gate_set(&machine->gate, VCPU_PAUSE);
    machine_kick_all(machine);
    if (vcpu_gate_all_standing(&machine->gate)) /* none was running: nobody will say so */
        machine_all_standing(machine);
    return 0;
}

void machine_resume(struct machine *machine)
{
    /* A guest that was stopped must not take that for a lockup of its own; -EINVAL: it uses no kvmclock. */
    for (unsigned i = 0; i < machine->cpus && machine->paused; i++)
        ioctl(machine->vcpu[i].fd, KVM_KVMCLOCK_CTRL, 0);
    if (machine->run_us == 0)
        machine->run_us = machine_now_us();
    for (unsigned i = 0; i < MACHINE_SLOTS && machine->paused; i++) {
        if (machine->slot[i].transport)
            virtio_transport_resume(machine->slot[i].transport);
    }
    machine->paused = false;
    vcpu_gate_set(&machine->gate, VCPU_RUN);
}

/* The kind of device in a slot, 0 in a slot without one. */
static uint32_t slot_device_id(const struct virtio_slot *slot)
{
    return slot->transport ? virtio_transport_device(slot->transport)->ops->id : 0;
}

/* What a restored machine must be built like, and the guest's clock. */
static int save_machine(const struct machine *machine, struct snapshot_writer *writer)
{
    struct kvm_clock_data clock = {0};
    if (ioctl(machine->kvm.vm_fd, KVM_GET_CLOCK, &clock) < 0)
        return -errno;
    snapshot_section_begin(writer, SECTION_NAME, 0, SECTION_VERSION);
    snapshot_put_u32(writer, machine->cpus);
    snapshot_put_u32(writer, machine->cpus_max);
    snapshot_put_u32(writer, machine->slots);
    for (unsigned i = 0; i < MACHINE_SLOTS; i++)
        snapshot_put_u32(writer, slot_device_id(&machine->slot[i]));
    snapshot_put_u64(writer, machine->memory.bytes);
    snapshot_put_u64(writer, machine->memory.pluggable_bytes);
    snapshot_put_u64(writer, clock.clock);
    snapshot_section_end(writer);
    return 0;
}

int machine_save(struct machine *machine, struct snapshot_writer *writer)
{
    struct kvm_msr_list *msrs = kvm_msr_list_new(&machine->kvm);
    if (!msrs)
        return -errno;
    int rc = save_machine(machine, writer);
    for (unsigned i = 0; i < machine->cpus && rc == 0; i++)
        rc = vcpu_save(&machine->vcpu[i], msrs, writer);
    free(msrs);
    if (rc == 0)
        rc = ioapic_save(machine->ioapic, writer);
    if (rc == 0)
        rc = serial_save(machine->serial, writer);
    if (rc == 0)
        rc = pci_host_save(&machine->pci, writer);
    for (unsigned i = 0; i < MACHINE_SLOTS && rc == 0; i++) {
        if (machine->slot[i].transport)
            rc = virtio_transport_save(machine->slot[i].transport, writer, i);
    }
    return rc;
}

static int restore_machine(struct machine *machine, struct snapshot_reader *reader)
{
    int rc = snapshot_section_open(reader, SECTION_NAME, 0, SECTION_VERSION, NULL);
    if (rc < 0)
        return rc;
    uint32_t cpus = snapshot_get_u32(reader);
    uint32_t cpus_max = snapshot_get_u32(reader);
    uint32_t slots = snapshot_get_u32(reader);
    bool same = slots == machine->slots;
    for (unsigned i = 0; i < MACHINE_SLOTS && same; i++)
        same = snapshot_get_u32(reader) == slot_device_id(&machine->slot[i]);
    if (!same)
        return snapshot_reader_error(reader) ? -EPROTO : -EINVAL;
    uint64_t memory_bytes = snapshot_get_u64(reader);
    uint64_t pluggable_bytes = snapshot_get_u64(reader);
    struct kvm_clock_data clock = {.clock = snapshot_get_u64(reader)};
    rc = snapshot_section_finish(reader);
    if (rc < 0)
        return rc;
    if (cpus < machine->cpus || cpus > machine->cpus_max || cpus_max != machine->cpus_max ||
        memory_bytes != machine->memory.bytes || pluggable_bytes != machine->memory.pluggable_bytes)
        return -EINVAL;
    struct error err; /* vCPUs that came while it ran */
    if (machine_make_vcpus(machine, cpus, &err) < 0)
        return -err.code;
    /* The guest's monotonic clock goes on where it was: it did not see the time in between. */
    return ioctl(machine->kvm.vm_fd, KVM_SET_CLOCK, &clock) < 0 ? -errno : 0;
}

int machine_restore(struct machine *machine, struct snapshot_reader *reader)
{
    int rc = restore_machine(machine, reader);
    for (unsigned i = 0; i < machine->cpus && rc == 0; i++)
        rc = vcpu_restore(&machine->vcpu[i], reader);
    /* Interrupt routes before the devices that may raise interrupts. */
    if (rc == 0)
        rc = ioapic_restore(machine->ioapic, reader);
    if (rc == 0)
        rc = serial_restore(machine->serial, reader);
    if (rc == 0)
        rc = pci_host_restore(&machine->pci, reader);
    for (unsigned i = 0; i < MACHINE_SLOTS && rc == 0; i++) {
        if (machine->slot[i].transport)
            rc = virtio_transport_restore(machine->slot[i].transport, reader, i);
    }
    machine->paused = true; /* restored transports are: machine_resume lets them go */
    return rc;
}
