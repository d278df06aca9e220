/*
 * Fuzz target: a hostile driver of virtio-mem. Whatever it asks, what is plugged stays within what was ever
 * requested, and afterwards unplugging all leaves nothing plugged.
 */
#include "tests/fuzz/device_driver.h"
#include "vmm/virtio/mem.h"

#undef NDEBUG /* an assertion is the test */
#include <assert.h>
#include <endian.h>
#include <linux/virtio_mem.h>
#include <string.h>
#include <sys/mman.h>

#define REGION       0x100000000ull
#define REGION_BYTES (64 * VIRTIO_MEM_BLOCK_BYTES)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void own(struct device_driver *driver, uint32_t value)
{
    virtio_mem_request(driver->device, value % 80 * VIRTIO_MEM_BLOCK_BYTES);
    assert(virtio_mem_get_plugged(driver->device) <= REGION_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct device_driver driver = {.own = own};
    device_driver_init(&driver);
    void *region =
        mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert(region != MAP_FAILED && guest_memory_add(&driver.memory.map, REGION, REGION_BYTES, region) == 0);
    struct virtio_mem_options options = {&driver.memory.map, REGION, REGION_BYTES,
                                         48 * VIRTIO_MEM_BLOCK_BYTES};
    device_driver_attach(&driver, virtio_mem_new(driver.loop, &options));
    device_driver_run(&driver, data, size);
    assert(virtio_mem_get_plugged(driver.device) <= options.bytes_max);

    struct virtio_mem_req request = {.type = htole16(VIRTIO_MEM_REQ_UNPLUG_ALL)};
    memcpy(fake_at(&driver.memory, driver.buffers), &request, sizeof(request));
    struct fake_segment segments[] = {{driver.buffers, sizeof(request), false},
                                      {driver.buffers + 256, sizeof(struct virtio_mem_resp), true}};
    fake_queue_add(&driver.queue[0], segments, 2);
    fake_mmio_kick(driver.mmio, driver.loop, 0);
    assert(fake_queue_used(&driver.queue[0], NULL, NULL) && virtio_mem_get_plugged(driver.device) == 0);
    device_driver_fini(&driver);
    munmap(region, REGION_BYTES);
    return 0;
}
