/* Unit tests of virtio-blk: what a driver that obeys the specification gets. */
#include "tests/unit/blk_fixture.h"
#include "vmm/snapshot.h"
#include "vmm/virtio/blk_limit.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONFIG(field) (VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, field))

static uint64_t config_capacity(struct blk_fixture *f)
{
    uint64_t capacity;
    virtio_mmio_read(f->mmio, CONFIG(capacity), &capacity, sizeof(capacity));
    return le64toh(capacity);
}

static uint64_t device_features(struct blk_fixture *f)
{
    return f->device->ops->features(f->device);
}

static void the_disk_is_described(void **state)
{
    struct blk_fixture *f = *state;
    uint8_t wce = 0;
    assert_int_equal(config_capacity(f), DISK_BYTES / SECTOR);
    assert_int_equal(fake_mmio_get(f->mmio, CONFIG(blk_size)), SECTOR);
    assert_int_equal(fake_mmio_get(f->mmio, CONFIG(seg_max)), 254);
    assert_true(fake_mmio_get(f->mmio, CONFIG(max_discard_sectors)) > 0);
    virtio_mmio_read(f->mmio, CONFIG(wce), &wce, 1);
    assert_int_equal(wce, 1);
    assert_false(device_features(f) >> VIRTIO_BLK_F_RO & 1);
    assert_false(device_features(f) >> VIRTIO_BLK_F_MQ & 1);
}

static void what_is_written_is_read(void **state)
{
    struct blk_fixture *f = *state;
    uint8_t *data = blk_data(f), on_disk[4096];
    for (unsigned i = 0; i < 8192; i++)
        data[i] = (uint8_t)(i * 7 + i / 256);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_OUT, 3, 8192, false), VIRTIO_BLK_S_OK);
    assert_int_equal(pread(f->file, on_disk, sizeof(on_disk), 3 * SECTOR), sizeof(on_disk));
    assert_memory_equal(on_disk, data, sizeof(on_disk));
    memset(data, 0, 8192);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_IN, 3, 8192, true), VIRTIO_BLK_S_OK);
    assert_memory_equal(on_disk, data, sizeof(on_disk));
    assert_int_equal(data[8191], (uint8_t)(8191 * 7 + 8191 / 256));
}

static void segments_are_scattered_and_gathered(void **state)
{
    struct blk_fixture *f = *state;
    struct virtio_blk_outhdr header = {.type = htole32(VIRTIO_BLK_T_OUT), .sector = htole64(1)};
    uint8_t *data = blk_data(f), on_disk[1024];
    memcpy(fake_at(&f->memory, f->header), &header, sizeof(header));
    memset(data, 'a', 100);
    memset(data + 5000, 'b', 900);
    memset(data + 9000, 'c', 24);
    struct fake_segment out[] = {{f->header, 10, false},        {f->header + 10, 6, false},
                                 {f->buffer, 100, false},       {f->buffer + 5000, 900, false},
                                 {f->buffer + 9000, 24, false}, {f->status, 1, true}};
    fake_queue_add_indirect(&f->queue[0], out, 6);
    blk_kick(f, 0);
    assert_int_equal(blk_wait(f, 0), 1);
    assert_int_equal(blk_status(f), VIRTIO_BLK_S_OK);
    assert_int_equal(pread(f->file, on_disk, sizeof(on_disk), SECTOR), sizeof(on_disk));
    assert_int_equal(on_disk[99], 'a');
    assert_int_equal(on_disk[100], 'b');
    assert_int_equal(on_disk[999], 'b');
    assert_int_equal(on_disk[1000], 'c');
    /* Read back with the status behind the data in one buffer. */
    header.type = htole32(VIRTIO_BLK_T_IN);
    memcpy(fake_at(&f->memory, f->header), &header, sizeof(header));
    memset(data, NO_STATUS, 4096);
    struct fake_segment in[] = {{f->header, 16, false}, {f->buffer, 1025, true}};
    fake_queue_add(&f->queue[0], in, 2);
    blk_kick(f, 0);
    assert_int_equal(blk_wait(f, 0), 1025);
    assert_memory_equal(data, on_disk, 1024);
    assert_int_equal(data[1024], VIRTIO_BLK_S_OK);
    assert_int_equal(data[1025], NO_STATUS);
}

