/*
 * Fuzz target: a driver that writes whatever it likes into rings, descriptor tables and indirect tables.
 *
 * Input: features (1 byte), queue size as a power of 2 (1 byte), then the content of guest memory from the
 * descriptor table on. The device pops, reads, writes and pushes until nothing is left or the ring is broken;
 * it may not touch a byte outside guest RAM (the sanitizers see to that) and must come to an end.
 */
#include "vmm/virtio/virtqueue.h"

#undef NDEBUG /* an assertion is the test */
#include <assert.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#define RAM_BASE  0x1000
#define RAM_BYTES 0x4000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore_call(void *arg)
{
    (*(unsigned *)arg)++;
}

/* What a device does with a chain: in pieces of odd sizes, one by copy, one in place. */
static void use_chain(struct virtio_chain *chain)
{
    static struct iovec iov[VIRTIO_CHAIN_MAX];
    uint8_t bytes[77];
    size_t out = chain->out_left, in = chain->in_left, seen = 0;
    assert(chain->out_count + chain->in_count <= VIRTIO_CHAIN_MAX);
    while (chain->out_left > 0 && seen < RAM_BYTES) {
        seen += virtio_chain_read(chain, bytes, sizeof(bytes));
        unsigned count = virtio_chain_out_iov(chain, 13, iov);
        for (unsigned i = 0; i < count; i++)
            seen += ((volatile uint8_t *)iov[i].iov_base)[iov[i].iov_len - 1] != 0;
        virtio_chain_out_skip(chain, 13);
    }
    assert(chain->out_left <= out);
    size_t limit = in < 512 ? in : 512;
    while (chain->in_written < limit) {
        virtio_chain_write(chain, "\xa5\x5a\xa5", 3);
        unsigned count = virtio_chain_in_iov(chain, 5, iov);
        for (unsigned i = 0; i < count; i++)
            memset(iov[i].iov_base, 0x5a, iov[i].iov_len);
        virtio_chain_in_skip(chain, 5);
    }
    assert(chain->in_written + chain->in_left == in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct virtio_chain chain;
    if (size < 2)
        return 0;
    uint8_t *ram = aligned_alloc(4096, RAM_BYTES);
    assert(ram);
    memset(ram, 0, RAM_BYTES);
    memcpy(ram, data + 2, size - 2 < RAM_BYTES ? size - 2 : RAM_BYTES);
    struct guest_memory memory = {.regions = 0};
    assert(guest_memory_add(&memory, RAM_BASE, RAM_BYTES, ram) == 0);

    unsigned calls = 0;
    struct virtqueue *queue = virtqueue_new(&memory, ignore_call, &calls);
    assert(queue);
    uint16_t entries = (uint16_t)(1u << (data[1] % 9));
    uint64_t features = (data[0] & 1 ? 1ULL << VIRTIO_RING_F_INDIRECT_DESC : 0) |
                        (data[0] & 2 ? 1ULL << VIRTIO_RING_F_EVENT_IDX : 0);
    struct virtqueue_config config = {.size = entries, .desc = RAM_BASE};
    config.avail = config.desc + 16ULL * entries;
    config.used = (config.avail + 6 + 2ULL * entries + 3) & ~3ULL;
    if (virtqueue_start(queue, &config, features) == 0) {
        unsigned popped = 0;
        int got = 0;
        do {
            virtqueue_disable_kicks(queue);
            /* The device writes into rings that buffers may overlap, so the avail index may go on for ever.
             */
            while (popped < 1000 && (got = virtqueue_pop(queue, &chain)) > 0) {
                popped++;
                if (data[0] & 4 && popped % 3 == 0) {
                    virtqueue_unpop(queue, &chain);
                    continue;
                }
                use_chain(&chain);
                virtqueue_push(queue, &chain);
                virtqueue_notify(queue);
            }
        } while (popped < 1000 && got == 0 && virtqueue_enable_kicks(queue));
        assert(got >= 0 || (got == -EPROTO && virtqueue_fault(queue)));
        assert(virtqueue_in_flight(queue) == 0);
        virtqueue_stop(queue);
    }
    virtqueue_free(queue);
    free(ram);
    return 0;
}
