/* See blk_fixture.h. */
#include "tests/unit/blk_fixture.h"

#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_S 20

int blk_open(const struct blk_fixture *f, int flags)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", f->file);
    int fd = open(path, flags | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

void blk_make(struct blk_fixture *f, const struct virtio_blk_options *options)
{
    struct error err;
    virtio_transport_free(virtio_mmio_transport(f->mmio));
    f->device = virtio_blk_new(f->loop, options, &err);
    if (!f->device)
        fail_msg("%s", err.text);
    f->mmio = virtio_mmio_new(f->device, &f->memory.map, f->irq_fd);
    assert_non_null(f->mmio);
    assert_int_equal(virtio_blk_start(f->device), 0);
}

void blk_start(struct blk_fixture *f, uint64_t features, unsigned queues)
{
    for (unsigned i = 0; i < queues; i++)
        fake_queue_init(&f->queue[i], &f->memory, QUEUE_SIZE);
    uint32_t status = fake_mmio_start(f->mmio, features, f->queue, queues);
    assert_true(status & VIRTIO_CONFIG_S_DRIVER_OK);
    assert_false(status & VIRTIO_CONFIG_S_NEEDS_RESET);
}

int blk_set_up(void **state)
{
    char name[] = "disk.XXXXXX"; /* below the build directory: a file system that takes O_DIRECT and holes */
    struct blk_fixture *f = calloc(1, sizeof(*f));
    if (!f)
        return -1;
    fake_memory_init(&f->memory, 4 << 20);
    f->header = fake_alloc(&f->memory, 4096, 4096);
    f->status = f->header + 64;
    f->buffer = fake_alloc(&f->memory, BUFFER_SIZE, 4096);
    f->loop = loop_new();
    f->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->file = mkostemp(name, O_CLOEXEC);
    if (f->file < 0 || unlink(name) < 0 || ftruncate(f->file, DISK_BYTES) < 0)
        return -1;
    struct virtio_blk_options options;
    virtio_blk_options_init(&options);
    options.fd = blk_open(f, O_RDWR);
    strcpy(options.serial, "husk-disk-1");
    blk_make(f, &options);
    blk_start(f, USUAL, 1);
    *state = f;
    return 0;
}

int blk_tear_down(void **state)
{
    struct blk_fixture *f = *state;
    virtio_transport_free(virtio_mmio_transport(f->mmio));
    loop_free(f->loop);
    close(f->irq_fd);
    close(f->file);
    fake_memory_fini(&f->memory);
    free(f);
    return 0;
}

void blk_offer(struct blk_fixture *f, unsigned queue, uint32_t type, uint64_t sector, uint32_t bytes, bool in)
{
    struct virtio_blk_outhdr header = {.type = htole32(type), .sector = htole64(sector)};
    memcpy(fake_at(&f->memory, f->header), &header, sizeof(header));
    *(uint8_t *)fake_at(&f->memory, f->status) = NO_STATUS;
    struct fake_segment segments[] = {
        {f->header, sizeof(header), false}, {f->buffer, bytes, in}, {f->status, 1, true}};
    if (bytes == 0)
        segments[1] = segments[2];
    fake_queue_add(&f->queue[queue], segments, bytes == 0 ? 2 : 3);
}

void blk_kick(struct blk_fixture *f, unsigned queue)
{
    uint64_t one = 1;
    assert_int_equal(
        write(virtio_transport_queue_fd(virtio_mmio_transport(f->mmio), queue), &one, sizeof(one)),
        sizeof(one));
}

uint32_t blk_wait(struct blk_fixture *f, unsigned queue)
{
    uint32_t length;
    time_t deadline = time(NULL) + PATIENCE_S;
    while (!fake_queue_used(&f->queue[queue], NULL, &length)) {
        assert_true(time(NULL) < deadline);
        usleep(200);
    }
    return length;
}

uint8_t blk_request(struct blk_fixture *f, uint32_t type, uint64_t sector, uint32_t bytes, bool in)
{
    blk_offer(f, 0, type, sector, bytes, in);
    blk_kick(f, 0);
    uint32_t length = blk_wait(f, 0);
    /* What counts as written: data and status, or, of an error, nothing. */
    if (blk_status(f) == VIRTIO_BLK_S_OK)
        assert_int_equal(length, in ? bytes + 1 : 1);
    else
        assert_true(length <= 1);
    return blk_status(f);
}

uint8_t blk_range(struct blk_fixture *f, uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
    struct virtio_blk_discard_write_zeroes range = {
        .sector = htole64(sector), .num_sectors = htole32(sectors), .flags = htole32(flags)};
    memcpy(blk_data(f), &range, sizeof(range));
    return blk_request(f, type, 0, sizeof(range), false);
}
