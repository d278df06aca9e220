/*
 * Unit tests of the virtio-pci transport: configuration of the device, accesses through configuration space,
 * snapshots.
 */
#include "tests/unit/pci_fixture.h"
#include "vmm/snapshot.h"

#include <pthread.h>

static const struct irq_message messages[INTERRUPTS] = {
    {0xfee01000, 0x31}, {0xfee02000, 0x32}, {0xfee03000, 0x33}, {0xfee04000, 0x34}};

/* --- Configuration of the device ----------------------------------------------------------------------- */

static void configuration_is_a_copy(void **state)
{
    struct pci_fixture *f = *state;
    struct virtio_transport *transport = f->transport;
    assert_int_equal(pci_start(f), STATUS_RUNNING);
    for (unsigned i = 0; i < sizeof(f->recorder->config); i++)
        f->recorder->config[i] = (uint8_t)(i + 1);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.device + 3, 1), 0); /* nobody was told */
    uint32_t generation = fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_CFGGENERATION);
    transport->config_refresh(transport);
    uint32_t next = fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_CFGGENERATION);
    assert_int_not_equal(next, generation);
    assert_int_equal(pci_all_raised(f), 0);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.device + 3, 1), 4);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.device + 8, 2), 0x0a09);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.device + 4, 4), 0x08070605);

    f->recorder->config[0] = 77;
    transport->config_changed(transport);
    assert_int_equal(pci_all_raised(f), 1u << CONFIG);
    assert_int_equal(pci_all_raised(f), 0);
    assert_int_not_equal(fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_CFGGENERATION), next);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.device, 1), 77);
}

static void configuration_is_there_from_the_beginning(void **state)
{
    struct pci_fixture *f = *state;
    struct recorder recorder;
    struct fake_pci fake;
    const struct virtio_pci_place place = {
        .memory = PLACE, .port = PLACE_PORTS, .route = pci_route, .arg = f};
    recorder_make(&recorder, f->loop);
    memset(recorder.config, 0x66, sizeof(recorder.config));
    struct virtio_pci *pci = virtio_pci_new(&recorder.device, &f->memory.map, &place);
    assert_non_null(pci);
    fake_pci_find(&fake, pci);
    fake_pci_decode(&fake);
    assert_int_equal(fake_pci_get(&fake, fake.device + 6, 4), 0x66666666);
    virtio_transport_free(virtio_pci_transport(pci));
}

static void configuration_ends_where_the_device_says(void **state)
{
    struct pci_fixture *f = *state;
    uint64_t value = UINT64_MAX;
    memset(f->recorder->config, 0x55, sizeof(f->recorder->config));
    f->transport->config_refresh(f->transport);
    fake_pci_decode(&f->fake);
    virtio_pci_read(f->fake.pci, f->fake.device, &value, 8);
    assert_int_equal(le64toh(value), 0x5555555555555555);
    virtio_pci_read(f->fake.pci, f->fake.device + 8, &value, 8); /* half outside */
    assert_int_equal(value, 0);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.device + 8, 4), 0);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.device + 10, 1), 0);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.device, 3), 0);
    fake_pci_set(&f->fake, f->fake.device, 1, 0x77); /* before there is a driver */
    assert_int_equal(f->recorder->config[0], 0x55);
    assert_int_equal(pci_start(f), STATUS_RUNNING);
    fake_pci_set(&f->fake, f->fake.device, 1, 0x77);
    assert_int_equal(f->recorder->config[0], 0x77);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.device, 1), 0x77);
    fake_pci_set(&f->fake, f->fake.device + 8, 4, 0);
    fake_pci_set(&f->fake, f->fake.device + 10, 1, 0);
    assert_int_equal(f->recorder->config[9], 0x55);
}

static void *run_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

struct changer {
    struct pci_fixture *f;
    atomic_bool stop;
};

/* In the device's thread: each configuration consists of one byte's copies. */
static void change(void *arg)
{
    struct changer *changer = arg;
    struct recorder *recorder = changer->f->recorder;
    memset(recorder->config, recorder->config[0] + 1, sizeof(recorder->config));
    changer->f->transport->config_refresh(changer->f->transport);
    if (!atomic_load(&changer->stop))
        loop_post(changer->f->loop, change, changer);
}

