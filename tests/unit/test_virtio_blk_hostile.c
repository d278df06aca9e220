/* Unit tests of virtio-blk: requests that make no sense, descriptors that do not fit, resets at any moment.
 */
#include "tests/unit/blk_fixture.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define LAST (DISK_BYTES / SECTOR - 1)

static void requests_outside_the_disk_fail(void **state)
{
    struct blk_fixture *f = *state;
    const struct {
        uint64_t sector;
        uint32_t bytes;
    } bad[] = {
        {LAST + 1, SECTOR},
        {LAST, 2 * SECTOR},
        {UINT64_MAX, SECTOR},
        {UINT64_MAX / SECTOR, SECTOR},
        {UINT64_MAX / SECTOR + 1, SECTOR},
        {0, SECTOR - 1},
        {0, SECTOR + 1},
        {LAST + 2, SECTOR},
        {1ull << 63, 4096},
    };
    memset(blk_data(f), 'h', 4096);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(blk_request(f, VIRTIO_BLK_T_IN, bad[i].sector, bad[i].bytes, true),
                         VIRTIO_BLK_S_IOERR);
        assert_int_equal(blk_request(f, VIRTIO_BLK_T_OUT, bad[i].sector, bad[i].bytes, false),
                         VIRTIO_BLK_S_IOERR);
    }
    assert_int_equal(lseek(f->file, 0, SEEK_DATA), -1); /* nothing was written */
    assert_int_equal(lseek(f->file, 0, SEEK_END), DISK_BYTES);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_IN, LAST, SECTOR, true), VIRTIO_BLK_S_OK);
}

static void bad_ranges_fail(void **state)
{
    struct blk_fixture *f = *state;
    const uint32_t types[] = {VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
    memset(blk_data(f), 'h', 4096);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_OUT, LAST - 7, 4096, false), VIRTIO_BLK_S_OK);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(blk_range(f, types[i], LAST + 1, 1, 0), VIRTIO_BLK_S_IOERR);
        assert_int_equal(blk_range(f, types[i], LAST, 2, 0), VIRTIO_BLK_S_IOERR);
        assert_int_equal(blk_range(f, types[i], UINT64_MAX, 1, 0), VIRTIO_BLK_S_IOERR);
        assert_int_equal(blk_range(f, types[i], 0, UINT32_MAX, 0), VIRTIO_BLK_S_IOERR);
        assert_int_equal(blk_range(f, types[i], 0, 0, 0), VIRTIO_BLK_S_OK);
        assert_int_equal(blk_request(f, types[i], 0, 0, false), VIRTIO_BLK_S_IOERR);
        assert_int_equal(blk_request(f, types[i], 0, 15, false), VIRTIO_BLK_S_IOERR);
        assert_int_equal(blk_request(f, types[i], 0, 65 * 16, false), VIRTIO_BLK_S_IOERR);
    }
    char byte;
    assert_int_equal(pread(f->file, &byte, 1, LAST * SECTOR), 1);
    assert_int_equal(byte, 'h');
    blk_start(f, BIT(VIRTIO_BLK_F_FLUSH), 1); /* a driver that accepted neither */
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(blk_range(f, types[i], 0, 1, 0), VIRTIO_BLK_S_UNSUPP);
}

static void unknown_requests_are_told_so(void **state)
{
    struct blk_fixture *f = *state;
    const uint32_t types[] = {2, 3, 5, VIRTIO_BLK_T_SECURE_ERASE, VIRTIO_BLK_T_ZONE_REPORT, UINT32_MAX};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        assert_int_equal(blk_request(f, types[i], 0, 512, true), VIRTIO_BLK_S_UNSUPP);
        assert_int_equal(blk_request(f, types[i], 0, 512, false), VIRTIO_BLK_S_UNSUPP);
    }
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_GET_ID, 0, 19, true), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_GET_ID, 0, 21, true), VIRTIO_BLK_S_IOERR);
}

