/* Unit tests of virtio-rng: buffers are filled with something random, and no request is without bounds. */
#include "tests/unit/fake_driver.h"
#include "vmm/virtio/rng.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define QUEUE_SIZE   64
#define BUFFER_BYTES (256 << 10)

struct fixture {
    struct fake_rig rig;
    struct fake_queue queue;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    if (!f)
        return -1;
    fake_rig_init(&f->rig, 1 << 20, BUFFER_BYTES);
    fake_rig_attach(&f->rig, virtio_rng_new(f->rig.loop));
    fake_queue_init(&f->queue, &f->rig.memory, QUEUE_SIZE);
    *state = f;
    return fake_mmio_start(f->rig.mmio, 0, &f->queue, 1) & VIRTIO_CONFIG_S_DRIVER_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    fake_rig_fini(&f->rig);
    free(f);
    return 0;
}

static uint32_t request(struct fixture *f, const struct fake_segment *segments, unsigned count)
{
    uint32_t length = fake_rig_request(&f->rig, &f->queue, 0, segments, count);
    assert_int_not_equal(length, UINT32_MAX);
    return length;
}

static void buffers_are_filled(void **state)
{
    struct fixture *f = *state;
    struct fake_segment segments[] = {{f->rig.buffer, 64, true}, {f->rig.buffer + 100, 64, true}};
    assert_int_equal(request(f, segments, 2), 128);
    uint8_t *bytes = fake_at(&f->rig.memory, f->rig.buffer);
    assert_int_not_equal(memcmp(bytes, bytes + 100, 64), 0);
    uint8_t zeros[64] = {0};
    assert_int_not_equal(memcmp(bytes, zeros, 64), 0);
    assert_memory_equal(bytes + 64, zeros, 36); /* nothing beyond what was asked for */
}

static void request_is_capped(void **state)
{
    struct fixture *f = *state;
    struct fake_segment segment = {f->rig.buffer, BUFFER_BYTES, true};
    assert_int_equal(request(f, &segment, 1), 65536);
}

static void request_without_room_is_given_back(void **state)
{
    struct fixture *f = *state;
    struct fake_segment segment = {f->rig.buffer, 16, false};
    assert_int_equal(request(f, &segment, 1), 0);
}

static void one_turn_serves_a_bounded_number(void **state)
{
    struct fixture *f = *state;
    struct fake_segment segment = {f->rig.buffer, 16, true};
    fake_loop_settle(f->rig.loop); /* the kick of the start */
    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        fake_queue_add(&f->queue, &segment, 1);
    fake_mmio_set(f->rig.mmio, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    assert_int_equal(loop_once(f->rig.loop, 0), 1);
    unsigned served = 0;
    while (fake_queue_used(&f->queue, NULL, NULL))
        served++;
    assert_true(served > 0 && served < QUEUE_SIZE);
    fake_loop_settle(f->rig.loop); /* the rest in further turns, without a further kick */
    while (fake_queue_used(&f->queue, NULL, NULL))
        served++;
    assert_int_equal(served, QUEUE_SIZE);
}

static void broken_ring_needs_reset(void **state)
{
    struct fixture *f = *state;
    struct fake_segment outside = {0, 16, true};
    fake_queue_add(&f->queue, &outside, 1);
    fake_mmio_kick(f->rig.mmio, f->rig.loop, 0);
    assert_true(fake_mmio_get(f->rig.mmio, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

#define rng_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        rng_test(buffers_are_filled),
        rng_test(request_is_capped),
        rng_test(request_without_room_is_given_back),
        rng_test(one_turn_serves_a_bounded_number),
        rng_test(broken_ring_needs_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
