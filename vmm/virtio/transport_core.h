/*
 * Inside the transports: what mmio*.c and pci*.c (registers, vCPU threads) share with transport.c (the rules
 * that their writes obey) and transport_state.c (the device's thread: activation, reset, pause, snapshots).
 * Nobody else includes this.
 */
#ifndef HUSK_VMM_VIRTIO_TRANSPORT_CORE_H
#define HUSK_VMM_VIRTIO_TRANSPORT_CORE_H

#include "vmm/virtio/transport.h"

#include "common/loop.h"

#include <pthread.h>
#include <stdatomic.h>

struct transport_core;

struct transport_queue {
    struct transport_core *core;
    struct virtqueue_config config;
    bool ready;
    struct watch kick; /* its eventfd */
};

/* How one bus differs from another. */
struct transport_bus {
    const char *section; /* of snapshots */
    uint32_t section_version;
    struct virtio_transport calls; /* what the device calls */
    /* Used buffers in a queue: interrupts the driver. Any thread. */
    void (*call)(struct transport_core *core, unsigned queue);
    /* What a reset does to state of the bus's own. The caller holds the lock. */
    void (*reset)(struct transport_core *core);
    /* After a pause: raises again what may have got lost. */
    void (*resume)(struct transport_core *core);
    /* State of the bus's own, put or got in its section: 0 or -errno. The caller holds the lock. */
    int (*save)(const struct transport_core *core, struct snapshot_writer *writer);
    int (*restore)(struct transport_core *core, struct snapshot_reader *reader);
    /* The state is restored, or a reset has taken its place. NULL: nothing to do. The caller holds the lock.
     */
    void (*restored)(struct transport_core *core);
    /* Frees the transport, whose device and queues are gone. */
    void (*free)(struct transport_core *core);
};

/* The head of every transport: embed it first. */
struct transport_core {
    struct virtio_transport transport; /* first: what the device points at */
    const struct transport_bus *bus;
    struct virtio_device *device;

    /* Written by vCPU threads under the lock. The device's thread reads it only within loop_call, that is,
     * while a vCPU thread holds the lock for it; it never takes the lock itself. */
    pthread_mutex_t lock;
    uint8_t status; /* without NEEDS_RESET, which is the device's */
    uint32_t device_features_sel, driver_features_sel, queue_sel;
    uint64_t driver_features;
    struct transport_queue queue[VIRTIO_DEVICE_QUEUES_MAX];

    /* Any thread. */
    atomic_uint config_generation; /* counts up; a bus that has fewer bits for it shows the low ones */
    atomic_bool needs_reset;
    atomic_ullong interrupts; /* raised here, for statistics */

    /* The device's thread. */
    bool active; /* ops->activate succeeded since the last reset */
    bool paused;
};

/* Makes the core of a transport for the device, whose call_fd is set: its queues, their eventfds, watched in
 * device->loop. On failure the device is freed and nothing is left to free but the transport's own. 0 or
 * -errno. */
int core_init(struct transport_core *core, const struct transport_bus *bus, struct virtio_device *device,
              const struct guest_memory *memory);

/* What is offered to the driver: the device's features, ring features and VERSION_1. */
uint64_t core_features(const struct transport_core *core);
/* The half of these that is selected. The caller holds the lock, as for the next five. */
uint32_t core_selected_features(const struct transport_core *core);
/* Registers as the driver writes them. What is out of turn is ignored (§3.1.1). */
void core_write_features(struct transport_core *core, uint32_t value);
void core_write_status(struct transport_core *core, uint32_t value);
/* The selected queue while its size and addresses (`enabled` false) or its being ready (true) may be changed;
 * else NULL. */
struct transport_queue *core_queue_open(struct transport_core *core, bool enabled);
/* 0 stands for a size that no queue can have: activation refuses it. */
void core_queue_resize(struct transport_core *core, struct transport_queue *queue, uint32_t size);
/* One half of an address. */
void core_set_half(uint64_t *field, bool high, uint32_t value);
/* Status as the driver reads it. */
uint8_t core_status(const struct transport_core *core);

/* Whether an access to configuration space lies in it, in the width of a field (§4.1.3.1, §4.2.2.2). */
bool core_config_access(const struct transport_core *core, uint64_t offset, uint32_t length);
/* Writes configuration space, if it may be. The caller holds the lock. */
void core_config_write(struct transport_core *core, uint64_t offset, const void *data, uint32_t length);

/* Makes an eventfd readable. Any thread. */
void core_signal(int fd);
/* Counts an interrupt and raises it. Any thread. */
void core_interrupt(struct transport_core *core, int fd);
/* Makes queue `index` look kicked. Any thread. */
void core_kick(struct transport_core *core, unsigned index);
/* The driver wrote a queue's number to where no ioeventfd took it. The caller holds the lock. */
void core_notified(struct transport_core *core, uint32_t index);
/* struct virtio_transport's. */
void core_kick_again(struct virtio_transport *transport, unsigned queue);

/* transport_state.c. The watch function of each queue's eventfd. */
void core_on_kick(struct watch *watch, uint32_t events);
/* Has the device's loop watch the queues' eventfds, or forget them. Any thread. 0 or -errno. */
int core_watch_kicks(struct transport_core *core);
void core_unwatch_kicks(struct transport_core *core);
/* DRIVER_OK: starts queues and device, or sets NEEDS_RESET. The caller holds the lock. */
void core_activate(struct transport_core *core);
/* Status = 0: device and queues are quiet when it returns. The caller holds the lock. */
void core_reset(struct transport_core *core);

#endif
