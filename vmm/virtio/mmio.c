/*
 * The registers of the virtio-mmio transport (virtio 1.2 §4.2.2): see mmio.h.
 *
 * Trust boundary: every register access comes from the guest, from any of its vCPUs, in any order. The status
 * decides which writes count (§3.1.1): features between DRIVER and FEATURES_OK, queues between FEATURES_OK
 * and DRIVER_OK, and nothing but notifications, acknowledgements and reset after it. What is out of turn is
 * ignored. Called by the machine's vCPU threads; what DRIVER_OK and reset cause is in mmio_state.c.
 */
#include "vmm/virtio/mmio_internal.h"

#include "common/fd.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#define STATUS_DRIVER_BITS                                                                                   \
    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |                    \
     VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)

uint64_t mmio_features(const struct virtio_mmio *mmio)
{
    return mmio->device->ops->features(mmio->device) | 1ULL << VIRTIO_F_VERSION_1 |
           1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_RING_F_EVENT_IDX;
}

static void signal_eventfd(int fd)
{
    uint64_t one = 1;
    /* EAGAIN means a counter that is full: it is signalled already. */
    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

void mmio_interrupt(struct virtio_mmio *mmio, unsigned bits)
{
    mmio_page_add_interrupt(mmio, bits);
    atomic_fetch_add_explicit(&mmio->interrupts, 1, memory_order_relaxed);
    signal_eventfd(mmio->irq_fd);
}

void mmio_kick(struct virtio_mmio *mmio, unsigned index)
{
    signal_eventfd(mmio->queue[index].kick.fd);
}

static void mmio_call(void *arg)
{
    mmio_interrupt(arg, VIRTIO_MMIO_INT_VRING);
}

static void mmio_config_refresh(struct virtio_transport *transport)
{
    mmio_page_update_config((struct virtio_mmio *)transport);
}

static void mmio_config_changed(struct virtio_transport *transport)
{
    mmio_config_refresh(transport);
    mmio_interrupt((struct virtio_mmio *)transport, VIRTIO_MMIO_INT_CONFIG);
}

static void mmio_broken(struct virtio_transport *transport)
{
    struct virtio_mmio *mmio = (struct virtio_mmio *)transport;
    if (atomic_exchange(&mmio->needs_reset, true))
        return;
    mmio_page_add_status(mmio, VIRTIO_CONFIG_S_NEEDS_RESET);
    mmio_interrupt(mmio, VIRTIO_MMIO_INT_CONFIG);
}

static void mmio_calls_direct(struct virtio_transport *transport, bool direct)
{
    struct virtio_mmio *mmio = (struct virtio_mmio *)transport;
    mmio_page_set_calls_direct(mmio, direct);
    /* An interrupt from before a pause may be lost: one too many is harmless. */
    if (direct)
        mmio_interrupt(mmio, VIRTIO_MMIO_INT_VRING);
}

static void mmio_kick_again(struct virtio_transport *transport, unsigned queue)
{
    mmio_kick((struct virtio_mmio *)transport, queue);
}

/* What a register access is gated by. NEEDS_RESET is shown to the driver, but is not the driver's to write.
 */
static bool status_has(const struct virtio_mmio *mmio, unsigned bits)
{
    return (mmio->status & bits) == bits;
}

static void set_low(uint64_t *field, uint32_t value)
{
    *field = (*field & 0xffffffff00000000) | value;
}

static void set_high(uint64_t *field, uint32_t value)
{
    *field = (*field & 0xffffffff) | (uint64_t)value << 32;
}

/* A queue's size and addresses can change only while the queue is not ready, and the queue's being ready only
 * before DRIVER_OK: the rings of a live device stay where they are until reset. */
static void queue_register_write(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    if (!status_has(mmio, VIRTIO_CONFIG_S_FEATURES_OK) || status_has(mmio, VIRTIO_CONFIG_S_DRIVER_OK) ||
        mmio->queue_sel >= mmio->device->queue_count)
        return;
    struct mmio_queue *queue = &mmio->queue[mmio->queue_sel];
    if (offset == VIRTIO_MMIO_QUEUE_READY) {
        queue->ready = value & 1;
        return;
    }
    if (queue->ready)
        return;
    switch (offset) {
    case VIRTIO_MMIO_QUEUE_NUM: /* 0 stands for a size that no queue can have: activation refuses it */
        queue->config.size = value <= mmio->device->queue_size_max ? (uint16_t)value : 0;
        break;
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
        set_low(&queue->config.desc, value);
        break;
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
        set_high(&queue->config.desc, value);
        break;
    case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
        set_low(&queue->config.avail, value);
        break;
    case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
        set_high(&queue->config.avail, value);
        break;
    case VIRTIO_MMIO_QUEUE_USED_LOW:
        set_low(&queue->config.used, value);
        break;
    case VIRTIO_MMIO_QUEUE_USED_HIGH:
        set_high(&queue->config.used, value);
        break;
    }
}

/* §3.1.1: bits are only ever added, in order; 0 resets. A set of features that the device cannot take is
 * refused by leaving FEATURES_OK clear (step 5). */
static void status_write(struct virtio_mmio *mmio, uint32_t value)
{
    if (value == 0) {
        mmio_reset(mmio);
        return;
    }
    if ((value & mmio->status) != mmio->status)
        return;
    uint32_t added = value & STATUS_DRIVER_BITS & ~(uint32_t)mmio->status;
    mmio->status |= added & (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FAILED);
    if (added & VIRTIO_CONFIG_S_FEATURES_OK && status_has(mmio, VIRTIO_CONFIG_S_DRIVER)) {
        uint64_t unknown = mmio->driver_features & ~mmio_features(mmio);
        if (unknown == 0 && mmio->driver_features >> VIRTIO_F_VERSION_1 & 1)
            mmio->status |= VIRTIO_CONFIG_S_FEATURES_OK;
    }
    if (added & VIRTIO_CONFIG_S_DRIVER_OK && status_has(mmio, VIRTIO_CONFIG_S_FEATURES_OK)) {
        mmio->status |= VIRTIO_CONFIG_S_DRIVER_OK;
        mmio_activate(mmio);
    }
}

static void driver_features_write(struct virtio_mmio *mmio, uint32_t value)
{
    if (!status_has(mmio, VIRTIO_CONFIG_S_DRIVER) || status_has(mmio, VIRTIO_CONFIG_S_FEATURES_OK))
        return;
    if (mmio->driver_features_sel == 0)
        set_low(&mmio->driver_features, value);
    else if (mmio->driver_features_sel == 1)
        set_high(&mmio->driver_features, value);
}

static void register_write(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        mmio->device_features_sel = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        mmio->driver_features_sel = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES:
        driver_features_write(mmio, value);
        break;
    case VIRTIO_MMIO_QUEUE_SEL:
        mmio->queue_sel = value;
        break;
    case VIRTIO_MMIO_QUEUE_NUM:
    case VIRTIO_MMIO_QUEUE_READY:
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
    case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
    case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
    case VIRTIO_MMIO_QUEUE_USED_LOW:
    case VIRTIO_MMIO_QUEUE_USED_HIGH:
        queue_register_write(mmio, offset, value);
        break;
    case VIRTIO_MMIO_QUEUE_NOTIFY: /* only where no ioeventfd takes it */
        if (status_has(mmio, VIRTIO_CONFIG_S_DRIVER_OK) && value < mmio->device->queue_count)
            mmio_kick(mmio, value);
        break;
    case VIRTIO_MMIO_STATUS:
        status_write(mmio, value);
        break;
    default:
        break; /* read-only or reserved */
    }
}

