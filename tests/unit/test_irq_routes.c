/* Unit tests of the table of interrupt routes, over a KVM that writes down what it is told. */
#include "vmm/irq_routes.h"
#include "vmm/layout.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct irq_routes *routes;
    unsigned told;                              /* how often */
    int result;                                 /* what KVM says */
    struct irq_message message[IRQ_ROUTES_MAX]; /* as KVM has them */
};

static int set_table(void *arg, const struct kvm_irq_routing *table)
{
    struct fixture *f = arg;
    f->told++;
    if (f->result < 0)
        return f->result;
    memset(f->message, 0, sizeof(f->message));
    assert_true(table->nr <= IRQ_ROUTES_MAX && table->flags == 0);
    for (uint32_t i = 0; i < table->nr; i++) {
        const struct kvm_irq_routing_entry *entry = &table->entries[i];
        assert_true(entry->gsi < IRQ_ROUTES_MAX);
        assert_int_equal(entry->type, KVM_IRQ_ROUTING_MSI);
        assert_int_equal(f->message[entry->gsi].address, 0); /* once each */
        f->message[entry->gsi] =
            (struct irq_message){.address = entry->u.msi.address_lo | (uint64_t)entry->u.msi.address_hi << 32,
                                 .data = entry->u.msi.data};
        assert_int_not_equal(f->message[entry->gsi].address, 0);
    }
    return 0;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    if (!f)
        return -1;
    f->routes = irq_routes_new(set_table, f);
    *state = f;
    return f->routes ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    irq_routes_free(f->routes);
    free(f);
    return 0;
}

static struct irq_message message_of(unsigned n)
{
    return (struct irq_message){.address = 0xfee00000 + 0x1000ull * n, .data = n};
}

static int set_one(struct fixture *f, unsigned gsi, struct irq_message message)
{
    return irq_routes_set(f->routes, gsi, 1, &message);
}

static unsigned reserve(struct fixture *f, unsigned count)
{
    int first = irq_routes_reserve(f->routes, count);
    assert_true(first >= (int)LAYOUT_PINS); /* the pins are the IOAPIC's */
    assert_true((unsigned)first + count <= IRQ_ROUTES_MAX);
    return (unsigned)first;
}

static bool has(const struct fixture *f, unsigned gsi, struct irq_message message)
{
    return f->message[gsi].address == message.address && f->message[gsi].data == message.data;
}

static const struct irq_message none = {0};

static void reserved_interrupts_are_nobody_elses(void **state)
{
    struct fixture *f = *state;
    bool taken[IRQ_ROUTES_MAX] = {false};
    unsigned left = IRQ_ROUTES_MAX - LAYOUT_PINS;
    for (unsigned count = 1; count <= left; count++) {
        unsigned first = reserve(f, count);
        for (unsigned i = 0; i < count; i++) {
            assert_false(taken[first + i]);
            taken[first + i] = true;
        }
        left -= count;
    }
    assert_int_equal(irq_routes_reserve(f->routes, left + 1), -ENOSPC);
    if (left > 0)
        reserve(f, left);
    assert_int_equal(irq_routes_reserve(f->routes, 1), -ENOSPC);
    assert_int_equal(f->told, 0); /* no routes yet */
}

static void released_interrupts_are_given_out_again(void **state)
{
    struct fixture *f = *state;
    unsigned a = reserve(f, 4), b = reserve(f, 4), rest = IRQ_ROUTES_MAX - LAYOUT_PINS - 8;
    unsigned c = reserve(f, rest);
    assert_int_equal(irq_routes_reserve(f->routes, 1), -ENOSPC);
    assert_int_equal(irq_routes_release(f->routes, a, 4), 0);
    assert_int_equal(irq_routes_reserve(f->routes, 5), -ENOSPC); /* a hole of four */
    assert_int_equal(irq_routes_reserve(f->routes, 3), a);
    assert_int_equal(irq_routes_reserve(f->routes, 1), a + 3);
    assert_int_equal(irq_routes_release(f->routes, b, 4), 0);
    assert_int_equal(irq_routes_release(f->routes, a, 3), 0);
    assert_int_equal(irq_routes_reserve(f->routes, 4), b); /* not around what is reserved in between */
    assert_int_equal(irq_routes_release(f->routes, c, rest), 0);
    assert_int_equal(irq_routes_reserve(f->routes, rest), c);
    assert_int_equal(irq_routes_reserve(f->routes, IRQ_ROUTES_MAX + 1), -ENOSPC);
}

static void kvm_is_told_of_what_changed_only(void **state)
{
    struct fixture *f = *state;
    unsigned first = reserve(f, 3);
    struct irq_message messages[] = {message_of(1), none, {0x1fee03000, 3}};
    assert_int_equal(irq_routes_set(f->routes, first, 3, messages), 0);
    assert_int_equal(f->told, 1);
    assert_true(has(f, first, message_of(1)) && has(f, first + 1, none));
    assert_true(f->message[first + 2].address == 0x1fee03000);
    /* What was there before comes back. */
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(messages[i].address, 0);
    assert_int_equal(set_one(f, first, message_of(1)), 0);
    assert_int_equal(f->told, 1);
    struct irq_message other = message_of(1), before = other;
    other.data = 77;
    assert_int_equal(irq_routes_set(f->routes, first, 1, &other), 0);
    assert_int_equal(f->told, 2);
    assert_int_equal(other.address, before.address);
    assert_int_equal(other.data, before.data);
    assert_int_equal(set_one(f, first, none), 0);
    assert_int_equal(f->told, 3);
    assert_true(has(f, first, none));
    assert_true(f->message[first + 2].address == 0x1fee03000); /* the others stay */
}

