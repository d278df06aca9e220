/*
 * What every virtio device shares: see device.h. Called by the devices.
 */
#include "vmm/virtio/device.h"

void virtio_device_broken(struct virtio_device *device, unsigned queue)
{
    const char *fault = virtqueue_fault(device->queue[queue]);
    /* Several queues may break in several threads at once: one of them writes the line. */
    if (!atomic_flag_test_and_set(&device->broken_busy)) {
        log_limited(&device->broken_limit, "virtio: device=%s queue=%u broken: %s", device->ops->name, queue,
                    fault ? fault : "malformed request");
        atomic_flag_clear(&device->broken_busy);
    }
    device->transport->broken(device->transport);
}