/* Configuration space is accessed in the width of its fields (§4.2.2.2): true if the access lies in it. */
static bool config_access(const struct virtio_mmio *mmio, uint64_t offset, uint32_t length)
{
    uint32_t size = mmio->device->ops->config_size;
    return (length == 1 || length == 2 || length == 4 || length == 8) && offset <= size &&
           length <= size - offset;
}

void virtio_mmio_read(struct virtio_mmio *mmio, uint64_t offset, void *data, uint32_t length)
{
    bool readable = offset >= VIRTIO_MMIO_CONFIG ? config_access(mmio, offset - VIRTIO_MMIO_CONFIG, length)
                                                 : length == sizeof(uint32_t) && offset % length == 0;
    if (readable)
        mmio_page_read(mmio, offset, data, length);
    else
        memset(data, 0, length);
}

static void config_write(struct virtio_mmio *mmio, uint64_t offset, const void *data, uint32_t length)
{
    if (!mmio->device->ops->config_write || !config_access(mmio, offset, length))
        return;
    pthread_mutex_lock(&mmio->lock);
    if (status_has(mmio, VIRTIO_CONFIG_S_DRIVER))
        mmio->device->ops->config_write(mmio->device, (uint32_t)offset, data, length);
    mmio_page_update(mmio);
    pthread_mutex_unlock(&mmio->lock);
}

