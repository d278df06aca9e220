/* Rate limits of a disk: see blk_limit.h. */
#include "vmm/virtio/blk_limit.h"

#define SECOND_NS 1000000000ull

__extension__ typedef unsigned __int128 wide;

static int64_t bucket_size(const struct blk_bucket *bucket)
{
    return bucket->rate / 10 > 0 ? (int64_t)(bucket->rate / 10) : 1;
}

static void bucket_set(struct blk_bucket *bucket, uint64_t rate, uint64_t now_ns)
{
    *bucket = (struct blk_bucket){.rate = rate <= INT64_MAX ? rate : INT64_MAX, .at_ns = now_ns};
    bucket->level = bucket_size(bucket);
}

/* Whole tokens only: the rest of the time stays for the next turn. */
static void bucket_fill(struct blk_bucket *bucket, uint64_t now_ns)
{
    uint64_t passed = now_ns - bucket->at_ns;
    wide tokens = (wide)passed * bucket->rate / SECOND_NS;
    int64_t size = bucket_size(bucket);
    if ((__int128)tokens + bucket->level >= size) {
        bucket->level = size;
        bucket->at_ns = now_ns;
    } else {
        bucket->level += (int64_t)tokens;
        bucket->at_ns += (uint64_t)(tokens * SECOND_NS / bucket->rate);
    }
}

static uint64_t bucket_wait_ns(struct blk_bucket *bucket, uint64_t now_ns)
{
    if (bucket->rate == 0)
        return 0;
    bucket_fill(bucket, now_ns);
    if (bucket->level > 0)
        return 0;
    wide wait = ((wide)(1 - bucket->level) * SECOND_NS + bucket->rate - 1) / bucket->rate;
    return wait < UINT64_MAX ? (uint64_t)wait : UINT64_MAX;
}

void blk_limit_init(struct blk_limit *limit)
{
    *limit = (struct blk_limit){.on = false};
    pthread_mutex_init(&limit->lock, NULL);
}

void blk_limit_fini(struct blk_limit *limit)
{
    pthread_mutex_destroy(&limit->lock);
}

void blk_limit_set(struct blk_limit *limit, uint64_t bytes_per_s, uint64_t ops_per_s, uint64_t now_ns)
{
    pthread_mutex_lock(&limit->lock);
    bucket_set(&limit->bytes, bytes_per_s, now_ns);
    bucket_set(&limit->ops, ops_per_s, now_ns);
    atomic_store(&limit->on, bytes_per_s > 0 || ops_per_s > 0);
    pthread_mutex_unlock(&limit->lock);
}

uint64_t blk_limit_wait_ns(struct blk_limit *limit, uint64_t now_ns)
{
    if (!atomic_load_explicit(&limit->on, memory_order_relaxed))
        return 0;
    pthread_mutex_lock(&limit->lock);
    uint64_t bytes = bucket_wait_ns(&limit->bytes, now_ns), ops = bucket_wait_ns(&limit->ops, now_ns);
    pthread_mutex_unlock(&limit->lock);
    return bytes > ops ? bytes : ops;
}

void blk_limit_charge(struct blk_limit *limit, uint64_t bytes)
{
    if (!atomic_load_explicit(&limit->on, memory_order_relaxed))
        return;
    pthread_mutex_lock(&limit->lock);
    if (limit->bytes.rate > 0)
        limit->bytes.level -= (int64_t)bytes; /* of one chain: below 4 GiB */
    if (limit->ops.rate > 0)
        limit->ops.level--;
    pthread_mutex_unlock(&limit->lock);
}
