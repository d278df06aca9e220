/* The control socket's table, and the methods that ask for nothing but news: see control_methods.h. */
#include "vmm/control_methods.h"

#include "common/json.h"
#include "vmm/machine.h"
#include "vmm/virtio/transport.h"

#include <errno.h>

#define STATISTICS_MAX 32

static json_t *statistics_json(const struct virtio_device *device)
{
    struct virtio_statistic rows[STATISTICS_MAX];
    json_t *object = json_object();
    unsigned count = device->ops->statistics ? device->ops->statistics(device, rows, STATISTICS_MAX) : 0;
    for (unsigned i = 0; i < count; i++)
        json_object_set_new(object, rows[i].name, json_integer((json_int_t)rows[i].value));
    return object;
}

static json_t *device_json(const struct machine *machine, unsigned slot)
{
    struct virtio_transport *transport = machine_slot_device(machine, slot);
    const struct virtio_device *device = virtio_transport_device(transport);
    char name[MACHINE_SLOT_NAME_BYTES];
    machine_slot_name(machine, slot, name);
    return json_pack("{s:s, s:s, s:i, s:b, s:I, s:o}", "device", name, "type", device->ops->name, "queues",
                     (int)device->queue_count, "in_use", virtio_transport_in_use(transport), "interrupts",
                     (json_int_t)virtio_transport_interrupts(transport), "statistics",
                     statistics_json(device));
}

static int get_status(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    struct control_target *target = arg;
    struct exit_counts exits;
    (void)request;
    json_t *devices = json_array();
    for (unsigned i = 0; i < MACHINE_SLOTS_END; i++) {
        if (machine_slot_device(target->machine, i))
            json_array_append_new(devices, device_json(target->machine, i));
    }
    machine_get_exits(target->machine, &exits);
    *result = json_pack("{s:s*, s:o, s:o, s:i}", "id", target->id, "exits", status_exits_json(&exits),
                        "devices", devices, "free_slots", (int)machine_free_windows(target->machine));
    return *result ? 0 : error_set(err, ENOMEM, "status");
}

int control_slot_detach(struct control_target *target, unsigned slot, const struct control_request *request,
                        struct error *err)
{
    bool force = false;
    if (json_get_bool(request->params, "params", "force", &force, err) < 0)
        return -1;
    return machine_detach(target->machine, slot, force, err);
}

json_t *control_slot_describe(const struct control_target *target, unsigned slot)
{
    char name[MACHINE_SLOT_NAME_BYTES];
    machine_slot_name(target->machine, slot, name);
    bool in_use = virtio_transport_in_use(machine_slot_device(target->machine, slot));
    return json_pack("{s:s, s:b}", "device", name, "in_use", in_use);
}

const struct control_method control_methods[] = {
    {"status", get_status},
    {"net.attach", control_net_attach},
    {"net.detach", control_net_detach},
    {"net.find", control_net_find},
    {"net.link", control_net_link},
    {"net.announce", control_net_announce},
    {"blk.attach", control_blk_attach},
    {"blk.detach", control_blk_detach},
    {"blk.find", control_blk_find},
    {"blk.refresh", control_blk_refresh},
    {"blk.limit", control_blk_limit},
    {"cpus.resize", control_cpus_resize},
    {"memory.resize", control_memory_resize},
    {"memory.balloon", control_memory_balloon},
    {"memory.info", control_memory_info},
};
const size_t control_methods_count = sizeof(control_methods) / sizeof(control_methods[0]);