void virtio_mmio_write(struct virtio_mmio *mmio, uint64_t offset, const void *data, uint32_t length)
{
    if (offset >= VIRTIO_MMIO_CONFIG) {
        config_write(mmio, offset - VIRTIO_MMIO_CONFIG, data, length);
        return;
    }
    if (length != sizeof(uint32_t) || offset % sizeof(uint32_t))
        return;
    uint32_t value;
    memcpy(&value, data, sizeof(value));
    value = le32toh(value);
    if (offset == VIRTIO_MMIO_INTERRUPT_ACK) { /* for each interrupt: needs no lock but the page's */
        mmio_page_acknowledge(mmio, value);
        return;
    }
    pthread_mutex_lock(&mmio->lock);
    register_write(mmio, offset, value);
    mmio_page_update(mmio);
    pthread_mutex_unlock(&mmio->lock);
}

int virtio_mmio_queue_fd(const struct virtio_mmio *mmio, unsigned queue)
{
    return queue < mmio->device->queue_count ? mmio->queue[queue].kick.fd : -1;
}

struct virtio_device *virtio_mmio_device(const struct virtio_mmio *mmio)
{
    return mmio->device;
}

bool virtio_mmio_in_use(struct virtio_mmio *mmio)
{
    /* Who holds the lock may be waiting for the thread that asks. */
    if (pthread_mutex_trylock(&mmio->lock) != 0)
        return true;
    bool used = mmio->status & VIRTIO_CONFIG_S_DRIVER;
    pthread_mutex_unlock(&mmio->lock);
    return used;
}

uint64_t virtio_mmio_interrupts(const struct virtio_mmio *mmio)
{
    return atomic_load_explicit(&mmio->interrupts, memory_order_relaxed);
}

struct virtio_mmio *virtio_mmio_new(struct virtio_device *device, const struct guest_memory *memory,
                                    int irq_fd)
{
    struct virtio_mmio *mmio = calloc(1, sizeof(*mmio));
    if (!mmio) {
        device->ops->free(device);
        return NULL;
    }
    mmio->transport = (struct virtio_transport){.config_changed = mmio_config_changed,
                                                .config_refresh = mmio_config_refresh,
                                                .broken = mmio_broken,
                                                .kick_again = mmio_kick_again,
                                                .calls_direct = mmio_calls_direct};
    mmio->device = device;
    mmio->irq_fd = irq_fd;
    pthread_mutex_init(&mmio->lock, NULL);
    mmio_page_init(mmio);
    device->transport = &mmio->transport;
    device->call_fd = irq_fd;
    atomic_flag_clear(&device->broken_busy);
    for (unsigned i = 0; i < device->queue_count; i++)
        mmio->queue[i].kick = (struct watch){.fd = -1, .fn = mmio_on_kick, .arg = mmio};
    for (unsigned i = 0; i < device->queue_count; i++) {
        device->queue[i] = virtqueue_new(memory, mmio_call, mmio);
        mmio->queue[i].kick.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (!device->queue[i] || mmio->queue[i].kick.fd < 0)
            goto fail;
        device->kick_fd[i] = mmio->queue[i].kick.fd;
    }
    int err = mmio_watch_kicks(mmio);
    if (!err)
        return mmio;
    errno = -err;
fail:;
    int saved = errno;
    virtio_mmio_free(mmio);
    errno = saved;
    return NULL;
}

void virtio_mmio_free(struct virtio_mmio *mmio)
{
    if (!mmio)
        return;
    struct virtio_device *device = mmio->device;
    mmio_unwatch_kicks(mmio);
    pthread_mutex_lock(&mmio->lock);
    mmio_reset(mmio);
    pthread_mutex_unlock(&mmio->lock);
    for (unsigned i = 0; i < device->queue_count; i++) {
        fd_close(&mmio->queue[i].kick.fd);
        virtqueue_free(device->queue[i]);
    }
    device->ops->free(device);
    pthread_mutex_destroy(&mmio->lock);
    pthread_mutex_destroy(&mmio->page_lock);
    free(mmio);
}