static void chains_without_header_or_status_are_given_back(void **state)
{
    struct blk_fixture *f = *state;
    struct fake_segment no_status[] = {{f->header, 16, false}, {f->buffer, 512, false}};
    struct fake_segment short_header[] = {{f->header, 15, false}, {f->status, 1, true}};
    struct fake_segment only_status[] = {{f->status, 1, true}};
    memset(fake_at(&f->memory, f->header), 0, 64);
    fake_queue_add(&f->queue[0], no_status, 2);
    blk_kick(f, 0);
    assert_int_equal(blk_wait(f, 0), 0);
    *(uint8_t *)fake_at(&f->memory, f->status) = NO_STATUS;
    fake_queue_add(&f->queue[0], short_header, 2);
    blk_kick(f, 0);
    assert_int_equal(blk_wait(f, 0), 1);
    assert_int_equal(blk_status(f), VIRTIO_BLK_S_IOERR);
    *(uint8_t *)fake_at(&f->memory, f->status) = NO_STATUS;
    fake_queue_add(&f->queue[0], only_status, 1);
    blk_kick(f, 0);
    assert_int_equal(blk_wait(f, 0), 1);
    assert_int_equal(blk_status(f), VIRTIO_BLK_S_IOERR);
}

static void a_read_only_disk_is_not_written(void **state)
{
    struct blk_fixture *f = *state;
    struct virtio_blk_options options;
    virtio_blk_options_init(&options);
    options.fd = blk_open(f, O_RDONLY);
    options.read_only = true;
    blk_make(f, &options);
    uint64_t features = f->device->ops->features(f->device);
    assert_true(features >> VIRTIO_BLK_F_RO & 1);
    assert_false(features & (BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES)));
    blk_start(f, BIT(VIRTIO_BLK_F_RO) | BIT(VIRTIO_BLK_F_FLUSH), 1);
    memset(blk_data(f), 'r', 512);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_range(f, VIRTIO_BLK_T_DISCARD, 0, 1, 0), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_range(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_FLUSH, 0, 0, false), VIRTIO_BLK_S_OK);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
    assert_int_equal(lseek(f->file, 0, SEEK_DATA), -1);
}

static void refuse(struct blk_fixture *f, int fd, bool read_only, const char *why)
{
    struct virtio_blk_options options;
    struct error err;
    virtio_blk_options_init(&options);
    options.fd = fd;
    options.read_only = read_only;
    assert_null(virtio_blk_new(f->loop, &options, &err));
    if (!strstr(err.text, why))
        fail_msg("'%s' does not say '%s'", err.text, why);
}

static void descriptors_that_do_not_fit_are_refused(void **state)
{
    struct blk_fixture *f = *state;
    int pipes[2];
    refuse(f, blk_open(f, O_RDWR), true, "the descriptor may write");
    refuse(f, blk_open(f, O_RDONLY), false, "the descriptor may not");
    refuse(f, blk_open(f, O_WRONLY), false, "the descriptor may not");
    refuse(f, blk_open(f, O_PATH), false, "without access");
    refuse(f, open("/dev/null", O_RDWR | O_CLOEXEC), false, "neither a regular file nor a block device");
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    refuse(f, pipes[0], true, "neither a regular file nor a block device");
    close(pipes[1]);
    int empty = memfd_create("empty", MFD_CLOEXEC);
    assert_int_equal(ftruncate(empty, 511), 0);
    refuse(f, empty, false, "empty");
    refuse(f, -1, false, "Bad file descriptor");
}

static void a_file_that_shrank_is_an_error(void **state)
{
    struct blk_fixture *f = *state;
    assert_int_equal(ftruncate(f->file, 1024), 0);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_IN, 0, 1024, true), VIRTIO_BLK_S_OK);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_IN, 1, 1024, true), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_IN, 8, 1024, true), VIRTIO_BLK_S_IOERR);
}

