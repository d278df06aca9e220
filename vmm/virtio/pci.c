/*
 * The registers of the virtio-pci transport (virtio 1.2 §4.1.4): see pci.h. Called by the machine's vCPU
 * threads; which writes count is in transport.c, what they cause in transport_state.c.
 */
#include "vmm/virtio/pci_internal.h"

#include "common/fd.h"
#include "vmm/snapshot.h"

#include <endian.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <string.h>
#include <sys/eventfd.h>

unsigned virtio_pci_interrupts(const struct virtio_pci *pci)
{
    return pci->core.device->queue_count + 1;
}

int virtio_pci_interrupt_fd(const struct virtio_pci *pci, unsigned interrupt)
{
    return pci->fd[interrupt];
}

/* --- What the device calls ----------------------------------------------------------------------------- */

static void call(struct transport_core *core, unsigned queue)
{
    pci_raise((struct virtio_pci *)core, queue);
}

static void raise_config(struct virtio_pci *pci)
{
    pci_raise(pci, pci->core.device->queue_count);
}

/* A driver reads generation, fields, generation (virtio 1.2 §2.5.1): both change at once. */
static void config_refresh(struct virtio_transport *transport)
{
    struct virtio_pci *pci = (struct virtio_pci *)transport;
    const struct virtio_device_ops *ops = pci->core.device->ops;
    pthread_mutex_lock(&pci->shown_lock);
    if (ops->config_size > 0)
        ops->config_read(pci->core.device, 0, pci->shown, ops->config_size);
    atomic_fetch_add(&pci->core.config_generation, 1);
    pthread_mutex_unlock(&pci->shown_lock);
}

static void config_changed(struct virtio_transport *transport)
{
    config_refresh(transport);
    raise_config((struct virtio_pci *)transport);
}

static void broken(struct virtio_transport *transport)
{
    struct virtio_pci *pci = (struct virtio_pci *)transport;
    if (!atomic_exchange(&pci->core.needs_reset, true))
        raise_config(pci);
}

/* Interrupts need no acknowledgement and are told apart by themselves: who raises them makes no difference.
 */
static void calls_direct(struct virtio_transport *transport, bool direct)
{
    struct virtio_pci *pci = (struct virtio_pci *)transport;
    /* One from before a pause may be lost: one too many is harmless. */
    for (unsigned i = 0; i < pci->core.device->queue_count && direct; i++)
        pci_raise(pci, i);
}

/* --- Common configuration (§4.1.4.3) ------------------------------------------------------------------- */

static const struct transport_queue *selected(const struct virtio_pci *pci)
{
    return pci->core.queue_sel < pci->core.device->queue_count ? &pci->core.queue[pci->core.queue_sel] : NULL;
}

static uint32_t queue_read(const struct virtio_pci *pci, uint32_t offset)
{
    const struct transport_queue *queue = selected(pci);
    if (!queue)
        return offset == VIRTIO_PCI_COMMON_Q_MSIX ? VIRTIO_MSI_NO_VECTOR : 0; /* size 0: no such queue */
    switch (offset) {
    case VIRTIO_PCI_COMMON_Q_SIZE:
        return queue->config.size;
    case VIRTIO_PCI_COMMON_Q_MSIX:
        return pci->vector[pci->core.queue_sel];
    case VIRTIO_PCI_COMMON_Q_ENABLE:
        return queue->ready;
    case VIRTIO_PCI_COMMON_Q_DESCLO:
        return (uint32_t)queue->config.desc;
    case VIRTIO_PCI_COMMON_Q_DESCHI:
        return (uint32_t)(queue->config.desc >> 32);
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
        return (uint32_t)queue->config.avail;
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
        return (uint32_t)(queue->config.avail >> 32);
    case VIRTIO_PCI_COMMON_Q_USEDLO:
        return (uint32_t)queue->config.used;
    case VIRTIO_PCI_COMMON_Q_USEDHI:
        return (uint32_t)(queue->config.used >> 32);
    default:
        return 0; /* the place of notification is one for all: queue_notify_off */
    }
}

