/*
 * What drivers may do to a device, on any bus: see transport.h and transport_core.h.
 *
 * Trust boundary: every register access comes from the guest, from any of its vCPUs, in any order. The status
 * decides which writes count (virtio 1.2 §3.1.1): features between DRIVER and FEATURES_OK, queues between
 * FEATURES_OK and DRIVER_OK, and nothing but notifications, acknowledgements and reset after it.
 */
#include "vmm/virtio/transport_core.h"

#include "common/fd.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <sys/eventfd.h>

#define STATUS_DRIVER_BITS                                                                                   \
    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |                    \
     VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)

uint64_t core_features(const struct transport_core *core)
{
    return core->device->ops->features(core->device) | 1ULL << VIRTIO_F_VERSION_1 |
           1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_RING_F_EVENT_IDX;
}

uint32_t core_selected_features(const struct transport_core *core)
{
    return core->device_features_sel <= 1
               ? (uint32_t)(core_features(core) >> (32 * core->device_features_sel))
               : 0;
}

void core_signal(int fd)
{
    uint64_t one = 1;
    /* EAGAIN means a counter that is full: it is signalled already. */
    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

void core_interrupt(struct transport_core *core, int fd)
{
    atomic_fetch_add_explicit(&core->interrupts, 1, memory_order_relaxed);
    core_signal(fd);
}

void core_kick(struct transport_core *core, unsigned index)
{
    core_signal(core->queue[index].kick.fd);
}

void core_notified(struct transport_core *core, uint32_t index)
{
    if (core->status & VIRTIO_CONFIG_S_DRIVER_OK && index < core->device->queue_count)
        core_kick(core, index);
}

void core_kick_again(struct virtio_transport *transport, unsigned queue)
{
    core_kick((struct transport_core *)transport, queue);
}

static void call_queue(void *arg)
{
    struct transport_queue *queue = arg;
    queue->core->bus->call(queue->core, (unsigned)(queue - queue->core->queue));
}

/* What a register access is gated by. NEEDS_RESET is shown to the driver, but is not the driver's to write.
 */
static bool status_has(const struct transport_core *core, unsigned bits)
{
    return (core->status & bits) == bits;
}

uint8_t core_status(const struct transport_core *core)
{
    return (uint8_t)(core->status | (atomic_load(&core->needs_reset) ? VIRTIO_CONFIG_S_NEEDS_RESET : 0U));
}

void core_set_half(uint64_t *field, bool high, uint32_t value)
{
    *field = high ? (*field & 0xffffffff) | (uint64_t)value << 32 : (*field & 0xffffffff00000000) | value;
}

/* A queue's size and addresses can change only while the queue is not ready, and the queue's being ready only
 * before DRIVER_OK: the rings of a live device stay where they are until reset. */
struct transport_queue *core_queue_open(struct transport_core *core, bool enabled)
{
    if (!status_has(core, VIRTIO_CONFIG_S_FEATURES_OK) || status_has(core, VIRTIO_CONFIG_S_DRIVER_OK) ||
        core->queue_sel >= core->device->queue_count)
        return NULL;
    struct transport_queue *queue = &core->queue[core->queue_sel];
    return enabled || !queue->ready ? queue : NULL;
}

void core_queue_resize(struct transport_core *core, struct transport_queue *queue, uint32_t size)
{
    queue->config.size = size <= core->device->queue_size_max ? (uint16_t)size : 0;
}

/* §3.1.1: bits are only ever added, in order; 0 resets. A set of features that the device cannot take is
 * refused by leaving FEATURES_OK clear (step 5). */
void core_write_status(struct transport_core *core, uint32_t value)
{
    if (value == 0) {
        core_reset(core);
        return;
    }
    if ((value & core->status) != core->status)
        return;
    uint32_t added = value & STATUS_DRIVER_BITS & ~(uint32_t)core->status;
    core->status |= added & (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FAILED);
    if (added & VIRTIO_CONFIG_S_FEATURES_OK && status_has(core, VIRTIO_CONFIG_S_DRIVER)) {
        uint64_t unknown = core->driver_features & ~core_features(core);
        if (unknown == 0 && core->driver_features >> VIRTIO_F_VERSION_1 & 1)
            core->status |= VIRTIO_CONFIG_S_FEATURES_OK;
    }
    if (added & VIRTIO_CONFIG_S_DRIVER_OK && status_has(core, VIRTIO_CONFIG_S_FEATURES_OK)) {
        core->status |= VIRTIO_CONFIG_S_DRIVER_OK;
        core_activate(core);
    }
}

void core_write_features(struct transport_core *core, uint32_t value)
{
    if (status_has(core, VIRTIO_CONFIG_S_DRIVER) && !status_has(core, VIRTIO_CONFIG_S_FEATURES_OK) &&
        core->driver_features_sel <= 1)
        core_set_half(&core->driver_features, core->driver_features_sel == 1, value);
}

bool core_config_access(const struct transport_core *core, uint64_t offset, uint32_t length)
{
    uint32_t size = core->device->ops->config_size;
    return (length == 1 || length == 2 || length == 4 || length == 8) && offset <= size &&
           length <= size - offset;
}

void core_config_write(struct transport_core *core, uint64_t offset, const void *data, uint32_t length)
{
    if (core->device->ops->config_write && core_config_access(core, offset, length) &&
        status_has(core, VIRTIO_CONFIG_S_DRIVER))
        core->device->ops->config_write(core->device, (uint32_t)offset, data, length);
}

/* What core_init has made. */
static void core_fini(struct transport_core *core)
{
    struct virtio_device *device = core->device;
    for (unsigned i = 0; i < device->queue_count; i++) {
        fd_close(&core->queue[i].kick.fd);
        virtqueue_free(device->queue[i]);
    }
    device->ops->free(device);
    pthread_mutex_destroy(&core->lock);
}

int core_init(struct transport_core *core, const struct transport_bus *bus, struct virtio_device *device,
              const struct guest_memory *memory)
{
    int err = 0;
    core->transport = bus->calls;
    core->bus = bus;
    core->device = device;
    pthread_mutex_init(&core->lock, NULL);
    device->transport = &core->transport;
    atomic_flag_clear(&device->broken_busy);
    for (unsigned i = 0; i < device->queue_count; i++)
        core->queue[i] =
            (struct transport_queue){.core = core, .kick = {.fd = -1, .fn = core_on_kick, .arg = core}};
    for (unsigned i = 0; i < device->queue_count && !err; i++) {
        device->queue[i] = virtqueue_new(memory, call_queue, &core->queue[i]);
        core->queue[i].kick.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (!device->queue[i] || core->queue[i].kick.fd < 0)
            err = -errno;
        device->kick_fd[i] = core->queue[i].kick.fd;
    }
    if (!err)
        err = core_watch_kicks(core);
    if (err)
        core_fini(core);
    return err;
}

void virtio_transport_free(struct virtio_transport *transport)
{
    struct transport_core *core = (struct transport_core *)transport;
    if (!core)
        return;
    core_unwatch_kicks(core);
    pthread_mutex_lock(&core->lock);
    core_reset(core);
    pthread_mutex_unlock(&core->lock);
    core_fini(core);
    core->bus->free(core);
}

int virtio_transport_queue_fd(const struct virtio_transport *transport, unsigned queue)
{
    const struct transport_core *core = (const struct transport_core *)transport;
    return queue < core->device->queue_count ? core->queue[queue].kick.fd : -1;
}

struct virtio_device *virtio_transport_device(const struct virtio_transport *transport)
{
    return ((const struct transport_core *)transport)->device;
}

bool virtio_transport_in_use(struct virtio_transport *transport)
{
    struct transport_core *core = (struct transport_core *)transport;
    /* Who holds the lock may be waiting for the thread that asks. */
    if (pthread_mutex_trylock(&core->lock) != 0)
        return true;
    bool used = core->status & VIRTIO_CONFIG_S_DRIVER;
    pthread_mutex_unlock(&core->lock);
    return used;
}

uint64_t virtio_transport_interrupts(const struct virtio_transport *transport)
{
    return atomic_load_explicit(&((const struct transport_core *)transport)->interrupts,
                                memory_order_relaxed);
}
