/*
 * Fuzz target: accesses of a guest to a function on PCI, its configuration space, registers, MSI-X table and
 * port, in any order, of any width, to a device that gives chains back.
 *
 * Input: operations of 8 bytes: what (1), width (1), offset (2), value (4). Guest RAM, the loop turn and
 * routes that are refused are operations too. No access may leave guest RAM or wedge the device: after any of
 * it a reset makes it usable again.
 */
#include "common/log.h"
#include "common/loop.h"
#include "tests/fuzz/echo_device.h"
#include "tests/unit/fake_pci.h"

#undef NDEBUG /* an assertion is the test */
#include <assert.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <string.h>

#define RAM_BYTES  0x10000
#define OPERATIONS 4096
#define INTERRUPTS (ECHO_QUEUES + 1)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct operation {
    uint8_t what, width;
    uint16_t offset;
    uint32_t value;
} __attribute__((packed));

struct rig {
    struct fake_memory memory;
    struct loop *loop;
    struct virtio_device device;
    struct fake_pci fake;
    struct irq_message route[INTERRUPTS];
    bool refuse;
};

static int route(void *arg, unsigned first, unsigned count, struct irq_message *messages)
{
    struct rig *rig = arg;
    assert(first <= INTERRUPTS && count <= INTERRUPTS - first);
    for (unsigned i = 0; i < count && !rig->refuse; i++) {
        struct irq_message before = rig->route[first + i];
        rig->route[first + i] = messages[i];
        messages[i] = before;
    }
    return rig->refuse ? -EINVAL : 0;
}

/* An access that lies within `bytes`. */
static uint32_t fit(uint32_t offset, uint32_t width, uint32_t bytes)
{
    offset %= bytes;
    return offset + width <= bytes ? offset : bytes - width;
}

static void run(struct rig *rig, const struct operation *operation)
{
    const struct fake_pci *fake = &rig->fake;
    uint8_t bytes[8] = {0};
    uint32_t width = 1u << (operation->width % 4), narrow = 1u << (operation->width % 3);
    uint32_t at = fit(operation->offset, width, VIRTIO_PCI_MEMORY_BYTES);
    uint32_t config_at = operation->offset % VIRTIO_PCI_CONFIG_BYTES / narrow * narrow;
    memcpy(bytes, &operation->value, sizeof(operation->value));
    switch (operation->what % 12) {
    case 0:
        virtio_pci_read(fake->pci, at, bytes, width);
        break;
    case 1:
        memcpy(rig->memory.ram + operation->offset % (RAM_BYTES - 8), &operation->value, 4);
        break;
    case 2:
        fake_loop_settle(rig->loop);
        break;
    case 3: { /* all there is to a queue, at a place of the input's choice */
        struct virtqueue_config config = {.size = (uint16_t)(1u << operation->width % 10)};
        config.desc = FAKE_RAM_BASE + operation->offset * 16ULL;
        config.avail = FAKE_RAM_BASE + (operation->value & 0xffff) * 2ULL;
        config.used = FAKE_RAM_BASE + (operation->value >> 16) * 4ULL;
        fake_pci_set_queue(fake, operation->what / 12 % ECHO_QUEUES, &config);
        break;
    }
    case 4: /* the way to DRIVER_OK, to be found more often than by chance */
        fake_pci_common_set(fake, VIRTIO_PCI_COMMON_STATUS, operation->value & 0xff);
        break;
    case 5:
        fake_pci_common_set(fake, VIRTIO_PCI_COMMON_GFSELECT, operation->width & 1);
        fake_pci_common_set(fake, VIRTIO_PCI_COMMON_GF, operation->value);
        break;
    case 6:
        virtio_pci_config_read(fake->pci, config_at, bytes, narrow);
        break;
    case 7:
        virtio_pci_config_write(fake->pci, config_at, bytes, narrow);
        break;
    case 8:
        virtio_pci_notify(fake->pci, fit(operation->offset, narrow, VIRTIO_PCI_PORTS), bytes, narrow);
        break;
    case 9: /* a word of an entry, one behind the last among them */
        fake_pci_set(fake, fake->table + operation->offset % ((INTERRUPTS + 1) * PCI_MSIX_ENTRY_SIZE / 4) * 4,
                     4, operation->value);
        break;
    case 10:
        rig->refuse = operation->value & 1;
        break;
    default:
        virtio_pci_write(fake->pci, at, bytes, width);
    }
}