/* As a driver reads it (virtio 1.2 §2.5.1): what it read between two equal generations belongs together. */
static void configuration_and_generation_change_at_once(void **state)
{
    struct pci_fixture *f = *state;
    struct changer changer = {.f = f};
    pthread_t thread;
    unsigned read = 0;
    assert_int_equal(pci_start(f), STATUS_RUNNING);
    f->recorder->slow = true;
    assert_int_equal(loop_post(f->loop, change, &changer), 0);
    assert_int_equal(pthread_create(&thread, NULL, run_loop, f->loop), 0);
    for (unsigned i = 0; i < 20000; i++) {
        uint32_t generation = fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_CFGGENERATION);
        uint32_t first = fake_pci_get(&f->fake, f->fake.device, 4);
        uint32_t last = fake_pci_get(&f->fake, f->fake.device + 8, 2);
        if (generation != fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_CFGGENERATION))
            continue;
        read++;
        assert_int_equal(first, (first & 0xff) * 0x01010101u);
        assert_int_equal(first & 0xffff, last);
    }
    atomic_store(&changer.stop, true);
    loop_stop(f->loop);
    pthread_join(thread, NULL);
    assert_true(read > 0);
}

/* --- VIRTIO_PCI_CAP_PCI_CFG (§4.1.4.9) ----------------------------------------------------------------- */

#define DATA sizeof(struct virtio_pci_cap)

static void point(const struct fake_pci *fake, uint32_t region, uint32_t offset, uint32_t length)
{
    fake_pci_config_set(fake, fake->access_at + VIRTIO_PCI_CAP_BAR, 1, region);
    fake_pci_config_set(fake, fake->access_at + VIRTIO_PCI_CAP_OFFSET, 4, offset);
    fake_pci_config_set(fake, fake->access_at + VIRTIO_PCI_CAP_LENGTH, 4, length);
}

static uint32_t peek(const struct fake_pci *fake, uint32_t length)
{
    return fake_pci_config_get(fake, fake->access_at + DATA, length);
}

static void poke(const struct fake_pci *fake, uint32_t length, uint32_t value)
{
    fake_pci_config_set(fake, fake->access_at + DATA, length, value);
}

/* Firmware uses it before the regions are decoded. */
static void registers_are_reached_through_configuration_space(void **state)
{
    struct pci_fixture *f = *state;
    const struct fake_pci *fake = &f->fake;
    point(fake, 0, fake->common + VIRTIO_PCI_COMMON_STATUS, 1);
    assert_int_equal(peek(fake, 1), 0);
    poke(fake, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    assert_int_equal(peek(fake, 1), VIRTIO_CONFIG_S_ACKNOWLEDGE);
    assert_int_equal(pci_start(f), STATUS_RUNNING);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_STATUS), STATUS_RUNNING);
    assert_int_equal(peek(fake, 1), STATUS_RUNNING);
    point(fake, 0, fake->common + VIRTIO_PCI_COMMON_NUMQ, 2);
    assert_int_equal(peek(fake, 2), QUEUES);
    point(fake, 0, fake->table + PCI_MSIX_ENTRY_DATA, 4);
    poke(fake, 4, 0x12345678);
    assert_int_equal(fake_pci_get(fake, fake->table + PCI_MSIX_ENTRY_DATA, 4), 0x12345678);
    assert_int_equal(peek(fake, 4), 0x12345678);
    point(fake, 0, fake->common + VIRTIO_PCI_COMMON_STATUS, 1);
    poke(fake, 1, 0);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_STATUS), 0);
}

static void notification_through_configuration_space(void **state)
{
    struct pci_fixture *f = *state;
    assert_int_equal(pci_start(f), STATUS_RUNNING);
    f->recorder->echo = true;
    pci_offer(f, 2);
    point(&f->fake, 1, 0, 2);
    poke(&f->fake, 2, 2);
    assert_true(pci_used(f, 2));
    pci_offer(f, 2);
    poke(&f->fake, 2, 1);      /* another queue */
    poke(&f->fake, 2, 0x1002); /* none */
    point(&f->fake, 1, 2, 2);
    poke(&f->fake, 2, 2); /* another port */
    assert_false(pci_used(f, 2));
}

