/*
 * Inside the virtio-mmio transport: what mmio.c (registers, vCPU threads) and mmio_state.c (the device's
 * thread: activation, reset, pause, snapshots) share. Nobody else includes this.
 */
#ifndef HUSK_VMM_VIRTIO_MMIO_INTERNAL_H
#define HUSK_VMM_VIRTIO_MMIO_INTERNAL_H

#include "vmm/virtio/mmio.h"

#include "common/loop.h"

#include <pthread.h>
#include <stdatomic.h>

struct mmio_queue {
    struct virtqueue_config config;
    bool ready;
    struct watch kick; /* its eventfd */
};

struct virtio_mmio {
    struct virtio_transport transport; /* first: what the device points at */
    struct virtio_device *device;
    int irq_fd;

    /* Written by vCPU threads under the lock. The device's thread reads it only within loop_call, that is,
     * while a vCPU thread holds the lock for it; it never takes the lock itself. */
    pthread_mutex_t lock;
    uint8_t status; /* without NEEDS_RESET, which is the device's */
    uint32_t device_features_sel, driver_features_sel, queue_sel;
    uint64_t driver_features;
    struct mmio_queue queue[VIRTIO_DEVICE_QUEUES_MAX];

    /* Any thread; what is in the page too changes under its lock. */
    atomic_uint interrupt_status;
    atomic_uint config_generation;
    atomic_bool needs_reset;
    atomic_bool calls_direct; /* InterruptStatus always tells of used buffers */
    atomic_bool acks_ignored; /* for good */
    atomic_ullong interrupts; /* raised here, for statistics */

    /* What the driver reads: mmio_page.c. */
    pthread_mutex_t page_lock; /* guards both; a leaf */
    uint8_t *page;             /* own_page, or one of the machine's that the guest sees */
    _Alignas(8) uint8_t own_page[VIRTIO_MMIO_SIZE];

    /* The device's thread. */
    bool active; /* ops->activate succeeded since the last reset */
    bool paused;
};

/* What is offered to the driver: the device's features, ring features and VERSION_1. */
uint64_t mmio_features(const struct virtio_mmio *mmio);

/* mmio_page.c. Registers as the driver's writes have made them: the caller holds the lock. */
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

/* Sets bits of InterruptStatus and raises the line. Any thread. */
void mmio_interrupt(struct virtio_mmio *mmio, unsigned bits);

/* Makes queue `index` look kicked. Any thread. */
void mmio_kick(struct virtio_mmio *mmio, unsigned index);

/* The watch function of each queue's eventfd. */
void mmio_on_kick(struct watch *watch, uint32_t events);

/* Has the device's loop watch the queues' eventfds, or forget them. Any thread. 0 or -errno. */
int mmio_watch_kicks(struct virtio_mmio *mmio);
void mmio_unwatch_kicks(struct virtio_mmio *mmio);

/* DRIVER_OK: starts queues and device, or sets NEEDS_RESET. The caller holds the lock. */
void mmio_activate(struct virtio_mmio *mmio);

/* Status = 0: device and queues are quiet when it returns. The caller holds the lock. */
void mmio_reset(struct virtio_mmio *mmio);

#endif
