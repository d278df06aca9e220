/*
 * Split virtqueues: see virtqueue.h. Chains are walked here; the cursors over a popped chain are in chain.c.
 *
 * Everything that the driver writes (descriptor table, indirect tables, avail ring) is read once into host
 * memory and checked afterwards, and the compiler is told so that it cannot read it again. A driver that
 * breaks a rule breaks its queue: `fault` names the rule and stays until the queue is started anew. Called by
 * devices, from the thread that owns the queue.
 */
#include "vmm/virtio/virtqueue.h"

#include "vmm/snapshot.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* §2.7.5: a chain holds at most 2^32 bytes. The used ring tells lengths in 32 bits. */
#define CHAIN_BYTES_MAX ((uint64_t)UINT32_MAX)

struct virtqueue {
    const struct guest_memory *memory;
    void (*call)(void *arg);
    void *call_arg;

    bool started;
    bool indirect, event_idx; /* negotiated */
    const char *fault;
    uint16_t size;
    /* Guest memory. */
    const uint8_t *desc;
    const struct vring_avail *avail;
    struct vring_used *used;
    /* Ours alone. */
    uint16_t last_avail; /* next entry of the avail ring to take */
    uint16_t used_idx;   /* next entry of the used ring to fill */
    uint16_t in_flight;
    uint16_t called_at; /* used_idx when virtqueue_notify last looked */
    bool called;        /* called_at is valid */
    bool pushed;        /* since then */
};

static uint16_t load16(const __virtio16 *field)
{
    return le16toh(__atomic_load_n(field, __ATOMIC_RELAXED));
}

static void store16(__virtio16 *field, uint16_t value)
{
    __atomic_store_n(field, htole16(value), __ATOMIC_RELAXED);
}

/* avail_event (§2.7.10) follows the used ring: kick us when the avail index passes it. */
static __virtio16 *avail_event(const struct virtqueue *queue)
{
    return (__virtio16 *)&queue->used->ring[queue->size];
}

/* used_event (§2.7.7) follows the avail ring: the driver wants a call when the used index passes it. */
static const __virtio16 *used_event(const struct virtqueue *queue)
{
    return &queue->avail->ring[queue->size];
}

struct virtqueue *virtqueue_new(const struct guest_memory *memory, void (*call)(void *arg), void *call_arg)
{
    struct virtqueue *queue = calloc(1, sizeof(*queue));
    if (queue)
        *queue = (struct virtqueue){.memory = memory, .call = call, .call_arg = call_arg};
    return queue;
}

void virtqueue_free(struct virtqueue *queue)
{
    free(queue);
}

int virtqueue_start(struct virtqueue *queue, const struct virtqueue_config *config, uint64_t features)
{
    uint16_t size = config->size;
    if (size == 0 || size > VIRTQUEUE_SIZE_MAX || (size & (size - 1)) != 0)
        return -EINVAL;
    if (config->desc % VRING_DESC_ALIGN_SIZE || config->avail % VRING_AVAIL_ALIGN_SIZE ||
        config->used % VRING_USED_ALIGN_SIZE)
        return -EINVAL;

    /* Each ring has one 16-bit event field behind its entries, whether negotiated or not (§2.7). */
    size_t desc_bytes = (size_t)size * sizeof(struct vring_desc);
    size_t avail_bytes = sizeof(struct vring_avail) + ((size_t)size + 1) * sizeof(__virtio16);
    size_t used_bytes = sizeof(struct vring_used) + (size_t)size * sizeof(struct vring_used_elem) + 2;
    queue->desc = guest_memory_at(queue->memory, config->desc, desc_bytes);
    queue->avail = guest_memory_at(queue->memory, config->avail, avail_bytes);
    queue->used = guest_memory_at(queue->memory, config->used, used_bytes);
    queue->started = false;
    if (!queue->desc || !queue->avail || !queue->used)
        return -EFAULT;

    queue->size = size;
    queue->indirect = features & (1ULL << VIRTIO_RING_F_INDIRECT_DESC);
    queue->event_idx = features & (1ULL << VIRTIO_RING_F_EVENT_IDX);
    queue->last_avail = queue->used_idx = queue->in_flight = 0;
    queue->called = queue->pushed = false;
    queue->fault = NULL;
    queue->started = true;
    return 0;
}