static void refused_routes_change_nothing(void **state)
{
    struct fixture *f = *state;
    unsigned first = reserve(f, 2);
    assert_int_equal(set_one(f, first, message_of(1)), 0);
    struct irq_message messages[] = {message_of(2), message_of(3)};
    f->result = -EINVAL;
    assert_int_equal(irq_routes_set(f->routes, first, 2, messages), -EINVAL);
    f->result = 0;
    unsigned told = f->told;
    assert_int_equal(set_one(f, first, message_of(1)), 0); /* it is still this one */
    assert_int_equal(f->told, told);
    assert_int_equal(set_one(f, first + 1, none), 0);
    assert_int_equal(f->told, told);
    assert_int_equal(set_one(f, first + 1, message_of(4)), 0); /* and goes with the next table */
    assert_true(has(f, first, message_of(1)) && has(f, first + 1, message_of(4)));
}

static int set_pins(struct fixture *f, unsigned count, unsigned base)
{
    struct kvm_irq_routing *pins = calloc(1, sizeof(*pins) + count * sizeof(pins->entries[0]));
    assert_non_null(pins);
    pins->nr = count;
    for (unsigned i = 0; i < count; i++)
        pins->entries[i] = (struct kvm_irq_routing_entry){
            .gsi = i * 2,
            .type = KVM_IRQ_ROUTING_MSI,
            .u.msi = {.address_lo = (uint32_t)message_of(base + i).address, .data = base + i}};
    int rc = irq_routes_set_pins(f->routes, pins);
    free(pins);
    return rc;
}

static void pins_and_messages_keep_each_others_routes(void **state)
{
    struct fixture *f = *state;
    unsigned first = reserve(f, 1);
    assert_int_equal(set_one(f, first, message_of(9)), 0);
    assert_int_equal(set_pins(f, 4, 100), 0);
    for (unsigned pin = 0; pin < LAYOUT_PINS; pin++)
        assert_true(has(f, pin, pin % 2 == 0 && pin < 8 ? message_of(100 + pin / 2) : none));
    assert_true(has(f, first, message_of(9)));
    unsigned told = f->told;
    assert_int_equal(set_pins(f, 4, 100), 0);
    assert_int_equal(f->told, told);
    assert_int_equal(set_pins(f, 2, 200), 0); /* the others have none now */
    assert_true(has(f, 0, message_of(200)) && has(f, 2, message_of(201)) && has(f, 4, none));
    assert_true(has(f, first, message_of(9)));
    assert_int_equal(set_one(f, first, message_of(10)), 0);
    assert_true(has(f, 2, message_of(201)) && has(f, first, message_of(10)));
    f->result = -ENOMEM;
    assert_int_equal(set_pins(f, LAYOUT_PINS / 2, 300), -ENOMEM);
    f->result = 0;
    assert_int_equal(set_one(f, first, message_of(11)), 0);
    assert_true(has(f, 0, message_of(200)) && has(f, 2, message_of(201)) && has(f, 4, none));
}

static void released_interrupts_have_no_routes(void **state)
{
    struct fixture *f = *state;
    unsigned first = reserve(f, 2), other = reserve(f, 1);
    struct irq_message messages[] = {message_of(1), message_of(2)};
    assert_int_equal(irq_routes_set(f->routes, first, 2, messages), 0);
    assert_int_equal(set_one(f, other, message_of(3)), 0);
    assert_int_equal(irq_routes_release(f->routes, first, 2), 0);
    assert_true(has(f, first, none) && has(f, first + 1, none) && has(f, other, message_of(3)));
    /* The next one's begin without any. */
    assert_int_equal(reserve(f, 2), first);
    unsigned told = f->told;
    assert_int_equal(set_one(f, first, none), 0);
    assert_int_equal(f->told, told);
}

static void closed_table_is_not_told(void **state)
{
    struct fixture *f = *state;
    unsigned first = reserve(f, 1);
    assert_int_equal(set_one(f, first, message_of(1)), 0);
    unsigned told = f->told;
    irq_routes_close(f->routes);
    assert_int_equal(set_one(f, first, none), 0);
    assert_int_equal(irq_routes_release(f->routes, first, 1), 0);
    assert_int_equal(f->told, told);
}

#define routes_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        routes_test(reserved_interrupts_are_nobody_elses),
        routes_test(released_interrupts_are_given_out_again),
        routes_test(kvm_is_told_of_what_changed_only),
        routes_test(refused_routes_change_nothing),
        routes_test(pins_and_messages_keep_each_others_routes),
        routes_test(released_interrupts_have_no_routes),
        routes_test(closed_table_is_not_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
