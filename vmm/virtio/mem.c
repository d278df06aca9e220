/*
 * virtio-mem: see mem.h. One queue; each request is answered in place (§5.15.6).
 *
 * Trust boundary: address and count of a request are the guest's. A range counts only if it lies whole in the
 * region and on block boundaries; plugging is bounded by what the host asked for, unplugging and state by
 * what is plugged. The guest can touch blocks that it has not plugged, and thereby fill the region: like all
 * its memory that is bounded by the sandbox's cgroup, not here.
 *
 * The whole region is usable at all times (§5.15.5 lets usable_region_size be anything up to region_size).
 * Plugged blocks survive a reset of the device: a new driver finds them by VIRTIO_MEM_REQ_STATE, or gives up
 * all by VIRTIO_MEM_REQ_UNPLUG_ALL.
 */
#include "vmm/virtio/mem.h"

#include "vmm/snapshot.h"
#include "vmm/virtio/device.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mem.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE        64
#define REQUESTS_PER_TURN 16u

struct virtio_mem {
    struct virtio_device device; /* first */
    struct virtio_mem_options options;
    /* Read by vCPU threads as configuration, written by this one. */
    _Atomic uint64_t requested, plugged;
    unsigned blocks;
    uint8_t *bitmap; /* a bit for each block: plugged */
    void (*changed)(void *arg);
    void *changed_arg;
    struct log_limit limit;
    struct virtio_chain chain;
};

/* A checked range of blocks. */
struct blocks {
    unsigned first, count;
};

static struct virtio_mem *mem_of(const struct virtio_device *device)
{
    return (struct virtio_mem *)device;
}

static uint64_t mem_features(const struct virtio_device *device)
{
    (void)device;
    return 0; /* unplugged blocks may be read (they are zeros): no UNPLUGGED_INACCESSIBLE */
}

static void mem_config_read(const struct virtio_device *device, uint32_t offset, void *to, uint32_t length)
{
    const struct virtio_mem *mem = mem_of(device);
    struct virtio_mem_config config = {.block_size = htole64(VIRTIO_MEM_BLOCK_BYTES),
                                       .addr = htole64(mem->options.region),
                                       .region_size = htole64(mem->options.region_bytes),
                                       .usable_region_size = htole64(mem->options.region_bytes),
                                       .plugged_size = htole64(atomic_load(&mem->plugged)),
                                       .requested_size = htole64(atomic_load(&mem->requested))};
    memcpy(to, (const char *)&config + offset, length);
}

static int mem_activate(struct virtio_device *device, uint64_t features)
{
    (void)device;
    (void)features;
    return 0;
}

static bool block_plugged(const struct virtio_mem *mem, unsigned block)
{
    return mem->bitmap[block / 8] >> block % 8 & 1;
}

static void block_set(struct virtio_mem *mem, unsigned block, bool plugged)
{
    uint8_t bit = (uint8_t)(1u << block % 8);
    mem->bitmap[block / 8] =
        (uint8_t)(plugged ? mem->bitmap[block / 8] | bit : mem->bitmap[block / 8] & ~bit);
}

/* How many blocks of the range are plugged. */
static unsigned plugged_in(const struct virtio_mem *mem, struct blocks range)
{
    unsigned count = 0;
    for (unsigned i = 0; i < range.count; i++)
        count += block_plugged(mem, range.first + i);
    return count;
}

static bool range_check(const struct virtio_mem *mem, uint64_t addr, uint16_t count, struct blocks *range)
{
    if (addr < mem->options.region || count == 0)
        return false;
    uint64_t offset = addr - mem->options.region;
    if (offset % VIRTIO_MEM_BLOCK_BYTES || offset / VIRTIO_MEM_BLOCK_BYTES >= mem->blocks)
        return false;
    *range = (struct blocks){(unsigned)(offset / VIRTIO_MEM_BLOCK_BYTES), count};
    return range->count <= mem->blocks - range->first;
}

static void set_range(struct virtio_mem *mem, struct blocks range, bool plugged)
{
    for (unsigned i = 0; i < range.count; i++)
        block_set(mem, range.first + i, plugged);
    uint64_t bytes = range.count * VIRTIO_MEM_BLOCK_BYTES;
    atomic_store(&mem->plugged, atomic_load(&mem->plugged) + (plugged ? bytes : -bytes));
    mem->device.transport->config_refresh(mem->device.transport);
}