static void accesses_outside_the_regions_do_nothing(void **state)
{
    struct pci_fixture *f = *state;
    const struct fake_pci *fake = &f->fake;
    const uint32_t status = fake->common + VIRTIO_PCI_COMMON_STATUS;
    const struct {
        uint32_t region, offset, length;
    } places[] = {{0, VIRTIO_PCI_MEMORY_BYTES, 1},
                  {0, VIRTIO_PCI_MEMORY_BYTES, 4},
                  {0, UINT32_MAX, 1},
                  {0, UINT32_MAX - 3, 4},
                  {0, 0x10000u + status, 1},
                  {0, status, 0},
                  {0, status, 3},
                  {0, fake->common + VIRTIO_PCI_COMMON_CFGGENERATION, 3}, /* a multiple of its length */
                  {0, status, 8},
                  {0, status, UINT32_MAX},
                  {0, status - 1, 4}, /* not aligned */
                  {1, VIRTIO_PCI_PORTS, 2},
                  {1, UINT32_MAX - 1, 2},
                  {2, status, 1},
                  {2, 0, 2},
                  {0xff, 0, 2},
                  {0xff, status, 1}};
    assert_int_equal(pci_start(f), STATUS_RUNNING);
    unsigned kicks = f->recorder->kicks[0];
    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        point(fake, places[i].region, places[i].offset, places[i].length);
        poke(fake, 4, 0);
        assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_STATUS), STATUS_RUNNING);
        poke(fake, 4, 0xa5a5a5a5);
        assert_int_equal(peek(fake, 4), 0xa5a5a5a5); /* as it was left */
    }
    fake_loop_settle(f->loop);
    assert_int_equal(f->recorder->kicks[0], kicks);
}

/* The access happens with the data, not with what says where. */
static void fields_before_the_data_access_nothing(void **state)
{
    struct pci_fixture *f = *state;
    const struct fake_pci *fake = &f->fake;
    assert_int_equal(pci_start(f), STATUS_RUNNING);
    poke(fake, 4, 0); /* would reset */
    point(fake, 0, fake->common + VIRTIO_PCI_COMMON_STATUS, 1);
    fake_pci_config_set(fake, fake->access_at + VIRTIO_PCI_CAP_LENGTH, 4, 1);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_STATUS), STATUS_RUNNING);
    f->transport->config_changed(f->transport);
    point(fake, 0, fake->isr, 1); /* reading it would clear it */
    for (uint32_t at = fake->access_at; at < fake->access_at + DATA; at += 4)
        fake_pci_config_get(fake, at, 4);
    assert_int_equal(peek(fake, 1), 2);
    assert_int_equal(peek(fake, 1), 0);
}

/* --- Snapshots ----------------------------------------------------------------------------------------- */

static uint8_t *save(struct pci_fixture *f, size_t *length)
{
    struct snapshot_writer *writer = snapshot_writer_new();
    assert_int_equal(virtio_transport_save(f->transport, writer, 7), 0);
    const void *bytes;
    assert_int_equal(snapshot_writer_content(writer, &bytes, length), 0);
    uint8_t *copy = malloc(*length);
    assert_non_null(copy);
    memcpy(copy, bytes, *length);
    snapshot_writer_free(writer);
    return copy;
}

/* Restores into a fresh transport in the old one's place. */
static int restore(struct pci_fixture *f, const uint8_t *bytes, size_t length)
{
    virtio_transport_free(f->transport);
    pci_make(f);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    int rc = reader ? virtio_transport_restore(f->transport, reader, 7) : -EPROTO;
    snapshot_reader_free(reader);
    return rc;
}

static void start_with_vectors(struct pci_fixture *f)
{
    fake_pci_decode(&f->fake);
    fake_pci_msix(&f->fake, true, false);
    for (unsigned i = 0; i < INTERRUPTS; i++)
        fake_pci_set_entry(&f->fake, i, &messages[i], i == 1);
    assert_int_equal(pci_start(f), STATUS_RUNNING);
    pci_all_raised(f);
}

/* What a driver sees. */
struct view {
    uint8_t space[VIRTIO_PCI_CONFIG_BYTES], table[INTERRUPTS * PCI_MSIX_ENTRY_SIZE];
    uint32_t status, config_vector, queue[QUEUES][4];
};

static void look(struct pci_fixture *f, struct view *view)
{
    memset(view, 0, sizeof(*view));
    for (uint32_t i = 0; i < sizeof(view->space); i++)
        view->space[i] = (uint8_t)fake_pci_config_get(&f->fake, i, 1);
    for (uint32_t i = 0; i < sizeof(view->table); i += 4)
        virtio_pci_read(f->fake.pci, f->fake.table + i, view->table + i, 4);
    view->status = fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_STATUS);
    view->config_vector = fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_MSIX);
    for (uint32_t i = 0; i < QUEUES; i++) {
        fake_pci_common_set(&f->fake, VIRTIO_PCI_COMMON_Q_SELECT, i);
        view->queue[i][0] = fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_Q_MSIX);
        view->queue[i][1] = fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_Q_SIZE);
        view->queue[i][2] = fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_Q_ENABLE);
        view->queue[i][3] = fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_Q_DESCLO);
    }
}

