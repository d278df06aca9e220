/* See mmio_fixture.h. */
#include "tests/unit/mmio_fixture.h"

#include "vmm/snapshot.h"

#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

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
    const struct recorder *recorder = (const struct recorder *)device;
    uint32_t half = recorder->slow ? length / 2 : length;
    memcpy(to, recorder->config + offset, half);
    if (recorder->slow)
        sched_yield();
    memcpy((uint8_t *)to + half, recorder->config + offset + half, length - half);
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
    struct recorder *recorder = recorder_of(device);
    recorder->state = snapshot_get_u32(reader);
    recorder->config[0] = (uint8_t)recorder->state;
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

struct virtio_device *recorder_make(struct recorder *recorder, struct loop *loop)
{
    *recorder = (struct recorder){
        .device = {
            .ops = &recorder_ops, .loop = loop, .queue_count = QUEUES, .queue_size_max = QUEUE_SIZE_MAX}};
    return &recorder->device;
}

void transport_make(struct fixture *f)
{
    f->mmio = virtio_mmio_new(recorder_make(f->recorder, f->loop), &f->memory.map, f->irq_fd);
    assert_non_null(f->mmio);
}

int mmio_set_up(void **state)
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
    transport_make(f);
    *state = f;
    return 0;
}

int mmio_tear_down(void **state)
{
    struct fixture *f = *state;
    virtio_transport_free(virtio_mmio_transport(f->mmio));
    int freed = f->recorder->freed == 1 ? 0 : -1;
    loop_free(f->loop);
    close(f->irq_fd);
    fake_memory_fini(&f->memory);
    free(f->recorder);
    free(f);
    return freed;
}

uint32_t transport_get(struct fixture *f, uint64_t offset)
{
    return fake_mmio_get(f->mmio, offset);
}

void transport_set(struct fixture *f, uint64_t offset, uint32_t value)
{
    fake_mmio_set(f->mmio, offset, value);
}

uint32_t transport_start(struct fixture *f)
{
    uint32_t status = fake_mmio_start(f->mmio, RING_FEATURES, f->queue, QUEUES);
    fake_loop_settle(f->loop);
    return status;
}

uint64_t transport_interrupts(struct fixture *f)
{
    uint64_t count;
    return read(f->irq_fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}
