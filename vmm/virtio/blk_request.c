/*
 * One request of virtio-blk (virtio 1.2 §5.2.6): header, data, and a status in the chain's last byte.
 *
 * Trust boundary: everything in the chain is the guest's. Header and ranges are copied once and checked
 * against the capacity of this moment; data goes between guest memory and the file without a copy. A request
 * that makes no sense is answered with an error, and only one without room for a status is not.
 */
#include "vmm/virtio/blk_internal.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* A request's result: its status, and how many bytes of data were put before it. */
struct result {
    uint8_t status;
    size_t written;
};

static struct result done(int rc, size_t written)
{
    if (rc < 0)
        return (struct result){rc == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR, 0};
    return (struct result){VIRTIO_BLK_S_OK, written};
}

static void count(atomic_ullong *counter, uint64_t number)
{
    atomic_fetch_add_explicit(counter, number, memory_order_relaxed);
}

static bool writeback(const struct virtio_blk *blk)
{
    uint64_t features = atomic_load(&((struct virtio_blk *)blk)->features);
    if (features >> VIRTIO_BLK_F_CONFIG_WCE & 1)
        return atomic_load(&((struct virtio_blk *)blk)->writeback);
    return features >> VIRTIO_BLK_F_FLUSH & 1; /* §5.2.6.2: without it the cache is write-through */
}

static bool in_capacity(const struct virtio_blk *blk, uint64_t sector, uint64_t bytes)
{
    uint64_t capacity = atomic_load(&((struct virtio_blk *)blk)->capacity);
    return bytes % BLK_SECTOR == 0 && sector <= capacity && bytes / BLK_SECTOR <= capacity - sector;
}

static struct result serve_read(struct blk_context *context, uint64_t sector, size_t bytes)
{
    struct virtio_blk *blk = context->blk;
    if (!in_capacity(blk, sector, bytes))
        return done(-EIO, 0);
    blk_limit_charge(&blk->limit, bytes);
    count(&blk->counts.reads, 1);
    count(&blk->counts.read_bytes, bytes);
    unsigned elements = virtio_chain_in_iov(&context->chain, bytes, context->iov);
    return done(blk_file_read(&blk->file, context->iov, elements, sector * BLK_SECTOR), bytes);
}

static struct result serve_write(struct blk_context *context, uint64_t sector)
{
    struct virtio_blk *blk = context->blk;
    size_t bytes = context->chain.out_left;
    if (blk->options.read_only || !in_capacity(blk, sector, bytes))
        return done(-EIO, 0);
    blk_limit_charge(&blk->limit, bytes);
    count(&blk->counts.writes, 1);
    count(&blk->counts.write_bytes, bytes);
    unsigned elements = virtio_chain_out_iov(&context->chain, bytes, context->iov);
    return done(blk_file_write(&blk->file, context->iov, elements, sector * BLK_SECTOR, !writeback(blk)), 0);
}

static struct result serve_flush(struct blk_context *context)
{
    struct virtio_blk *blk = context->blk;
    count(&blk->counts.flushes, 1);
    blk_limit_charge(&blk->limit, 0);
    return done(blk->options.read_only ? 0 : blk_file_flush(&blk->file), 0);
}

static struct result serve_id(struct blk_context *context, size_t room)
{
    char id[VIRTIO_BLK_ID_BYTES] = {0}; /* without a NUL if it is that long */
    if (room != sizeof(id))
        return done(-EIO, 0);
    memcpy(id, context->blk->options.serial, strnlen(context->blk->options.serial, sizeof(id)));
    return done(0, virtio_chain_write(&context->chain, id, sizeof(id)));
}

/* §5.2.6: a discard has no flags, a write of zeroes may have the one. */
static int serve_range(struct virtio_blk *blk, bool zeroes,
                       const struct virtio_blk_discard_write_zeroes *range)
{
    uint64_t sector = le64toh(range->sector);
    uint32_t sectors = le32toh(range->num_sectors), flags = le32toh(range->flags);
    uint64_t bytes = (uint64_t)sectors * BLK_SECTOR;
    bool unmap = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
    if (flags & ~(zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u))
        return -EOPNOTSUPP;
    if (sectors > BLK_RANGE_SECTORS_MAX || !in_capacity(blk, sector, bytes))
        return -EIO;
    if (sectors == 0)
        return 0;
    blk_limit_charge(&blk->limit, 0);
    count(&blk->counts.discards, 1);
    if (zeroes)
        return blk_file_write_zeroes(&blk->file, sector * BLK_SECTOR, bytes, unmap);
    return blk_file_discard(&blk->file, sector * BLK_SECTOR, bytes);
}

static struct result serve_ranges(struct blk_context *context, bool zeroes)
{
    struct virtio_blk *blk = context->blk;
    struct virtio_blk_discard_write_zeroes range;
    unsigned feature = zeroes ? VIRTIO_BLK_F_WRITE_ZEROES : VIRTIO_BLK_F_DISCARD;
    size_t bytes = context->chain.out_left;
    if (blk->options.read_only)
        return done(-EIO, 0);
    if (!(atomic_load(&blk->features) >> feature & 1))
        return done(-EOPNOTSUPP, 0);
    if (bytes == 0 || bytes % sizeof(range) || bytes / sizeof(range) > BLK_RANGES_MAX)
        return done(-EIO, 0);
    int rc = 0;
    while (rc == 0 && virtio_chain_read(&context->chain, &range, sizeof(range)) == sizeof(range))
        rc = serve_range(blk, zeroes, &range);
    if (rc == 0 && zeroes && !writeback(blk))
        rc = blk_file_flush(&blk->file);
    return done(rc, 0);
}

static struct result serve(struct blk_context *context, const struct virtio_blk_outhdr *header, size_t room)
{
    uint64_t sector = le64toh(header->sector);
    switch (le32toh(header->type)) {
    case VIRTIO_BLK_T_IN:
        return serve_read(context, sector, room);
    case VIRTIO_BLK_T_OUT:
        return serve_write(context, sector);
    case VIRTIO_BLK_T_FLUSH:
        return serve_flush(context);
    case VIRTIO_BLK_T_GET_ID:
        return serve_id(context, room);
    case VIRTIO_BLK_T_DISCARD:
        return serve_ranges(context, false);
    case VIRTIO_BLK_T_WRITE_ZEROES:
        return serve_ranges(context, true);
    default:
        return done(-EOPNOTSUPP, 0);
    }
}

void blk_request_serve(struct blk_context *context)
{
    struct virtio_chain *chain = &context->chain;
    struct virtio_blk_outhdr header;
    if (chain->in_left == 0) {
        log_limited(&context->limit, "blk: request without room for a status");
        return;
    }
    size_t room = chain->in_left - 1, left = chain->in_left;
    struct result result = done(-EIO, 0);
    if (virtio_chain_read(chain, &header, sizeof(header)) == sizeof(header))
        result = serve(context, &header, room);
    if (result.status != VIRTIO_BLK_S_OK)
        count(&context->blk->counts.errors, 1);
    virtio_chain_in_skip(chain, room - (left - chain->in_left));
    virtio_chain_write(chain, &result.status, sizeof(result.status));
    /* Bytes up to there count as written only if they were (§2.7.8.2). */
    chain->in_written = result.written == room ? room + 1 : 0;
}
