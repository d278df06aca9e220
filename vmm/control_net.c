/* Network devices that come and go while the guest runs: see control_methods.h. In the loop's thread. */
#include "vmm/control_methods.h"

#include "common/fd.h"
#include "common/json.h"
#include "vmm/io_threads.h"
#include "vmm/machine.h"
#include "vmm/net_option.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/transport.h"

#include <errno.h>
#include <linux/virtio_ids.h>

/* The slot of the network device with this id, or -1. */
static int find_slot(const struct machine *machine, uint32_t id)
{
    for (unsigned i = 0; i < MACHINE_SLOTS_END; i++) {
        const struct virtio_transport *transport = machine_slot_device(machine, i);
        const struct virtio_device *device = transport ? virtio_transport_device(transport) : NULL;
        if (device && device->ops->id == VIRTIO_ID_NET && virtio_net_id(device) == id)
            return (int)i;
    }
    return -1;
}

static int get_id(const struct control_request *request, uint32_t *id, struct error *err)
{
    uint64_t value;
    int got = json_get_u64(request->params, "params", "id", UINT32_MAX, &value, err);
    if (json_require(got, "params", "id", err) < 0)
        return -1;
    *id = (uint32_t)value;
    return 0;
}

/* The slot that params.id names. -1 with err: ENODEV. */
static int get_slot(const struct control_target *target, const struct control_request *request,
                    struct error *err)
{
    uint32_t id;
    if (get_id(request, &id, err) < 0)
        return -1;
    int slot = find_slot(target->machine, id);
    return slot < 0 ? error_set(err, ENODEV, "network device %u", id) : slot;
}

static struct virtio_device *get_device(const struct control_target *target,
                                        const struct control_request *request, struct error *err)
{
    int slot = get_slot(target, request, err);
    return slot < 0 ? NULL : virtio_transport_device(machine_slot_device(target->machine, (unsigned)slot));
}

/* Parameters into options; descriptors are not taken yet. */
static int parse_attach(const struct control_request *request, struct virtio_net_options *options,
                        bool *vhost, struct error *err)
{
    const char *mac;
    int64_t mtu = 0, queues = 1;
    *vhost = false;
    if (get_id(request, &options->id, err) < 0 ||
        json_require(json_get_string(request->params, "params", "mac", &mac, err), "params", "mac", err) <
            0 ||
        json_get_int(request->params, "params", "mtu", 0, NET_OPTION_MTU_MAX, &mtu, err) < 0 ||
        json_get_int(request->params, "params", "queues", 1, VIRTIO_NET_PAIRS_MAX, &queues, err) < 0 ||
        json_get_bool(request->params, "params", "vhost", vhost, err) < 0)
        return -1;
    if (net_option_parse_mac(mac, options->mac) < 0)
        return error_set(err, EINVAL, "params.mac '%.32s'", mac);
    if (mtu != 0 && mtu < NET_OPTION_MTU_MIN)
        return error_set(err, EINVAL, "params.mtu %d", (int)mtu);
    options->mtu = (uint16_t)mtu;
    options->pairs = (unsigned)queues;
    size_t wanted = options->pairs * (*vhost ? 2u : 1u);
    if (request->fd_count != wanted)
        return error_set(err, EINVAL, "net.attach: %zu descriptors instead of %zu", request->fd_count,
                         wanted);
    return 0;
}

int control_net_attach(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    struct control_target *target = arg;
    struct virtio_net_options options;
    bool vhost;
    unsigned slot;
    char name[MACHINE_SLOT_NAME_BYTES];
    virtio_net_options_init(&options);
    if (parse_attach(request, &options, &vhost, err) < 0)
        return -1;
    if (!target->net_threads)
        return error_set(err, ENOTSUP, "net.attach: a VM without slots");
    if (find_slot(target->machine, options.id) >= 0)
        return error_set(err, EEXIST, "network device %u", options.id);
    for (unsigned i = 0; i < options.pairs; i++) {
        options.tap_fd[i] = take_fd(&request->fds[i]);
        if (vhost)
            options.vhost_fd[i] = take_fd(&request->fds[options.pairs + i]);
    }
    struct virtio_net_host host = {.loop = target->loop, .memory = machine_memory(target->machine)};
    host.loops = io_threads_loops(target->net_threads, &host.loop_count);
    struct virtio_device *device = virtio_net_new(&host, &options, err);
    if (!device || machine_attach(target->machine, device, &slot, err) < 0)
        return -1;
    machine_slot_name(target->machine, slot, name);
    *result = json_pack("{s:s}", "device", name);
    return 0;
}

int control_net_detach(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    (void)result;
    int slot = get_slot(arg, request, err);
    return slot < 0 ? -1 : control_slot_detach(arg, (unsigned)slot, request, err);
}

int control_net_find(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    int slot = get_slot(arg, request, err);
    if (slot < 0)
        return -1;
    *result = control_slot_describe(arg, (unsigned)slot);
    return 0;
}

int control_net_link(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    bool up;
    (void)result;
    struct virtio_device *device = get_device(arg, request, err);
    if (!device ||
        json_require(json_get_bool(request->params, "params", "up", &up, err), "params", "up", err) < 0)
        return -1;
    virtio_net_set_link(device, up);
    return 0;
}

int control_net_announce(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    (void)result;
    struct virtio_device *device = get_device(arg, request, err);
    if (!device)
        return -1;
    virtio_net_announce(device);
    return 0;
}
