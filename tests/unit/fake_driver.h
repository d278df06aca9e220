/*
 * A guest and its driver for the tests of virtio devices: RAM, rings that a test fills entry by entry, and
 * the register walk that brings a device up over virtio-mmio. It obeys the specification unless the test asks
 * for the contrary by writing descriptors itself. Shared by the unit tests and the fuzz targets.
 */
#ifndef HUSK_TESTS_UNIT_FAKE_DRIVER_H
#define HUSK_TESTS_UNIT_FAKE_DRIVER_H

#include "vmm/virtio/mmio.h"

#include "common/loop.h"

#include <linux/virtio_ring.h>

/* RAM begins here: address 0 is none. A second region follows the first without a gap in guest addresses, so
 * that a range across the seam is RAM byte by byte, but not one range. */
#define FAKE_RAM_BASE   0x100000
#define FAKE_RAM2_BYTES 0x10000

struct fake_memory {
    struct guest_memory map;
    uint8_t *ram, *ram2;
    uint64_t size; /* bytes of the first region */
    gpa_t next;    /* next byte that fake_alloc gives out */
};

/* `size` bytes of RAM, a multiple of 4096. Ends the process when there is no memory. */
void fake_memory_init(struct fake_memory *memory, uint64_t size);
void fake_memory_fini(struct fake_memory *memory);
/* Fresh zeroed RAM; all of it stays given out until fini. */
gpa_t fake_alloc(struct fake_memory *memory, uint64_t bytes, uint64_t align);
/* The host address of guest RAM. */
void *fake_at(const struct fake_memory *memory, gpa_t gpa);

struct fake_segment {
    gpa_t addr;
    uint32_t len;
    bool in; /* the device writes it */
};

struct fake_queue {
    struct fake_memory *memory;
    struct virtqueue_config config;
    uint16_t avail_idx;
    uint16_t used_seen;
    uint16_t next_desc; /* descriptors are used round robin: never have more than config.size outstanding */
};

void fake_queue_init(struct fake_queue *queue, struct fake_memory *memory, uint16_t size);
struct vring_desc *fake_queue_desc(const struct fake_queue *queue, uint16_t index);
struct vring_avail *fake_queue_avail(const struct fake_queue *queue);
struct vring_used *fake_queue_used_ring(const struct fake_queue *queue);
/* The event fields of EVENT_IDX: the driver's wish for interrupts, the device's for kicks. */
__virtio16 *fake_queue_used_event(const struct fake_queue *queue);
__virtio16 *fake_queue_avail_event(const struct fake_queue *queue);
/* Puts `head` into the avail ring and moves the index. */
void fake_queue_offer(struct fake_queue *queue, uint16_t head);
/* Chains the segments and offers them; the head. */
uint16_t fake_queue_add(struct fake_queue *queue, const struct fake_segment *segments, unsigned count);
/* The same through one indirect table. */
uint16_t fake_queue_add_indirect(struct fake_queue *queue, const struct fake_segment *segments,
                                 unsigned count);
/* Takes the next used element; false when there is none. Either pointer may be NULL. */
bool fake_queue_used(struct fake_queue *queue, uint32_t *id, uint32_t *len);

uint32_t fake_mmio_get(struct virtio_mmio *mmio, uint64_t offset);
void fake_mmio_set(struct virtio_mmio *mmio, uint64_t offset, uint32_t value);
/* Tells the device where queue `index` is and makes it ready. */
void fake_mmio_set_queue(struct virtio_mmio *mmio, unsigned index, const struct virtqueue_config *config);
/* Reset to DRIVER_OK with VERSION_1 and `features`; queue i of the device is queues[i]. The final status. */
uint32_t fake_mmio_start(struct virtio_mmio *mmio, uint64_t features, const struct fake_queue *queues,
                         unsigned count);
/* Kicks through the ioeventfd and lets the loop run until it has nothing to do. */
void fake_mmio_kick(struct virtio_mmio *mmio, struct loop *loop, unsigned queue);
void fake_loop_settle(struct loop *loop);

/* How often the (nonblocking) irqfd was written since the last call. */
uint64_t fake_interrupts(int irq_fd);

/* What the device counts under that name. Ends the process when it has no such row. */
uint64_t fake_statistic(const struct virtio_device *device, const char *name);

/* What a small device's tests need around it. */
struct fake_rig {
    struct fake_memory memory;
    struct loop *loop;
    struct virtio_device *device; /* the transport's */
    struct virtio_mmio *mmio;
    gpa_t buffer; /* for what a test puts into chains */
    int irq_fd;
};

/* RAM, a loop and a buffer in the RAM; no device yet. */
void fake_rig_init(struct fake_rig *rig, uint64_t ram_bytes, uint64_t buffer_bytes);
/* Attaches the device, which is not NULL, to a transport. Again after the transport was freed. */
void fake_rig_attach(struct fake_rig *rig, struct virtio_device *device);
void fake_rig_fini(struct fake_rig *rig);
/* Offers one chain in a queue of the device and has it served: the used length, UINT32_MAX when the chain did
 * not come back or nobody was interrupted for it. */
uint32_t fake_rig_request(struct fake_rig *rig, struct fake_queue *queue, unsigned index,
                          const struct fake_segment *segments, unsigned count);

#endif