static void running_device_survives_a_snapshot(void **state)
{
    struct pci_fixture *f = *state;
    struct view before, after;
    struct irq_message routes[INTERRUPTS];
    size_t length;
    start_with_vectors(f);
    f->recorder->echo = true;
    f->recorder->state = 4711;
    pci_offer(f, 0);
    fake_pci_notify(&f->fake, 0);
    assert_true(pci_used(f, 0));
    fake_pci_config_set(&f->fake, PCI_INTERRUPT_LINE, 1, 11);
    fake_pci_common_set(&f->fake, VIRTIO_PCI_COMMON_Q_SELECT, 2);
    fake_pci_common_set(&f->fake, VIRTIO_PCI_COMMON_Q_MSIX, 0);
    look(f, &before);
    memcpy(routes, f->route, sizeof(routes));
    assert_int_equal(routes[2].data, messages[0].data);
    virtio_transport_pause(f->transport);
    pci_offer(f, 0); /* kicked, but not served before the snapshot */
    fake_pci_notify(&f->fake, 0);
    uint8_t *bytes = save(f, &length);

    assert_int_equal(restore(f, bytes, length), 0);
    free(bytes);
    f->recorder->echo = true;
    for (unsigned i = 0; i < INTERRUPTS; i++) {
        assert_int_equal(f->route[i].address, routes[i].address);
        assert_int_equal(f->route[i].data, routes[i].data);
    }
    look(f, &after);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(f->recorder->state, 4711);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.device, 1),
                     4711 & 0xff); /* what the device brought with it */
    assert_int_equal(f->recorder->activated, 1);
    assert_false(pci_used(f, 0)); /* paused */
    pci_all_raised(f);
    virtio_transport_resume(f->transport);
    assert_int_equal(pci_all_raised(f), (1u << INTERRUPTS) - 1); /* any may have got lost */
    assert_true(pci_used(f, 0));
    for (unsigned i = 0; i < QUEUES; i++) {
        pci_offer(f, i);
        fake_pci_notify(&f->fake, (uint16_t)i);
        assert_true(pci_used(f, i));
    }
}

