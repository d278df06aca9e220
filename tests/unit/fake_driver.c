/* See fake_driver.h. */
#include "tests/unit/fake_driver.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static void die(const char *what)
{
    fprintf(stderr, "fake driver: %s: %s\n", what, strerror(errno));
    abort();
}

static uint8_t *map_ram(uint64_t size)
{
    void *ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ram == MAP_FAILED)
        die("mmap");
    return ram;
}

void fake_memory_init(struct fake_memory *memory, uint64_t size)
{
    *memory = (struct fake_memory){.size = size, .next = FAKE_RAM_BASE};
    memory->ram = map_ram(size);
    memory->ram2 = map_ram(FAKE_RAM2_BYTES);
    if (guest_memory_add(&memory->map, FAKE_RAM_BASE, size, memory->ram) ||
        guest_memory_add(&memory->map, FAKE_RAM_BASE + size, FAKE_RAM2_BYTES, memory->ram2))
        die("guest_memory_add");
}

void fake_memory_fini(struct fake_memory *memory)
{
    munmap(memory->ram, memory->size);
    munmap(memory->ram2, FAKE_RAM2_BYTES);
}

gpa_t fake_alloc(struct fake_memory *memory, uint64_t bytes, uint64_t align)
{
    gpa_t at = (memory->next + align - 1) / align * align;
    if (at + bytes > FAKE_RAM_BASE + memory->size) {
        errno = ENOMEM;
        die("fake_alloc");
    }
    memory->next = at + bytes;
    return at;
}

void *fake_at(const struct fake_memory *memory, gpa_t gpa)
{
    return memory->ram + (gpa - FAKE_RAM_BASE);
}

void fake_queue_init(struct fake_queue *queue, struct fake_memory *memory, uint16_t size)
{
    *queue = (struct fake_queue){.memory = memory};
    queue->config.size = size;
    queue->config.desc = fake_alloc(memory, 16ULL * size, 16);
    queue->config.avail = fake_alloc(memory, 6 + 2ULL * size, 2);
    queue->config.used = fake_alloc(memory, 6 + 8ULL * size, 4);
}

struct vring_desc *fake_queue_desc(const struct fake_queue *queue, uint16_t index)
{
    return (struct vring_desc *)fake_at(queue->memory, queue->config.desc) + index;
}

struct vring_avail *fake_queue_avail(const struct fake_queue *queue)
{
    return fake_at(queue->memory, queue->config.avail);
}

struct vring_used *fake_queue_used_ring(const struct fake_queue *queue)
{
    return fake_at(queue->memory, queue->config.used);
}

__virtio16 *fake_queue_used_event(const struct fake_queue *queue)
{
    return &fake_queue_avail(queue)->ring[queue->config.size];
}

__virtio16 *fake_queue_avail_event(const struct fake_queue *queue)
{
    return (__virtio16 *)&fake_queue_used_ring(queue)->ring[queue->config.size];
}

void fake_queue_offer(struct fake_queue *queue, uint16_t head)
{
    struct vring_avail *avail = fake_queue_avail(queue);
    avail->ring[queue->avail_idx % queue->config.size] = htole16(head);
    queue->avail_idx++;
    __atomic_store_n(&avail->idx, htole16(queue->avail_idx), __ATOMIC_RELEASE);
}

static void fill_desc(struct vring_desc *desc, const struct fake_segment *segment, bool last, uint16_t next)
{
    desc->addr = htole64(segment->addr);
    desc->len = htole32(segment->len);
    desc->flags =
        htole16((uint16_t)((segment->in ? VRING_DESC_F_WRITE : 0) | (last ? 0 : VRING_DESC_F_NEXT)));
    desc->next = htole16(next);
}

static uint16_t take_desc(struct fake_queue *queue)
{
    uint16_t index = queue->next_desc;
    queue->next_desc = (uint16_t)((index + 1) % queue->config.size);
    return index;
}

uint16_t fake_queue_add(struct fake_queue *queue, const struct fake_segment *segments, unsigned count)
{
    uint16_t head = queue->next_desc;
    for (unsigned i = 0; i < count; i++) {
        uint16_t index = take_desc(queue);
        fill_desc(fake_queue_desc(queue, index), &segments[i], i + 1 == count, queue->next_desc);
    }
    fake_queue_offer(queue, head);
    return head;
}

uint16_t fake_queue_add_indirect(struct fake_queue *queue, const struct fake_segment *segments,
                                 unsigned count)
{
    gpa_t table = fake_alloc(queue->memory, count * sizeof(struct vring_desc), 16);
    struct vring_desc *desc = fake_at(queue->memory, table);
    for (unsigned i = 0; i < count; i++)
        fill_desc(&desc[i], &segments[i], i + 1 == count, (uint16_t)(i + 1));
    uint16_t head = take_desc(queue);
    *fake_queue_desc(queue, head) =
        (struct vring_desc){.addr = htole64(table),
                            .len = htole32((uint32_t)(count * sizeof(struct vring_desc))),
                            .flags = htole16(VRING_DESC_F_INDIRECT)};
    fake_queue_offer(queue, head);
    return head;
}