static uint32_t common_read(const struct virtio_pci *pci, uint32_t offset)
{
    const struct transport_core *core = &pci->core;
    switch (offset) {
    case VIRTIO_PCI_COMMON_DFSELECT:
        return core->device_features_sel;
    case VIRTIO_PCI_COMMON_DF:
        return core_selected_features(core);
    case VIRTIO_PCI_COMMON_GFSELECT:
        return core->driver_features_sel;
    case VIRTIO_PCI_COMMON_GF:
        return core->driver_features_sel <= 1
                   ? (uint32_t)(core->driver_features >> (32 * core->driver_features_sel))
                   : 0;
    case VIRTIO_PCI_COMMON_MSIX:
        return pci->vector[core->device->queue_count];
    case VIRTIO_PCI_COMMON_NUMQ:
        return core->device->queue_count;
    case VIRTIO_PCI_COMMON_STATUS:
        return core_status(core);
    case VIRTIO_PCI_COMMON_CFGGENERATION:
        return atomic_load(&core->config_generation) & 0xff;
    case VIRTIO_PCI_COMMON_Q_SELECT:
        return core->queue_sel;
    default:
        return queue_read(pci, offset);
    }
}

static void queue_write(struct virtio_pci *pci, uint32_t offset, uint32_t value)
{
    if (offset == VIRTIO_PCI_COMMON_Q_MSIX && selected(pci)) {
        pci_msix_set_vector(pci, pci->core.queue_sel, (uint16_t)value);
        return;
    }
    struct transport_queue *queue = core_queue_open(&pci->core, offset == VIRTIO_PCI_COMMON_Q_ENABLE);
    if (!queue)
        return;
    switch (offset) {
    case VIRTIO_PCI_COMMON_Q_SIZE:
        core_queue_resize(&pci->core, queue, value);
        break;
    case VIRTIO_PCI_COMMON_Q_ENABLE: /* a driver must not write 0 (§4.1.4.3.2) */
        queue->ready |= value & 1;
        break;
    case VIRTIO_PCI_COMMON_Q_DESCLO:
    case VIRTIO_PCI_COMMON_Q_DESCHI:
        core_set_half(&queue->config.desc, offset == VIRTIO_PCI_COMMON_Q_DESCHI, value);
        break;
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
        core_set_half(&queue->config.avail, offset == VIRTIO_PCI_COMMON_Q_AVAILHI, value);
        break;
    case VIRTIO_PCI_COMMON_Q_USEDLO:
    case VIRTIO_PCI_COMMON_Q_USEDHI:
        core_set_half(&queue->config.used, offset == VIRTIO_PCI_COMMON_Q_USEDHI, value);
        break;
    default:
        break; /* read-only or reserved */
    }
}

static void common_write(struct virtio_pci *pci, uint32_t offset, uint32_t value)
{
    struct transport_core *core = &pci->core;
    switch (offset) {
    case VIRTIO_PCI_COMMON_DFSELECT:
        core->device_features_sel = value;
        break;
    case VIRTIO_PCI_COMMON_GFSELECT:
        core->driver_features_sel = value;
        break;
    case VIRTIO_PCI_COMMON_GF:
        core_write_features(core, value);
        break;
    case VIRTIO_PCI_COMMON_MSIX:
        pci_msix_set_vector(pci, core->device->queue_count, (uint16_t)value);
        break;
    case VIRTIO_PCI_COMMON_STATUS:
        core_write_status(core, value);
        break;
    case VIRTIO_PCI_COMMON_Q_SELECT:
        core->queue_sel = value;
        break;
    default:
        queue_write(pci, offset, value);
        break;
    }
}