static void idle_device_survives_a_snapshot(void **state)
{
    struct pci_fixture *f = *state;
    size_t length;
    struct view before, after;
    fake_pci_decode(&f->fake);
    fake_pci_common_set(&f->fake, VIRTIO_PCI_COMMON_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    look(f, &before);
    virtio_transport_pause(f->transport);
    uint8_t *bytes = save(f, &length);
    assert_int_equal(restore(f, bytes, length), 0);
    free(bytes);
    look(f, &after);
    assert_memory_equal(&before, &after, sizeof(before));
    virtio_transport_resume(f->transport);
    assert_int_equal(pci_all_raised(f), 0); /* there is no driver to wait for one */
    assert_int_equal(pci_start(f), STATUS_RUNNING);
}

static void isr_survives_a_snapshot(void **state)
{
    struct pci_fixture *f = *state;
    size_t length;
    assert_int_equal(pci_start(f), STATUS_RUNNING); /* without MSI-X */
    f->transport->config_changed(f->transport);
    virtio_transport_pause(f->transport);
    uint8_t *bytes = save(f, &length);
    assert_int_equal(restore(f, bytes, length), 0);
    free(bytes);
    assert_int_equal(fake_pci_get(&f->fake, f->fake.isr, 1), 2);
}

static void resumed_device_raises_what_may_be_lost(void **state)
{
    struct pci_fixture *f = *state;
    start_with_vectors(f);
    virtio_transport_pause(f->transport);
    virtio_transport_resume(f->transport);
    assert_int_equal(pci_all_raised(f), (1u << INTERRUPTS) - 1);
}

/* Where configuration space is in a snapshot. */
static uint8_t *find_space(const struct pci_fixture *f, uint8_t *bytes, size_t length)
{
    uint8_t head[8];
    virtio_pci_config_read(f->fake.pci, 0, head, 4);
    virtio_pci_config_read(f->fake.pci, 4, head + 4, 4);
    uint8_t *space = memmem(bytes, length, head, sizeof(head));
    assert_non_null(space);
    return space;
}

static bool free_to_write(const struct fake_pci *fake, uint32_t offset)
{
    return offset == PCI_INTERRUPT_LINE || offset == fake->access_at + VIRTIO_PCI_CAP_BAR ||
           (offset >= fake->access_at + VIRTIO_PCI_CAP_OFFSET && offset < fake->access_at + DATA + 4);
}

static void configuration_space_no_driver_can_write_is_refused(void **state)
{
    struct pci_fixture *f = *state;
    size_t length;
    start_with_vectors(f);
    virtio_transport_pause(f->transport);
    uint8_t *bytes = save(f, &length), *space = find_space(f, bytes, length);
    for (uint32_t i = 0; i < VIRTIO_PCI_CONFIG_BYTES; i++) {
        bool fits = free_to_write(&f->fake, i);
        space[i] ^= 0xff;
        assert_int_equal(restore(f, bytes, length), fits ? 0 : -EPROTO);
        space[i] ^= 0xff;
        if (!fits)
            assert_int_equal(f->route[0].address, 0);
        virtio_transport_resume(f->transport);
        assert_int_equal(pci_start(f), STATUS_RUNNING);
    }
    free(bytes);
}

static void vector_no_device_has_is_refused(void **state)
{
    struct pci_fixture *f = *state;
    const struct {
        uint8_t low, high;
        int result;
    } vectors[] = {{INTERRUPTS, 0, -EPROTO},
                   {0, 1, -EPROTO},
                   {0xfe, 0xff, -EPROTO},
                   {0xff, 0xff, 0}, /* none */
                   {INTERRUPTS - 1, 0, 0}};
    size_t length;
    start_with_vectors(f);
    virtio_transport_pause(f->transport);
    uint8_t *bytes = save(f, &length);
    uint8_t *vector = find_space(f, bytes, length) + VIRTIO_PCI_CONFIG_BYTES + PCI_MSIX_ENTRY_SIZE;
    for (unsigned i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        vector[0] = vectors[i].low; /* of the first queue */
        vector[1] = vectors[i].high;
        assert_int_equal(restore(f, bytes, length), vectors[i].result);
        assert_int_equal(f->route[0].data, i == 4 ? messages[INTERRUPTS - 1].data : 0);
        assert_int_equal(f->route[2].data, vectors[i].result ? 0 : messages[2].data);
        virtio_transport_resume(f->transport);
        assert_int_equal(pci_start(f), STATUS_RUNNING);
    }
    free(bytes);
}

static void damaged_snapshot_restores_nothing(void **state)
{
    struct pci_fixture *f = *state;
    size_t length;
    start_with_vectors(f);
    virtio_transport_pause(f->transport);
    uint8_t *bytes = save(f, &length);
    /* Whatever one flipped byte does, the transport is either restored or as new, and can be used. */
    for (size_t at = 0; at < length; at++) {
        bytes[at] ^= 0xff;
        int rc = restore(f, bytes, length);
        bytes[at] ^= 0xff;
        fake_pci_decode(&f->fake);
        if (rc != 0)
            assert_int_equal(fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_STATUS), 0);
        virtio_transport_resume(f->transport);
        assert_int_equal(pci_start(f), STATUS_RUNNING);
    }
    for (size_t cut = 0; cut < length; cut += 7)
        assert_int_not_equal(restore(f, bytes, cut), 0);
    free(bytes);
}

static void refused_routes_refuse_the_snapshot(void **state)
{
    struct pci_fixture *f = *state;
    size_t length;
    start_with_vectors(f);
    virtio_transport_pause(f->transport);
    uint8_t *bytes = save(f, &length);
    virtio_transport_free(f->transport);
    pci_make(f);
    f->route_result = -ENOSPC;
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(virtio_transport_restore(f->transport, reader, 7), -ENOSPC);
    snapshot_reader_free(reader);
    free(bytes);
    f->route_result = 0;
    assert_int_equal(f->recorder->activated, 0);
    virtio_transport_resume(f->transport);
    assert_int_equal(pci_start(f), STATUS_RUNNING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        pci_test(configuration_is_a_copy),
        pci_test(configuration_is_there_from_the_beginning),
        pci_test(configuration_ends_where_the_device_says),
        pci_test(configuration_and_generation_change_at_once),
        pci_test(registers_are_reached_through_configuration_space),
        pci_test(notification_through_configuration_space),
        pci_test(accesses_outside_the_regions_do_nothing),
        pci_test(fields_before_the_data_access_nothing),
        pci_test(running_device_survives_a_snapshot),
        pci_test(idle_device_survives_a_snapshot),
        pci_test(isr_survives_a_snapshot),
        pci_test(resumed_device_raises_what_may_be_lost),
        pci_test(configuration_space_no_driver_can_write_is_refused),
        pci_test(vector_no_device_has_is_refused),
        pci_test(damaged_snapshot_restores_nothing),
        pci_test(refused_routes_refuse_the_snapshot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
