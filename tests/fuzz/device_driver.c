/* See device_driver.h. */
#include "tests/fuzz/device_driver.h"

#include "common/log.h"
#include "vmm/snapshot.h"

#undef NDEBUG /* an assertion is the test */
#include <assert.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RAM_BYTES    (2u << 20)
#define QUEUE_SIZE   64
#define OPERATIONS   512
#define SEGMENTS_MAX 6
#define BUFFER_BYTES (512u << 10)

struct input {
    const uint8_t *at, *end;
};

static uint32_t take(struct input *input, size_t bytes)
{
    uint32_t value = 0;
    for (; bytes > 0 && input->at < input->end; bytes--)
        value = value << 8 | *input->at++;
    return value;
}

static unsigned queue_count(const struct device_driver *driver)
{
    unsigned count = driver->device->queue_count;
    assert(count > 0);
    return count < DEVICE_DRIVER_QUEUES ? count : DEVICE_DRIVER_QUEUES;
}

static void settle(struct device_driver *driver)
{
    fake_loop_settle(driver->loop);
    if (driver->settle)
        driver->settle(driver);
}

static uint32_t start(struct device_driver *driver, uint64_t features)
{
    driver->memory.next = driver->buffers + BUFFER_BYTES;
    for (unsigned i = 0; i < queue_count(driver); i++) {
        fake_queue_init(&driver->queue[i], &driver->memory, QUEUE_SIZE);
        memset(fake_at(&driver->memory, driver->queue[i].config.desc), 0, QUEUE_SIZE * 32);
    }
    uint32_t status = fake_mmio_start(driver->mmio, features, driver->queue, queue_count(driver));
    driver->started = status & VIRTIO_CONFIG_S_DRIVER_OK;
    settle(driver);
    return status;
}

void device_driver_start_anew(struct device_driver *driver)
{
    uint32_t status = start(driver, driver->device->ops->features(driver->device));
    assert(status & VIRTIO_CONFIG_S_DRIVER_OK && !(status & VIRTIO_CONFIG_S_NEEDS_RESET));
}

/* A chain of a few segments; what the device reads is filled from the input, a little of it. */
static void request(struct device_driver *driver, struct input *input)
{
    struct fake_queue *queue = &driver->queue[take(input, 1) % queue_count(driver)];
    unsigned count = 1 + take(input, 1) % SEGMENTS_MAX;
    struct fake_segment segments[SEGMENTS_MAX];
    for (unsigned i = 0; i < count; i++) {
        uint32_t where = take(input, 2), length = take(input, 2);
        bool in = where & 1;
        where = where * 8 % (BUFFER_BYTES - 65536);
        segments[i] = (struct fake_segment){driver->buffers + where, length, in};
        if (where % 64 == 8) /* outside RAM, sometimes */
            segments[i].addr = take(input, 4);
        else if (!in) {
            uint8_t *to = fake_at(&driver->memory, segments[i].addr);
            for (unsigned byte = 0; byte < length && byte < 48; byte++)
                to[byte] = (uint8_t)take(input, 1);
        }
    }
    if ((uint16_t)(queue->avail_idx - queue->used_seen) + count + 1 >= QUEUE_SIZE)
        return;
    fake_queue_add(queue, segments, count);
    fake_mmio_kick(driver->mmio, driver->loop, (unsigned)(queue - driver->queue));
    settle(driver);
    while (fake_queue_used(queue, NULL, NULL))
        ;
}

static void save(struct device_driver *driver)
{
    struct snapshot_writer *writer = snapshot_writer_new();
    virtio_transport_pause(virtio_mmio_transport(driver->mmio));
    assert(writer && virtio_transport_save(virtio_mmio_transport(driver->mmio), writer, 0) == 0);
    snapshot_writer_free(writer);
    virtio_transport_resume(virtio_mmio_transport(driver->mmio));
    settle(driver);
}

static void operate(struct device_driver *driver, struct input *input)
{
    uint8_t bytes[8] = {0};
    uint32_t what = take(input, 1), offset, value;
    switch (what % 12) {
    case 0:
        start(driver, take(input, 4));
        break;
    case 1:
        save(driver);
        break;
    case 2:
        offset = take(input, 1);
        virtio_mmio_read(driver->mmio, VIRTIO_MMIO_CONFIG + offset, bytes, 1u << take(input, 1) % 4);
        break;
    case 3:
        offset = take(input, 1);
        value = take(input, 4);
        memcpy(bytes, &value, sizeof(value));
        virtio_mmio_write(driver->mmio, VIRTIO_MMIO_CONFIG + offset, bytes, 1u << take(input, 1) % 4);
        break;
    case 4: /* anywhere in the rings */
        offset = take(input, 2) % (QUEUE_SIZE * 24 * queue_count(driver));
        value = take(input, 4);
        memcpy(fake_at(&driver->memory, driver->buffers + BUFFER_BYTES) + offset, &value, sizeof(value));
        break;
    case 5:
        fake_mmio_kick(driver->mmio, driver->loop, take(input, 1) % queue_count(driver));
        settle(driver);
        break;
    case 6:
        if (driver->own)
            driver->own(driver, take(input, 4));
        settle(driver);
        break;
    default:
        request(driver, input);
    }
}

void device_driver_init(struct device_driver *driver)
{
    log_init("fuzz", -1, LOG_FORMAT_TEXT, LOG_LEVEL_ERR);
    fake_memory_init(&driver->memory, RAM_BYTES);
    driver->buffers = fake_alloc(&driver->memory, BUFFER_BYTES, 4096);
    driver->loop = loop_new();
    driver->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert(driver->loop && driver->irq_fd >= 0);
}

void device_driver_attach(struct device_driver *driver, struct virtio_device *device)
{
    assert(device);
    driver->device = device;
    driver->mmio = virtio_mmio_new(device, &driver->memory.map, driver->irq_fd);
    assert(driver->mmio);
}

void device_driver_run(struct device_driver *driver, const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    device_driver_start_anew(driver);
    for (unsigned i = 0; i < OPERATIONS && input.at < input.end; i++)
        operate(driver, &input);
    device_driver_start_anew(driver);
}

void device_driver_fini(struct device_driver *driver)
{
    virtio_transport_free(virtio_mmio_transport(driver->mmio));
    loop_free(driver->loop);
    close(driver->irq_fd);
    fake_memory_fini(&driver->memory);
}
