/* Unit tests of the IOAPIC: redirection entries become routes, level-triggered lines come again after their
 * end. */
#include "vmm/ioapic.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define SELECT 0x00u
#define WINDOW 0x10u
#define EOI    0x40u
#define MASKED (1u << 16)
#define LEVEL  (1u << 15)

/* Stands for KVM. */
struct fake_kvm {
    struct kvm_irq_routing_entry route[24];
    unsigned routes, calls;
    struct kvm_msi msi;
    unsigned messages;
    int fail; /* -errno for the next set_routes */
};

static int set_routes(void *arg, const struct kvm_irq_routing *routing)
{
    struct fake_kvm *kvm = arg;
    kvm->calls++;
    if (kvm->fail)
        return kvm->fail;
    assert_in_range(routing->nr, 0, 24);
    kvm->routes = routing->nr;
    memcpy(kvm->route, routing->entries, routing->nr * sizeof(kvm->route[0]));
    return 0;
}

static int send_msi(void *arg, const struct kvm_msi *msi)
{
    struct fake_kvm *kvm = arg;
    kvm->msi = *msi;
    kvm->messages++;
    return 0;
}

static const struct ioapic_ops ops = {set_routes, send_msi};

static void put(struct ioapic *ioapic, uint32_t index, uint32_t value)
{
    ioapic_write(ioapic, SELECT, &index, sizeof(index));
    ioapic_write(ioapic, WINDOW, &value, sizeof(value));
}

static uint32_t get(struct ioapic *ioapic, uint32_t index)
{
    uint32_t value;
    ioapic_write(ioapic, SELECT, &index, sizeof(index));
    ioapic_read(ioapic, WINDOW, &value, sizeof(value));
    return value;
}

static void set_entry(struct ioapic *ioapic, unsigned pin, uint32_t low, uint8_t destination)
{
    put(ioapic, 0x10 + 2 * pin + 1, (uint32_t)destination << 24);
    put(ioapic, 0x10 + 2 * pin, low);
}

static void registers_read_as_an_82093aa(void **state)
{
    struct fake_kvm kvm = {0};
    (void)state;
    struct ioapic *ioapic = ioapic_new(&ops, &kvm);
    assert_int_equal(get(ioapic, 1), 0x00170020);
    put(ioapic, 0, 0xff000000);
    assert_int_equal(get(ioapic, 0), 0x0f000000);
    assert_int_equal(get(ioapic, 2), 0x0f000000);
    for (unsigned pin = 0; pin < 24; pin++)
        assert_int_equal(get(ioapic, 0x10 + 2 * pin), MASKED);
    assert_int_equal(get(ioapic, 0x40), 0);
    assert_int_equal(get(ioapic, 0xff), 0);
    put(ioapic, 0x10, 0xffffffff); /* delivery status and remote IRR are read-only */
    assert_int_equal(get(ioapic, 0x10), 0x0001afff);
    ioapic_free(ioapic);
}

static void pins_beyond_those_in_use_are_not_there(void **state)
{
    struct fake_kvm kvm = {0};
    (void)state;
    struct ioapic *ioapic = ioapic_new(&ops, &kvm);
    ioapic_set_pins(ioapic, 6);
    assert_int_equal(get(ioapic, 1), 0x00050020);
    assert_int_equal(get(ioapic, 0x10 + 2 * 5), MASKED);
    set_entry(ioapic, 6, 0x31, 0);
    assert_int_equal(get(ioapic, 0x10 + 2 * 6), 0);
    assert_int_equal(kvm.calls, 0);
    set_entry(ioapic, 5, 0x31, 0);
    assert_int_equal(kvm.routes, 1);
    ioapic_set_pins(ioapic, 99);
    assert_int_equal(get(ioapic, 1), 0x00170020);
    ioapic_free(ioapic);
}

static void accesses_of_other_widths_do_nothing(void **state)
{
    struct fake_kvm kvm = {0};
    uint64_t wide = 0x1111111122222222;
    uint8_t narrow = 1;
    (void)state;
    struct ioapic *ioapic = ioapic_new(&ops, &kvm);
    assert_int_equal(get(ioapic, 1), 0x00170020); /* select stays 1 */
    ioapic_write(ioapic, SELECT, &wide, 8);
    ioapic_write(ioapic, SELECT, &narrow, 1);
    uint32_t select;
    ioapic_read(ioapic, SELECT, &select, sizeof(select));
    assert_int_equal(select, 1);
    ioapic_read(ioapic, WINDOW, &wide, 8);
    assert_true(wide == 0);
    ioapic_free(ioapic);
}

static void unmasked_entries_become_routes(void **state)
{
    struct fake_kvm kvm = {0};
    (void)state;
    struct ioapic *ioapic = ioapic_new(&ops, &kvm);
    for (unsigned pin = 0; pin < 24; pin++)
        set_entry(ioapic, pin, MASKED | (0x20 + pin), 0);
    assert_int_equal(kvm.calls, 0); /* masking what is masked is no news */
    set_entry(ioapic, 5, 0x31, 3);
    assert_int_equal(kvm.routes, 1);
    assert_int_equal(kvm.route[0].gsi, 5);
    assert_int_equal(kvm.route[0].type, KVM_IRQ_ROUTING_MSI);
    assert_int_equal(kvm.route[0].u.msi.address_lo, 0xfee03000);
    assert_int_equal(kvm.route[0].u.msi.data, 0x31);
    set_entry(ioapic, 7, 0x100 | 0x800 | LEVEL | 0x42, 1); /* lowest priority, logical, level */
    assert_int_equal(kvm.routes, 2);
    assert_int_equal(kvm.route[1].gsi, 7);
    assert_int_equal(kvm.route[1].u.msi.address_lo, 0xfee0100c);
    assert_int_equal(kvm.route[1].u.msi.data, 0xc142);
    unsigned calls = kvm.calls;
    set_entry(ioapic, 7, 0x100 | 0x800 | LEVEL | 0x42, 1);
    assert_int_equal(kvm.calls, calls); /* the same again */
    set_entry(ioapic, 5, MASKED | 0x31, 3);
    assert_int_equal(kvm.routes, 1);
    set_entry(ioapic, 5, 0x0f, 3); /* no vector for interrupts */
    assert_int_equal(kvm.routes, 1);
    ioapic_free(ioapic);
}

