/*
 * Disks that come, go and change while the guest runs: see control_methods.h. In the loop's thread; what
 * needs system calls of a disk's own is done in the nursery's, so that this thread's filter has none of them.
 */
#include "vmm/control_methods.h"

#include "common/fd.h"
#include "common/json.h"
#include "vmm/blk_option.h"
#include "vmm/machine.h"
#include "vmm/nursery.h"
#include "vmm/virtio/transport.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <string.h>

/* The slot of the disk with this serial, or -1. */
static int find_slot(const struct machine *machine, const char *serial)
{
    for (unsigned i = 0; i < MACHINE_SLOTS_END; i++) {
        const struct virtio_transport *transport = machine_slot_device(machine, i);
        const struct virtio_device *device = transport ? virtio_transport_device(transport) : NULL;
        if (device && device->ops->id == VIRTIO_ID_BLOCK && strcmp(virtio_blk_serial(device), serial) == 0)
            return (int)i;
    }
    return -1;
}

static int get_serial(const struct control_request *request, const char **serial, struct error *err)
{
    return json_require(json_get_string(request->params, "params", "serial", serial, err), "params", "serial",
                        err);
}

/* The slot that params.serial names. -1 with err: ENODEV. */
static int get_slot(const struct control_target *target, const struct control_request *request,
                    struct error *err)
{
    const char *serial;
    if (get_serial(request, &serial, err) < 0)
        return -1;
    int slot = find_slot(target->machine, serial);
    return slot < 0 ? error_set(err, ENODEV, "disk '%.32s'", serial) : slot;
}

static struct virtio_device *get_device(const struct control_target *target,
                                        const struct control_request *request, struct error *err)
{
    int slot = get_slot(target, request, err);
    return slot < 0 ? NULL : virtio_transport_device(machine_slot_device(target->machine, (unsigned)slot));
}

static int get_limits(const struct control_request *request, struct virtio_blk_options *options,
                      struct error *err)
{
    if (json_get_u64(request->params, "params", "bps", INT64_MAX, &options->bytes_per_s, err) < 0 ||
        json_get_u64(request->params, "params", "iops", INT64_MAX, &options->ops_per_s, err) < 0)
        return -1;
    return 0;
}

/* Parameters into options; the descriptor is not taken yet. */
static int parse_attach(const struct control_request *request, struct virtio_blk_options *options,
                        struct error *err)
{
    const char *serial;
    int64_t queues = 1, threads = options->threads;
    if (get_serial(request, &serial, err) < 0 || get_limits(request, options, err) < 0 ||
        json_get_bool(request->params, "params", "ro", &options->read_only, err) < 0 ||
        json_get_bool(request->params, "params", "direct", &options->direct, err) < 0 ||
        json_get_int(request->params, "params", "queues", 1, VIRTIO_BLK_QUEUES_MAX, &queues, err) < 0 ||
        json_get_int(request->params, "params", "threads", 1, VIRTIO_BLK_THREADS_MAX, &threads, err) < 0)
        return -1;
    if (blk_option_set_serial(options, serial) < 0)
        return error_set(err, EINVAL, "params.serial '%.32s'", serial);
    if (request->fd_count != 1)
        return error_set(err, EINVAL, "blk.attach: %zu descriptors instead of one", request->fd_count);
    options->queues = (unsigned)queues;
    options->threads = (unsigned)threads;
    return 0;
}

/* A device that the nursery makes or looks at. */
struct errand {
    const struct control_target *target;
    const struct virtio_blk_options *options;
    struct virtio_device *device;
    uint64_t bytes;
    struct error *err;
};

static int make_device(void *arg)
{
    struct errand *errand = arg;
    errand->device = virtio_blk_new(errand->target->loop, errand->options, errand->err);
    if (!errand->device)
        return -1;
    int rc = virtio_blk_start(errand->device);
    if (rc == 0)
        return 0;
    errand->device->ops->free(errand->device);
    return error_set(errand->err, -rc, "disk: threads");
}

static int refresh_device(void *arg)
{
    struct errand *errand = arg;
    return virtio_blk_refresh(errand->device, &errand->bytes);
}

int control_blk_attach(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    struct control_target *target = arg;
    struct virtio_blk_options options;
    unsigned slot;
    char name[MACHINE_SLOT_NAME_BYTES];
    virtio_blk_options_init(&options);
    if (parse_attach(request, &options, err) < 0)
        return -1;
    if (!target->nursery)
        return error_set(err, ENOTSUP, "blk.attach: a VM without slots");
    if (find_slot(target->machine, options.serial) >= 0)
        return error_set(err, EEXIST, "disk '%s'", options.serial);
    options.fd = take_fd(&request->fds[0]);
    options.thread_start = target->blk_thread_start;
    struct errand errand = {.target = target, .options = &options, .err = err};
    if (nursery_call(target->nursery, make_device, &errand) < 0 ||
        machine_attach(target->machine, errand.device, &slot, err) < 0)
        return -1;
    machine_slot_name(target->machine, slot, name);
    *result = json_pack("{s:s}", "device", name);
    return 0;
}

int control_blk_detach(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    (void)result;
    int slot = get_slot(arg, request, err);
    return slot < 0 ? -1 : control_slot_detach(arg, (unsigned)slot, request, err);
}

int control_blk_find(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    int slot = get_slot(arg, request, err);
    if (slot < 0)
        return -1;
    *result = control_slot_describe(arg, (unsigned)slot);
    return 0;
}

int control_blk_refresh(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    struct control_target *target = arg;
    struct errand errand = {.device = get_device(target, request, err)};
    if (!errand.device)
        return -1;
    int rc = target->nursery ? nursery_call(target->nursery, refresh_device, &errand) : -ENOTSUP;
    if (rc < 0)
        return error_set(err, -rc, "disk '%s'", virtio_blk_serial(errand.device));
    *result = json_pack("{s:I}", "bytes", (json_int_t)errand.bytes);
    return 0;
}

int control_blk_limit(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    struct virtio_blk_options limits = {.bytes_per_s = 0};
    (void)result;
    struct virtio_device *device = get_device(arg, request, err);
    if (!device || get_limits(request, &limits, err) < 0)
        return -1;
    virtio_blk_set_limits(device, limits.bytes_per_s, limits.ops_per_s);
    return 0;
}
