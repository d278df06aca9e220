/*
 * Fuzz target: a hostile driver of the balloon. Only RAM may ever be given back, and afterwards the device
 * still gives back what it is asked to.
 */
#include "tests/fuzz/device_driver.h"
#include "vmm/virtio/balloon.h"

#undef NDEBUG /* an assertion is the test */
#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void own(struct device_driver *driver, uint32_t value)
{
    if (value & 1)
        virtio_balloon_set_target(driver->device, value);
    else
        virtio_balloon_request_statistics(driver->device, NULL, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct device_driver driver = {.own = own};
    device_driver_init(&driver);
    device_driver_attach(&driver, virtio_balloon_new(driver.loop, &driver.memory.map));
    device_driver_run(&driver, data, size);

    uint8_t *page = fake_at(&driver.memory, driver.buffers + 4096);
    memset(page, 1, 4096);
    uint32_t number = (uint32_t)((driver.buffers + 4096) / 4096);
    memcpy(fake_at(&driver.memory, driver.buffers), &number, sizeof(number));
    struct fake_segment segment = {driver.buffers, sizeof(number), false};
    fake_queue_add(&driver.queue[0], &segment, 1);
    fake_mmio_kick(driver.mmio, driver.loop, 0);
    assert(fake_queue_used(&driver.queue[0], NULL, NULL) && *page == 0);
    device_driver_fini(&driver);
    return 0;
}