static void a_refused_route_is_tried_again(void **state)
{
    struct fake_kvm kvm = {.fail = -EINVAL};
    (void)state;
    struct ioapic *ioapic = ioapic_new(&ops, &kvm);
    set_entry(ioapic, 5, 0x31, 0);
    assert_int_equal(kvm.routes, 0);
    kvm.fail = 0;
    set_entry(ioapic, 5, 0x31, 0);
    assert_int_equal(kvm.routes, 1);
    ioapic_free(ioapic);
}

static void an_edge_interrupts_once(void **state)
{
    struct fake_kvm kvm = {0};
    (void)state;
    struct ioapic *ioapic = ioapic_new(&ops, &kvm);
    ioapic_set_line(ioapic, 5, true); /* masked: lost */
    ioapic_set_line(ioapic, 5, false);
    set_entry(ioapic, 5, 0x31, 0);
    assert_int_equal(kvm.messages, 0);
    ioapic_set_line(ioapic, 5, true);
    ioapic_set_line(ioapic, 5, true);
    assert_int_equal(kvm.messages, 1);
    assert_int_equal(kvm.msi.data, 0x31);
    ioapic_set_line(ioapic, 5, false);
    ioapic_set_line(ioapic, 5, true);
    assert_int_equal(kvm.messages, 2);
    ioapic_set_line(ioapic, 24, true); /* no such pin */
    assert_int_equal(kvm.messages, 2);
    ioapic_free(ioapic);
}

static void a_level_interrupts_until_it_falls(void **state)
{
    struct fake_kvm kvm = {0};
    uint32_t vector = 0x42;
    (void)state;
    struct ioapic *ioapic = ioapic_new(&ops, &kvm);
    set_entry(ioapic, 9, MASKED | LEVEL | vector, 0);
    ioapic_set_line(ioapic, 9, true);
    assert_int_equal(kvm.messages, 0);
    set_entry(ioapic, 9, LEVEL | vector, 0); /* unmasked while asserted */
    assert_int_equal(kvm.messages, 1);
    assert_int_equal(get(ioapic, 0x10 + 18) & (1u << 14), 1u << 14);
    ioapic_set_line(ioapic, 9, true); /* in service */
    assert_int_equal(kvm.messages, 1);
    ioapic_end_of_interrupt(ioapic, 0x41); /* another's */
    assert_int_equal(kvm.messages, 1);
    ioapic_end_of_interrupt(ioapic, (uint8_t)vector);
    assert_int_equal(kvm.messages, 2);
    ioapic_set_line(ioapic, 9, false);
    ioapic_write(ioapic, EOI, &vector, sizeof(vector));
    assert_int_equal(kvm.messages, 2);
    assert_int_equal(get(ioapic, 0x10 + 18) & (1u << 14), 0);
    ioapic_free(ioapic);
}

static void state_comes_back_with_its_routes(void **state)
{
    struct fake_kvm kvm = {0}, other = {0};
    const void *bytes;
    size_t length;
    (void)state;
    struct ioapic *ioapic = ioapic_new(&ops, &kvm);
    set_entry(ioapic, 5, 0x31, 3);
    set_entry(ioapic, 9, LEVEL | 0x42, 0);
    ioapic_set_line(ioapic, 9, true);
    struct snapshot_writer *writer = snapshot_writer_new();
    assert_int_equal(ioapic_save(ioapic, writer), 0);
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);

    struct ioapic *copy = ioapic_new(&ops, &other);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(ioapic_restore(copy, reader), 0);
    assert_int_equal(other.routes, 2);
    assert_int_equal(other.route[0].u.msi.data, 0x31);
    ioapic_end_of_interrupt(copy, 0x42); /* it was in service and is asserted still */
    assert_int_equal(other.messages, 1);
    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
    ioapic_free(copy);
    ioapic_free(ioapic);
}

static void impossible_state_is_refused(void **state)
{
    struct fake_kvm kvm = {0};
    const void *bytes;
    size_t length;
    (void)state;
    struct snapshot_writer *writer = snapshot_writer_new();
    snapshot_section_begin(writer, "ioapic", 0, 1);
    snapshot_put_u32(writer, 0);
    snapshot_put_u32(writer, 0);
    snapshot_put_u32(writer, 0);
    for (int pin = 0; pin < 24; pin++)
        snapshot_put_u64(writer, UINT64_MAX);
    snapshot_section_end(writer);
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);
    struct ioapic *ioapic = ioapic_new(&ops, &kvm);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(ioapic_restore(ioapic, reader), -EPROTO);
    assert_int_equal(get(ioapic, 0x10), MASKED);
    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
    ioapic_free(ioapic);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registers_read_as_an_82093aa),
        cmocka_unit_test(pins_beyond_those_in_use_are_not_there),
        cmocka_unit_test(accesses_of_other_widths_do_nothing),
        cmocka_unit_test(unmasked_entries_become_routes),
        cmocka_unit_test(a_refused_route_is_tried_again),
        cmocka_unit_test(an_edge_interrupts_once),
        cmocka_unit_test(a_level_interrupts_until_it_falls),
        cmocka_unit_test(state_comes_back_with_its_routes),
        cmocka_unit_test(impossible_state_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