static void the_serial_is_told(void **state)
{
    struct blk_fixture *f = *state;
    memset(blk_data(f), 'x', 64);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_GET_ID, 0, VIRTIO_BLK_ID_BYTES, true), VIRTIO_BLK_S_OK);
    assert_memory_equal(blk_data(f), "husk-disk-1\0\0\0\0\0\0\0\0\0x", 21);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_FLUSH, 0, 0, false), VIRTIO_BLK_S_OK);
}

static uint64_t blocks_of(const struct blk_fixture *f)
{
    struct stat stat;
    assert_int_equal(fstat(f->file, &stat), 0);
    return (uint64_t)stat.st_blocks;
}

static void discards_make_holes(void **state)
{
    struct blk_fixture *f = *state;
    memset(blk_data(f), 'd', BUFFER_SIZE);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_OUT, 0, BUFFER_SIZE, false), VIRTIO_BLK_S_OK);
    fsync(f->file);
    uint64_t before = blocks_of(f);
    assert_int_equal(blk_range(f, VIRTIO_BLK_T_DISCARD, 8, 256, 0), VIRTIO_BLK_S_OK);
    assert_true(blocks_of(f) < before);
    char byte = 1;
    assert_int_equal(pread(f->file, &byte, 1, 8 * SECTOR), 1);
    assert_int_equal(byte, 0);
    assert_int_equal(pread(f->file, &byte, 1, 264 * SECTOR), 1);
    assert_int_equal(byte, 'd');
    assert_int_equal(blk_range(f, VIRTIO_BLK_T_DISCARD, 8, 8, 1), VIRTIO_BLK_S_UNSUPP);
}

static void zeroes_are_written(void **state)
{
    struct blk_fixture *f = *state;
    for (uint32_t unmap = 0; unmap < 2; unmap++) {
        memset(blk_data(f), 'z', 65536);
        assert_int_equal(blk_request(f, VIRTIO_BLK_T_OUT, 0, 65536, false), VIRTIO_BLK_S_OK);
        assert_int_equal(blk_range(f, VIRTIO_BLK_T_WRITE_ZEROES, 1, 3, unmap), VIRTIO_BLK_S_OK);
        char on_disk[5 * SECTOR], zeroes[3 * SECTOR] = {0};
        assert_int_equal(pread(f->file, on_disk, sizeof(on_disk), 0), sizeof(on_disk));
        assert_int_equal(on_disk[SECTOR - 1], 'z');
        assert_memory_equal(on_disk + SECTOR, zeroes, sizeof(zeroes));
        assert_int_equal(on_disk[4 * SECTOR], 'z');
    }
    assert_int_equal(blk_range(f, VIRTIO_BLK_T_WRITE_ZEROES, 1, 3, 2), VIRTIO_BLK_S_UNSUPP);
}

static void requests_are_counted(void **state)
{
    struct blk_fixture *f = *state;
    blk_request(f, VIRTIO_BLK_T_OUT, 0, 4096, false);
    blk_request(f, VIRTIO_BLK_T_IN, 0, 1024, true);
    blk_request(f, VIRTIO_BLK_T_IN, 8, 512, true);
    blk_request(f, VIRTIO_BLK_T_FLUSH, 0, 0, false);
    blk_range(f, VIRTIO_BLK_T_DISCARD, 8, 8, 0);
    assert_int_equal(fake_statistic(f->device, "errors"), 0);
    blk_request(f, VIRTIO_BLK_T_IN, DISK_BYTES / SECTOR, 512, true);
    assert_int_equal(fake_statistic(f->device, "writes"), 1);
    assert_int_equal(fake_statistic(f->device, "write-bytes"), 4096);
    assert_int_equal(fake_statistic(f->device, "reads"), 2);
    assert_int_equal(fake_statistic(f->device, "read-bytes"), 1536);
    assert_int_equal(fake_statistic(f->device, "flushes"), 1);
    assert_int_equal(fake_statistic(f->device, "discards"), 1);
    assert_int_equal(fake_statistic(f->device, "errors"), 1);
}