/* Fields are accessed in their own width (§4.1.3.1). */
static uint32_t common_width(uint32_t offset)
{
    switch (offset) {
    case VIRTIO_PCI_COMMON_STATUS:
    case VIRTIO_PCI_COMMON_CFGGENERATION:
        return 1;
    case VIRTIO_PCI_COMMON_MSIX:
    case VIRTIO_PCI_COMMON_NUMQ:
    case VIRTIO_PCI_COMMON_Q_SELECT:
    case VIRTIO_PCI_COMMON_Q_SIZE:
    case VIRTIO_PCI_COMMON_Q_MSIX:
    case VIRTIO_PCI_COMMON_Q_ENABLE:
    case VIRTIO_PCI_COMMON_Q_NOFF:
        return 2;
    default:
        return offset % 4 == 0 && offset < sizeof(struct virtio_pci_common_cfg) ? 4 : 0;
    }
}

/* --- Region 0 ------------------------------------------------------------------------------------------ */

void pci_region_read(struct virtio_pci *pci, uint64_t offset, void *data, uint32_t length)
{
    uint32_t value = 0, at = (uint32_t)offset;
    memset(data, 0, length);
    if (at < PCI_ISR && length == common_width(at)) {
        value = common_read(pci, at);
    } else if (at == PCI_ISR && length == 1) {
        value = atomic_exchange(&pci->isr, 0);
    } else if (at >= PCI_TABLE && at < PCI_PBA && length == sizeof(value) && at % length == 0) {
        value = pci_msix_read(pci, at - PCI_TABLE);
    } else if (at >= PCI_DEVICE && at < PCI_TABLE &&
               core_config_access(&pci->core, at - PCI_DEVICE, length)) {
        pthread_mutex_lock(&pci->shown_lock);
        memcpy(data, pci->shown + (at - PCI_DEVICE), length);
        pthread_mutex_unlock(&pci->shown_lock);
        return;
    }
    value = htole32(value);
    memcpy(data, &value, length < sizeof(value) ? length : sizeof(value));
}

void pci_region_write(struct virtio_pci *pci, uint64_t offset, const void *data, uint32_t length)
{
    uint32_t value = 0, at = (uint32_t)offset;
    if (at >= PCI_DEVICE && at < PCI_TABLE) {
        core_config_write(&pci->core, at - PCI_DEVICE, data, length);
        config_refresh(&pci->core.transport);
        return;
    }
    memcpy(&value, data, length < sizeof(value) ? length : sizeof(value));
    value = le32toh(value);
    if (at < PCI_ISR && length == common_width(at))
        common_write(pci, at, value);
    else if (at >= PCI_TABLE && at < PCI_PBA && length == sizeof(value) && at % length == 0)
        pci_msix_write(pci, at - PCI_TABLE, value);
}

void virtio_pci_read(struct virtio_pci *pci, uint64_t offset, void *data, uint32_t length)
{
    pthread_mutex_lock(&pci->core.lock);
    if (pci_config_decodes(pci))
        pci_region_read(pci, offset, data, length);
    else
        memset(data, 0xff, length);
    pthread_mutex_unlock(&pci->core.lock);
}

void virtio_pci_write(struct virtio_pci *pci, uint64_t offset, const void *data, uint32_t length)
{
    pthread_mutex_lock(&pci->core.lock);
    if (pci_config_decodes(pci))
        pci_region_write(pci, offset, data, length);
    pthread_mutex_unlock(&pci->core.lock);
}

void virtio_pci_notify(struct virtio_pci *pci, uint64_t offset, const void *data, uint32_t length)
{
    uint16_t index;
    if (offset != 0 || length != sizeof(index))
        return;
    memcpy(&index, data, sizeof(index));
    pthread_mutex_lock(&pci->core.lock);
    core_notified(&pci->core, le16toh(index));
    pthread_mutex_unlock(&pci->core.lock);
}

/* --- Life ---------------------------------------------------------------------------------------------- */

static void reset(struct transport_core *core)
{
    struct virtio_pci *pci = (struct virtio_pci *)core;
    for (unsigned i = 0; i < core->device->queue_count; i++)
        core->queue[i].config.size = core->device->queue_size_max;
    for (unsigned i = 0; i < virtio_pci_interrupts(pci); i++)
        pci->vector[i] = VIRTIO_MSI_NO_VECTOR;
    atomic_store(&pci->isr, 0);
    pci_msix_update(pci);
}

