/*
 * The IOAPIC of a split irqchip (Intel 82093AA with the 82093AA-successors' EOI register): 24 pins, of which
 * the guest is told of those in use. Their redirection entries become KVM's GSI routes, GSI n being pin n.
 *
 * A device's interrupt is an eventfd bound to its pin's GSI: once the route is set, raising it involves
 * neither this code nor a register. Trust boundary: registers are written by the guest, from any vCPU thread;
 * a lock guards them.
 */
#ifndef HUSK_VMM_IOAPIC_H
#define HUSK_VMM_IOAPIC_H

#include "vmm/layout.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

struct ioapic;
struct snapshot_writer;
struct snapshot_reader;

/* What the IOAPIC asks of the machine; both return 0 or -errno. */
struct ioapic_ops {
    int (*set_routes)(void *arg, const struct kvm_irq_routing *routes);
    int (*send_msi)(void *arg, const struct kvm_msi *msi);
};

/* All pins masked. NULL without memory. */
struct ioapic *ioapic_new(const struct ioapic_ops *ops, void *arg);
void ioapic_free(struct ioapic *ioapic);

/* How many pins the guest sees, from 0 up (1 to 24; 24 at first): the version register's "maximum redirection
 * entry" says so, and entries beyond read as zero. Linux masks each pin it is told of at boot, 8 exits a
 * pin. Before the guest runs. */
void ioapic_set_pins(struct ioapic *ioapic, unsigned pins);

/* Register access; offset is within the 4 KiB window. Accesses of other than 4 bytes read as zero and write
 * nothing (82093AA §3.0). */
void ioapic_read(struct ioapic *ioapic, uint64_t offset, void *data, uint32_t length);
void ioapic_write(struct ioapic *ioapic, uint64_t offset, const void *data, uint32_t length);

/* Drives a pin that has no eventfd. A rising edge interrupts an edge-triggered pin; a level-triggered one
 * interrupts while it is asserted, again after each end of interrupt. Any thread. */
void ioapic_set_line(struct ioapic *ioapic, unsigned pin, bool asserted);

/* KVM_EXIT_IOAPIC_EOI: the processor ended a level-triggered interrupt of this vector. */
void ioapic_end_of_interrupt(struct ioapic *ioapic, uint8_t vector);

/* The vCPUs are paused. 0 or -errno; restore sets the routes anew. */
int ioapic_save(struct ioapic *ioapic, struct snapshot_writer *writer);
int ioapic_restore(struct ioapic *ioapic, struct snapshot_reader *reader);

#endif