static int discard(struct virtio_mem *mem, struct blocks range)
{
    uint64_t bytes = range.count * VIRTIO_MEM_BLOCK_BYTES;
    gpa_t gpa = mem->options.region + range.first * VIRTIO_MEM_BLOCK_BYTES;
    int rc =
        guest_memory_discard(mem->options.memory, guest_memory_at(mem->options.memory, gpa, bytes), bytes);
    if (rc < 0)
        log_limited(&mem->limit, "virtio-mem: %llu bytes not given back: %s", (unsigned long long)bytes,
                    strerror(-rc));
    return rc;
}

static uint16_t plug(struct virtio_mem *mem, struct blocks range)
{
    uint64_t bytes = range.count * VIRTIO_MEM_BLOCK_BYTES;
    uint64_t plugged = atomic_load(&mem->plugged), requested = atomic_load(&mem->requested);
    if (plugged_in(mem, range) > 0)
        return VIRTIO_MEM_RESP_ERROR;
    if (plugged > requested || bytes > requested - plugged)
        return VIRTIO_MEM_RESP_NACK;
    set_range(mem, range, true);
    return VIRTIO_MEM_RESP_ACK;
}

static uint16_t unplug(struct virtio_mem *mem, struct blocks range)
{
    if (plugged_in(mem, range) != range.count)
        return VIRTIO_MEM_RESP_ERROR;
    if (discard(mem, range) < 0)
        return VIRTIO_MEM_RESP_BUSY;
    set_range(mem, range, false);
    return VIRTIO_MEM_RESP_ACK;
}

/* Also what the guest touched without having plugged it goes. */
static uint16_t unplug_all(struct virtio_mem *mem)
{
    struct blocks all = {0, mem->blocks};
    if (discard(mem, all) < 0)
        return VIRTIO_MEM_RESP_BUSY;
    memset(mem->bitmap, 0, (mem->blocks + 7) / 8);
    atomic_store(&mem->plugged, 0);
    mem->device.transport->config_refresh(mem->device.transport);
    return VIRTIO_MEM_RESP_ACK;
}

static uint16_t state_of(const struct virtio_mem *mem, struct blocks range)
{
    unsigned plugged = plugged_in(mem, range);
    return plugged == range.count ? VIRTIO_MEM_STATE_PLUGGED
           : plugged == 0         ? VIRTIO_MEM_STATE_UNPLUGGED
                                  : VIRTIO_MEM_STATE_MIXED;
}

/* The three requests with a range begin alike (struct virtio_mem_req_plug, _unplug, _state). */
static void request_serve(struct virtio_mem *mem, struct virtio_chain *chain)
{
    struct virtio_mem_req request;
    struct virtio_mem_resp response = {.type = htole16(VIRTIO_MEM_RESP_ERROR)};
    struct blocks range;
    uint16_t answer = VIRTIO_MEM_RESP_ERROR;
    bool whole = virtio_chain_read(chain, &request, sizeof(request)) == sizeof(request);
    uint16_t type = whole ? le16toh(request.type) : UINT16_MAX;
    bool in_region =
        whole && range_check(mem, le64toh(request.u.plug.addr), le16toh(request.u.plug.nb_blocks), &range);
    if (type == VIRTIO_MEM_REQ_UNPLUG_ALL) {
        answer = unplug_all(mem);
    } else if (in_region && type == VIRTIO_MEM_REQ_PLUG) {
        answer = plug(mem, range);
    } else if (in_region && type == VIRTIO_MEM_REQ_UNPLUG) {
        answer = unplug(mem, range);
    } else if (in_region && type == VIRTIO_MEM_REQ_STATE) {
        answer = VIRTIO_MEM_RESP_ACK;
        response.u.state.state = htole16(state_of(mem, range));
    }
    response.type = htole16(answer);
    virtio_chain_write(chain, &response, sizeof(response));
    if (answer == VIRTIO_MEM_RESP_ACK && type != VIRTIO_MEM_REQ_STATE && mem->changed)
        mem->changed(mem->changed_arg);
}

static void mem_kick(struct virtio_device *device, unsigned index)
{
    struct virtio_mem *mem = mem_of(device);
    struct virtqueue *queue = device->queue[index];
    unsigned served = 0;
    int got = 0;
    do {
        while (served < REQUESTS_PER_TURN && (got = virtqueue_pop(queue, &mem->chain)) > 0) {
            request_serve(mem, &mem->chain);
            virtqueue_push(queue, &mem->chain);
            served++;
        }
    } while (served < REQUESTS_PER_TURN && got == 0 && virtqueue_enable_kicks(queue));
    virtqueue_notify(queue);
    if (got < 0)
        virtio_device_broken(device, index);
    else if (served == REQUESTS_PER_TURN)
        device->transport->kick_again(device->transport, index);
}

