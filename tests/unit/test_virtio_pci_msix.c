/* Unit tests of the virtio-pci transport: interrupts, their messages, and where they are routed. */
#include "tests/unit/pci_fixture.h"

static const struct irq_message messages[INTERRUPTS] = {
    {0xfee01000, 0x31}, {0xfee02000, 0x32}, {0x1fee03000, 0x33}, {0xfee04000, 0x34}};

static bool same(const struct irq_message *a, const struct irq_message *b)
{
    return a->address == b->address && a->data == b->data;
}

/* Whether exactly the interrupts of these bits are routed, each to the message of its own number. */
static bool routes_are(const struct pci_fixture *f, unsigned interrupts)
{
    const struct irq_message none = {0};
    for (unsigned i = 0; i < INTERRUPTS; i++) {
        if (!same(&f->route[i], interrupts >> i & 1 ? &messages[i] : &none))
            return false;
    }
    return true;
}

#define ALL ((1u << INTERRUPTS) - 1)

/* A device that runs with a vector for each interrupt, none of them masked. */
static void start_with_vectors(struct pci_fixture *f)
{
    fake_pci_decode(&f->fake);
    fake_pci_msix(&f->fake, true, false);
    for (unsigned i = 0; i < INTERRUPTS; i++)
        fake_pci_set_entry(&f->fake, i, &messages[i], false);
    assert_int_equal(pci_start(f), STATUS_RUNNING);
    pci_all_raised(f);
}

static void set_vector(struct pci_fixture *f, unsigned queue, uint32_t vector)
{
    fake_pci_common_set(&f->fake, VIRTIO_PCI_COMMON_Q_SELECT, queue);
    fake_pci_common_set(&f->fake, VIRTIO_PCI_COMMON_Q_MSIX, vector);
}

static void interrupt_sends_the_message_of_its_vector(void **state)
{
    struct pci_fixture *f = *state;
    start_with_vectors(f);
    assert_true(routes_are(f, ALL));
    set_vector(f, 0, 2);
    assert_true(same(&f->route[0], &messages[2]));
    assert_true(same(&f->route[1], &messages[1]) &&
                same(&f->route[2], &messages[2])); /* two have one vector */
    fake_pci_common_set(&f->fake, VIRTIO_PCI_COMMON_MSIX, 1);
    assert_true(same(&f->route[CONFIG], &messages[1]));
    fake_pci_set_entry(&f->fake, 2, &messages[3], false);
    assert_true(same(&f->route[0], &messages[3]) && same(&f->route[2], &messages[3]));
    assert_true(same(&f->route[1], &messages[1]));
    assert_int_equal(fake_pci_get(&f->fake, f->fake.table + 2 * PCI_MSIX_ENTRY_SIZE, 4), 0xfee04000);
}

static void masked_entry_sends_nothing(void **state)
{
    struct pci_fixture *f = *state;
    start_with_vectors(f);
    fake_pci_mask_entry(&f->fake, 1, true);
    assert_true(routes_are(f, ALL & ~(1u << 1)));
    fake_pci_mask_entry(&f->fake, CONFIG, true);
    assert_true(routes_are(f, ALL & ~(1u << 1 | 1u << CONFIG)));
    fake_pci_mask_entry(&f->fake, 1, false);
    fake_pci_mask_entry(&f->fake, CONFIG, false);
    assert_true(routes_are(f, ALL));
}

static void masked_or_disabled_function_sends_nothing(void **state)
{
    struct pci_fixture *f = *state;
    start_with_vectors(f);
    fake_pci_msix(&f->fake, true, true);
    assert_true(routes_are(f, 0));
    fake_pci_msix(&f->fake, true, false);
    assert_true(routes_are(f, ALL));
    fake_pci_msix(&f->fake, false, false);
    assert_true(routes_are(f, 0));
    /* The same by single bytes. */
    fake_pci_config_set(&f->fake, f->fake.msix_at + PCI_MSIX_FLAGS + 1, 1, PCI_MSIX_FLAGS_ENABLE >> 8);
    assert_true(routes_are(f, ALL));
}

static void vector_that_is_not_there_is_none(void **state)
{
    struct pci_fixture *f = *state;
    start_with_vectors(f);
    const uint32_t vectors[] = {VIRTIO_MSI_NO_VECTOR, INTERRUPTS, 0x8000};
    for (unsigned i = 0; i < 3; i++) {
        set_vector(f, 1, 1);
        assert_int_equal(fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_Q_MSIX), 1);
        fake_pci_common_set(&f->fake, VIRTIO_PCI_COMMON_MSIX, CONFIG);
        assert_true(routes_are(f, ALL));
        set_vector(f, 1, vectors[i]);
        fake_pci_common_set(&f->fake, VIRTIO_PCI_COMMON_MSIX, vectors[i]);
        assert_int_equal(fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_Q_MSIX), VIRTIO_MSI_NO_VECTOR);
        assert_int_equal(fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_MSIX), VIRTIO_MSI_NO_VECTOR);
        assert_true(routes_are(f, ALL & ~(1u << 1 | 1u << CONFIG)));
    }
}

