/*
 * virtio-balloon (virtio 1.2 §5.5): memory the guest does not use goes back to the host.
 *
 * Free page reporting does so by itself, a second or two after the guest freed it; inflating is what the host
 * asks for. Given back pages take no memory until the guest touches them again. All calls from the device's
 * thread.
 */
#ifndef HUSK_VMM_VIRTIO_BALLOON_H
#define HUSK_VMM_VIRTIO_BALLOON_H

#include <linux/virtio_balloon.h>
#include <stdbool.h>
#include <stdint.h>

struct guest_memory;
struct loop;
struct virtio_device;

/* What the guest last told of its memory, by VIRTIO_BALLOON_S_*; bytes where it is an amount. */
struct virtio_balloon_statistics {
    uint32_t present; /* a bit for each value the guest gave */
    uint64_t value[VIRTIO_BALLOON_S_NR];
};

/* `memory` must be anonymous (not hugetlbfs) and stays the caller's. NULL without memory. */
struct virtio_device *virtio_balloon_new(struct loop *loop, const struct guest_memory *memory);

/* Asks the guest to hold `pages` pages of 4 KiB back. It gets there in its own time, if it can. */
void virtio_balloon_set_target(struct virtio_device *device, uint32_t pages);
/* The pages the guest says it holds back. */
uint32_t virtio_balloon_get_actual(const struct virtio_device *device);

/* Asks for new statistics; done(arg), which may be NULL, follows when they are there, and never if the guest
 * is silent. 0; -ENODEV while no driver offers them; -EBUSY while another request is under way. */
int virtio_balloon_request_statistics(struct virtio_device *device, void (*done)(void *arg), void *arg);
/* The latest ones; nothing is present before the first. */
const struct virtio_balloon_statistics *virtio_balloon_get_statistics(const struct virtio_device *device);

/* Bytes given back so far, inflated and reported: what the guest touches again is not taken off. */
uint64_t virtio_balloon_get_returned_bytes(const struct virtio_device *device);

#endif