static void mem_reset(struct virtio_device *device)
{
    (void)device; /* no chain outlives a kick; plugged blocks stay */
}

static int mem_save(const struct virtio_device *device, struct snapshot_writer *writer)
{
    const struct virtio_mem *mem = mem_of(device);
    snapshot_put_u64(writer, mem->options.region);
    snapshot_put_u64(writer, mem->options.region_bytes);
    snapshot_put_u64(writer, atomic_load(&mem->requested));
    snapshot_put_bytes(writer, mem->bitmap, (mem->blocks + 7) / 8);
    return 0;
}

static int mem_restore(struct virtio_device *device, struct snapshot_reader *reader)
{
    struct virtio_mem *mem = mem_of(device);
    uint64_t region = snapshot_get_u64(reader);
    uint64_t region_bytes = snapshot_get_u64(reader);
    uint64_t requested = snapshot_get_u64(reader);
    if (region != mem->options.region || region_bytes != mem->options.region_bytes)
        return -EPROTO;
    snapshot_get_bytes(reader, mem->bitmap, (mem->blocks + 7) / 8);
    int rc = snapshot_reader_error(reader);
    if (rc < 0)
        return rc;
    struct blocks all = {0, mem->blocks};
    uint64_t plugged = plugged_in(mem, all) * VIRTIO_MEM_BLOCK_BYTES;
    /* More than is wanted may be plugged: the guest may be slow to give it back. */
    if (requested > mem->options.bytes_max || requested % VIRTIO_MEM_BLOCK_BYTES ||
        plugged > mem->options.bytes_max)
        return -EPROTO;
    atomic_store(&mem->requested, requested);
    atomic_store(&mem->plugged, plugged);
    return 0;
}

static void mem_free(struct virtio_device *device)
{
    struct virtio_mem *mem = mem_of(device);
    free(mem->bitmap);
    free(mem);
}

static const struct virtio_device_ops mem_ops = {
    .name = "mem",
    .id = VIRTIO_ID_MEM,
    .features = mem_features,
    .config_size = sizeof(struct virtio_mem_config),
    .config_read = mem_config_read,
    .activate = mem_activate,
    .kick = mem_kick,
    .reset = mem_reset,
    .save = mem_save,
    .restore = mem_restore,
    .free = mem_free,
};

struct virtio_device *virtio_mem_new(struct loop *loop, const struct virtio_mem_options *options)
{
    uint64_t blocks = options->region_bytes / VIRTIO_MEM_BLOCK_BYTES;
    if (options->region % VIRTIO_MEM_BLOCK_BYTES || options->region_bytes % VIRTIO_MEM_BLOCK_BYTES ||
        options->bytes_max % VIRTIO_MEM_BLOCK_BYTES || blocks == 0 || blocks > UINT32_MAX ||
        options->bytes_max > options->region_bytes ||
        !guest_memory_at(options->memory, options->region, options->region_bytes)) {
        errno = EINVAL;
        return NULL;
    }
    struct virtio_mem *mem = calloc(1, sizeof(*mem));
    uint8_t *bitmap = calloc(1, (blocks + 7) / 8);
    if (!mem || !bitmap) {
        free(mem);
        free(bitmap);
        return NULL;
    }
    mem->options = *options;
    mem->blocks = (unsigned)blocks;
    mem->bitmap = bitmap;
    mem->device =
        (struct virtio_device){.ops = &mem_ops, .loop = loop, .queue_count = 1, .queue_size_max = QUEUE_SIZE};
    return &mem->device;
}

int virtio_mem_request(struct virtio_device *device, uint64_t bytes)
{
    struct virtio_mem *mem = mem_of(device);
    if (bytes > mem->options.bytes_max)
        return -ERANGE;
    bytes = (bytes + VIRTIO_MEM_BLOCK_BYTES - 1) & ~(VIRTIO_MEM_BLOCK_BYTES - 1);
    if (atomic_exchange(&mem->requested, bytes) != bytes)
        device->transport->config_changed(device->transport);
    return 0;
}

uint64_t virtio_mem_get_requested(const struct virtio_device *device)
{
    return atomic_load(&mem_of(device)->requested);
}

uint64_t virtio_mem_get_plugged(const struct virtio_device *device)
{
    return atomic_load(&mem_of(device)->plugged);
}

void virtio_mem_on_change(struct virtio_device *device, void (*changed)(void *arg), void *arg)
{
    struct virtio_mem *mem = mem_of(device);
    mem->changed = changed;
    mem->changed_arg = arg;
}
