/* Interrupt routes: see irq_routes.h. Called by the IOAPIC's callback and by PCI devices. */
#include "vmm/irq_routes.h"

#include "vmm/layout.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct irq_routes {
    void *arg;
    pthread_mutex_t lock; /* guards all below, and the order of tables */
    int (*set)(void *arg, const struct kvm_irq_routing *table); /* NULL: closed */
    struct irq_message message[IRQ_ROUTES_MAX];
    bool reserved[IRQ_ROUTES_MAX];
    struct kvm_irq_routing *table; /* room for all */
};

struct irq_routes *irq_routes_new(int (*set)(void *arg, const struct kvm_irq_routing *table), void *arg)
{
    struct irq_routes *routes = calloc(1, sizeof(*routes));
    if (!routes)
        return NULL;
    routes->table = calloc(1, sizeof(*routes->table) + IRQ_ROUTES_MAX * sizeof(routes->table->entries[0]));
    if (!routes->table) {
        free(routes);
        return NULL;
    }
    routes->set = set;
    routes->arg = arg;
    pthread_mutex_init(&routes->lock, NULL);
    for (unsigned gsi = 0; gsi < LAYOUT_PINS; gsi++)
        routes->reserved[gsi] = true;
    return routes;
}

void irq_routes_free(struct irq_routes *routes)
{
    if (!routes)
        return;
    pthread_mutex_destroy(&routes->lock);
    free(routes->table);
    free(routes);
}

void irq_routes_close(struct irq_routes *routes)
{
    pthread_mutex_lock(&routes->lock);
    routes->set = NULL;
    pthread_mutex_unlock(&routes->lock);
}

/* Exchanges the routes of `count` GSIs for `messages`, which get what was there. True if any changed. */
static bool swap(struct irq_routes *routes, unsigned first, unsigned count, struct irq_message *messages)
{
    bool changed = false;
    for (unsigned i = 0; i < count; i++) {
        struct irq_message *now = &routes->message[first + i], before = *now;
        changed |= before.address != messages[i].address || before.data != messages[i].data;
        *now = messages[i];
        messages[i] = before;
    }
    return changed;
}

static int tell(struct irq_routes *routes)
{
    struct kvm_irq_routing *table = routes->table;
    if (!routes->set)
        return 0;
    table->nr = 0;
    for (uint32_t gsi = 0; gsi < IRQ_ROUTES_MAX; gsi++) {
        const struct irq_message *message = &routes->message[gsi];
        if (message->address != 0)
            table->entries[table->nr++] =
                (struct kvm_irq_routing_entry){.gsi = gsi,
                                               .type = KVM_IRQ_ROUTING_MSI,
                                               .u.msi = {.address_lo = (uint32_t)message->address,
                                                         .address_hi = (uint32_t)(message->address >> 32),
                                                         .data = message->data}};
    }
    return routes->set(routes->arg, table);
}

int irq_routes_set(struct irq_routes *routes, unsigned first, unsigned count, struct irq_message *messages)
{
    pthread_mutex_lock(&routes->lock);
    int rc = swap(routes, first, count, messages) ? tell(routes) : 0;
    if (rc < 0)
        swap(routes, first, count, messages);
    pthread_mutex_unlock(&routes->lock);
    return rc;
}

int irq_routes_reserve(struct irq_routes *routes, unsigned count)
{
    int first = -ENOSPC;
    pthread_mutex_lock(&routes->lock);
    for (unsigned gsi = 0, run = 0; gsi < IRQ_ROUTES_MAX && first < 0; gsi++) {
        run = routes->reserved[gsi] ? 0 : run + 1;
        if (run == count)
            first = (int)(gsi + 1 - count);
    }
    for (unsigned i = 0; i < count && first >= 0; i++)
        routes->reserved[(unsigned)first + i] = true;
    pthread_mutex_unlock(&routes->lock);
    return first;
}

int irq_routes_release(struct irq_routes *routes, unsigned first, unsigned count)
{
    pthread_mutex_lock(&routes->lock);
    for (unsigned gsi = first; gsi < first + count; gsi++) {
        routes->message[gsi] = (struct irq_message){0};
        routes->reserved[gsi] = false;
    }
    int rc = tell(routes);
    pthread_mutex_unlock(&routes->lock);
    return rc;
}

int irq_routes_set_pins(struct irq_routes *routes, const struct kvm_irq_routing *pins)
{
    struct irq_message messages[LAYOUT_PINS] = {{0}};
    for (uint32_t i = 0; i < pins->nr; i++)
        messages[pins->entries[i].gsi] = (struct irq_message){.address = pins->entries[i].u.msi.address_lo,
                                                              .data = pins->entries[i].u.msi.data};
    return irq_routes_set(routes, 0, LAYOUT_PINS, messages);
}