static void broken_rings_need_reset(void **state)
{
    struct blk_fixture *f = *state;
    struct fake_segment outside = {0, 16, false};
    fake_queue_add(&f->queue[0], &outside, 1);
    blk_kick(f, 0);
    for (unsigned i = 0; i < 20000; i++) {
        if (fake_mmio_get(f->mmio, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET)
            break;
        usleep(1000);
    }
    assert_true(fake_mmio_get(f->mmio, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
    blk_start(f, USUAL, 1);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
}

/* What a thread finds out about a ring may not be held against the driver that comes after a reset. */
static void a_broken_ring_is_the_old_drivers(void **state)
{
    struct blk_fixture *f = *state;
    struct fake_segment outside = {0, 16, false};
    for (unsigned round = 0; round < 300; round++) {
        f->memory.next = f->buffer + BUFFER_SIZE;
        memset(fake_at(&f->memory, f->memory.next), 0, 16384);
        blk_start(f, USUAL, 1);
        usleep(100);
        assert_false(fake_mmio_get(f->mmio, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
        fake_queue_add(&f->queue[0], &outside, 1);
        blk_kick(f, 0);
        usleep(round % 100);
    }
    f->memory.next = f->buffer + BUFFER_SIZE;
    memset(fake_at(&f->memory, f->memory.next), 0, 16384);
    blk_start(f, USUAL, 1);
    usleep(10000);
    assert_false(fake_mmio_get(f->mmio, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

/* Also while threads wait for the rate: a reset does not wait for that. */
static void resets_come_at_any_moment(void **state)
{
    struct blk_fixture *f = *state;
    for (unsigned round = 0; round < 100; round++) {
        f->memory.next = f->buffer + BUFFER_SIZE;
        memset(fake_at(&f->memory, f->memory.next), 0, 16384);
        blk_start(f, USUAL, 1);
        virtio_blk_set_limits(f->device, 0, round % 2 ? 1 : 0);
        for (unsigned i = 0; i < 16; i++)
            blk_offer(f, 0, round % 3 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, i, 65536, round % 3);
        blk_kick(f, 0);
        usleep(round * 20);
        fake_mmio_set(f->mmio, VIRTIO_MMIO_STATUS, 0);
        assert_int_equal(fake_mmio_get(f->mmio, VIRTIO_MMIO_STATUS), 0);
    }
    f->memory.next = f->buffer + BUFFER_SIZE;
    memset(fake_at(&f->memory, f->memory.next), 0, 16384);
    virtio_blk_set_limits(f->device, 0, 0);
    blk_start(f, USUAL, 1);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
}

static void pauses_come_at_any_moment(void **state)
{
    struct blk_fixture *f = *state;
    for (unsigned round = 0; round < 100; round++) {
        for (unsigned i = 0; i < 8; i++)
            blk_offer(f, 0, VIRTIO_BLK_T_IN, i, 65536, true);
        blk_kick(f, 0);
        usleep(round * 10);
        virtio_transport_pause(virtio_mmio_transport(f->mmio));
        assert_int_equal(virtqueue_in_flight(f->device->queue[0]), 0);
        virtio_transport_resume(virtio_mmio_transport(f->mmio));
        for (unsigned i = 0; i < 8; i++)
            assert_int_equal(blk_wait(f, 0), 65537);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        blk_test(requests_outside_the_disk_fail),   blk_test(bad_ranges_fail),
        blk_test(unknown_requests_are_told_so),     blk_test(chains_without_header_or_status_are_given_back),
        blk_test(a_read_only_disk_is_not_written),  blk_test(descriptors_that_do_not_fit_are_refused),
        blk_test(a_file_that_shrank_is_an_error),   blk_test(broken_rings_need_reset),
        blk_test(a_broken_ring_is_the_old_drivers), blk_test(resets_come_at_any_moment),
        blk_test(pauses_come_at_any_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