/* What was raised while there was no message is lost: it is raised anew, for the driver may wait for it. */
static void unmasking_raises_what_may_be_lost(void **state)
{
    struct pci_fixture *f = *state;
    start_with_vectors(f);
    fake_pci_mask_entry(&f->fake, 1, true);
    assert_int_equal(pci_all_raised(f), 0);
    fake_pci_mask_entry(&f->fake, 1, false);
    assert_int_equal(pci_raised(f, 1), 1);
    assert_int_equal(pci_all_raised(f), 0);               /* no other */
    fake_pci_set_entry(&f->fake, 1, &messages[1], false); /* was routed before */
    assert_int_equal(pci_all_raised(f), 0);
    fake_pci_msix(&f->fake, true, true);
    fake_pci_msix(&f->fake, true, false);
    assert_int_equal(pci_all_raised(f), ALL);
    set_vector(f, 2, VIRTIO_MSI_NO_VECTOR);
    set_vector(f, 2, 2);
    assert_int_equal(pci_all_raised(f), 1u << 2);
}

static void unmasking_before_driver_ok_raises_nothing(void **state)
{
    struct pci_fixture *f = *state;
    start_with_vectors(f);
    fake_pci_common_set(&f->fake, VIRTIO_PCI_COMMON_STATUS, 0);
    for (unsigned i = 0; i < QUEUES; i++)
        set_vector(f, i, i);
    assert_true(routes_are(f, ALL & ~(1u << CONFIG)));
    assert_int_equal(pci_all_raised(f), 0);
}

static void reset_takes_all_routes_away(void **state)
{
    struct pci_fixture *f = *state;
    start_with_vectors(f);
    fake_pci_common_set(&f->fake, VIRTIO_PCI_COMMON_STATUS, 0);
    assert_true(routes_are(f, 0));
    for (unsigned i = 0; i < QUEUES; i++) {
        fake_pci_common_set(&f->fake, VIRTIO_PCI_COMMON_Q_SELECT, i);
        assert_int_equal(fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_Q_MSIX), VIRTIO_MSI_NO_VECTOR);
    }
    assert_int_equal(fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_MSIX), VIRTIO_MSI_NO_VECTOR);
    /* Table and capability are the bus's, not the device's. */
    assert_int_equal(fake_pci_get(&f->fake, f->fake.table + PCI_MSIX_ENTRY_DATA, 4), messages[0].data);
    assert_int_equal(pci_start(f), STATUS_RUNNING);
    assert_true(routes_are(f, ALL));
}

static void refused_route_leaves_the_device_usable(void **state)
{
    struct pci_fixture *f = *state;
    f->recorder->echo = true;
    start_with_vectors(f);
    f->route_result = -EINVAL;
    set_vector(f, 0, 1);
    fake_pci_mask_entry(&f->fake, 1, true);
    fake_pci_mask_entry(&f->fake, 1, false);
    assert_true(routes_are(f, ALL));        /* as before */
    assert_int_equal(pci_all_raised(f), 0); /* nothing came anew */
    pci_offer(f, 0);
    fake_pci_notify(&f->fake, 0);
    assert_true(pci_used(f, 0));
    assert_int_equal(pci_all_raised(f), 1);
    f->route_result = 0;
    set_vector(f, 0, 0);
    assert_true(routes_are(f, ALL));
}

static void reserved_bits_of_the_table_stay_clear(void **state)
{
    struct pci_fixture *f = *state;
    fake_pci_decode(&f->fake);
    const struct irq_message odd = {UINT64_MAX, UINT32_MAX};
    fake_pci_set_entry(&f->fake, 0, &odd, true);
    fake_pci_set(&f->fake, f->fake.table + PCI_MSIX_ENTRY_VECTOR_CTRL, 4, UINT32_MAX);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.table + PCI_MSIX_ENTRY_LOWER_ADDR, 4), UINT32_MAX - 3);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.table + PCI_MSIX_ENTRY_UPPER_ADDR, 4), UINT32_MAX);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.table + PCI_MSIX_ENTRY_DATA, 4), UINT32_MAX);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.table + PCI_MSIX_ENTRY_VECTOR_CTRL, 4),
                     PCI_MSIX_ENTRY_CTRL_MASKBIT);
    fake_pci_set(&f->fake, f->fake.pba, 4, UINT32_MAX);
    fake_pci_set_entry(&f->fake, INTERRUPTS, &odd, false); /* behind the last */
    assert_int_equal(fake_pci_get(&f->fake, f->fake.pba, 4), 0);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.table + INTERRUPTS * PCI_MSIX_ENTRY_SIZE, 4), 0);
}