static void a_cache_may_be_write_through(void **state)
{
    struct blk_fixture *f = *state;
    uint8_t off = 0;
    virtio_mmio_write(f->mmio, CONFIG(wce), &off, 1);
    assert_int_equal(fake_mmio_get(f->mmio, CONFIG(wce)) & 0xff, 0);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_OUT, 0, 4096, false), VIRTIO_BLK_S_OK);
    assert_int_equal(blk_range(f, VIRTIO_BLK_T_WRITE_ZEROES, 1, 3, 0), VIRTIO_BLK_S_OK);
    blk_start(f, 0, 1); /* neither FLUSH nor CONFIG_WCE */
    assert_int_equal(fake_mmio_get(f->mmio, CONFIG(wce)) & 0xff, 1);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_OUT, 0, 4096, false), VIRTIO_BLK_S_OK);
}

static void a_grown_file_is_announced(void **state)
{
    struct blk_fixture *f = *state;
    uint64_t raised, bytes;
    assert_int_equal(virtio_blk_refresh(f->device, &bytes), 0);
    assert_int_equal(bytes, DISK_BYTES);
    while (read(f->irq_fd, &raised, sizeof(raised)) > 0)
        ;
    assert_int_equal(ftruncate(f->file, DISK_BYTES + 1536), 0);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_IN, DISK_BYTES / SECTOR, SECTOR, true), VIRTIO_BLK_S_IOERR);
    assert_int_equal(virtio_blk_refresh(f->device, &bytes), 0);
    assert_int_equal(bytes, DISK_BYTES + 1536);
    assert_true(fake_mmio_get(f->mmio, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
    assert_int_equal(config_capacity(f), DISK_BYTES / SECTOR + 3);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_IN, DISK_BYTES / SECTOR, SECTOR, true), VIRTIO_BLK_S_OK);
}

static void queues_are_served_side_by_side(void **state)
{
    struct blk_fixture *f = *state;
    struct virtio_blk_options options;
    virtio_blk_options_init(&options);
    options.fd = blk_open(f, O_RDWR);
    options.queues = QUEUES;
    blk_make(f, &options);
    assert_true(device_features(f) >> VIRTIO_BLK_F_MQ & 1);
    assert_int_equal(fake_mmio_get(f->mmio, CONFIG(num_queues)) & 0xffff, QUEUES);
    blk_start(f, USUAL | BIT(VIRTIO_BLK_F_MQ), QUEUES);
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned queue = 0; queue < QUEUES; queue++) {
            for (unsigned i = 0; i < 4; i++)
                blk_offer(f, queue, VIRTIO_BLK_T_IN, round, 4096, true);
            blk_kick(f, queue);
        }
        for (unsigned queue = 0; queue < QUEUES; queue++) {
            for (unsigned i = 0; i < 4; i++)
                assert_int_equal(blk_wait(f, queue), 4097);
        }
    }
}

