/* Unit tests of the virtio-mmio transport: reset, pause, snapshots, and its threads. */
#include "tests/unit/mmio_fixture.h"
#include "vmm/snapshot.h"

#include <pthread.h>

static void reset_forgets_everything(void **state)
{
    struct fixture *f = *state;
    transport_start(f);
    transport_set(f, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(f->recorder->reset, 1);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_STATUS), 0);
    for (unsigned i = 0; i < QUEUES; i++) {
        assert_false(virtqueue_started(f->recorder->device.queue[i]));
        transport_set(f, VIRTIO_MMIO_QUEUE_SEL, i);
        assert_int_equal(transport_get(f, VIRTIO_MMIO_QUEUE_READY), 0);
    }
    unsigned kicks = f->recorder->kicks[0];
    fake_mmio_kick(f->mmio, f->loop, 0); /* a late kick */
    assert_int_equal(f->recorder->kicks[0], kicks);
    transport_set(f, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(f->recorder->reset, 1);
}

static void pause_holds_kicks_back(void **state)
{
    struct fixture *f = *state;
    transport_start(f);
    f->recorder->echo = true;
    virtio_transport_pause(virtio_mmio_transport(f->mmio));
    virtio_transport_pause(virtio_mmio_transport(f->mmio));
    assert_int_equal(f->recorder->paused, 1);
    struct fake_segment segment = {f->queue[0].config.desc, 4, false};
    fake_queue_add(&f->queue[0], &segment, 1);
    fake_mmio_kick(f->mmio, f->loop, 0);
    assert_false(fake_queue_used(&f->queue[0], NULL, NULL));
    virtio_transport_resume(virtio_mmio_transport(f->mmio));
    fake_loop_settle(f->loop);
    assert_int_equal(f->recorder->resumed, 1);
    assert_true(fake_queue_used(&f->queue[0], NULL, NULL));
}

static void *save_transport(struct fixture *f, size_t *length)
{
    struct snapshot_writer *writer = snapshot_writer_new();
    assert_int_equal(virtio_transport_save(virtio_mmio_transport(f->mmio), writer, 7), 0);
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
    assert_int_equal(virtio_transport_save(virtio_mmio_transport(f->mmio), early, 7), -EBUSY);
    snapshot_writer_free(early);
    transport_start(f);
    f->recorder->echo = true;
    f->recorder->state = 4711;
    struct fake_segment segment = {f->queue[0].config.desc, 4, false};
    fake_queue_add(&f->queue[0], &segment, 1);
    fake_mmio_kick(f->mmio, f->loop, 0);
    assert_true(fake_queue_used(&f->queue[0], NULL, NULL));
    assert_true(transport_interrupts(f) > 0);
    virtio_transport_pause(virtio_mmio_transport(f->mmio));
    fake_queue_add(&f->queue[0], &segment, 1); /* kicked, but not served before the snapshot */
    size_t length;
    void *bytes = save_transport(f, &length);

    virtio_transport_free(virtio_mmio_transport(f->mmio));
    transport_make(f);
    f->recorder->echo = true;
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(virtio_transport_restore(virtio_mmio_transport(f->mmio), reader, 7), 0);
    snapshot_reader_free(reader);
    assert_int_equal(f->recorder->state, 4711);
    assert_int_equal(f->recorder->activated, 1);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_STATUS), STATUS_RUNNING);
    fake_loop_settle(f->loop);
    assert_false(fake_queue_used(&f->queue[0], NULL, NULL)); /* paused */
    virtio_transport_resume(virtio_mmio_transport(f->mmio));
    assert_true(transport_interrupts(f) > 0); /* the one that was not acknowledged comes again */
    fake_loop_settle(f->loop);
    assert_true(fake_queue_used(&f->queue[0], NULL, NULL));
    free(bytes);
}

static void idle_device_survives_a_snapshot(void **state)
{
    struct fixture *f = *state;
    transport_set(f, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    virtio_transport_pause(virtio_mmio_transport(f->mmio));
    size_t length;
    void *bytes = save_transport(f, &length);
    virtio_transport_free(virtio_mmio_transport(f->mmio));
    transport_make(f);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(virtio_transport_restore(virtio_mmio_transport(f->mmio), reader, 7), 0);
    snapshot_reader_free(reader);
    assert_int_equal(transport_get(f, VIRTIO_MMIO_STATUS), VIRTIO_CONFIG_S_ACKNOWLEDGE);
    assert_int_equal(f->recorder->activated, 0);
    virtio_transport_resume(virtio_mmio_transport(f->mmio));
    assert_int_equal(transport_start(f), STATUS_RUNNING);
    free(bytes);
}

static void damaged_snapshot_restores_nothing(void **state)
{
    struct fixture *f = *state;
    transport_start(f);
    virtio_transport_pause(virtio_mmio_transport(f->mmio));
    size_t length;
    uint8_t *bytes = save_transport(f, &length);
    /* Whatever one flipped byte does, the transport is either restored or as new, and can be used. */
    for (size_t at = 0; at < length; at++) {
        virtio_transport_free(virtio_mmio_transport(f->mmio));
        transport_make(f);
        bytes[at] ^= 0xff;
        struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
        if (reader && virtio_transport_restore(virtio_mmio_transport(f->mmio), reader, 7) != 0)
            assert_int_equal(transport_get(f, VIRTIO_MMIO_STATUS), 0);
        snapshot_reader_free(reader);
        bytes[at] ^= 0xff;
        virtio_transport_resume(virtio_mmio_transport(f->mmio));
        assert_int_equal(transport_start(f), STATUS_RUNNING);
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
            transport_set(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        }
        if (i % 2)
            while (!fake_queue_used(&f->queue[0], NULL, NULL))
                ;
        transport_set(f, VIRTIO_MMIO_STATUS, 0);
        uint16_t idx = fake_queue_used_ring(&f->queue[0])->idx;
        transport_set(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        assert_int_equal(fake_queue_used_ring(&f->queue[0])->idx, idx);
    }
    loop_stop(f->loop);
    pthread_join(thread, NULL);
    assert_false(atomic_load(&f->recorder->overlapped));
    assert_int_equal(f->recorder->reset, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        mmio_test(reset_forgets_everything),
        mmio_test(pause_holds_kicks_back),
        mmio_test(running_device_survives_a_snapshot),
        mmio_test(idle_device_survives_a_snapshot),
        mmio_test(damaged_snapshot_restores_nothing),
        mmio_test(reset_from_another_thread_waits_for_the_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
