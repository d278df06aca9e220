/*
 * What a driver reads from a virtio-mmio transport: a page of registers that is kept up to date, so that a
 * read is a load from memory. The machine maps it into the guest read-only: reads cost no VM exit then.
 *
 * A register's value changes for two reasons: a write of the driver's (a vCPU thread, which holds the
 * transport's lock), or the device (any thread). The page's own lock is a leaf, held for the few stores only.
 * The page is never read back for a decision.
 */
#include "vmm/virtio/mmio_internal.h"

#include <endian.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <string.h>

#define MMIO_MAGIC   0x74726976 /* "virt" */
#define MMIO_VERSION 2
#define MMIO_VENDOR  0x4b535548 /* "HUSK" */

static void put(void *page, uint64_t offset, uint32_t value)
{
    __atomic_store_n((uint32_t *)((uint8_t *)page + offset), htole32(value), __ATOMIC_RELEASE);
}

static void put_constants(void *page, uint32_t device_id)
{
    put(page, VIRTIO_MMIO_MAGIC_VALUE, MMIO_MAGIC);
    put(page, VIRTIO_MMIO_VERSION, MMIO_VERSION);
    put(page, VIRTIO_MMIO_VENDOR_ID, device_id ? MMIO_VENDOR : 0);
    /* All ones: there is no such region (§4.2.2). */
    uint32_t shm = device_id ? UINT32_MAX : 0;
    put(page, VIRTIO_MMIO_SHM_LEN_LOW, shm);
    put(page, VIRTIO_MMIO_SHM_LEN_HIGH, shm);
    put(page, VIRTIO_MMIO_SHM_BASE_LOW, shm);
    put(page, VIRTIO_MMIO_SHM_BASE_HIGH, shm);
    put(page, VIRTIO_MMIO_DEVICE_ID, device_id);
}

void virtio_mmio_show_placeholder(void *page)
{
    memset(page, 0, VIRTIO_MMIO_SIZE);
    put_constants(page, 0);
}

/* Lock held, as for the next two. */
static void put_interrupt_status(const struct virtio_mmio *mmio)
{
    put(mmio->page, VIRTIO_MMIO_INTERRUPT_STATUS,
        atomic_load(&mmio->interrupt_status) |
            (atomic_load(&mmio->calls_direct) ? (unsigned)VIRTIO_MMIO_INT_VRING : 0U));
}

static void put_config(const struct virtio_mmio *mmio)
{
    const struct virtio_device_ops *ops = mmio->core.device->ops;
    if (ops->config_size > 0)
        ops->config_read(mmio->core.device, 0, mmio->page + VIRTIO_MMIO_CONFIG, ops->config_size);
}

static void put_registers(const struct virtio_mmio *mmio)
{
    bool queue = mmio->core.queue_sel < mmio->core.device->queue_count; /* else NumMax 0: no such queue */
    put(mmio->page, VIRTIO_MMIO_DEVICE_FEATURES, core_selected_features(&mmio->core));
    put(mmio->page, VIRTIO_MMIO_QUEUE_NUM_MAX, queue ? mmio->core.device->queue_size_max : 0);
    put(mmio->page, VIRTIO_MMIO_QUEUE_READY, queue && mmio->core.queue[mmio->core.queue_sel].ready);
    put(mmio->page, VIRTIO_MMIO_CONFIG_GENERATION, atomic_load(&mmio->core.config_generation));
    put(mmio->page, VIRTIO_MMIO_STATUS, core_status(&mmio->core));
    put_interrupt_status(mmio);
}

void mmio_page_update(struct virtio_mmio *mmio)
{
    pthread_mutex_lock(&mmio->page_lock);
    put_config(mmio);
    put_registers(mmio);
    pthread_mutex_unlock(&mmio->page_lock);
}

void mmio_page_update_config(struct virtio_mmio *mmio)
{
    pthread_mutex_lock(&mmio->page_lock);
    /* A driver reads generation, fields, generation (§2.5.1): whatever it read in between, one of the two
     * steps falls between its readings of the generation. */
    put(mmio->page, VIRTIO_MMIO_CONFIG_GENERATION, atomic_fetch_add(&mmio->core.config_generation, 1) + 1);
    atomic_thread_fence(memory_order_seq_cst);
    put_config(mmio);
    atomic_thread_fence(memory_order_seq_cst);
    put(mmio->page, VIRTIO_MMIO_CONFIG_GENERATION, atomic_fetch_add(&mmio->core.config_generation, 1) + 1);
    pthread_mutex_unlock(&mmio->page_lock);
}

void mmio_page_add_interrupt(struct virtio_mmio *mmio, unsigned bits)
{
    if (bits == VIRTIO_MMIO_INT_VRING && atomic_load(&mmio->calls_direct))
        return; /* the page says so always */
    pthread_mutex_lock(&mmio->page_lock);
    atomic_fetch_or(&mmio->interrupt_status, bits);
    put_interrupt_status(mmio);
    pthread_mutex_unlock(&mmio->page_lock);
}

void mmio_page_acknowledge(struct virtio_mmio *mmio, unsigned bits)
{
    pthread_mutex_lock(&mmio->page_lock);
    atomic_fetch_and(&mmio->interrupt_status, ~bits);
    put_interrupt_status(mmio);
    pthread_mutex_unlock(&mmio->page_lock);
}

void mmio_page_add_status(struct virtio_mmio *mmio, unsigned bits)
{
    pthread_mutex_lock(&mmio->page_lock);
    uint32_t *status = (uint32_t *)(mmio->page + VIRTIO_MMIO_STATUS);
    __atomic_store_n(status, *status | htole32(bits), __ATOMIC_RELEASE);
    pthread_mutex_unlock(&mmio->page_lock);
}

void virtio_mmio_ignore_call_acks(struct virtio_mmio *mmio)
{
    atomic_store(&mmio->acks_ignored, true);
    mmio_page_set_calls_direct(mmio, true);
}

void mmio_page_set_calls_direct(struct virtio_mmio *mmio, bool direct)
{
    pthread_mutex_lock(&mmio->page_lock);
    atomic_store(&mmio->calls_direct, direct || atomic_load(&mmio->acks_ignored));
    put_interrupt_status(mmio);
    pthread_mutex_unlock(&mmio->page_lock);
}

void mmio_page_init(struct virtio_mmio *mmio)
{
    pthread_mutex_init(&mmio->page_lock, NULL);
    mmio->page = mmio->own_page;
    put_constants(mmio->page, mmio->core.device->ops->id);
    mmio_page_update(mmio);
}

void virtio_mmio_show(struct virtio_mmio *mmio, void *page)
{
    pthread_mutex_lock(&mmio->page_lock);
    uint8_t *to = page ? page : mmio->own_page;
    if (to != mmio->page) {
        uint32_t id = mmio->core.device->ops->id;
        put(to, VIRTIO_MMIO_DEVICE_ID, 0);
        memcpy(to + VIRTIO_MMIO_VENDOR_ID, mmio->page + VIRTIO_MMIO_VENDOR_ID,
               VIRTIO_MMIO_SIZE - VIRTIO_MMIO_VENDOR_ID);
        mmio->page = to;
        put_constants(to, id); /* the id last: now there is a device */
    }
    pthread_mutex_unlock(&mmio->page_lock);
}

void mmio_page_read(struct virtio_mmio *mmio, uint64_t offset, void *data, uint32_t length)
{
    pthread_mutex_lock(&mmio->page_lock);
    memcpy(data, mmio->page + offset, length);
    pthread_mutex_unlock(&mmio->page_lock);
}
