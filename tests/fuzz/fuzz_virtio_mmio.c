/*
 * Fuzz target: register accesses of a guest, in any order, of any width, to a device that gives chains back.
 *
 * Input: operations of 8 bytes: what (1), width (1), offset (2), value (4). Guest RAM and the loop turn are
 * operations too, so that rings can be made and kicked. No access may leave guest RAM or wedge the device:
 * after any of it a reset makes it usable again.
 */
#include "common/log.h"
#include "common/loop.h"
#include "tests/fuzz/echo_device.h"
#include "tests/unit/fake_driver.h"

#undef NDEBUG /* an assertion is the test */
#include <assert.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define QUEUES     ECHO_QUEUES
#define RAM_BYTES  0x10000
#define OPERATIONS 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct operation {
    uint8_t what, width;
    uint16_t offset;
    uint32_t value;
} __attribute__((packed));

static void run(struct virtio_mmio *mmio, struct loop *loop, struct fake_memory *memory,
                const struct operation *operation)
{
    uint8_t bytes[8] = {0};
    uint32_t width = 1u << (operation->width % 4);
    memcpy(bytes, &operation->value, sizeof(operation->value));
    switch (operation->what % 8) {
    case 0:
        virtio_mmio_read(mmio, operation->offset % VIRTIO_MMIO_SIZE, bytes, width);
        break;
    case 1:
        memcpy(memory->ram + operation->offset % (RAM_BYTES - 8), &operation->value, 4);
        break;
    case 2:
        fake_loop_settle(loop);
        break;
    case 3: { /* all there is to a queue, at a place of the input's choice */
        struct virtqueue_config config = {.size = (uint16_t)(1u << operation->width % 10)};
        config.desc = FAKE_RAM_BASE + operation->offset * 16ULL;
        config.avail = FAKE_RAM_BASE + (operation->value & 0xffff) * 2ULL;
        config.used = FAKE_RAM_BASE + (operation->value >> 16) * 4ULL;
        fake_mmio_set_queue(mmio, operation->what / 8 % QUEUES, &config);
        break;
    }
    case 4: /* the way to DRIVER_OK, to be found more often than by chance */
        fake_mmio_set(mmio, VIRTIO_MMIO_STATUS, operation->value & 0xff);
        break;
    case 5:
        fake_mmio_set(mmio, VIRTIO_MMIO_DRIVER_FEATURES_SEL, operation->width & 1);
        fake_mmio_set(mmio, VIRTIO_MMIO_DRIVER_FEATURES, operation->value);
        break;
    default:
        virtio_mmio_write(mmio, operation->offset % VIRTIO_MMIO_SIZE, bytes, width);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_init("fuzz", -1, LOG_FORMAT_TEXT, LOG_LEVEL_ERR);
    struct fake_memory memory;
    fake_memory_init(&memory, RAM_BYTES);
    struct loop *loop = loop_new();
    int irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct virtio_device device;
    echo_device_init(&device, loop);
    struct virtio_mmio *mmio = virtio_mmio_new(&device, &memory.map, irq_fd);
    assert(loop && mmio);

    size_t count = size / sizeof(struct operation);
    for (size_t i = 0; i < count && i < OPERATIONS; i++) {
        struct operation operation;
        memcpy(&operation, data + i * sizeof(operation), sizeof(operation));
        run(mmio, loop, &memory, &operation);
    }

    memory.next = FAKE_RAM_BASE;
    struct fake_queue queues[QUEUES];
    memset(memory.ram, 0, RAM_BYTES);
    for (unsigned i = 0; i < QUEUES; i++)
        fake_queue_init(&queues[i], &memory, 16);
    uint32_t status = fake_mmio_start(mmio, 0, queues, QUEUES);
    assert(status & VIRTIO_CONFIG_S_DRIVER_OK && !(status & VIRTIO_CONFIG_S_NEEDS_RESET));
    struct fake_segment segment = {fake_alloc(&memory, 16, 16), 16, true};
    fake_queue_add(&queues[1], &segment, 1);
    fake_mmio_kick(mmio, loop, 1);
    uint32_t length;
    assert(fake_queue_used(&queues[1], NULL, &length) && length == ECHO_BYTES);

    virtio_transport_free(virtio_mmio_transport(mmio));
    loop_free(loop);
    close(irq_fd);
    fake_memory_fini(&memory);
    return 0;
}
