/*
 * Fuzz target: a hostile driver of a disk, with the disk's real threads. Nothing outside the disk is written,
 * the file keeps its size, and afterwards the disk still reads and writes.
 */
#include "tests/fuzz/device_driver.h"
#include "vmm/virtio/blk.h"

#undef NDEBUG /* an assertion is the test */
#include <assert.h>
#include <endian.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISK_BYTES (64u << 10)
#define QUEUES     2
#define TURNS      100

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A broken ring is never emptied: not waited for. */
static void settle(struct device_driver *driver)
{
    for (unsigned turn = 0; turn < TURNS; turn++) {
        bool quiet = true;
        for (unsigned i = 0; i < QUEUES && driver->queue[i].memory; i++) {
            uint16_t used = __atomic_load_n(&fake_queue_used_ring(&driver->queue[i])->idx, __ATOMIC_ACQUIRE);
            quiet = quiet && le16toh(used) == driver->queue[i].avail_idx;
        }
        if (quiet || fake_mmio_get(driver->mmio, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET)
            return;
        usleep(20);
    }
}

static void own(struct device_driver *driver, uint32_t value)
{
    uint64_t bytes;
    assert(virtio_blk_refresh(driver->device, &bytes) == 0 && bytes == DISK_BYTES);
    virtio_blk_set_limits(driver->device, value & 1 ? 1u << 30 : 0, value & 2 ? 100000 : 0);
}

static uint8_t request(struct device_driver *driver, uint32_t type, bool in)
{
    struct virtio_blk_outhdr header = {.type = htole32(type), .sector = htole64(DISK_BYTES / 512 - 1)};
    uint8_t *status = fake_at(&driver->memory, driver->buffers + 64);
    *status = 0xff;
    memcpy(fake_at(&driver->memory, driver->buffers), &header, sizeof(header));
    struct fake_segment segments[] = {{driver->buffers, sizeof(header), false},
                                      {driver->buffers + 4096, 512, in},
                                      {driver->buffers + 64, 1, true}};
    fake_queue_add(&driver->queue[0], segments, 3);
    fake_mmio_kick(driver->mmio, driver->loop, 0);
    while (!fake_queue_used(&driver->queue[0], NULL, NULL))
        usleep(20);
    return *status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct device_driver driver = {.own = own, .settle = settle};
    struct virtio_blk_options options;
    struct error err;
    struct stat stat;
    device_driver_init(&driver);
    virtio_blk_options_init(&options);
    options.fd = memfd_create("disk", MFD_CLOEXEC);
    options.queues = QUEUES;
    options.threads = 2;
    int file = dup(options.fd);
    assert(file >= 0 && ftruncate(file, DISK_BYTES) == 0);
    device_driver_attach(&driver, virtio_blk_new(driver.loop, &options, &err));
    assert(virtio_blk_start(driver.device) == 0);
    device_driver_run(&driver, data, size);

    virtio_blk_set_limits(driver.device, 0, 0);
    memset(fake_at(&driver.memory, driver.buffers + 4096), 'f', 512);
    assert(request(&driver, VIRTIO_BLK_T_OUT, false) == VIRTIO_BLK_S_OK);
    memset(fake_at(&driver.memory, driver.buffers + 4096), 0, 512);
    assert(request(&driver, VIRTIO_BLK_T_IN, true) == VIRTIO_BLK_S_OK);
    assert(*(char *)fake_at(&driver.memory, driver.buffers + 4096) == 'f');
    assert(fstat(file, &stat) == 0 && stat.st_size == DISK_BYTES);
    device_driver_fini(&driver);
    close(file);
    return 0;
}
