/*
 * A queue pair in the kernel's hands: vhost-net walks the rings, moves the packets and raises the interrupts
 * (linux/vhost.h). The VMM sets it up, and takes it back with the rings' positions for a pause or a save.
 *
 * Trust boundary: from start to stop rings and descriptors are read by the kernel only, which checks guest
 * addresses against the memory table given here. All from the device's thread.
 */
#ifndef HUSK_VMM_VIRTIO_VHOST_NET_H
#define HUSK_VMM_VIRTIO_VHOST_NET_H

#include "common/error.h"
#include "vmm/virtio/virtqueue.h"

struct vhost_net_pair {
    int vhost_fd, tap_fd;
    int kick_fd[2], call_fd[2], error_fd[2];
    struct virtqueue *queue[2]; /* receive, transmit; started */
    uint64_t features;          /* negotiated */
    const struct guest_memory *memory;
};

/* Makes the VMM the owner and checks that vhost-net knows the features it must know. 0, or -1 with err. */
int vhost_net_init(int vhost_fd, struct error *err);
/* 0 or -errno; then vhost has let go of everything. */
int vhost_net_start(const struct vhost_net_pair *pair);
/* The queues then are where vhost has left them. */
void vhost_net_stop(int vhost_fd, struct virtqueue *const queues[2]);

#endif