static void state_goes_on_in_another_device(void **state)
{
    struct blk_fixture *f = *state;
    const void *bytes;
    size_t length;
    uint8_t off = 0;
    virtio_mmio_write(f->mmio, CONFIG(wce), &off, 1);
    memset(blk_data(f), 's', 4096);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_OUT, 0, 4096, false), VIRTIO_BLK_S_OK);
    struct snapshot_writer *writer = snapshot_writer_new();
    virtio_transport_pause(virtio_mmio_transport(f->mmio));
    blk_offer(f, 0, VIRTIO_BLK_T_IN, 0, 4096, true); /* comes while nobody listens */
    blk_kick(f, 0);
    assert_int_equal(virtio_transport_save(virtio_mmio_transport(f->mmio), writer, 0), 0);
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);
    assert_int_equal(ftruncate(f->file, 2 * DISK_BYTES), 0);
    struct virtio_blk_options options;
    virtio_blk_options_init(&options);
    options.fd = blk_open(f, O_RDWR);
    blk_make(f, &options);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(virtio_transport_restore(virtio_mmio_transport(f->mmio), reader, 0), 0);
    assert_int_equal(blk_status(f), NO_STATUS);
    virtio_transport_resume(virtio_mmio_transport(f->mmio));
    assert_int_equal(blk_wait(f, 0), 4097);
    assert_int_equal(blk_status(f), VIRTIO_BLK_S_OK);
    assert_int_equal(fake_mmio_get(f->mmio, CONFIG(wce)) & 0xff, 0);
    /* The file has grown meanwhile. */
    assert_true(fake_mmio_get(f->mmio, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
    assert_int_equal(config_capacity(f), 2 * DISK_BYTES / SECTOR);
    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
}

static void around_the_page_cache_any_buffer_will_do(void **state)
{
    struct blk_fixture *f = *state;
    struct virtio_blk_options options;
    virtio_blk_options_init(&options);
    int probe = blk_open(f, O_RDWR);
    if (fcntl(probe, F_SETFL, O_DIRECT) < 0) {
        close(probe);
        skip(); /* this file system has no O_DIRECT */
    }
    options.fd = probe;
    options.direct = true;
    blk_make(f, &options);
    blk_start(f, USUAL, 1);
    assert_int_equal(fake_mmio_get(f->mmio, CONFIG(blk_size)), 4096);
    f->buffer += 24; /* aligned to nothing */
    uint8_t *data = blk_data(f);
    for (unsigned i = 0; i < 16384; i++)
        data[i] = (uint8_t)(i / 64);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_OUT, 8, 16384, false), VIRTIO_BLK_S_OK);
    memset(data, 0, 16384);
    assert_int_equal(blk_request(f, VIRTIO_BLK_T_IN, 8, 16384, true), VIRTIO_BLK_S_OK);
    for (unsigned i = 0; i < 16384; i++)
        assert_int_equal(data[i], (uint8_t)(i / 64));
    f->buffer -= 24;
}

static void limits_hold_on_average(void **state)
{
    struct blk_limit limit;
    uint64_t now = 1000000000;
    (void)state;
    blk_limit_init(&limit);
    assert_int_equal(blk_limit_wait_ns(&limit, now), 0);
    blk_limit_set(&limit, 1000000, 100, now);
    uint64_t begun = now, bytes = 0, ops = 0;
    while (now < begun + 10000000000ull) { /* 10 s of requests of 30,000 bytes: bytes are scarcer */
        uint64_t wait = blk_limit_wait_ns(&limit, now);
        if (wait > 0) {
            now += wait;
            continue;
        }
        blk_limit_charge(&limit, 30000);
        bytes += 30000;
        ops++;
    }
    assert_in_range(bytes, 9900000, 10200000);
    blk_limit_set(&limit, 1000000, 20, now);
    begun = now, ops = 0;
    while (now < begun + 10000000000ull) { /* now operations are */
        uint64_t wait = blk_limit_wait_ns(&limit, now);
        if (wait > 0) {
            now += wait;
            continue;
        }
        blk_limit_charge(&limit, 30000);
        ops++;
    }
    assert_in_range(ops, 198, 204);
    blk_limit_set(&limit, 0, 0, now);
    blk_limit_charge(&limit, UINT32_MAX);
    assert_int_equal(blk_limit_wait_ns(&limit, now), 0);
    blk_limit_fini(&limit);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void a_limited_disk_is_slow(void **state)
{
    struct blk_fixture *f = *state;
    virtio_blk_set_limits(f->device, 0, 50);
    uint64_t begun = now_ms();
    for (unsigned i = 0; i < 20; i++) /* a burst of 5, then one every 20 ms */
        assert_int_equal(blk_request(f, VIRTIO_BLK_T_IN, i, SECTOR, true), VIRTIO_BLK_S_OK);
    assert_true(now_ms() - begun >= 250);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        blk_test(the_disk_is_described),
        blk_test(what_is_written_is_read),
        blk_test(segments_are_scattered_and_gathered),
        blk_test(the_serial_is_told),
        blk_test(discards_make_holes),
        blk_test(zeroes_are_written),
        blk_test(requests_are_counted),
        blk_test(a_cache_may_be_write_through),
        blk_test(a_grown_file_is_announced),
        blk_test(queues_are_served_side_by_side),
        blk_test(state_goes_on_in_another_device),
        blk_test(around_the_page_cache_any_buffer_will_do),
        cmocka_unit_test(limits_hold_on_average),
        blk_test(a_limited_disk_is_slow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
