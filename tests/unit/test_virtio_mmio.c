/* Unit tests of the virtio-mmio transport: registers, status, interrupts. */
#include "tests/unit/mmio_fixture.h"

static void identity_registers(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(transport_get(f, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_VERSION), 2);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_DEVICE_ID), DEVICE_ID);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_STATUS), 0);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_SHM_LEN_LOW), UINT32_MAX);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_SHM_LEN_HIGH), UINT32_MAX);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_QUEUE_DESC_LOW), 0);
}

static void features_are_read_in_halves(void **state)
{
    struct fixture *f = *state;
    transport_set(f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_DEVICE_FEATURES),
                     (uint32_t)(DEVICE_FEATURE | RING_FEATURES));
    transport_set(f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_DEVICE_FEATURES), 1u << (VIRTIO_F_VERSION_1 - 32));
    transport_set(f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_DEVICE_FEATURES), 0);
}

static void driver_brings_the_device_up(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(fake_mmio_start(f->mmio, DEVICE_FEATURE | RING_FEATURES, f->queue, 2), STATUS_RUNNING);
    assert_int_equal(f->recorder->activated, 1);
    assert_int_equal(f->recorder->features, DEVICE_FEATURE | RING_FEATURES | 1ULL << VIRTIO_F_VERSION_1);
    assert_true(virtqueue_started(f->recorder->device.queue[1]));
    assert_false(virtqueue_started(f->recorder->device.queue[2])); /* not set up */
    fake_loop_settle(f->loop);
    assert_int_equal(f->recorder->kicks[0], 1); /* each started queue once */
    assert_int_equal(f->recorder->kicks[2], 0);
    fake_mmio_kick(f->mmio, f->loop, 1);
    assert_int_equal(f->recorder->kicks[1], 2);
}

static void driver_without_version_1_is_refused(void **state)
{
    struct fixture *f = *state;
    transport_set(f, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    transport_set(f, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)DEVICE_FEATURE);
    transport_set(f, VIRTIO_MMIO_STATUS, STATUS_RUNNING & ~VIRTIO_CONFIG_S_DRIVER_OK);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_STATUS),
                     VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    transport_set(f, VIRTIO_MMIO_STATUS, STATUS_RUNNING & ~VIRTIO_CONFIG_S_FEATURES_OK);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_STATUS),
                     VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    assert_int_equal(f->recorder->activated, 0);
}

static void unknown_features_are_refused(void **state)
{
    struct fixture *f = *state;
    uint32_t status = fake_mmio_start(f->mmio, 1ULL << VIRTIO_F_RING_PACKED, f->queue, QUEUES);
    assert_int_equal(status & VIRTIO_CONFIG_S_FEATURES_OK, 0);
    assert_int_equal(f->recorder->activated, 0);
}

static void status_bits_cannot_be_taken_back(void **state)
{
    struct fixture *f = *state;
    transport_start(f);
    transport_set(f, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_STATUS), STATUS_RUNNING);
    transport_set(f, VIRTIO_MMIO_STATUS,
                  STATUS_RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET); /* the device's to set */
    assert_int_equal(transport_get(f, VIRTIO_MMIO_STATUS), STATUS_RUNNING);
    transport_set(f, VIRTIO_MMIO_STATUS, STATUS_RUNNING | VIRTIO_CONFIG_S_FAILED);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_STATUS), STATUS_RUNNING | VIRTIO_CONFIG_S_FAILED);
    assert_int_equal(f->recorder->activated, 1);
}

static void queue_registers(void **state)
{
    struct fixture *f = *state;
    transport_set(f, VIRTIO_MMIO_QUEUE_SEL, QUEUES - 1);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_QUEUE_NUM_MAX), QUEUE_SIZE_MAX);
    transport_set(f, VIRTIO_MMIO_QUEUE_SEL, QUEUES);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    transport_set(f, VIRTIO_MMIO_QUEUE_READY, 1);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_QUEUE_READY), 0);
    transport_set(f, VIRTIO_MMIO_QUEUE_SEL, UINT32_MAX);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    /* Before FEATURES_OK a queue cannot be set up. */
    transport_set(f, VIRTIO_MMIO_QUEUE_SEL, 0);
    transport_set(f, VIRTIO_MMIO_QUEUE_READY, 1);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_QUEUE_READY), 0);
}

static void queues_are_frozen_while_the_device_runs(void **state)
{
    struct fixture *f = *state;
    transport_start(f);
    f->recorder->echo = true;
    struct virtqueue_config elsewhere = {.size = 2, .desc = 0, .avail = 0, .used = 0};
    fake_mmio_set_queue(f->mmio, 0, &elsewhere);
    transport_set(f, VIRTIO_MMIO_QUEUE_READY, 0);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_QUEUE_READY), 1);
    struct fake_segment segment = {f->queue[0].config.desc, 4, false};
    fake_queue_add(&f->queue[0], &segment, 1);
    fake_mmio_kick(f->mmio, f->loop, 0);
    assert_true(fake_queue_used(&f->queue[0], NULL, NULL));
    transport_set(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    transport_set(f, VIRTIO_MMIO_DRIVER_FEATURES, 0);
    transport_set(f, VIRTIO_MMIO_STATUS, STATUS_RUNNING);
    assert_int_equal(f->recorder->activated, 1);
}

