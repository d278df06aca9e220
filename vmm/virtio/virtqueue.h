/*
 * Split virtqueues (virtio 1.2 §2.7): the one module that walks rings and descriptor tables.
 *
 * Trust boundary: rings and tables lie in guest memory and change under our hands. Each descriptor is copied
 * once into host locals, checked, and never read again; cursors (last_avail, used index, in-flight count)
 * live here and are never read back from guest memory. The addresses and the size are fixed by
 * virtqueue_start and cannot change until stop.
 *
 * A device sees a `struct virtio_chain`: two cursors over host memory, first what the device reads ("out"),
 * then what it writes ("in"), never a descriptor. A queue belongs to one thread; a device that pops and
 * pushes from several threads holds a lock of its own around these calls.
 */
#ifndef HUSK_VMM_VIRTIO_VIRTQUEUE_H
#define HUSK_VMM_VIRTIO_VIRTQUEUE_H

#include "vmm/guest_memory.h"

#include <stdbool.h>
#include <sys/uio.h>

#define VIRTQUEUE_SIZE_MAX 1024
/* Elements of one chain, indirect ones included. §2.7.5.3.1 has drivers stay within the queue size; indirect
 * tables of Linux drivers may be longer, and this many are taken whatever the queue's size. */
#define VIRTIO_CHAIN_MAX 1024

struct snapshot_writer;
struct snapshot_reader;
struct virtqueue;

/* What the driver wrote into the transport's registers, copied at the moment the queue is enabled. */
struct virtqueue_config {
    uint16_t size; /* a power of 2, at most VIRTQUEUE_SIZE_MAX */
    gpa_t desc, avail, used;
};

/* One descriptor chain. Storage is the device's (it is large: keep it in the device or request, not on a
 * stack). */
struct virtio_chain {
    uint16_t head;
    unsigned out_count, in_count; /* elements of iov: out first */
    unsigned out_at, in_at;       /* cursor: element within its part */
    size_t out_offset, in_offset; /* cursor: byte within that element */
    size_t out_left, in_left;     /* bytes not consumed */
    size_t in_written;            /* bytes written through the in cursor: what the driver is told */
    struct iovec iov[VIRTIO_CHAIN_MAX];
};

/* A queue over `memory`; `call` and `call_arg` interrupt the driver (set by the transport; any thread). NULL
 * without memory. */
struct virtqueue *virtqueue_new(const struct guest_memory *memory, void (*call)(void *arg), void *call_arg);
void virtqueue_free(struct virtqueue *queue);

/* Makes the queue live with the negotiated features (VIRTIO_RING_F_INDIRECT_DESC and _EVENT_IDX matter here).
 * 0; -EINVAL on a bad size or misaligned address (§2.7: 16, 2, 4); -EFAULT when a part is not RAM. */
int virtqueue_start(struct virtqueue *queue, const struct virtqueue_config *config, uint64_t features);
/* Forgets the configuration and all cursors. Chains still held by the device must not be pushed afterwards.
 */
void virtqueue_stop(struct virtqueue *queue);
bool virtqueue_started(const struct virtqueue *queue);

/* Takes the next available chain. 1; 0 when there is none; -EPROTO when the ring is broken (the queue stays
 * broken: all further pops give -EPROTO until it is started anew, and the device must call
 * virtio_device_broken). */
int virtqueue_pop(struct virtqueue *queue, struct virtio_chain *chain);
/* Why the queue is broken, as a constant string for the log; NULL while it is not. */
const char *virtqueue_fault(const struct virtqueue *queue);
/* Gives the chain back with chain->in_written bytes written. Does not interrupt. */
void virtqueue_push(struct virtqueue *queue, const struct virtio_chain *chain);
struct virtqueue_used {
    uint16_t head;
    uint32_t written;
};
/* Gives several chains back at once: the driver sees all of them or none. For devices that keep of a popped
 * chain only what they need. */
void virtqueue_push_all(struct virtqueue *queue, const struct virtqueue_used *used, unsigned count);
/* Undoes the latest pop, whose chain was not pushed (a device without room for the answer). Chains popped
 * before it may still be in flight. */
void virtqueue_unpop(struct virtqueue *queue, const struct virtio_chain *chain);
/* Breaks the queue for a reason of the device's own (a constant string): see virtqueue_pop. */
void virtqueue_break(struct virtqueue *queue, const char *fault);
/* Interrupts the driver if it wants to hear of what was pushed since the last call (§2.7.7, §2.7.10). */
void virtqueue_notify(struct virtqueue *queue);
/* Asks the driver not to kick. A hint, as §2.7.10 has it. */
void virtqueue_disable_kicks(struct virtqueue *queue);
/* Asks the driver to kick. True when chains came in meanwhile: the caller must go on popping. */
bool virtqueue_enable_kicks(struct virtqueue *queue);
/* Chains that wait to be popped; 0 for a queue that is stopped or broken. */
unsigned virtqueue_available(struct virtqueue *queue);
/* Chains popped and not yet pushed. */
unsigned virtqueue_in_flight(const struct virtqueue *queue);

/* Copies up to `length` bytes out of the chain and moves the cursor; returns the count. */
size_t virtio_chain_read(struct virtio_chain *chain, void *to, size_t length);
/* Copies up to `length` bytes into the chain, moves the cursor and counts them as written; returns the count.
 */
size_t virtio_chain_write(struct virtio_chain *chain, const void *from, size_t length);
/* The rest of the out (in) part as an iovec array of at most max_bytes, for preadv/pwritev: returns the
 * number of elements put in `iov` (room for VIRTIO_CHAIN_MAX) without moving the cursor. */
unsigned virtio_chain_out_iov(const struct virtio_chain *chain, size_t max_bytes, struct iovec *iov);
unsigned virtio_chain_in_iov(const struct virtio_chain *chain, size_t max_bytes, struct iovec *iov);
/* Moves the out (in) cursor over bytes used in place; the in form counts them as written. At most what is
 * left. */
void virtio_chain_out_skip(struct virtio_chain *chain, size_t bytes);
void virtio_chain_in_skip(struct virtio_chain *chain, size_t bytes);

/* For a queue that the kernel walks instead of this module (vhost): where its rings are in our address space,
 * and how far it has come. No chain is in flight before and after. */
struct virtqueue_rings {
    uint16_t size;
    const void *desc, *avail;
    void *used;
};
void virtqueue_get_rings(const struct virtqueue *queue, struct virtqueue_rings *rings);
uint16_t virtqueue_position(const struct virtqueue *queue);
void virtqueue_set_position(struct virtqueue *queue, uint16_t position);

/* Cursors only: configuration is the transport's. Both on a started queue with no chain in flight (-EBUSY);
 * restore gives -EPROTO for cursors that no queue can have. */
int virtqueue_save(const struct virtqueue *queue, struct snapshot_writer *writer);
int virtqueue_restore(struct virtqueue *queue, struct snapshot_reader *reader);

#endif