void virtqueue_stop(struct virtqueue *queue)
{
    queue->started = false;
    queue->fault = NULL;
    queue->desc = NULL;
    queue->avail = NULL;
    queue->used = NULL;
    queue->in_flight = 0;
}

bool virtqueue_started(const struct virtqueue *queue)
{
    return queue && queue->started;
}

const char *virtqueue_fault(const struct virtqueue *queue)
{
    return queue->fault;
}

unsigned virtqueue_in_flight(const struct virtqueue *queue)
{
    return queue->in_flight;
}

static int break_queue(struct virtqueue *queue, const char *fault)
{
    queue->fault = fault;
    return -EPROTO;
}

/* A descriptor in host memory. */
struct descriptor {
    gpa_t addr;
    uint32_t len;
    uint16_t flags, next;
};

/* The one read of a descriptor. An indirect table may lie at any address, hence bytes. */
static struct descriptor fetch(const uint8_t *table, unsigned index)
{
    struct vring_desc desc;
    memcpy(&desc, table + index * sizeof(desc), sizeof(desc));
    /* Compiler barrier: what is used from here on is the copy, never the guest's memory again. */
    atomic_signal_fence(memory_order_seq_cst);
    return (struct descriptor){.addr = le64toh(desc.addr),
                               .len = le32toh(desc.len),
                               .flags = le16toh(desc.flags),
                               .next = le16toh(desc.next)};
}

/* A descriptor table under the walker: the queue's own, or one indirect table. */
struct table {
    const uint8_t *desc;
    unsigned count;
    unsigned seen; /* descriptors taken: more than count means a loop */
    bool indirect;
};

/* Follows a descriptor that refers to an indirect table (§2.7.5.3). It ends its own table; its WRITE flag
 * says nothing (§2.7.5.3.2). */
static int enter_indirect(struct virtqueue *queue, const struct descriptor *descriptor, struct table *table)
{
    if (!queue->indirect)
        return break_queue(queue, "indirect descriptor not negotiated");
    if (table->indirect)
        return break_queue(queue, "indirect table within an indirect table");
    if (descriptor->flags & VRING_DESC_F_NEXT)
        return break_queue(queue, "descriptor both indirect and chained");
    if (descriptor->len == 0 || descriptor->len % sizeof(struct vring_desc))
        return break_queue(queue, "length of indirect table");
    unsigned count = descriptor->len / (unsigned)sizeof(struct vring_desc);
    if (count > VIRTIO_CHAIN_MAX)
        return break_queue(queue, "indirect table too long");
    const uint8_t *desc = guest_memory_at(queue->memory, descriptor->addr, descriptor->len);
    if (!desc)
        return break_queue(queue, "indirect table outside RAM");
    *table = (struct table){.desc = desc, .count = count, .indirect = true};
    return 0;
}

/* Adds one buffer to the chain. `total` is the chain's length so far. */
static int add_buffer(struct virtqueue *queue, struct virtio_chain *chain,
                      const struct descriptor *descriptor, uint64_t *total)
{
    bool in = descriptor->flags & VRING_DESC_F_WRITE;
    if (!in && chain->in_count)
        return break_queue(queue, "readable descriptor after a writable one"); /* §2.7.4.2 */
    if (__builtin_add_overflow(*total, descriptor->len, total) || *total > CHAIN_BYTES_MAX)
        return break_queue(queue, "chain holds too many bytes");
    if (descriptor->len == 0)
        return 0; /* carries nothing: the address means nothing either */
    unsigned count = chain->out_count + chain->in_count;
    if (count == VIRTIO_CHAIN_MAX)
        return break_queue(queue, "chain too long");
    void *hva = guest_memory_at(queue->memory, descriptor->addr, descriptor->len);
    if (!hva)
        return break_queue(queue, "buffer outside RAM");
    chain->iov[count] = (struct iovec){.iov_base = hva, .iov_len = descriptor->len};
    if (in) {
        chain->in_count++;
        chain->in_left += descriptor->len;
    } else {
        chain->out_count++;
        chain->out_left += descriptor->len;
    }
    return 0;
}

