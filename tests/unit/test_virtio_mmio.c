/* Unit tests of the virtio-mmio transport over a device that only writes down what it is told. */
#include "tests/unit/fake_driver.h"
#include "vmm/snapshot.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define QUEUES         3
#define QUEUE_SIZE_MAX 16
#define DEVICE_ID      42
#define DEVICE_FEATURE (1ULL << 5)
#define RING_FEATURES  (1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_RING_F_EVENT_IDX)
#define STATUS_RUNNING                                                                                       \
    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |                    \
     VIRTIO_CONFIG_S_DRIVER_OK)

struct recorder {
    struct virtio_device device;
    unsigned activated, reset, paused, resumed, freed;
    unsigned kicks[QUEUES];
    uint64_t features;
    int activate_result;
    uint32_t state; /* what save and restore carry */
    uint8_t config[10];
    bool echo; /* give each chain back */
    bool in_kick;
    atomic_bool overlapped; /* called while another call was under way */
    struct virtio_chain chain;
};

struct fixture {
    struct fake_memory memory;
    struct loop *loop;
    struct recorder *recorder;
    struct virtio_mmio *mmio;
    struct fake_queue queue[QUEUES];
    int irq_fd;
};

static struct recorder *recorder_of(struct virtio_device *device)
{
    return (struct recorder *)device;
}

static uint64_t recorder_features(const struct virtio_device *device)
{
    (void)device;
    return DEVICE_FEATURE;
}

static void recorder_config_read(const struct virtio_device *device, uint32_t offset, void *to,
                                 uint32_t length)
{
    memcpy(to, ((const struct recorder *)device)->config + offset, length);
}

static void recorder_config_write(struct virtio_device *device, uint32_t offset, const void *from,
                                  uint32_t length)
{
    memcpy(recorder_of(device)->config + offset, from, length);
}

static int recorder_activate(struct virtio_device *device, uint64_t features)
{
    struct recorder *recorder = recorder_of(device);
    recorder->activated++;
    recorder->features = features;
    return recorder->activate_result;
}

static void recorder_kick(struct virtio_device *device, unsigned queue)
{
    struct recorder *recorder = recorder_of(device);
    recorder->kicks[queue]++;
    recorder->in_kick = true;
    int got = 0;
    while (recorder->echo && (got = virtqueue_pop(device->queue[queue], &recorder->chain)) > 0)
        virtqueue_push(device->queue[queue], &recorder->chain);
    if (got < 0)
        virtio_device_broken(device, queue);
    virtqueue_notify(device->queue[queue]);
    recorder->in_kick = false;
}

static void recorder_reset(struct virtio_device *device)
{
    struct recorder *recorder = recorder_of(device);
    if (recorder->in_kick)
        atomic_store(&recorder->overlapped, true);
    recorder->reset++;
}

static void recorder_pause(struct virtio_device *device)
{
    recorder_of(device)->paused++;
}

static void recorder_resume(struct virtio_device *device)
{
    recorder_of(device)->resumed++;
}

static int recorder_save(const struct virtio_device *device, struct snapshot_writer *writer)
{
    snapshot_put_u32(writer, ((const struct recorder *)device)->state);
    return 0;
}

static int recorder_restore(struct virtio_device *device, struct snapshot_reader *reader)
{
    recorder_of(device)->state = snapshot_get_u32(reader);
    return 0;
}

static void recorder_free(struct virtio_device *device)
{
    recorder_of(device)->freed++; /* the fixture's storage */
}

static const struct virtio_device_ops recorder_ops = {
    .name = "recorder",
    .id = DEVICE_ID,
    .features = recorder_features,
    .config_size = 10,
    .config_read = recorder_config_read,
    .config_write = recorder_config_write,
    .activate = recorder_activate,
    .kick = recorder_kick,
    .reset = recorder_reset,
    .pause = recorder_pause,
    .resume = recorder_resume,
    .save = recorder_save,
    .restore = recorder_restore,
    .free = recorder_free,
};