static int accept_any(void *arg, unsigned first, unsigned count, struct irq_message *asked)
{
    (void)arg;
    (void)first;
    (void)count;
    (void)asked;
    return 0;
}

static void device_with_all_queues_has_all_vectors(void **state)
{
    struct pci_fixture *f = *state;
    struct recorder recorder;
    struct fake_pci fake;
    const struct virtio_pci_place place = {.memory = PLACE, .port = PLACE_PORTS, .route = accept_any};
    const unsigned count = VIRTIO_DEVICE_QUEUES_MAX;
    recorder_make(&recorder, f->loop)->queue_count = count;
    struct virtio_pci *pci = virtio_pci_new(&recorder.device, &f->memory.map, &place);
    assert_non_null(pci);
    fake_pci_find(&fake, pci);
    fake_pci_decode(&fake);
    assert_int_equal(fake_pci_config_get(&fake, fake.msix_at + PCI_MSIX_FLAGS, 2), count);
    for (unsigned i = 0; i < count; i++) {
        fake_pci_common_set(&fake, VIRTIO_PCI_COMMON_Q_SELECT, i);
        fake_pci_common_set(&fake, VIRTIO_PCI_COMMON_Q_MSIX, i);
    }
    fake_pci_common_set(&fake, VIRTIO_PCI_COMMON_MSIX, count);
    const struct irq_message other = {0x0001000100010000, 0x00010001};
    for (uint32_t entry = count; fake.table + (entry + 1) * PCI_MSIX_ENTRY_SIZE <= fake.pba; entry++)
        fake_pci_set_entry(&fake, entry, &other, true); /* the last one, and what is behind */
    assert_int_equal(fake_pci_get(&fake, fake.table + count * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_DATA, 4),
                     other.data);
    for (unsigned i = 0; i < count; i++) {
        fake_pci_common_set(&fake, VIRTIO_PCI_COMMON_Q_SELECT, i);
        assert_int_equal(fake_pci_common_get(&fake, VIRTIO_PCI_COMMON_Q_MSIX), i);
    }
    assert_int_equal(fake_pci_common_get(&fake, VIRTIO_PCI_COMMON_MSIX), count);
    virtio_transport_free(virtio_pci_transport(pci));
}

static void without_msix_the_isr_tells(void **state)
{
    struct pci_fixture *f = *state;
    struct virtio_transport *transport = f->transport;
    assert_int_equal(pci_start(f), STATUS_RUNNING);
    f->recorder->echo = true;
    assert_int_equal(fake_pci_get(&f->fake, f->fake.isr, 1), 0);
    pci_offer(f, 2);
    fake_pci_notify(&f->fake, 2);
    assert_true(pci_used(f, 2));
    assert_int_equal(fake_pci_get(&f->fake, f->fake.isr, 4), 0); /* not its width: takes nothing */
    assert_int_equal(fake_pci_get(&f->fake, f->fake.isr, 1), 1);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.isr, 1), 0);
    transport->config_changed(transport);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.isr, 1), 2);
    pci_offer(f, 0);
    fake_pci_notify(&f->fake, 0);
    assert_true(pci_used(f, 0));
    transport->config_changed(transport);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.isr, 1), 3);
    transport->config_changed(transport);
    fake_pci_common_set(&f->fake, VIRTIO_PCI_COMMON_STATUS, 0);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.isr, 1), 0);
    fake_pci_msix(&f->fake, true, false);
    transport->config_changed(transport);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.isr, 1), 0);
}

/* The kernel begins to raise interrupts itself: one that was raised before may have been lost. */
static void direct_calls_begin_with_one_of_each_queue(void **state)
{
    struct pci_fixture *f = *state;
    start_with_vectors(f);
    f->transport->calls_direct(f->transport, true);
    assert_int_equal(pci_all_raised(f), ALL & ~(1u << CONFIG));
    f->transport->calls_direct(f->transport, false);
    assert_int_equal(pci_all_raised(f), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        pci_test(interrupt_sends_the_message_of_its_vector),
        pci_test(masked_entry_sends_nothing),
        pci_test(masked_or_disabled_function_sends_nothing),
        pci_test(vector_that_is_not_there_is_none),
        pci_test(unmasking_raises_what_may_be_lost),
        pci_test(unmasking_before_driver_ok_raises_nothing),
        pci_test(reset_takes_all_routes_away),
        pci_test(refused_route_leaves_the_device_usable),
        pci_test(reserved_bits_of_the_table_stay_clear),
        pci_test(device_with_all_queues_has_all_vectors),
        pci_test(without_msix_the_isr_tells),
        pci_test(direct_calls_begin_with_one_of_each_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