static int walk_chain(struct virtqueue *queue, struct virtio_chain *chain)
{
    struct table table = {.desc = queue->desc, .count = queue->size};
    uint16_t index = chain->head;
    uint64_t total = 0;
    for (;;) {
        if (index >= table.count)
            return break_queue(queue, "descriptor index out of range");
        if (table.seen++ == table.count)
            return break_queue(queue, "descriptor loop");
        struct descriptor descriptor = fetch(table.desc, index);
        if (descriptor.flags & VRING_DESC_F_INDIRECT) {
            int err = enter_indirect(queue, &descriptor, &table);
            if (err)
                return err;
            index = 0;
            continue;
        }
        int err = add_buffer(queue, chain, &descriptor, &total);
        if (err)
            return err;
        if (!(descriptor.flags & VRING_DESC_F_NEXT))
            return 0;
        index = descriptor.next;
    }
}

/* Chains that wait in the avail ring, or -EPROTO. */
static int available(struct virtqueue *queue)
{
    /* Acquire: what the driver wrote before it moved the index (ring entries, descriptors, payload) must not
     * be read from before this load. Pairs with the driver's barrier of §2.7.13.3. */
    uint16_t idx = le16toh(__atomic_load_n(&queue->avail->idx, __ATOMIC_ACQUIRE));
    uint16_t count = (uint16_t)(idx - queue->last_avail);
    /* No more chains can be outstanding than the table has descriptors. */
    if (count > queue->size - queue->in_flight)
        return break_queue(queue, "avail index too far ahead");
    return count;
}

unsigned virtqueue_available(struct virtqueue *queue)
{
    int count = queue->started && !queue->fault ? available(queue) : 0;
    return count > 0 ? (unsigned)count : 0;
}

int virtqueue_pop(struct virtqueue *queue, struct virtio_chain *chain)
{
    if (!queue->started)
        return 0;
    if (queue->fault)
        return -EPROTO;
    int count = available(queue);
    if (count <= 0)
        return count;

    uint16_t head = load16(&queue->avail->ring[queue->last_avail & (queue->size - 1)]);
    chain->head = head;
    chain->out_count = chain->in_count = 0;
    chain->out_at = chain->in_at = 0;
    chain->out_offset = chain->in_offset = 0;
    chain->out_left = chain->in_left = chain->in_written = 0;
    int err = walk_chain(queue, chain);
    if (err)
        return err;
    queue->last_avail++;
    queue->in_flight++;
    return 1;
}

void virtqueue_unpop(struct virtqueue *queue, const struct virtio_chain *chain)
{
    (void)chain; /* popping again walks it anew: nothing of it is kept */
    queue->last_avail--;
    queue->in_flight--;
}

void virtqueue_push_all(struct virtqueue *queue, const struct virtqueue_used *used, unsigned count)
{
    if (!queue->started || count == 0)
        return;
    for (unsigned i = 0; i < count; i++) {
        struct vring_used_elem *entry = &queue->used->ring[queue->used_idx & (queue->size - 1)];
        __atomic_store_n(&entry->id, htole32(used[i].head), __ATOMIC_RELAXED);
        __atomic_store_n(&entry->len, htole32(used[i].written), __ATOMIC_RELAXED);
        queue->used_idx++;
        queue->in_flight--;
    }
    queue->pushed = true;
    /* Release: the payload and the entries must be in memory before the index that shows them (§2.7.8.2). */
    __atomic_store_n(&queue->used->idx, htole16(queue->used_idx), __ATOMIC_RELEASE);
}

