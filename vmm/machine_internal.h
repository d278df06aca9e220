/* What machine.c, machine_slots.c and machine_state.c share: the machine's parts. */
#ifndef HUSK_VMM_MACHINE_INTERNAL_H
#define HUSK_VMM_MACHINE_INTERNAL_H

#include "common/loop.h"
#include "vmm/bus.h"
#include "vmm/ioapic.h"
#include "vmm/kvm.h"
#include "vmm/layout.h"
#include "vmm/machine.h"
#include "vmm/memory.h"
#include "vmm/power.h"
#include "vmm/serial_8250.h"
#include "vmm/vcpu.h"

struct nursery;
struct virtio_mmio;

/* A virtio-mmio window: a device, or a placeholder where one may come. */
struct virtio_slot {
    struct machine *machine;
    int irq_fd;
    pthread_mutex_t lock;        /* guards all below; held for a moment only */
    struct virtio_mmio *mmio;    /* NULL: a placeholder. Changed in the loop's thread only */
    struct virtio_mmio *leaving; /* detached, and freed when no vCPU is inside it any more */
    unsigned users;              /* vCPUs inside mmio or leaving */
};

struct machine {
    struct loop *loop; /* the caller's */
    struct kvm kvm;
    struct memory memory;
    struct memory_options memory_options;
    struct loader *loader; /* until machine_load */
    bool map_kernel;
    struct bus mmio, pio;
    struct ioapic *ioapic;
    struct serial *serial;
    struct power power;
    struct watch panic_timer; /* armed when the guest panics */
    struct vcpu_gate gate;
    struct vcpu_host host;
    struct vcpu vcpu[LAYOUT_VCPUS_MAX];
    atomic_uint cpus; /* vCPUs that exist; grows while the machine runs */
    unsigned cpus_max;
    struct kvm_cpuid2 *cpuid; /* of every vCPU, but for its APIC id */
    struct nursery *nursery;  /* the caller's: makes later vCPUs; NULL: none can come */
    struct virtio_slot slot[LAYOUT_VIRTIO_SLOTS];
    int ack_fd;       /* takes the slots' acknowledgements; nobody reads it. -1 without slots */
    uint8_t *windows; /* what the guest reads in the slots' windows; NULL: reads are exits */
    unsigned slots;   /* that the guest knows of, placeholders included */

    bool paused; /* devices too; a machine that has only been started is not. The loop's thread only */
    void (*pause_done)(void *arg); /* of the pause under way, or NULL. The loop's thread only */
    void *pause_arg;

    uint64_t start_us, run_us; /* CLOCK_MONOTONIC; run_us is 0 until the first resume */
    atomic_bool hello_seen;
    struct status_mark hello;

    pthread_mutex_t end_lock; /* guards all below */
    bool ended;
    enum end_reason reason;
    char detail[256];
    struct status_mark end;
};

/* A request of machine_set_cpus on its way to the nursery. */
struct machine_growth {
    struct machine *machine;
    unsigned cpus;
    struct error *err;
};

uint64_t machine_now_us(void);

/* Makes vCPUs until there are `count`, without threads. Before machine_start. 0, or -1 with err. */
int machine_make_vcpus(struct machine *machine, unsigned count, struct error *err);

bool machine_has_ended(struct machine *machine);

/* Maps the slots' pages into the guest: with the other memory slots, before the irqchip. 0, or -1 with err.
 */
int machine_map_windows(struct machine *machine, struct error *err);

/* Frees the devices in all slots. No vCPU thread is left. */
void machine_free_slots(struct machine *machine);

/* Makes every vCPU look at the gate. */
void machine_kick_all(struct machine *machine);

/* The gate's all_standing: goes on with a pause or an end in the loop's thread. */
void machine_all_standing(void *arg);

#endif
