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
#include "vmm/pci.h"
#include "vmm/power.h"
#include "vmm/serial_8250.h"
#include "vmm/vcpu.h"

struct nursery;
struct irq_routes;
struct virtio_slot;

#define MACHINE_SLOTS (LAYOUT_VIRTIO_SLOTS + PCI_DEVICES_MAX - 1)
_Static_assert(MACHINE_SLOTS <= MACHINE_SLOTS_END, "machine.h tells others of fewer slots");

/* What slots on one bus do in their own way. In the loop's thread. */
struct slot_bus {
    /* A transport for the device, which it owns also on failure; bound to its interrupts. NULL with err. */
    struct virtio_transport *(*make)(struct virtio_slot *slot, struct virtio_device *device,
                                     struct error *err);
    /* The guest sees the device now, or no longer. May be NULL. */
    void (*show)(struct virtio_slot *slot, struct virtio_transport *transport, bool there);
    /* Has KVM forget the eventfds that `make` bound: it keeps them until told otherwise, whatever becomes of
     * the descriptors. Not needed when the VM ends. */
    void (*unbind)(struct virtio_slot *slot, struct virtio_transport *transport);
    /* Frees what `make` made. No vCPU is inside. */
    void (*free)(struct virtio_slot *slot, struct virtio_transport *transport);
    /* Where drivers write a queue's number: address and length, and whether it is a port. */
    struct kvm_ioeventfd (*notification)(const struct virtio_slot *slot);
    /* The guest's name of it. */
    void (*name)(const struct virtio_slot *slot, char name[MACHINE_SLOT_NAME_BYTES]);
};

/* A place for a device, or with one. */
struct virtio_slot {
    struct machine *machine;
    const struct slot_bus *bus;         /* NULL: this slot does not exist */
    int irq_fd;                         /* virtio-mmio: raises the line; else -1 */
    unsigned gsi;                       /* PCI: the first of the device's interrupts */
    pthread_mutex_t lock;               /* guards all below; held for a moment only */
    struct virtio_transport *transport; /* NULL: a placeholder. Changed in the loop's thread only */
    struct virtio_transport *leaving;   /* detached, and freed when no vCPU is inside it any more */
    unsigned users;                     /* vCPUs inside transport or leaving */
    bool busy;                          /* there is a device, or one that leaves */
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
    struct irq_routes *routes;
    struct pci_host pci;
    struct virtio_slot slot[MACHINE_SLOTS]; /* windows, of which `slots` exist, then places on PCI */
    int ack_fd;       /* takes the windows' acknowledgements; nobody reads it. -1 without slots */
    uint8_t *windows; /* what the guest reads in them; NULL: reads are exits */
    unsigned slots;   /* windows that the guest knows of, placeholders included */

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

/* machine_slots.c. A slot without a device, on a bus. */
void slot_init(struct virtio_slot *slot, struct machine *machine, const struct slot_bus *bus);
unsigned slot_index(const struct virtio_slot *slot);
/* The device that the vCPU may now access, until slot_leave; NULL in a slot without one. */
struct virtio_transport *slot_enter(struct virtio_slot *slot);
void slot_leave(struct virtio_slot *slot);
/* Has an eventfd raise a GSI's interrupt without leaving the kernel, or no longer. 0 or -errno. */
int slot_bind_interrupt(const struct virtio_slot *slot, int fd, unsigned gsi, bool bind);

/* machine_mmio.c. The next window, without a device, as a slot. NULL with err. */
struct virtio_slot *machine_add_window(struct machine *machine, struct error *err);
void machine_free_mmio(struct machine *machine);

/* machine_pci.c. Puts the bus into the machine, with all its slots. 0 or -errno. */
int machine_build_pci(struct machine *machine);
void machine_free_pci(struct machine *machine);

/* Maps the windows' pages into the guest: with the other memory slots, before the irqchip. 0, or -1 with err.
 */
int machine_map_windows(struct machine *machine, struct error *err);

/* Frees the devices in all slots. No vCPU thread is left. */
void machine_free_slots(struct machine *machine);

/* Makes every vCPU look at the gate. */
void machine_kick_all(struct machine *machine);

/* The gate's all_standing: goes on with a pause or an end in the loop's thread. */
void machine_all_standing(void *arg);

#endif
