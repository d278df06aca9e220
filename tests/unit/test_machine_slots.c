/*
 * Slots that are empty at first, virtio-mmio windows and places on PCI: what the guest reads there, devices
 * that come and go, and vCPUs that are inside a device while it goes. Needs a KVM device; skipped (exit
 * status 77) without.
 */
#include "common/loop.h"
#include "vmm/control_methods.h"
#include "vmm/device_tree.h"
#include "vmm/machine_internal.h"
#include "vmm/snapshot.h"
#include "vmm/virtio/mmio.h"
#include "vmm/virtio/pci.h"
#include "vmm/virtio/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_pci.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SKIPPED      77
#define SLOTS        2u
#define MEMORY_BYTES (64ull << 20)

struct fixture {
    struct loop *loop;
    struct machine *machine;
    pthread_t thread;
};

static int thread_start(void *arg, unsigned index)
{
    (void)arg;
    (void)index;
    return 0;
}

/* One device, then empty slots. */
static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct error err;
    if (!f)
        return -1;
    f->loop = loop_new();
    struct machine_config config = {.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC),
                                    .cpus = 1,
                                    .memory = {.bytes = MEMORY_BYTES},
                                    .console_fd = -1,
                                    .vcpu_thread_start = thread_start};
    f->machine = machine_new(&config, f->loop, &err);
    *state = f;
    if (!f->machine || machine_add_virtio(f->machine, virtio_rng_new(f->loop), &err) < 0 ||
        machine_add_placeholders(f->machine, SLOTS, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    machine_free(f->machine);
    loop_free(f->loop);
    free(f);
    return 0;
}

/* As a vCPU does. */
static uint32_t get(struct fixture *f, unsigned slot, uint32_t offset)
{
    uint32_t value = 0xdeadbeef;
    assert_true(bus_read(&f->machine->mmio, LAYOUT_VIRTIO + slot * LAYOUT_VIRTIO_STRIDE + offset, &value,
                         sizeof(value)));
    return value;
}

static void set(struct fixture *f, unsigned slot, uint32_t offset, uint32_t value)
{
    assert_true(bus_write(&f->machine->mmio, LAYOUT_VIRTIO + slot * LAYOUT_VIRTIO_STRIDE + offset, &value,
                          sizeof(value)));
}

/* A driver takes the device. */
static void set_held(struct fixture *f, unsigned slot)
{
    set(f, slot, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
}

static unsigned attach(struct fixture *f)
{
    struct error err;
    unsigned slot;
    if (machine_attach(f->machine, virtio_rng_new(f->loop), &slot, &err) < 0)
        fail_msg("%s", err.text);
    return slot;
}

static void empty_slot_is_a_transport_without_a_device(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(get(f, 0, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_RNG);
    for (unsigned slot = 1; slot <= SLOTS; slot++) {
        assert_int_equal(get(f, slot, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
        assert_int_equal(get(f, slot, VIRTIO_MMIO_VERSION), 2);
        assert_int_equal(get(f, slot, VIRTIO_MMIO_DEVICE_ID), 0);
        set(f, slot, VIRTIO_MMIO_STATUS, 1);
        set(f, slot, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        assert_int_equal(get(f, slot, VIRTIO_MMIO_STATUS), 0);
        assert_int_equal(get(f, slot, VIRTIO_MMIO_CONFIG), 0);
    }
}

static void device_comes_and_goes(void **state)
{
    struct fixture *f = *state;
    struct error err;
    for (unsigned round = 0; round < 3; round++) {
        unsigned slot = attach(f);
        assert_int_equal(slot, 1);
        assert_int_equal(get(f, slot, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_RNG);
        set_held(f, slot);
        assert_int_equal(machine_detach(f->machine, slot, false, &err), -1);
        assert_int_equal(err.code, EBUSY);
        /* As Linux leaves a device without its driver. */
        set(f, slot, VIRTIO_MMIO_STATUS, 0);
        set(f, slot, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
        assert_int_equal(machine_detach(f->machine, slot, false, &err), 0);
        assert_int_equal(get(f, slot, VIRTIO_MMIO_DEVICE_ID), 0);
        assert_int_equal(machine_detach(f->machine, slot, false, &err), -1);
        assert_int_equal(err.code, ENODEV);
    }
}

static void device_in_use_goes_by_force(void **state)
{
    struct fixture *f = *state;
    struct error err;
    unsigned slot = attach(f);
    set_held(f, slot);
    assert_int_equal(machine_detach(f->machine, slot, true, &err), 0);
    assert_int_equal(get(f, slot, VIRTIO_MMIO_STATUS), 0);
    attach(f);
}

/* The ends of the control socket's *.find and *.detach. */
static void a_request_tells_and_takes_what_is_in_a_slot(void **state)
{
    struct fixture *f = *state;
    struct error err;
    struct control_target target = {.loop = f->loop, .machine = f->machine};
    unsigned slot = attach(f);
    set_held(f, slot);
    json_t *found = control_slot_describe(&target, slot);
    assert_string_equal(json_string_value(json_object_get(found, "device")), "d0001000.virtio");
    assert_true(json_is_true(json_object_get(found, "in_use")));
    json_decref(found);

    json_t *params = json_object();
    struct control_request request = {.params = params};
    assert_int_equal(control_slot_detach(&target, slot, &request, &err), -1);
    assert_int_equal(err.code, EBUSY);
    json_object_set_new(params, "force", json_string("yes"));
    assert_int_equal(control_slot_detach(&target, slot, &request, &err), -1);
    assert_non_null(strstr(err.text, "force"));
    json_object_set_new(params, "force", json_true());
    assert_int_equal(control_slot_detach(&target, slot, &request, &err), 0);
    json_decref(params);
    assert_int_equal(get(f, slot, VIRTIO_MMIO_DEVICE_ID), 0);
}

static void more_devices_than_slots_are_refused(void **state)
{
    struct fixture *f = *state;
    struct error err;
    unsigned slot;
    for (unsigned i = 0; i < SLOTS; i++)
        attach(f);
    assert_int_equal(machine_attach(f->machine, virtio_rng_new(f->loop), &slot, &err), -1);
    assert_int_equal(err.code, ENOSPC);
}

static void slots_have_the_names_that_linux_gives_them(void **state)
{
    struct fixture *f = *state;
    char name[MACHINE_SLOT_NAME_BYTES];
    machine_slot_name(f->machine, 2, name);
    assert_string_equal(name, "d0002000.virtio");
    machine_slot_name(f->machine, LAYOUT_VIRTIO_SLOTS + 9, name);
    assert_string_equal(name, "0000:00:0a.0");
}

/* --- Places on PCI ------------------------------------------------------------------------------------- */

#define NET_QUEUES 9u
#define NET_ID     (0x1041u << 16 | 0x1af4u)

static uint64_t net_features(const struct virtio_device *device)
{
    (void)device;
    return 0;
}

static int net_activate(struct virtio_device *device, uint64_t features)
{
    (void)device;
    (void)features;
    return 0;
}

static void net_kick(struct virtio_device *device, unsigned queue)
{
    (void)device;
    (void)queue;
}

static void net_reset(struct virtio_device *device)
{
    (void)device;
}

static int net_save(const struct virtio_device *device, struct snapshot_writer *writer)
{
    (void)device;
    (void)writer;
    return 0;
}

static int net_restore(struct virtio_device *device, struct snapshot_reader *reader)
{
    (void)device;
    (void)reader;
    return 0;
}

static void net_free(struct virtio_device *device)
{
    free(device);
}

static const struct virtio_device_ops net_ops = {
    .name = "net",
    .id = VIRTIO_ID_NET,
    .features = net_features,
    .activate = net_activate,
    .kick = net_kick,
    .reset = net_reset,
    .save = net_save,
    .restore = net_restore,
    .free = net_free,
};

/* A device for PCI that does nothing. */
static struct virtio_device *net_new(struct loop *loop)
{
    struct virtio_device *device = calloc(1, sizeof(*device));
    assert_non_null(device);
    *device = (struct virtio_device){
        .ops = &net_ops, .loop = loop, .queue_count = NET_QUEUES, .queue_size_max = 16};
    return device;
}

static unsigned attach_net(struct fixture *f)
{
    struct error err;
    unsigned slot;
    if (machine_attach(f->machine, net_new(f->loop), &slot, &err) < 0)
        fail_msg("%s", err.text);
    return slot;
}

static void point(struct fixture *f, unsigned device, uint32_t offset)
{
    uint32_t address = 0x80000000u | device << 11 | offset;
    assert_true(bus_write(&f->machine->pio, 0xcf8, &address, sizeof(address)));
}

static uint32_t config_get(struct fixture *f, unsigned device, uint32_t offset)
{
    uint32_t value = 0xdeadbeef;
    point(f, device, offset);
    assert_true(bus_read(&f->machine->pio, 0xcfc, &value, sizeof(value)));
    return value;
}

static void config_set(struct fixture *f, unsigned device, uint32_t offset, uint32_t value)
{
    point(f, device, offset);
    assert_true(bus_write(&f->machine->pio, 0xcfc, &value, sizeof(value)));
}

static uint64_t region_of(unsigned device)
{
    return LAYOUT_PCI_MEMORY + (uint64_t)device * VIRTIO_PCI_MEMORY_BYTES;
}

/* The common configuration is at the beginning of the first region. */
static uint8_t status_get(struct fixture *f, unsigned device)
{
    uint8_t status = 0x77;
    assert_true(bus_read(&f->machine->mmio, region_of(device) + VIRTIO_PCI_COMMON_STATUS, &status, 1));
    return status;
}

static void status_set(struct fixture *f, unsigned device, uint8_t status)
{
    assert_true(bus_write(&f->machine->mmio, region_of(device) + VIRTIO_PCI_COMMON_STATUS, &status, 1));
}

static void network_device_comes_and_goes_on_pci(void **state)
{
    struct fixture *f = *state;
    struct error err;
    char name[MACHINE_SLOT_NAME_BYTES];
    assert_int_equal(config_get(f, 0, PCI_VENDOR_ID), UINT32_MAX); /* where others have their host bridge */
    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(config_get(f, 1, PCI_VENDOR_ID), UINT32_MAX);
        assert_int_equal(status_get(f, 1), 0xff);
        unsigned slot = attach_net(f);
        assert_int_equal(slot, LAYOUT_VIRTIO_SLOTS);
        machine_slot_name(f->machine, slot, name);
        assert_string_equal(name, "0000:00:01.0");
        assert_int_equal(config_get(f, 1, PCI_VENDOR_ID), NET_ID);
        assert_int_equal(config_get(f, 2, PCI_VENDOR_ID), UINT32_MAX);
        assert_int_equal(config_get(f, 1, PCI_COMMAND) & 0xffff, 0); /* nothing of the one before */
        config_set(f, 1, PCI_COMMAND, PCI_COMMAND_MEMORY);
        assert_int_equal(status_get(f, 1), 0);
        status_set(f, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
        status_set(f, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
        assert_int_equal(machine_detach(f->machine, slot, false, &err), -1);
        assert_int_equal(err.code, EBUSY);
        status_set(f, 1, 0);
        assert_int_equal(machine_detach(f->machine, slot, false, &err), 0);
        assert_int_equal(machine_detach(f->machine, slot, false, &err), -1);
        assert_int_equal(err.code, ENODEV);
    }
}

static void places_on_pci_are_found_in_their_order(void **state)
{
    struct fixture *f = *state;
    struct error err;
    unsigned slot, count = PCI_DEVICES_MAX - 1;
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(attach_net(f), LAYOUT_VIRTIO_SLOTS + i);
    assert_int_equal(machine_attach(f->machine, net_new(f->loop), &slot, &err), -1);
    assert_int_equal(err.code, ENOSPC);
    for (unsigned device = 1; device <= count; device++) {
        assert_int_equal(config_get(f, device, PCI_VENDOR_ID), NET_ID);
        config_set(f, device, PCI_COMMAND, PCI_COMMAND_MEMORY);
        status_set(f, device, VIRTIO_CONFIG_S_ACKNOWLEDGE); /* each has a region of its own */
        assert_int_equal(status_get(f, device), VIRTIO_CONFIG_S_ACKNOWLEDGE);
        if (device < count)
            assert_int_equal(status_get(f, device + 1), 0xff);
    }
    attach(f); /* the windows are still free */
    assert_int_equal(machine_detach(f->machine, LAYOUT_VIRTIO_SLOTS + 6, false, &err), 0);
    assert_int_equal(config_get(f, 7, PCI_VENDOR_ID), UINT32_MAX);
    assert_int_equal(attach_net(f), LAYOUT_VIRTIO_SLOTS + 6);
    assert_int_equal(config_get(f, 7, PCI_VENDOR_ID), NET_ID);
}

/* More often than there would be interrupts if one were kept. */
static void interrupts_are_given_back(void **state)
{
    struct fixture *f = *state;
    struct error err;
    for (unsigned round = 0; round < 200; round++) {
        unsigned slot = attach_net(f);
        assert_int_equal(slot, LAYOUT_VIRTIO_SLOTS);
        assert_int_equal(machine_detach(f->machine, slot, false, &err), 0);
    }
}

static void *run_loop(void *arg)
{
    loop_run(((struct fixture *)arg)->loop);
    return NULL;
}

struct detaching {
    struct fixture *f;
    struct virtio_device *(*make)(struct loop *loop);
    unsigned slot; /* where it comes */
    atomic_uint turns;
    int failures;
};

/* In the loop's thread, while the test's thread plays a vCPU that hammers on the slot. */
static void attach_and_detach(void *arg)
{
    struct detaching *detaching = arg;
    struct machine *machine = detaching->f->machine;
    struct error err;
    unsigned slot;
    if (machine->slot[detaching->slot].transport) {
        detaching->failures += machine_detach(machine, detaching->slot, true, &err) < 0;
    } else if (!machine->slot[detaching->slot].leaving) {
        detaching->failures +=
            machine_attach(machine, detaching->make(detaching->f->loop), &slot, &err) < 0 ||
            slot != detaching->slot;
    }
    atomic_fetch_add(&detaching->turns, 1);
}

static void vcpu_may_be_inside_a_device_that_goes(void **state)
{
    struct fixture *f = *state;
    struct detaching detaching = {.f = f, .make = virtio_rng_new, .slot = 1};
    assert_int_equal(pthread_create(&f->thread, NULL, run_loop, f), 0);
    for (unsigned round = 0; round < 2000; round++) {
        if (round % 7 == 0)
            assert_int_equal(loop_post(f->loop, attach_and_detach, &detaching), 0);
        /* Each of these waits for the loop's thread. */
        set(f, 1, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
        set(f, 1, VIRTIO_MMIO_STATUS, 0);
    }
    loop_stop(f->loop);
    pthread_join(f->thread, NULL);
    assert_int_equal(detaching.failures, 0);
}

/* The same on PCI, where a device that comes must be told to decode its region first. */
static void vcpu_may_be_inside_a_pci_device_that_goes(void **state)
{
    struct fixture *f = *state;
    struct detaching detaching = {.f = f, .make = net_new, .slot = LAYOUT_VIRTIO_SLOTS};
    unsigned posted = 0, acknowledged = 0;
    assert_int_equal(pthread_create(&f->thread, NULL, run_loop, f), 0);
    for (unsigned round = 0; posted < 100 || acknowledged < 100; round++) {
        if (round % 7 == 0 && atomic_load(&detaching.turns) == posted) {
            posted++;
            assert_int_equal(loop_post(f->loop, attach_and_detach, &detaching), 0);
        }
        config_set(f, 1, PCI_COMMAND, PCI_COMMAND_MEMORY);
        status_set(f, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
        acknowledged += status_get(f, 1) == VIRTIO_CONFIG_S_ACKNOWLEDGE;
        status_set(f, 1, 0); /* waits for the loop's thread */
    }
    loop_stop(f->loop);
    pthread_join(f->thread, NULL);
    assert_int_equal(detaching.failures, 0);
}

static void on_paused(void *arg)
{
    *(bool *)arg = true;
}

static void pause_now(struct fixture *f, struct machine *machine)
{
    bool paused = false;
    assert_int_equal(machine_pause(machine, on_paused, &paused), 0);
    loop_once(f->loop, 0);
    assert_true(paused);
}

static void paused_machine_keeps_its_devices(void **state)
{
    struct fixture *f = *state;
    struct error err;
    unsigned slot = attach(f), other;
    pause_now(f, f->machine);
    assert_int_equal(machine_detach(f->machine, slot, false, &err), -1);
    assert_int_equal(err.code, EBUSY);
    assert_int_equal(machine_attach(f->machine, virtio_rng_new(f->loop), &other, &err), -1);
    assert_int_equal(err.code, EBUSY);
}

/* Restores the state into a machine with `devices` devices in windows and `nets` on PCI that came later. */
static int restore_into(const void *bytes, size_t length, unsigned devices, unsigned nets)
{
    void *other;
    if (set_up(&other) < 0)
        return -ENODEV;
    for (unsigned i = 0; i < devices; i++)
        attach(other);
    for (unsigned i = 0; i < nets; i++)
        attach_net(other);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    int rc = machine_restore(((struct fixture *)other)->machine, reader);
    snapshot_reader_free(reader);
    tear_down(&other);
    return rc;
}

static void state_fits_only_the_same_devices_in_the_same_slots(void **state)
{
    struct fixture *f = *state;
    const void *bytes;
    size_t length;
    attach(f);
    attach_net(f);
    pause_now(f, f->machine);
    struct snapshot_writer *writer = snapshot_writer_new();
    assert_int_equal(machine_save(f->machine, writer), 0);
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);
    assert_int_equal(restore_into(bytes, length, 0, 1), -EINVAL);
    assert_int_equal(restore_into(bytes, length, 1, 0), -EINVAL);
    assert_int_equal(restore_into(bytes, length, 1, 1), 0);
    assert_int_equal(restore_into(bytes, length, 1, 2), -EINVAL);
    assert_int_equal(restore_into(bytes, length, 2, 1), -EINVAL);
    snapshot_writer_free(writer);
}

#define slots_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        slots_test(empty_slot_is_a_transport_without_a_device),
        slots_test(device_comes_and_goes),
        slots_test(device_in_use_goes_by_force),
        slots_test(a_request_tells_and_takes_what_is_in_a_slot),
        slots_test(more_devices_than_slots_are_refused),
        slots_test(slots_have_the_names_that_linux_gives_them),
        slots_test(network_device_comes_and_goes_on_pci),
        slots_test(places_on_pci_are_found_in_their_order),
        slots_test(interrupts_are_given_back),
        slots_test(vcpu_may_be_inside_a_device_that_goes),
        slots_test(vcpu_may_be_inside_a_pci_device_that_goes),
        slots_test(paused_machine_keeps_its_devices),
        slots_test(state_fits_only_the_same_devices_in_the_same_slots),
    };
    if (access("/dev/kvm", R_OK | W_OK) < 0) {
        fprintf(stderr, "skipped: needs /dev/kvm\n");
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
