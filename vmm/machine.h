/*
 * The machine: one VM with its memory, vCPUs, interrupt controller, busses and devices, and its end.
 *
 * Construction is single-threaded and follows KVM's order: memory slots, irqchip, vCPUs, then ioeventfds (a
 * slot change after those waits for grace periods). After machine_start vCPU threads run, and the thread of
 * `loop` is the one that owns all devices.
 */
#ifndef HUSK_VMM_MACHINE_H
#define HUSK_VMM_MACHINE_H

#include "common/error.h"
#include "vmm/memory.h"
#include "vmm/status.h"

struct loop;
struct machine;
struct nursery;
struct snapshot_reader;
struct snapshot_writer;
struct virtio_device;
struct virtio_transport;

/* What the guest starts from. */
struct machine_boot {
    int kernel_fd;
    int initrd_fd;   /* -1: none */
    bool map_kernel; /* see elf_kernel_load */
    /* In the thread that reads them, before it does: privileges, seccomp. May be NULL. 0 or -errno. */
    int (*load_thread_start)(void);
};

struct machine_config {
    int kvm_fd;        /* an open /dev/kvm; the machine's, also on failure */
    unsigned cpus;     /* vCPUs that run from the start */
    unsigned cpus_max; /* vCPUs there may be, which the guest is told of; 0: as many as cpus */
    struct memory_options memory;
    const char *cpu_mask; /* comma-separated feature names, or NULL */
    int console_fd;       /* for early serial output; the caller's */
    uint64_t console_limit_bytes;
    /* In each vCPU's thread before it runs anything of the guest. 0 or -errno. */
    int (*vcpu_thread_start)(void *arg, unsigned index);
    void *vcpu_thread_start_arg;
    /* NULL: nothing is loaded, the machine is restored. The fds stay open until machine_load. */
    const struct machine_boot *boot;
    uint64_t start_us; /* CLOCK_MONOTONIC when husk-vmm began, for the statistics */
};

/* Builds the machine without devices, and starts to read the kernel into its memory. NULL with err. */
struct machine *machine_new(const struct machine_config *config, struct loop *loop, struct error *err);
/* Stops vCPUs that run, frees devices and the VM. NULL is fine. */
void machine_free(struct machine *machine);

/* The guest's memory, for devices that need all of it. The machine's. */
const struct memory *machine_get_memory(const struct machine *machine);

/* Attaches the device to the next slot: network devices on PCI, others in virtio-mmio windows. It is the
 * machine's from here on, also on failure. Before machine_load. 0, or -1 with err. */
int machine_add_virtio(struct machine *machine, struct virtio_device *device, struct error *err);

/* Adds virtio-mmio windows without a device, where machine_attach may put one later. A guest that looks finds
 * DeviceID 0 (virtio 1.2 §4.2.2): "no device here", and may look again. Before machine_load. 0, or -1 with
 * err. */
int machine_add_placeholders(struct machine *machine, unsigned count, struct error *err);

/* Hot plug, in the loop's thread while the machine is not paused. The guest is not told: it looks when its
 * platform device machine_slot_name is bound to the driver (again), or when it scans the PCI bus. */
/* Puts the device into a free placeholder slot; it is the machine's from here on, also on failure. 0 with
 * *slot; -1 with err: ENOSPC when no slot is free, EBUSY while paused. */
int machine_attach(struct machine *machine, struct virtio_device *device, unsigned *slot, struct error *err);
/* Frees the device in a slot, which is a placeholder again. 0; -1 with err: ENODEV when there is none, EBUSY
 * while paused, or while a driver holds the device unless `force`. */
int machine_detach(struct machine *machine, unsigned slot, bool force, struct error *err);

/* Slots have numbers below this one. */
#define MACHINE_SLOTS_END 64u

#define MACHINE_SLOT_NAME_BYTES 32
/* The guest's name of the slot's device: a platform device, "d0003000.virtio", or on PCI, "0000:00:01.0". The
 * slot has a device, or had one. */
void machine_slot_name(const struct machine *machine, unsigned slot, char name[MACHINE_SLOT_NAME_BYTES]);
/* The transport in a slot; NULL when there is none. Valid until the loop's thread detaches it: for that
 * thread. */
struct virtio_transport *machine_slot_device(const struct machine *machine, unsigned slot);
/* How many windows are without a device. */
unsigned machine_free_windows(struct machine *machine);

/* Guest RAM, for devices that hand it on to the kernel (vhost). The machine's. */
const struct guest_memory *machine_memory(const struct machine *machine);
/* VM exits so far, of all vCPUs. Any thread. */
void machine_get_exits(const struct machine *machine, struct exit_counts *exits);

/* Waits until kernel and initrd are read, and writes device tree and boot structures. `cmdline` is appended
 * to the default one; NULL: nothing. Once, on a machine made with something to boot; vCPUs may stand at the
 * gate already. 0, or -1 with err. */
int machine_load(struct machine *machine, const char *cmdline, struct error *err);

/* Starts the vCPU threads, which wait for machine_resume. 0, or -1 with err. */
int machine_start(struct machine *machine, struct error *err);

/* Where later vCPUs' threads are made (nursery.h). The caller's; it outlives the machine's running. Without
 * one there are none. */
void machine_set_nursery(struct machine *machine, struct nursery *nursery);
/* Has at least `cpus` vCPUs exist, so that the guest can bring them online. vCPUs beyond the first ones are
 * made here and not before: until then they cost no thread and no memory. There are never fewer again: one
 * that the guest took offline sleeps. From the loop's thread. 0, or -1 with err: ERANGE beyond cpus_max,
 * EBUSY while paused. */
int machine_set_cpus(struct machine *machine, unsigned cpus, struct error *err);
unsigned machine_get_cpus(const struct machine *machine);

/* Ends the machine: the first call's reason counts, and loop_run returns when no vCPU runs any more (until
 * then the loop serves them). `detail` is copied. Any thread. */
void machine_end(struct machine *machine, enum end_reason reason, const char *detail);

/* Joins all vCPUs. From the loop's thread, after loop_run. */
void machine_stop(struct machine *machine);

/* After an end that nobody asked for (reset, panic, triple fault, internal error): writes each vCPU's
 * registers and last exits to the log. After machine_stop. */
void machine_log_end(const struct machine *machine);

/* Notes that the agent is up, for the statistics. Any thread; the first call counts. */
void machine_mark_hello(struct machine *machine);

/* How it ended; borrowed pointers into the machine. Marks are there if `statistics`. After machine_stop. */
void machine_get_status(const struct machine *machine, bool statistics, struct status *status);

/* Lets the guest run: after machine_start, and after machine_pause. From the loop's thread. */
void machine_resume(struct machine *machine);
/* Stops all vCPUs between two instructions and then all devices between two requests, and calls done(arg) in
 * the loop's thread. Not waited for here: a vCPU may itself be waiting for the loop. From the loop's thread;
 * done is not called when the machine ends first. -EBUSY while another pause is under way, or the machine is
 * paused. */
int machine_pause(struct machine *machine, void (*done)(void *arg), void *arg);

/* The state of vCPUs, interrupt controller and devices, not of memory. Paused. 0 or -errno. Restore wants a
 * machine made with the same configuration and devices whose guest has not run: -EINVAL where it differs,
 * -EPROTO for a broken stream. */
int machine_save(struct machine *machine, struct snapshot_writer *writer);
int machine_restore(struct machine *machine, struct snapshot_reader *reader);

#endif
