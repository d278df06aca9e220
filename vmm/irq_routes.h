/*
 * KVM's table of interrupt routes: which message (Intel SDM 3A §11.11) an eventfd bound to a GSI sends. The
 * first LAYOUT_PINS are the IOAPIC's; further ones are given out to devices that send messages themselves
 * (PCI's MSI-X).
 *
 * KVM takes the whole table at once and waits for a grace period, so it is told only when something changed.
 * Any thread; the messages are the guest's.
 */
#ifndef HUSK_VMM_IRQ_ROUTES_H
#define HUSK_VMM_IRQ_ROUTES_H

#include <linux/kvm.h>
#include <stdint.h>

#define IRQ_ROUTES_MAX 1024u /* GSIs; KVM's own limit is 4096 */

struct irq_routes;

struct irq_message {
    uint64_t address; /* 0: none is sent */
    uint32_t data;
};

/* `set` hands a table to KVM: 0 or -errno. NULL without memory. */
struct irq_routes *irq_routes_new(int (*set)(void *arg, const struct kvm_irq_routing *table), void *arg);
void irq_routes_free(struct irq_routes *routes);
/* The VM ends: KVM is not told any more. No vCPU runs. */
void irq_routes_close(struct irq_routes *routes);

/* `count` GSIs in a row that nobody has, without routes: the first of them, or -ENOSPC. */
int irq_routes_reserve(struct irq_routes *routes, unsigned count);
/* Gives them back, without routes. 0, or -errno when KVM could not be told. */
int irq_routes_release(struct irq_routes *routes, unsigned first, unsigned count);

/* Replaces the routes of the IOAPIC's pins by those of `pins`. 0 or -errno; then nothing has changed. */
int irq_routes_set_pins(struct irq_routes *routes, const struct kvm_irq_routing *pins);
/* Replaces the routes of `count` reserved GSIs; uses `messages` up. The same. */
int irq_routes_set(struct irq_routes *routes, unsigned first, unsigned count, struct irq_message *messages);

#endif
