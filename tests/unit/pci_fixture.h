/*
 * A virtio-pci transport over the recorder of mmio_fixture.h, in a place that writes down the messages that
 * the interrupts are routed to.
 */
#ifndef HUSK_TESTS_UNIT_PCI_FIXTURE_H
#define HUSK_TESTS_UNIT_PCI_FIXTURE_H

#include "tests/unit/fake_pci.h"
#include "tests/unit/mmio_fixture.h"

#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <sys/eventfd.h>

#define INTERRUPTS  (QUEUES + 1)
#define CONFIG      QUEUES /* the interrupt for changes of configuration */
#define PLACE       0xd0204000u
#define PLACE_PORTS 0xc004u

struct pci_fixture {
    struct fake_memory memory;
    struct loop *loop;
    struct recorder *recorder;
    struct virtio_transport *transport;
    struct fake_pci fake;
    struct fake_queue queue[QUEUES];
    struct irq_message route[INTERRUPTS]; /* as asked for last */
    unsigned routed;                      /* how often it was asked */
    int route_result;                     /* 0, or what the place refuses routes with */
};

/* The transport's regions are not decoded yet. */
int pci_set_up(void **state);
int pci_tear_down(void **state);
/* The place's: keeps the messages in f->route. */
int pci_route(void *arg, unsigned first, unsigned count, struct irq_message *messages);
/* A fresh device and transport in place of a freed one. */
void pci_make(struct pci_fixture *f);
/* Decodes, brings the device up with all its queues, without ring features, and lets it settle. The status.
 */
uint32_t pci_start(struct pci_fixture *f);
/* Offers a chain in a queue, without a notification; whether one came back. */
void pci_offer(struct pci_fixture *f, unsigned queue);
bool pci_used(struct pci_fixture *f, unsigned queue);
/* How often an interrupt was raised since the last call; for all of them: a bit for each that was. */
uint64_t pci_raised(struct pci_fixture *f, unsigned interrupt);
unsigned pci_all_raised(struct pci_fixture *f);

#define pci_test(name) cmocka_unit_test_setup_teardown(name, pci_set_up, pci_tear_down)

#endif