static void make_transport(struct fixture *f)
{
    *f->recorder = (struct recorder){
        .device = {
            .ops = &recorder_ops, .loop = f->loop, .queue_count = QUEUES, .queue_size_max = QUEUE_SIZE_MAX}};
    f->mmio = virtio_mmio_new(&f->recorder->device, &f->memory.map, f->irq_fd);
    assert_non_null(f->mmio);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    if (!f)
        return -1;
    fake_memory_init(&f->memory, 1 << 20);
    f->loop = loop_new();
    f->recorder = calloc(1, sizeof(*f->recorder));
    f->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (unsigned i = 0; i < QUEUES; i++)
        fake_queue_init(&f->queue[i], &f->memory, QUEUE_SIZE_MAX);
    make_transport(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    virtio_mmio_free(f->mmio);
    int freed = f->recorder->freed == 1 ? 0 : -1;
    loop_free(f->loop);
    close(f->irq_fd);
    fake_memory_fini(&f->memory);
    free(f->recorder);
    free(f);
    return freed;
}

static uint32_t get(struct fixture *f, uint64_t offset)
{
    return fake_mmio_get(f->mmio, offset);
}

static void set(struct fixture *f, uint64_t offset, uint32_t value)
{
    fake_mmio_set(f->mmio, offset, value);
}

static uint32_t start(struct fixture *f)
{
    uint32_t status = fake_mmio_start(f->mmio, RING_FEATURES, f->queue, QUEUES);
    fake_loop_settle(f->loop);
    return status;
}

static uint64_t interrupts(struct fixture *f)
{
    uint64_t count;
    return read(f->irq_fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static void identity_registers(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(get(f, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
    assert_int_equal(get(f, VIRTIO_MMIO_VERSION), 2);
    assert_int_equal(get(f, VIRTIO_MMIO_DEVICE_ID), DEVICE_ID);
    assert_int_equal(get(f, VIRTIO_MMIO_STATUS), 0);
    assert_int_equal(get(f, VIRTIO_MMIO_SHM_LEN_LOW), UINT32_MAX);
    assert_int_equal(get(f, VIRTIO_MMIO_SHM_LEN_HIGH), UINT32_MAX);
    assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_DESC_LOW), 0);
}

static void features_are_read_in_halves(void **state)
{
    struct fixture *f = *state;
    set(f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    assert_int_equal(get(f, VIRTIO_MMIO_DEVICE_FEATURES), (uint32_t)(DEVICE_FEATURE | RING_FEATURES));
    set(f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    assert_int_equal(get(f, VIRTIO_MMIO_DEVICE_FEATURES), 1u << (VIRTIO_F_VERSION_1 - 32));
    set(f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
    assert_int_equal(get(f, VIRTIO_MMIO_DEVICE_FEATURES), 0);
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
    set(f, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    set(f, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)DEVICE_FEATURE);
    set(f, VIRTIO_MMIO_STATUS, STATUS_RUNNING & ~VIRTIO_CONFIG_S_DRIVER_OK);
    assert_int_equal(get(f, VIRTIO_MMIO_STATUS), VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    set(f, VIRTIO_MMIO_STATUS, STATUS_RUNNING & ~VIRTIO_CONFIG_S_FEATURES_OK);
    assert_int_equal(get(f, VIRTIO_MMIO_STATUS), VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
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
    start(f);
    set(f, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    assert_int_equal(get(f, VIRTIO_MMIO_STATUS), STATUS_RUNNING);
    set(f, VIRTIO_MMIO_STATUS, STATUS_RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET); /* the device's to set */
    assert_int_equal(get(f, VIRTIO_MMIO_STATUS), STATUS_RUNNING);
    set(f, VIRTIO_MMIO_STATUS, STATUS_RUNNING | VIRTIO_CONFIG_S_FAILED);
    assert_int_equal(get(f, VIRTIO_MMIO_STATUS), STATUS_RUNNING | VIRTIO_CONFIG_S_FAILED);
    assert_int_equal(f->recorder->activated, 1);
}

static void queue_registers(void **state)
{
    struct fixture *f = *state;
    set(f, VIRTIO_MMIO_QUEUE_SEL, QUEUES - 1);
    assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_NUM_MAX), QUEUE_SIZE_MAX);
    set(f, VIRTIO_MMIO_QUEUE_SEL, QUEUES);
    assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    set(f, VIRTIO_MMIO_QUEUE_READY, 1);
    assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
    set(f, VIRTIO_MMIO_QUEUE_SEL, UINT32_MAX);
    assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    /* Before FEATURES_OK a queue cannot be set up. */
    set(f, VIRTIO_MMIO_QUEUE_SEL, 0);
    set(f, VIRTIO_MMIO_QUEUE_READY, 1);
    assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
}

static void queues_are_frozen_while_the_device_runs(void **state)
{
    struct fixture *f = *state;
    start(f);
    f->recorder->echo = true;
    struct virtqueue_config elsewhere = {.size = 2, .desc = 0, .avail = 0, .used = 0};
    fake_mmio_set_queue(f->mmio, 0, &elsewhere);
    set(f, VIRTIO_MMIO_QUEUE_READY, 0);
    assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 1);
    struct fake_segment segment = {f->queue[0].config.desc, 4, false};
    fake_queue_add(&f->queue[0], &segment, 1);
    fake_mmio_kick(f->mmio, f->loop, 0);
    assert_true(fake_queue_used(&f->queue[0], NULL, NULL));
    set(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    set(f, VIRTIO_MMIO_DRIVER_FEATURES, 0);
    set(f, VIRTIO_MMIO_STATUS, STATUS_RUNNING);
    assert_int_equal(f->recorder->activated, 1);
}

static void ready_queue_keeps_its_addresses(void **state)
{
    struct fixture *f = *state;
    set(f, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    set(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    set(f, VIRTIO_MMIO_DRIVER_FEATURES, 1);
    set(f, VIRTIO_MMIO_STATUS, STATUS_RUNNING & ~VIRTIO_CONFIG_S_DRIVER_OK);
    fake_mmio_set_queue(f->mmio, 0, &f->queue[0].config);
    set(f, VIRTIO_MMIO_QUEUE_USED_LOW, 3); /* ignored while ready */
    set(f, VIRTIO_MMIO_STATUS, STATUS_RUNNING);
    assert_int_equal(get(f, VIRTIO_MMIO_STATUS), STATUS_RUNNING);
    assert_int_equal(f->recorder->activated, 1);
}

static void queue_that_cannot_start_needs_reset(void **state)
{
    struct fixture *f = *state;
    struct fake_queue bad[QUEUES];
    memcpy(bad, f->queue, sizeof(bad));
    bad[1].config.avail = FAKE_RAM_BASE - 4096;
    assert_int_equal(fake_mmio_start(f->mmio, 0, bad, QUEUES), STATUS_RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
    assert_int_equal(f->recorder->activated, 0);
    assert_false(virtqueue_started(f->recorder->device.queue[0]));
    bad[1].config = f->queue[1].config;
    bad[1].config.size = QUEUE_SIZE_MAX * 2; /* beyond QueueNumMax */
    assert_int_equal(fake_mmio_start(f->mmio, 0, bad, QUEUES), STATUS_RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_int_equal(start(f), STATUS_RUNNING); /* and a reset helps */
}

static void device_that_fails_to_activate_needs_reset(void **state)
{
    struct fixture *f = *state;
    f->recorder->activate_result = -ENOMEM;
    assert_int_equal(start(f), STATUS_RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_int_equal(f->recorder->kicks[0], 0);
    set(f, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(f->recorder->reset, 0); /* it was never up */
    f->recorder->activate_result = 0;
    assert_int_equal(start(f), STATUS_RUNNING);
}

static void reset_forgets_everything(void **state)
{
    struct fixture *f = *state;
    start(f);
    set(f, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(f->recorder->reset, 1);
    assert_int_equal(get(f, VIRTIO_MMIO_STATUS), 0);
    for (unsigned i = 0; i < QUEUES; i++) {
        assert_false(virtqueue_started(f->recorder->device.queue[i]));
        set(f, VIRTIO_MMIO_QUEUE_SEL, i);
        assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
    }
    unsigned kicks = f->recorder->kicks[0];
    fake_mmio_kick(f->mmio, f->loop, 0); /* a late kick */
    assert_int_equal(f->recorder->kicks[0], kicks);
    set(f, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(f->recorder->reset, 1);
}

static void chains_raise_interrupts_until_acknowledged(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(fake_mmio_start(f->mmio, 0, f->queue, QUEUES), STATUS_RUNNING);
    fake_loop_settle(f->loop);
    f->recorder->echo = true;
    assert_int_equal(interrupts(f), 0);
    struct fake_segment segment = {f->queue[0].config.desc, 4, false};
    fake_queue_add(&f->queue[0], &segment, 1);
    set(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0); /* without an ioeventfd the register does it */
    fake_loop_settle(f->loop);
    assert_int_equal(interrupts(f), 1);
    assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
    set(f, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
    assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    set(f, VIRTIO_MMIO_QUEUE_NOTIFY, QUEUES); /* no such queue */
    set(f, VIRTIO_MMIO_QUEUE_NOTIFY, UINT32_MAX);
    fake_loop_settle(f->loop);
    assert_int_equal(interrupts(f), 0);
}

static void broken_ring_needs_reset(void **state)
{
    struct fixture *f = *state;
    start(f);
    f->recorder->echo = true;
    fake_queue_offer(&f->queue[2], QUEUE_SIZE_MAX); /* no such descriptor */
    fake_mmio_kick(f->mmio, f->loop, 2);
    assert_int_equal(get(f, VIRTIO_MMIO_STATUS), STATUS_RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
    struct fake_segment segment = {f->queue[0].config.desc, 4, false};
    fake_queue_add(&f->queue[0], &segment, 1); /* the other queues go on */
    fake_mmio_kick(f->mmio, f->loop, 0);
    assert_true(fake_queue_used(&f->queue[0], NULL, NULL));
    for (unsigned i = 0; i < QUEUES; i++)
        fake_queue_init(&f->queue[i], &f->memory, QUEUE_SIZE_MAX);
    assert_int_equal(start(f), STATUS_RUNNING);
}

static void configuration_space(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < sizeof(f->recorder->config); i++)
        f->recorder->config[i] = (uint8_t)(i + 1);
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
    start(f);
    virtio_mmio_write(f->mmio, VIRTIO_MMIO_CONFIG, "\x77", 1);
    assert_int_equal(f->recorder->config[0], 0x77);
    virtio_mmio_write(f->mmio, VIRTIO_MMIO_CONFIG + 10, "\x77", 1);

    uint32_t generation = get(f, VIRTIO_MMIO_CONFIG_GENERATION);
    f->recorder->device.transport->config_changed(f->recorder->device.transport);
    assert_int_not_equal(get(f, VIRTIO_MMIO_CONFIG_GENERATION), generation);
    assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
    assert_int_equal(interrupts(f), 1);
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
    assert_int_equal(get(f, VIRTIO_MMIO_STATUS), 0);
}

static void pause_holds_kicks_back(void **state)
{
    struct fixture *f = *state;
    start(f);
    f->recorder->echo = true;
    virtio_mmio_pause(f->mmio);
    virtio_mmio_pause(f->mmio);
    assert_int_equal(f->recorder->paused, 1);
    struct fake_segment segment = {f->queue[0].config.desc, 4, false};
    fake_queue_add(&f->queue[0], &segment, 1);
    fake_mmio_kick(f->mmio, f->loop, 0);
    assert_false(fake_queue_used(&f->queue[0], NULL, NULL));
    virtio_mmio_resume(f->mmio);
    fake_loop_settle(f->loop);
    assert_int_equal(f->recorder->resumed, 1);
    assert_true(fake_queue_used(&f->queue[0], NULL, NULL));
}

static void *save_transport(struct fixture *f, size_t *length)
{
    struct snapshot_writer *writer = snapshot_writer_new();
    assert_int_equal(virtio_mmio_save(f->mmio, writer, 7), 0);
    const void *bytes;
    assert_int_equal(snapshot_writer_content(writer, &bytes, length), 0);
    void *copy = malloc(*length);
    assert_non_null(copy);
    memcpy(copy, bytes, *length);
    snapshot_writer_free(writer);
    return copy;
}

static void running_device_survives_a_snapshot(void **state)
{
    struct fixture *f = *state;
    struct snapshot_writer *early = snapshot_writer_new();
    assert_int_equal(virtio_mmio_save(f->mmio, early, 7), -EBUSY);
    snapshot_writer_free(early);
    start(f);
    f->recorder->echo = true;
    f->recorder->state = 4711;
    struct fake_segment segment = {f->queue[0].config.desc, 4, false};
    fake_queue_add(&f->queue[0], &segment, 1);
    fake_mmio_kick(f->mmio, f->loop, 0);
    assert_true(fake_queue_used(&f->queue[0], NULL, NULL));
    assert_true(interrupts(f) > 0);
    virtio_mmio_pause(f->mmio);
    fake_queue_add(&f->queue[0], &segment, 1); /* kicked, but not served before the snapshot */
    size_t length;
    void *bytes = save_transport(f, &length);

    virtio_mmio_free(f->mmio);
    make_transport(f);
    f->recorder->echo = true;
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(virtio_mmio_restore(f->mmio, reader, 7), 0);
    snapshot_reader_free(reader);
    assert_int_equal(f->recorder->state, 4711);
    assert_int_equal(f->recorder->activated, 1);
    assert_int_equal(get(f, VIRTIO_MMIO_STATUS), STATUS_RUNNING);
    fake_loop_settle(f->loop);
    assert_false(fake_queue_used(&f->queue[0], NULL, NULL)); /* paused */
    virtio_mmio_resume(f->mmio);
    assert_true(interrupts(f) > 0); /* the one that was not acknowledged comes again */
    fake_loop_settle(f->loop);
    assert_true(fake_queue_used(&f->queue[0], NULL, NULL));
    free(bytes);
}

static void idle_device_survives_a_snapshot(void **state)
{
    struct fixture *f = *state;
    set(f, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    virtio_mmio_pause(f->mmio);
    size_t length;
    void *bytes = save_transport(f, &length);
    virtio_mmio_free(f->mmio);
    make_transport(f);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(virtio_mmio_restore(f->mmio, reader, 7), 0);
    snapshot_reader_free(reader);
    assert_int_equal(get(f, VIRTIO_MMIO_STATUS), VIRTIO_CONFIG_S_ACKNOWLEDGE);
    assert_int_equal(f->recorder->activated, 0);
    virtio_mmio_resume(f->mmio);
    assert_int_equal(start(f), STATUS_RUNNING);
    free(bytes);
}

static void damaged_snapshot_restores_nothing(void **state)
{
    struct fixture *f = *state;
    start(f);
    virtio_mmio_pause(f->mmio);
    size_t length;
    uint8_t *bytes = save_transport(f, &length);
    /* Whatever one flipped byte does, the transport is either restored or as new, and can be used. */
    for (size_t at = 0; at < length; at++) {
        virtio_mmio_free(f->mmio);
        make_transport(f);
        bytes[at] ^= 0xff;
        struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
        if (reader && virtio_mmio_restore(f->mmio, reader, 7) != 0)
            assert_int_equal(get(f, VIRTIO_MMIO_STATUS), 0);
        snapshot_reader_free(reader);
        bytes[at] ^= 0xff;
        virtio_mmio_resume(f->mmio);
        assert_int_equal(start(f), STATUS_RUNNING);
    }
    free(bytes);
}

static void *run_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void reset_from_another_thread_waits_for_the_device(void **state)
{
    struct fixture *f = *state;
    f->recorder->echo = true;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_loop, f->loop), 0);
    struct fake_segment segment = {f->queue[0].config.desc, 4, false};
    for (unsigned i = 0; i < 500; i++) {
        for (unsigned q = 0; q < QUEUES; q++) {
            f->queue[q].avail_idx = f->queue[q].used_seen = f->queue[q].next_desc = 0;
            memset(fake_queue_avail(&f->queue[q]), 0, 4);
            memset(fake_queue_used_ring(&f->queue[q]), 0, 4);
        }
        assert_int_equal(fake_mmio_start(f->mmio, 0, f->queue, QUEUES), STATUS_RUNNING);
        for (unsigned n = 0; n < QUEUE_SIZE_MAX; n++) {
            fake_queue_add(&f->queue[0], &segment, 1);
            set(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        }
        if (i % 2)
            while (!fake_queue_used(&f->queue[0], NULL, NULL))
                ;
        set(f, VIRTIO_MMIO_STATUS, 0);
        uint16_t idx = fake_queue_used_ring(&f->queue[0])->idx;
        set(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        assert_int_equal(fake_queue_used_ring(&f->queue[0])->idx, idx);
    }
    loop_stop(f->loop);
    pthread_join(thread, NULL);
    assert_false(atomic_load(&f->recorder->overlapped));
    assert_int_equal(f->recorder->reset, 500);
}

#define mmio_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

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
        mmio_test(reset_forgets_everything),
        mmio_test(chains_raise_interrupts_until_acknowledged),
        mmio_test(broken_ring_needs_reset),
        mmio_test(configuration_space),
        mmio_test(registers_take_aligned_words_only),
        mmio_test(pause_holds_kicks_back),
        mmio_test(running_device_survives_a_snapshot),
        mmio_test(idle_device_survives_a_snapshot),
        mmio_test(damaged_snapshot_restores_nothing),
        mmio_test(reset_from_another_thread_waits_for_the_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