/* An interrupt has a message exactly when its vector, which the driver can read, is not masked. */
static void check_routes(const struct rig *rig)
{
    const struct fake_pci *fake = &rig->fake;
    uint32_t flags = fake_pci_config_get(fake, fake->msix_at + PCI_MSIX_FLAGS, 2);
    bool enabled = flags & PCI_MSIX_FLAGS_ENABLE && !(flags & PCI_MSIX_FLAGS_MASKALL);
    for (unsigned i = 0; i < INTERRUPTS; i++) {
        fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_SELECT, i);
        uint32_t vector =
            fake_pci_common_get(fake, i < ECHO_QUEUES ? VIRTIO_PCI_COMMON_Q_MSIX : VIRTIO_PCI_COMMON_MSIX);
        assert(vector < INTERRUPTS || vector == VIRTIO_MSI_NO_VECTOR);
        struct irq_message wanted = {0};
        uint64_t entry = fake->table + vector * PCI_MSIX_ENTRY_SIZE;
        if (enabled && vector != VIRTIO_MSI_NO_VECTOR &&
            !(fake_pci_get(fake, entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 4) & PCI_MSIX_ENTRY_CTRL_MASKBIT)) {
            wanted.address = fake_pci_get(fake, entry + PCI_MSIX_ENTRY_LOWER_ADDR, 4) |
                             (uint64_t)fake_pci_get(fake, entry + PCI_MSIX_ENTRY_UPPER_ADDR, 4) << 32;
            wanted.data = fake_pci_get(fake, entry + PCI_MSIX_ENTRY_DATA, 4);
        }
        assert(rig->route[i].address == wanted.address && rig->route[i].data == wanted.data);
    }
}

static void use_again(struct rig *rig)
{
    struct fake_queue queues[ECHO_QUEUES];
    rig->refuse = false;
    rig->memory.next = FAKE_RAM_BASE;
    memset(rig->memory.ram, 0, RAM_BYTES);
    fake_pci_decode(&rig->fake);
    for (unsigned i = 0; i < ECHO_QUEUES; i++)
        fake_queue_init(&queues[i], &rig->memory, 16);
    uint32_t status = fake_pci_start(&rig->fake, 0, queues, ECHO_QUEUES);
    assert(status & VIRTIO_CONFIG_S_DRIVER_OK && !(status & VIRTIO_CONFIG_S_NEEDS_RESET));
    check_routes(rig);
    struct fake_segment segment = {fake_alloc(&rig->memory, 16, 16), 16, true};
    fake_queue_add(&queues[1], &segment, 1);
    fake_interrupts(virtio_pci_interrupt_fd(rig->fake.pci, 1));
    fake_pci_notify(&rig->fake, 1);
    fake_loop_settle(rig->loop);
    uint32_t length;
    assert(fake_queue_used(&queues[1], NULL, &length) && length == ECHO_BYTES);
    assert(fake_interrupts(virtio_pci_interrupt_fd(rig->fake.pci, 1)) > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_init("fuzz", -1, LOG_FORMAT_TEXT, LOG_LEVEL_ERR);
    struct rig rig = {.loop = loop_new()};
    const struct virtio_pci_place place = {.memory = 0xd0204000, .port = 0xc004, .route = route, .arg = &rig};
    fake_memory_init(&rig.memory, RAM_BYTES);
    assert(rig.loop);
    echo_device_init(&rig.device, rig.loop);
    struct virtio_pci *pci = virtio_pci_new(&rig.device, &rig.memory.map, &place);
    assert(pci);
    fake_pci_find(&rig.fake, pci);
    fake_pci_decode(&rig.fake); /* until the input says otherwise */

    size_t count = size / sizeof(struct operation);
    for (size_t i = 0; i < count && i < OPERATIONS; i++) {
        struct operation operation;
        memcpy(&operation, data + i * sizeof(operation), sizeof(operation));
        run(&rig, &operation);
    }
    use_again(&rig);

    virtio_transport_free(virtio_pci_transport(pci));
    for (unsigned i = 0; i < INTERRUPTS; i++)
        assert(rig.route[i].address == 0);
    loop_free(rig.loop);
    fake_memory_fini(&rig.memory);
    return 0;
}
