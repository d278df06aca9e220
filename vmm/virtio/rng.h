/* virtio-rng (virtio 1.2 §5.4): entropy from getrandom(2), each request capped. */
#ifndef HUSK_VMM_VIRTIO_RNG_H
#define HUSK_VMM_VIRTIO_RNG_H

struct loop;
struct virtio_device;

/* A device whose owner is `loop`. NULL with errno. */
struct virtio_device *virtio_rng_new(struct loop *loop);

#endif
