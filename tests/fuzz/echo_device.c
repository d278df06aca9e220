/* See echo_device.h. */
#include "tests/fuzz/echo_device.h"

#undef NDEBUG /* an assertion is the test */
#include <assert.h>
#include <linux/virtio_config.h>
#include <string.h>

#define CONFIG_BYTES 12

static struct virtio_chain chain;

static uint64_t echo_features(const struct virtio_device *device)
{
    (void)device;
    return 0xff;
}

static void echo_config_read(const struct virtio_device *device, uint32_t offset, void *to, uint32_t length)
{
    (void)device;
    assert(offset <= CONFIG_BYTES && length <= CONFIG_BYTES - offset);
    memset(to, (int)offset, length);
}

static int echo_activate(struct virtio_device *device, uint64_t features)
{
    (void)device;
    assert(features >> VIRTIO_F_VERSION_1 & 1);
    return 0;
}

static void echo_kick(struct virtio_device *device, unsigned index)
{
    struct virtqueue *queue = device->queue[index];
    assert(virtqueue_started(queue));
    int got = 0;
    for (unsigned i = 0; i < 64 && (got = virtqueue_pop(queue, &chain)) > 0; i++) {
        virtio_chain_write(&chain, "echo", ECHO_BYTES);
        virtqueue_push(queue, &chain);
    }
    virtqueue_notify(queue);
    if (got < 0)
        virtio_device_broken(device, index);
    else
        virtqueue_enable_kicks(queue);
}

static void echo_nothing(struct virtio_device *device)
{
    (void)device;
}

static const struct virtio_device_ops echo_ops = {
    .name = "echo",
    .id = 1,
    .features = echo_features,
    .config_size = CONFIG_BYTES,
    .config_read = echo_config_read,
    .activate = echo_activate,
    .kick = echo_kick,
    .reset = echo_nothing,
    .free = echo_nothing,
};

void echo_device_init(struct virtio_device *device, struct loop *loop)
{
    *device = (struct virtio_device){
        .ops = &echo_ops, .loop = loop, .queue_count = ECHO_QUEUES, .queue_size_max = 256};
}
