/*
 * Inside the virtio-mmio transport: what mmio.c (registers, vCPU threads) and mmio_page.c (what the driver
 * reads) share. Nobody else includes this.
 */
#ifndef HUSK_VMM_VIRTIO_MMIO_INTERNAL_H
#define HUSK_VMM_VIRTIO_MMIO_INTERNAL_H

#include "vmm/virtio/mmio.h"
#include "vmm/virtio/transport_core.h"

struct virtio_mmio {
    struct transport_core core; /* first */
    int irq_fd;

    /* Any thread; what is in the page too changes under its lock. */
    atomic_uint interrupt_status;
    atomic_bool calls_direct; /* InterruptStatus always tells of used buffers */
    atomic_bool acks_ignored; /* for good */

    pthread_mutex_t page_lock; /* guards both; a leaf */
    uint8_t *page;             /* own_page, or one of the machine's that the guest sees */
    _Alignas(8) uint8_t own_page[VIRTIO_MMIO_SIZE];
};

/* Registers as the driver's writes have made them: the caller holds the lock. */
void mmio_page_init(struct virtio_mmio *mmio);
void mmio_page_update(struct virtio_mmio *mmio);
/* The others: any thread. A new generation of the configuration space; bits more in or fewer in
 * InterruptStatus, more in Status; `length` bytes as the driver reads them. */
void mmio_page_update_config(struct virtio_mmio *mmio);
void mmio_page_add_interrupt(struct virtio_mmio *mmio, unsigned bits);
void mmio_page_acknowledge(struct virtio_mmio *mmio, unsigned bits);
void mmio_page_set_calls_direct(struct virtio_mmio *mmio, bool direct);
void mmio_page_add_status(struct virtio_mmio *mmio, unsigned bits);
void mmio_page_read(struct virtio_mmio *mmio, uint64_t offset, void *data, uint32_t length);

#endif