static void ready_queue_keeps_its_addresses(void **state)
{
    struct fixture *f = *state;
    transport_set(f, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    transport_set(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    transport_set(f, VIRTIO_MMIO_DRIVER_FEATURES, 1);
    transport_set(f, VIRTIO_MMIO_STATUS, STATUS_RUNNING & ~VIRTIO_CONFIG_S_DRIVER_OK);
    fake_mmio_set_queue(f->mmio, 0, &f->queue[0].config);
    transport_set(f, VIRTIO_MMIO_QUEUE_USED_LOW, 3); /* ignored while ready */
    transport_set(f, VIRTIO_MMIO_STATUS, STATUS_RUNNING);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_STATUS), STATUS_RUNNING);
    assert_int_equal(f->recorder->activated, 1);
}

static void queue_that_cannot_start_needs_reset(void **state)
{
    struct fixture *f = *state;
    struct fake_queue bad[QUEUES];
    memcpy(bad, f->queue, sizeof(bad));
    bad[1].config.avail = FAKE_RAM_BASE - 4096;
    assert_int_equal(fake_mmio_start(f->mmio, 0, bad, QUEUES), STATUS_RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
    assert_int_equal(f->recorder->activated, 0);
    assert_false(virtqueue_started(f->recorder->device.queue[0]));
    bad[1].config = f->queue[1].config;
    bad[1].config.size = QUEUE_SIZE_MAX * 2; /* beyond QueueNumMax */
    assert_int_equal(fake_mmio_start(f->mmio, 0, bad, QUEUES), STATUS_RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_int_equal(transport_start(f), STATUS_RUNNING); /* and a reset helps */
}

static void device_that_fails_to_activate_needs_reset(void **state)
{
    struct fixture *f = *state;
    f->recorder->activate_result = -ENOMEM;
    assert_int_equal(transport_start(f), STATUS_RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_int_equal(f->recorder->kicks[0], 0);
    transport_set(f, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(f->recorder->reset, 0); /* it was never up */
    f->recorder->activate_result = 0;
    assert_int_equal(transport_start(f), STATUS_RUNNING);
}

static void chains_raise_interrupts_until_acknowledged(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(fake_mmio_start(f->mmio, 0, f->queue, QUEUES), STATUS_RUNNING);
    fake_loop_settle(f->loop);
    f->recorder->echo = true;
    assert_int_equal(transport_interrupts(f), 0);
    struct fake_segment segment = {f->queue[0].config.desc, 4, false};
    fake_queue_add(&f->queue[0], &segment, 1);
    transport_set(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0); /* without an ioeventfd the register does it */
    fake_loop_settle(f->loop);
    assert_int_equal(transport_interrupts(f), 1);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
    transport_set(f, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    transport_set(f, VIRTIO_MMIO_QUEUE_NOTIFY, QUEUES); /* no such queue */
    transport_set(f, VIRTIO_MMIO_QUEUE_NOTIFY, UINT32_MAX);
    fake_loop_settle(f->loop);
    assert_int_equal(transport_interrupts(f), 0);
}

static void broken_ring_needs_reset(void **state)
{
    struct fixture *f = *state;
    transport_start(f);
    f->recorder->echo = true;
    fake_queue_offer(&f->queue[2], QUEUE_SIZE_MAX); /* no such descriptor */
    fake_mmio_kick(f->mmio, f->loop, 2);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_STATUS), STATUS_RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
    struct fake_segment segment = {f->queue[0].config.desc, 4, false};
    fake_queue_add(&f->queue[0], &segment, 1); /* the other queues go on */
    fake_mmio_kick(f->mmio, f->loop, 0);
    assert_true(fake_queue_used(&f->queue[0], NULL, NULL));
    for (unsigned i = 0; i < QUEUES; i++)
        fake_queue_init(&f->queue[i], &f->memory, QUEUE_SIZE_MAX);
    assert_int_equal(transport_start(f), STATUS_RUNNING);
}

static void configuration_space(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < sizeof(f->recorder->config); i++)
        f->recorder->config[i] = (uint8_t)(i + 1);
    f->recorder->device.transport->config_refresh(f->recorder->device.transport);
    uint64_t value = 0;
    virtio_mmio_read(f->mmio, VIRTIO_MMIO_CONFIG + 3, &value, 1);
    assert_int_equal(value, 4);
    value = 0;
    virtio_mmio_read(f->mmio, VIRTIO_MMIO_CONFIG + 8, &value, 2);
    assert_int_equal(le64toh(value), 0x0a09);
    virtio_mmio_read(f->mmio, VIRTIO_MMIO_CONFIG, &value, 8);
    assert_int_equal(le64toh(value), 0x0807060504030201);
    virtio_mmio_read(f->mmio, VIRTIO_MMIO_CONFIG + 8, &value, 8); /* half outside */
    assert_int_equal(value, 0);
    virtio_mmio_read(f->mmio, VIRTIO_MMIO_SIZE - 1, &value, 8);
    assert_int_equal(value, 0);
    virtio_mmio_write(f->mmio, VIRTIO_MMIO_CONFIG, "\x77", 1); /* before there is a driver */
    assert_int_equal(f->recorder->config[0], 1);
    transport_start(f);
    virtio_mmio_write(f->mmio, VIRTIO_MMIO_CONFIG, "\x77", 1);
    assert_int_equal(f->recorder->config[0], 0x77);
    virtio_mmio_write(f->mmio, VIRTIO_MMIO_CONFIG + 10, "\x77", 1);

    uint32_t generation = transport_get(f, VIRTIO_MMIO_CONFIG_GENERATION);
    f->recorder->device.transport->config_changed(f->recorder->device.transport);
    assert_int_not_equal(transport_get(f, VIRTIO_MMIO_CONFIG_GENERATION), generation);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
    assert_int_equal(transport_interrupts(f), 1);
}

static void registers_take_aligned_words_only(void **state)
{
    struct fixture *f = *state;
    uint64_t value = UINT64_MAX;
    virtio_mmio_read(f->mmio, VIRTIO_MMIO_MAGIC_VALUE, &value, 8);
    assert_int_equal(value, 0);
    value = 0;
    virtio_mmio_read(f->mmio, VIRTIO_MMIO_MAGIC_VALUE, &value, 2);
    assert_int_equal(value, 0);
    virtio_mmio_read(f->mmio, VIRTIO_MMIO_MAGIC_VALUE + 2, &value, 4);
    assert_int_equal(value, 0);
    virtio_mmio_write(f->mmio, VIRTIO_MMIO_STATUS, "\x01", 1);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_STATUS), 0);
}

static uint32_t page_get(const uint8_t *page, unsigned offset)
{
    uint32_t value;
    memcpy(&value, page + offset, sizeof(value));
    return le32toh(value);
}

static void page_follows_what_the_driver_reads(void **state)
{
    struct fixture *f = *state;
    struct virtio_transport *transport = f->recorder->device.transport;
    static _Alignas(8) uint8_t page[VIRTIO_MMIO_SIZE];
    virtio_mmio_show_placeholder(page);
    assert_int_equal(page_get(page, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
    assert_int_equal(page_get(page, VIRTIO_MMIO_DEVICE_ID), 0);
    virtio_mmio_show(f->mmio, page);
    assert_int_equal(page_get(page, VIRTIO_MMIO_DEVICE_ID), DEVICE_ID);
    assert_int_equal(transport_start(f), STATUS_RUNNING);
    f->recorder->config[3] = 77;
    uint32_t generation = page_get(page, VIRTIO_MMIO_CONFIG_GENERATION);
    transport->config_changed(transport);
    assert_int_equal(page[VIRTIO_MMIO_CONFIG + 3], 77);
    assert_int_not_equal(page_get(page, VIRTIO_MMIO_CONFIG_GENERATION), generation);
    transport->broken(transport);
    for (unsigned offset = 0; offset < VIRTIO_MMIO_CONFIG; offset += 4)
        assert_int_equal(page_get(page, offset), transport_get(f, offset));
    assert_true(page_get(page, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
    virtio_mmio_show(f->mmio, NULL);
    transport_set(f, VIRTIO_MMIO_STATUS, 0);
    assert_true(page_get(page, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET); /* not its page any more */
    assert_int_equal(transport_get(f, VIRTIO_MMIO_STATUS), 0);
}

static void acknowledgements_of_calls_may_be_ignored(void **state)
{
    struct fixture *f = *state;
    struct virtio_transport *transport = f->recorder->device.transport;
    virtio_mmio_ignore_call_acks(f->mmio);
    assert_int_equal(transport_start(f), STATUS_RUNNING);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
    transport->config_changed(transport);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_INTERRUPT_STATUS),
                     VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);
    transport_set(f, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
    transport->calls_direct(transport, true);
    transport->calls_direct(transport, false);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
    transport_interrupts(f);
    virtio_transport_pause(virtio_mmio_transport(f->mmio));
    virtio_transport_resume(virtio_mmio_transport(f->mmio));
    assert_true(transport_interrupts(f) > 0); /* the driver may have missed one */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        mmio_test(identity_registers),
        mmio_test(features_are_read_in_halves),
        mmio_test(driver_brings_the_device_up),
        mmio_test(driver_without_version_1_is_refused),
        mmio_test(unknown_features_are_refused),
        mmio_test(status_bits_cannot_be_taken_back),
        mmio_test(queue_registers),
        mmio_test(queues_are_frozen_while_the_device_runs),
        mmio_test(ready_queue_keeps_its_addresses),
        mmio_test(queue_that_cannot_start_needs_reset),
        mmio_test(device_that_fails_to_activate_needs_reset),
        mmio_test(chains_raise_interrupts_until_acknowledged),
        mmio_test(broken_ring_needs_reset),
        mmio_test(configuration_space),
        mmio_test(registers_take_aligned_words_only),
        mmio_test(page_follows_what_the_driver_reads),
        mmio_test(acknowledgements_of_calls_may_be_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