void virtqueue_push(struct virtqueue *queue, const struct virtio_chain *chain)
{
    struct virtqueue_used used = {.head = chain->head,
                                  .written = (uint32_t)chain->in_written}; /* at most CHAIN_BYTES_MAX */
    virtqueue_push_all(queue, &used, 1);
}

void virtqueue_break(struct virtqueue *queue, const char *fault)
{
    break_queue(queue, fault);
}

void virtqueue_notify(struct virtqueue *queue)
{
    if (!queue->started || !queue->pushed)
        return;
    uint16_t from = queue->called_at;
    bool first = !queue->called;
    queue->called_at = queue->used_idx;
    queue->called = true;
    queue->pushed = false;
    /* Full barrier: the used index must be visible before used_event or the flag is read. A driver that turns
     * calls on writes its field, then looks at the index again: one of us sees the other's store. */
    atomic_thread_fence(memory_order_seq_cst);
    bool wanted;
    if (queue->event_idx)
        wanted = first || vring_need_event(load16(used_event(queue)), queue->used_idx, from);
    else
        wanted = !(load16(&queue->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
    if (wanted)
        queue->call(queue->call_arg);
}

void virtqueue_disable_kicks(struct virtqueue *queue)
{
    if (!queue->started)
        return;
    /* With EVENT_IDX the flag means nothing: an event index just behind what was taken is passed only when
     * the indices wrap. */
    if (queue->event_idx)
        store16(avail_event(queue), (uint16_t)(queue->last_avail - 1));
    else
        store16(&queue->used->flags, VRING_USED_F_NO_NOTIFY);
}

bool virtqueue_enable_kicks(struct virtqueue *queue)
{
    if (!queue->started || queue->fault)
        return false;
    if (queue->event_idx)
        store16(avail_event(queue), queue->last_avail);
    else
        store16(&queue->used->flags, 0);
    /* Full barrier: the wish for kicks must be visible before the avail index is read. A driver moves the
     * index, then reads our wish: without this both could miss each other and the chain would wait for ever.
     */
    atomic_thread_fence(memory_order_seq_cst);
    return le16toh(__atomic_load_n(&queue->avail->idx, __ATOMIC_RELAXED)) != queue->last_avail;
}

void virtqueue_get_rings(const struct virtqueue *queue, struct virtqueue_rings *rings)
{
    *rings = (struct virtqueue_rings){queue->size, queue->desc, queue->avail, queue->used};
}

uint16_t virtqueue_position(const struct virtqueue *queue)
{
    return queue->last_avail;
}

void virtqueue_set_position(struct virtqueue *queue, uint16_t position)
{
    queue->last_avail = queue->used_idx = position;
    queue->in_flight = 0;
    queue->called = false;
}

int virtqueue_save(const struct virtqueue *queue, struct snapshot_writer *writer)
{
    if (!queue->started || queue->in_flight)
        return -EBUSY;
    snapshot_put_u16(writer, queue->last_avail);
    snapshot_put_u16(writer, queue->used_idx);
    snapshot_put_u8(writer, queue->fault != NULL);
    return 0;
}

int virtqueue_restore(struct virtqueue *queue, struct snapshot_reader *reader)
{
    if (!queue->started || queue->in_flight)
        return -EBUSY;
    uint16_t last_avail = snapshot_get_u16(reader);
    uint16_t used_idx = snapshot_get_u16(reader);
    bool broken = snapshot_get_u8(reader) != 0;
    int err = snapshot_reader_error(reader);
    if (err)
        return err;
    if (last_avail != used_idx) /* nothing was in flight: as many taken as given back */
        return -EPROTO;
    queue->last_avail = last_avail;
    queue->used_idx = used_idx;
    queue->called = false; /* one interrupt too many is harmless, one too few is not */
    queue->fault = broken ? "broken when it was saved" : NULL;
    return 0;
}
