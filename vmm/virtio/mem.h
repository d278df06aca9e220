/*
 * virtio-mem (virtio 1.2 §5.15): memory that the guest gets and gives back while it runs, block by block.
 *
 * The region lies above boot memory, one reserved mapping in one memory slot; only plugged blocks that the
 * guest touched take memory of the host. The guest keeps its administration of a plugged block (1/64 of it)
 * in memory it had before. All calls from the device's thread.
 */
#ifndef HUSK_VMM_VIRTIO_MEM_H
#define HUSK_VMM_VIRTIO_MEM_H

#include "vmm/guest_memory.h"

#include <stdbool.h>

#define VIRTIO_MEM_BLOCK_BYTES (2ull << 20) /* a huge page of the host */

struct loop;
struct virtio_device;

struct virtio_mem_options {
    const struct guest_memory *memory; /* the region is one of its; the caller's */
    gpa_t region;                      /* a multiple of the block size, and so is: */
    uint64_t region_bytes;
    uint64_t bytes_max; /* what may be plugged of it, the rest is for alignment */
};

/* A region without a plugged block. NULL with errno: EINVAL for a region that is none. */
struct virtio_device *virtio_mem_new(struct loop *loop, const struct virtio_mem_options *options);

/* Asks the guest to have `bytes` plugged, rounded up to whole blocks. It gets there in its own time: more is
 * plugged at once, less only where the guest can free whole blocks. 0, or -ERANGE beyond bytes_max. */
int virtio_mem_request(struct virtio_device *device, uint64_t bytes);
uint64_t virtio_mem_get_requested(const struct virtio_device *device);
uint64_t virtio_mem_get_plugged(const struct virtio_device *device);

/* Has changed(arg) called after the guest plugged or unplugged something. One listener; NULL for none. */
void virtio_mem_on_change(struct virtio_device *device, void (*changed)(void *arg), void *arg);

#endif
