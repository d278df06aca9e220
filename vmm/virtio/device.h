/*
 * What a virtio device is to its transport (virtio 1.2 §2), and what a transport is to a device.
 *
 * A device knows features, configuration space, queues and what to do with a chain. It knows nothing of
 * registers, addresses or interrupts. Each device is owned by one loop's thread: activate, kick, reset, save
 * and restore are all called there (the transport crosses threads with loop_call), so a device needs no lock
 * against its transport. features and config_* may come from any vCPU thread at any time and must only touch
 * constant or atomic data.
 */
#ifndef HUSK_VMM_VIRTIO_DEVICE_H
#define HUSK_VMM_VIRTIO_DEVICE_H

#include "common/log.h"
#include "vmm/virtio/virtqueue.h"

#include <stdatomic.h>
#include <stdint.h>

#define VIRTIO_DEVICE_QUEUES_MAX                                                                             \
    65 /* a network device with a queue pair for each of 32 vCPUs, and its control */

struct loop;
struct virtio_device;

struct virtio_statistic {
    const char *name; /* static: "rx-packets" */
    uint64_t value;
};

struct virtio_device_ops {
    const char *name; /* for logs and snapshot sections: "console", "vsock", "fs", "rng" */
    uint32_t id;      /* VIRTIO_ID_* */
    uint64_t (*features)(const struct virtio_device *device); /* device-specific ones; the transport adds ring
                                                                 features and VERSION_1 */
    /* Configuration space (§2.5). An access outside it reads as zero, a write outside is dropped: the
     * transport calls these only with offset + length <= config_size. config_write may be NULL: read-only. */
    uint32_t config_size;
    void (*config_read)(const struct virtio_device *device, uint32_t offset, void *to, uint32_t length);
    void (*config_write)(struct virtio_device *device, uint32_t offset, const void *from, uint32_t length);
    /* DRIVER_OK: features are settled, device->queue[i] of enabled queues are started. No chain is taken
     * here: the transport calls kick for every started queue right after. 0 or -errno (the transport then
     * sets NEEDS_RESET). */
    int (*activate)(struct virtio_device *device, uint64_t features);
    /* The driver made chains available in queue i. NULL: threads of the device's own wait on kick_fd[i]
     * between activate and reset, and the loop does not. */
    void (*kick)(struct virtio_device *device, unsigned queue);
    /* Device reset (§2.4): when it returns no request is in flight, no thread touches a chain or guest
     * memory. Called with the queues still started; the transport stops them after. Also before a save. */
    void (*reset)(struct virtio_device *device);
    /* As reset but keeps state: waits until nothing is in flight. Kicks are held back until resume. Both may
     * be NULL for a device that finishes every chain within kick. */
    void (*pause)(struct virtio_device *device);
    void (*resume)(struct virtio_device *device);
    /* The device's own state, while paused. The transport has opened the device's section and closes it:
     * save only puts values and restore gets all of them (-EPROTO or so for values no device can have).
     * Restore comes after activate if the saved device was active; resume follows. */
    int (*save)(const struct virtio_device *device, struct snapshot_writer *writer);
    int (*restore)(struct virtio_device *device, struct snapshot_reader *reader);
    /* What the device counts, for the host: up to `max` rows; their number. Any thread. May be NULL. */
    unsigned (*statistics)(const struct virtio_device *device, struct virtio_statistic *rows, unsigned max);
    /* Frees the device. It was reset before. */
    void (*free)(struct virtio_device *device);
};

/* The head of every device: embed it first. */
struct virtio_device {
    const struct virtio_device_ops *ops;
    struct loop *loop; /* the owner's; set by the device's constructor */
    unsigned queue_count;
    uint16_t queue_size_max;                           /* a power of 2 */
    struct virtqueue *queue[VIRTIO_DEVICE_QUEUES_MAX]; /* made by the transport when the device is attached */
    int kick_fd[VIRTIO_DEVICE_QUEUES_MAX];             /* eventfds, the transport's; set with the queues */
    struct virtio_transport *transport;                /* set when attached */
    int call_fd[VIRTIO_DEVICE_QUEUES_MAX];             /* eventfds that interrupt for used buffers; the
                                                          transport's, not all different */
    atomic_flag broken_busy;                           /* guards broken_limit: queues may break at once */
    struct log_limit broken_limit;
};

/* What a transport gives its device. From the device's thread, or any other. */
struct virtio_transport {
    /* A new generation of the configuration space, and a configuration interrupt. */
    void (*config_changed)(struct virtio_transport *transport);
    /* The same without an interrupt: for what the driver has caused itself. One of the two is called whenever
     * config_read would give something new, but for what a config_write changed. */
    void (*config_refresh)(struct virtio_transport *transport);
    /* DEVICE_NEEDS_RESET (§2.1.2) and a configuration interrupt. */
    void (*broken)(struct virtio_transport *transport);
    /* Has ops->kick called for the queue once more, after whatever else the loop has to do: for a device that
     * leaves chains behind to be fair to others. */
    void (*kick_again)(struct virtio_transport *transport, unsigned queue);
    /* From now on (or no longer) somebody else, the kernel, signals call_fd for used buffers: the driver is
     * told at every interrupt that there may be some. */
    void (*calls_direct)(struct virtio_transport *transport, bool direct);
};

/* Tells the driver that its ring is broken beyond repair: logs why (rate-limited) and sets NEEDS_RESET. From
 * any thread. */
void virtio_device_broken(struct virtio_device *device, unsigned queue);

#endif