/* What was raised before the pause may be lost, and one too many is harmless. */
static void resume(struct transport_core *core)
{
    for (unsigned i = 0; i <= core->device->queue_count && core->status & VIRTIO_CONFIG_S_DRIVER_OK; i++)
        pci_raise((struct virtio_pci *)core, i);
}

static int save(const struct transport_core *core, struct snapshot_writer *writer)
{
    const struct virtio_pci *pci = (const struct virtio_pci *)core;
    for (unsigned i = 0; i < VIRTIO_PCI_CONFIG_BYTES; i++)
        snapshot_put_u8(writer, pci->space[i]);
    for (unsigned i = 0; i < virtio_pci_interrupts(pci); i++) {
        for (unsigned word = 0; word < 4; word++)
            snapshot_put_u32(writer, pci->table[i].word[word]);
        snapshot_put_u16(writer, pci->vector[i]);
    }
    snapshot_put_u32(writer, atomic_load(&pci->isr));
    return 0;
}

static int restore(struct transport_core *core, struct snapshot_reader *reader)
{
    struct virtio_pci *pci = (struct virtio_pci *)core;
    for (unsigned i = 0; i < VIRTIO_PCI_CONFIG_BYTES; i++) {
        if (!pci_config_set(pci, i, snapshot_get_u8(reader)))
            return -EPROTO;
    }
    for (unsigned i = 0; i < virtio_pci_interrupts(pci); i++) {
        for (unsigned word = 0; word < 4; word++)
            pci->table[i].word[word] = snapshot_get_u32(reader);
        pci->vector[i] = snapshot_get_u16(reader);
        if (pci->vector[i] >= virtio_pci_interrupts(pci) && pci->vector[i] != VIRTIO_MSI_NO_VECTOR)
            return -EPROTO;
    }
    atomic_store(&pci->isr, snapshot_get_u32(reader));
    return pci_msix_update(pci);
}

static void restored(struct transport_core *core)
{
    config_refresh(&core->transport);
}

static void pci_free(struct transport_core *core)
{
    struct virtio_pci *pci = (struct virtio_pci *)core;
    for (unsigned i = 0; i < PCI_INTERRUPTS_MAX; i++)
        fd_close(&pci->fd[i]);
    pthread_mutex_destroy(&pci->shown_lock);
    free(pci);
}

static const struct transport_bus pci_bus = {.section = "virtio-pci",
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
                                             .free = pci_free};

struct virtio_transport *virtio_pci_transport(struct virtio_pci *pci)
{
    return pci ? &pci->core.transport : NULL;
}

struct virtio_pci *virtio_pci_of(struct virtio_transport *transport)
{
    return (struct virtio_pci *)transport;
}

static int make_interrupts(struct virtio_pci *pci, struct virtio_device *device)
{
    for (unsigned i = 0; i <= device->queue_count; i++) {
        pci->fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (pci->fd[i] < 0)
            return -errno;
        if (i < device->queue_count)
            device->call_fd[i] = pci->fd[i];
    }
    return 0;
}

struct virtio_pci *virtio_pci_new(struct virtio_device *device, const struct guest_memory *memory,
                                  const struct virtio_pci_place *place)
{
    struct virtio_pci *pci = calloc(1, sizeof(*pci));
    if (!pci) {
        device->ops->free(device);
        return NULL;
    }
    for (unsigned i = 0; i < PCI_INTERRUPTS_MAX; i++)
        pci->fd[i] = -1;
    pci->place = *place;
    pthread_mutex_init(&pci->shown_lock, NULL);
    int err = make_interrupts(pci, device);
    if (err)
        device->ops->free(device);
    else
        err = core_init(&pci->core, &pci_bus, device, memory);
    if (err) {
        pci_free(&pci->core);
        errno = -err;
        return NULL;
    }
    for (unsigned i = 0; i < device->queue_count; i++)
        pci->core.queue[i].config.size = device->queue_size_max;
    pci_msix_init(pci);
    pci_config_init(pci);
    config_refresh(&pci->core.transport);
    return pci;
}