bool fake_queue_used(struct fake_queue *queue, uint32_t *id, uint32_t *len)
{
    struct vring_used *used = fake_queue_used_ring(queue);
    if (le16toh(__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE)) == queue->used_seen)
        return false;
    const struct vring_used_elem *entry = &used->ring[queue->used_seen++ % queue->config.size];
    if (id)
        *id = le32toh(entry->id);
    if (len)
        *len = le32toh(entry->len);
    return true;
}

uint32_t fake_mmio_get(struct virtio_mmio *mmio, uint64_t offset)
{
    uint32_t value;
    virtio_mmio_read(mmio, offset, &value, sizeof(value));
    return le32toh(value);
}

void fake_mmio_set(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    value = htole32(value);
    virtio_mmio_write(mmio, offset, &value, sizeof(value));
}

void fake_mmio_set_queue(struct virtio_mmio *mmio, unsigned index, const struct virtqueue_config *config)
{
    fake_mmio_set(mmio, VIRTIO_MMIO_QUEUE_SEL, index);
    fake_mmio_set(mmio, VIRTIO_MMIO_QUEUE_NUM, config->size);
    fake_mmio_set(mmio, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)config->desc);
    fake_mmio_set(mmio, VIRTIO_MMIO_QUEUE_DESC_HIGH, (uint32_t)(config->desc >> 32));
    fake_mmio_set(mmio, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)config->avail);
    fake_mmio_set(mmio, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, (uint32_t)(config->avail >> 32));
    fake_mmio_set(mmio, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)config->used);
    fake_mmio_set(mmio, VIRTIO_MMIO_QUEUE_USED_HIGH, (uint32_t)(config->used >> 32));
    fake_mmio_set(mmio, VIRTIO_MMIO_QUEUE_READY, 1);
}

static uint32_t add_status(struct virtio_mmio *mmio, uint32_t bits)
{
    uint32_t status = fake_mmio_get(mmio, VIRTIO_MMIO_STATUS);
    fake_mmio_set(mmio, VIRTIO_MMIO_STATUS, status | bits);
    return fake_mmio_get(mmio, VIRTIO_MMIO_STATUS);
}

uint32_t fake_mmio_start(struct virtio_mmio *mmio, uint64_t features, const struct fake_queue *queues,
                         unsigned count)
{
    features |= 1ULL << VIRTIO_F_VERSION_1;
    fake_mmio_set(mmio, VIRTIO_MMIO_STATUS, 0);
    add_status(mmio, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    add_status(mmio, VIRTIO_CONFIG_S_DRIVER);
    fake_mmio_set(mmio, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    fake_mmio_set(mmio, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
    fake_mmio_set(mmio, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    fake_mmio_set(mmio, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
    uint32_t status = add_status(mmio, VIRTIO_CONFIG_S_FEATURES_OK);
    if (!(status & VIRTIO_CONFIG_S_FEATURES_OK))
        return status;
    for (unsigned i = 0; i < count; i++)
        fake_mmio_set_queue(mmio, i, &queues[i].config);
    return add_status(mmio, VIRTIO_CONFIG_S_DRIVER_OK);
}

void fake_loop_settle(struct loop *loop)
{
    while (loop_once(loop, 0) > 0)
        ;
}

void fake_mmio_kick(struct virtio_mmio *mmio, struct loop *loop, unsigned queue)
{
    uint64_t one = 1;
    if (write(virtio_transport_queue_fd(virtio_mmio_transport(mmio), queue), &one, sizeof(one)) !=
        sizeof(one))
        die("kick");
    fake_loop_settle(loop);
}

uint64_t fake_interrupts(int irq_fd)
{
    uint64_t count;
    return read(irq_fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

uint64_t fake_statistic(const struct virtio_device *device, const char *name)
{
    struct virtio_statistic rows[32];
    unsigned count = device->ops->statistics(device, rows, 32);
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(rows[i].name, name) == 0)
            return rows[i].value;
    }
    fprintf(stderr, "%s: no statistic %s\n", device->ops->name, name);
    abort();
}

void fake_rig_init(struct fake_rig *rig, uint64_t ram_bytes, uint64_t buffer_bytes)
{
    *rig = (struct fake_rig){.loop = loop_new(), .irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!rig->loop || rig->irq_fd < 0)
        abort();
    fake_memory_init(&rig->memory, ram_bytes);
    rig->buffer = fake_alloc(&rig->memory, buffer_bytes, 4096);
}

void fake_rig_attach(struct fake_rig *rig, struct virtio_device *device)
{
    rig->device = device;
    rig->mmio = device ? virtio_mmio_new(device, &rig->memory.map, rig->irq_fd) : NULL;
    if (!rig->mmio)
        abort();
}

void fake_rig_fini(struct fake_rig *rig)
{
    virtio_transport_free(virtio_mmio_transport(rig->mmio));
    loop_free(rig->loop);
    close(rig->irq_fd);
    fake_memory_fini(&rig->memory);
}

uint32_t fake_rig_request(struct fake_rig *rig, struct fake_queue *queue, unsigned index,
                          const struct fake_segment *segments, unsigned count)
{
    uint32_t length = UINT32_MAX;
    fake_interrupts(rig->irq_fd);
    fake_queue_add(queue, segments, count);
    fake_mmio_kick(rig->mmio, rig->loop, index);
    return fake_queue_used(queue, NULL, &length) && fake_interrupts(rig->irq_fd) > 0 ? length : UINT32_MAX;
}
