/*
 * The registers of the virtio-mmio transport (virtio 1.2 §4.2.2): see mmio.h. Called by the machine's vCPU
 * threads; which writes count is in transport.c, what they cause in transport_state.c.
 */
#include "vmm/virtio/mmio_internal.h"

#include "vmm/snapshot.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>

static void interrupt(struct virtio_mmio *mmio, unsigned bits)
{
    mmio_page_add_interrupt(mmio, bits);
    core_interrupt(&mmio->core, mmio->irq_fd);
}

static void call(struct transport_core *core, unsigned queue)
{
    (void)queue;
    interrupt((struct virtio_mmio *)core, VIRTIO_MMIO_INT_VRING);
}

static void config_refresh(struct virtio_transport *transport)
{
    mmio_page_update_config((struct virtio_mmio *)transport);
}

static void config_changed(struct virtio_transport *transport)
{
    config_refresh(transport);
    interrupt((struct virtio_mmio *)transport, VIRTIO_MMIO_INT_CONFIG);
}

static void broken(struct virtio_transport *transport)
{
    struct virtio_mmio *mmio = (struct virtio_mmio *)transport;
    if (atomic_exchange(&mmio->core.needs_reset, true))
        return;
    mmio_page_add_status(mmio, VIRTIO_CONFIG_S_NEEDS_RESET);
    interrupt(mmio, VIRTIO_MMIO_INT_CONFIG);
}

static void calls_direct(struct virtio_transport *transport, bool direct)
{
    struct virtio_mmio *mmio = (struct virtio_mmio *)transport;
    mmio_page_set_calls_direct(mmio, direct);
    /* An interrupt from before a pause may be lost: one too many is harmless. */
    if (direct)
        interrupt(mmio, VIRTIO_MMIO_INT_VRING);
}

static void queue_register_write(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    struct transport_queue *queue = core_queue_open(&mmio->core, offset == VIRTIO_MMIO_QUEUE_READY);
    if (!queue)
        return;
    switch (offset) {
    case VIRTIO_MMIO_QUEUE_READY:
        queue->ready = value & 1;
        break;
    case VIRTIO_MMIO_QUEUE_NUM:
        core_queue_resize(&mmio->core, queue, value);
        break;
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
        core_set_half(&queue->config.desc, offset == VIRTIO_MMIO_QUEUE_DESC_HIGH, value);
        break;
    case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
    case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
        core_set_half(&queue->config.avail, offset == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, value);
        break;
    case VIRTIO_MMIO_QUEUE_USED_LOW:
    case VIRTIO_MMIO_QUEUE_USED_HIGH:
        core_set_half(&queue->config.used, offset == VIRTIO_MMIO_QUEUE_USED_HIGH, value);
        break;
    }
}

static void register_write(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    struct transport_core *core = &mmio->core;
    switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        core->device_features_sel = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        core->driver_features_sel = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES:
        core_write_features(core, value);
        break;
    case VIRTIO_MMIO_QUEUE_SEL:
        core->queue_sel = value;
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
        core_notified(core, value);
        break;
    case VIRTIO_MMIO_STATUS:
        core_write_status(core, value);
        break;
    default:
        break; /* read-only or reserved */
    }
}

void virtio_mmio_read(struct virtio_mmio *mmio, uint64_t offset, void *data, uint32_t length)
{
    bool readable = offset >= VIRTIO_MMIO_CONFIG
                        ? core_config_access(&mmio->core, offset - VIRTIO_MMIO_CONFIG, length)
                        : length == sizeof(uint32_t) && offset % length == 0;
    if (readable)
        mmio_page_read(mmio, offset, data, length);
    else
        memset(data, 0, length);
}

void virtio_mmio_write(struct virtio_mmio *mmio, uint64_t offset, const void *data, uint32_t length)
{
    uint32_t value = 0;
    bool config = offset >= VIRTIO_MMIO_CONFIG;
    if (!config && (length != sizeof(value) || offset % sizeof(value)))
        return;
    if (!config)
        memcpy(&value, data, sizeof(value));
    value = le32toh(value);
    if (offset == VIRTIO_MMIO_INTERRUPT_ACK) { /* for each interrupt: needs no lock but the page's */
        mmio_page_acknowledge(mmio, value);
        return;
    }
    pthread_mutex_lock(&mmio->core.lock);
    if (config)
        core_config_write(&mmio->core, offset - VIRTIO_MMIO_CONFIG, data, length);
    else
        register_write(mmio, offset, value);
    mmio_page_update(mmio);
    pthread_mutex_unlock(&mmio->core.lock);
}

static void reset(struct transport_core *core)
{
    atomic_store(&((struct virtio_mmio *)core)->interrupt_status, 0);
}

/* The line is edge-triggered: an edge from before the pause may be lost. Whether it was acknowledged is not
 * known of calls that are always told of; one too many is harmless. */
static void resume(struct transport_core *core)
{
    struct virtio_mmio *mmio = (struct virtio_mmio *)core;
    if (atomic_load(&mmio->interrupt_status) || atomic_load(&mmio->calls_direct))
        interrupt(mmio, 0);
}

static int save(const struct transport_core *core, struct snapshot_writer *writer)
{
    snapshot_put_u32(writer, atomic_load(&((const struct virtio_mmio *)core)->interrupt_status));
    return 0;
}

static int restore(struct transport_core *core, struct snapshot_reader *reader)
{
    atomic_store(&((struct virtio_mmio *)core)->interrupt_status, snapshot_get_u32(reader));
    return 0;
}

static void restored(struct transport_core *core)
{
    mmio_page_update((struct virtio_mmio *)core);
}

static void mmio_free(struct transport_core *core)
{
    struct virtio_mmio *mmio = (struct virtio_mmio *)core;
    pthread_mutex_destroy(&mmio->page_lock);
    free(mmio);
}

static const struct transport_bus mmio_bus = {.section = "virtio-mmio",
                                              .section_version = 1,
                                              .calls = {.config_changed = config_changed,
                                                        .config_refresh = config_refresh,
                                                        .broken = broken,
                                                        .kick_again = core_kick_again,
                                                        .calls_direct = calls_direct},
                                              .call = call,
                                              .reset = reset,
                                              .resume = resume,
                                              .save = save,
                                              .restore = restore,
                                              .restored = restored,
                                              .free = mmio_free};

struct virtio_transport *virtio_mmio_transport(struct virtio_mmio *mmio)
{
    return mmio ? &mmio->core.transport : NULL;
}

struct virtio_mmio *virtio_mmio_of(struct virtio_transport *transport)
{
    return (struct virtio_mmio *)transport;
}

struct virtio_mmio *virtio_mmio_new(struct virtio_device *device, const struct guest_memory *memory,
                                    int irq_fd)
{
    struct virtio_mmio *mmio = calloc(1, sizeof(*mmio));
    if (!mmio) {
        device->ops->free(device);
        return NULL;
    }
    mmio->irq_fd = irq_fd;
    for (unsigned i = 0; i < device->queue_count; i++)
        device->call_fd[i] = irq_fd;
    mmio->core.device = device;
    mmio_page_init(mmio);
    int err = core_init(&mmio->core, &mmio_bus, device, memory);
    if (!err)
        return mmio;
    mmio_free(&mmio->core);
    errno = -err;
    return NULL;
}
