/*
 * Pausing a machine, and its state as data: see machine.h. What is saved is everything but memory; memory is
 * its own file.
 */
#include "vmm/machine_internal.h"

#include "vmm/snapshot.h"
#include "vmm/virtio/mmio.h"

#include <errno.h>
#include <sys/ioctl.h>

#define SECTION_NAME    "machine"
#define SECTION_VERSION 1u

void machine_pause(struct machine *machine)
{
    unsigned running = 0;
    vcpu_gate_set(&machine->gate, VCPU_PAUSE);
    machine_kick_all(machine);
    for (unsigned i = 0; i < machine->cpus; i++)
        running += machine->vcpu[i].started;
    vcpu_gate_wait_all(&machine->gate, running);
    for (unsigned i = 0; i < machine->slots; i++)
        virtio_mmio_pause(machine->slot[i].mmio);
    machine->paused = true;
}

void machine_resume(struct machine *machine)
{
    if (machine->run_us == 0)
        machine->run_us = machine_now_us();
    for (unsigned i = 0; i < machine->slots && machine->paused; i++)
        virtio_mmio_resume(machine->slot[i].mmio);
    machine->paused = false;
    vcpu_gate_set(&machine->gate, VCPU_RUN);
}
