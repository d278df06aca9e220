/*
 * Cursors over a popped descriptor chain: see virtqueue.h. The elements are host memory that virtqueue_pop
 * checked; their bytes are the guest's and may change at any time, so what is parsed is copied out first.
 * Called by devices.
 */
#include "vmm/virtio/virtqueue.h"

#include <string.h>

/* One part of a chain, out or in, seen through pointers to its cursor. */
struct part {
    const struct iovec *iov;
    unsigned count;
    unsigned *at;
    size_t *offset;
    size_t *left;
};

static struct part out_part(struct virtio_chain *chain)
{
    return (struct part){chain->iov, chain->out_count, &chain->out_at, &chain->out_offset, &chain->out_left};
}

static struct part in_part(struct virtio_chain *chain)
{
    return (struct part){chain->iov + chain->out_count, chain->in_count, &chain->in_at, &chain->in_offset,
                         &chain->in_left};
}

/* The next contiguous piece of at most `limit` bytes; 0 at the end. Moves the cursor over it. */
static size_t part_next(struct part *part, size_t limit, void **piece)
{
    if (*part->left == 0 || limit == 0)
        return 0;
    const struct iovec *element = &part->iov[*part->at];
    size_t rest = element->iov_len - *part->offset;
    size_t length = rest < limit ? rest : limit;
    *piece = (char *)element->iov_base + *part->offset;
    *part->offset += length;
    *part->left -= length;
    if (length == rest) {
        (*part->at)++;
        *part->offset = 0;
    }
    return length;
}

size_t virtio_chain_read(struct virtio_chain *chain, void *to, size_t length)
{
    struct part part = out_part(chain);
    void *piece;
    size_t done = 0, count;
    while ((count = part_next(&part, length - done, &piece)) > 0) {
        memcpy((char *)to + done, piece, count);
        done += count;
    }
    return done;
}

size_t virtio_chain_write(struct virtio_chain *chain, const void *from, size_t length)
{
    struct part part = in_part(chain);
    void *piece;
    size_t done = 0, count;
    while ((count = part_next(&part, length - done, &piece)) > 0) {
        memcpy(piece, (const char *)from + done, count);
        done += count;
    }
    chain->in_written += done;
    return done;
}

void virtio_chain_out_skip(struct virtio_chain *chain, size_t bytes)
{
    struct part part = out_part(chain);
    void *piece;
    size_t count;
    while ((count = part_next(&part, bytes, &piece)) > 0)
        bytes -= count;
}

void virtio_chain_in_skip(struct virtio_chain *chain, size_t bytes)
{
    struct part part = in_part(chain);
    void *piece;
    size_t count;
    while ((count = part_next(&part, bytes, &piece)) > 0) {
        bytes -= count;
        chain->in_written += count;
    }
}

/* `at` and `offset` are the cursor's values: it does not move. */
static unsigned rest_iov(const struct iovec *from, unsigned count, unsigned at, size_t offset,
                         size_t max_bytes, struct iovec *iov)
{
    unsigned elements = 0;
    for (; at < count && max_bytes > 0; at++, offset = 0) {
        size_t length = from[at].iov_len - offset;
        if (length > max_bytes)
            length = max_bytes;
        iov[elements++] = (struct iovec){.iov_base = (char *)from[at].iov_base + offset, .iov_len = length};
        max_bytes -= length;
    }
    return elements;
}

unsigned virtio_chain_out_iov(const struct virtio_chain *chain, size_t max_bytes, struct iovec *iov)
{
    return rest_iov(chain->iov, chain->out_count, chain->out_at, chain->out_offset, max_bytes, iov);
}

unsigned virtio_chain_in_iov(const struct virtio_chain *chain, size_t max_bytes, struct iovec *iov)
{
    return rest_iov(chain->iov + chain->out_count, chain->in_count, chain->in_at, chain->in_offset, max_bytes,
                    iov);
}
