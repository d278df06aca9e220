/*
 * virtio-mmio slots that are empty at first: what the guest reads there, devices that come and go, and vCPUs
 * that are inside a device while it goes. Needs a KVM device; skipped (exit status 77) without.
 */
#include "common/loop.h"
#include "vmm/control_methods.h"
#include "vmm/device_tree.h"
#include "vmm/machine_internal.h"
#include "vmm/snapshot.h"
#include "vmm/virtio/mmio.h"
#include "vmm/virtio/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <setjmp.h>
#include <stdarg.h>
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
    machine_slot_name(2, name);
    assert_string_equal(name, "d0002000.virtio");
    assert_int_equal(machine_slot_find(f->machine, name), 2);
    assert_int_equal(machine_slot_find(f->machine, "d0003000.virtio"), -1); /* there is no such slot */
}

static void *run_loop(void *arg)
{
    loop_run(((struct fixture *)arg)->loop);
    return NULL;
}

struct detaching {
    struct fixture *f;
    unsigned rounds;
    int failures;
};

/* In the loop's thread, while the test's thread plays a vCPU that hammers on the slot. */
static void attach_and_detach(void *arg)
{
    struct detaching *detaching = arg;
    struct machine *machine = detaching->f->machine;
    struct error err;
    unsigned slot;
    if (machine->slot[1].mmio)
        detaching->failures += machine_detach(machine, 1, true, &err) < 0;
    else if (!machine->slot[1].leaving)
        detaching->failures +=
            machine_attach(machine, virtio_rng_new(detaching->f->loop), &slot, &err) < 0 || slot != 1;
}

static void vcpu_may_be_inside_a_device_that_goes(void **state)
{
    struct fixture *f = *state;
    struct detaching detaching = {.f = f};
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

/* Restores the state into a machine with `devices` devices that came later. */
static int restore_into(const void *bytes, size_t length, unsigned devices)
{
    void *other;
    if (set_up(&other) < 0)
        return -ENODEV;
    for (unsigned i = 0; i < devices; i++)
        attach(other);
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
    pause_now(f, f->machine);
    struct snapshot_writer *writer = snapshot_writer_new();
    assert_int_equal(machine_save(f->machine, writer), 0);
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);
    assert_int_equal(restore_into(bytes, length, 0), -EINVAL);
    assert_int_equal(restore_into(bytes, length, 1), 0);
    assert_int_equal(restore_into(bytes, length, 2), -EINVAL);
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
        slots_test(vcpu_may_be_inside_a_device_that_goes),
        slots_test(paused_machine_keeps_its_devices),
        slots_test(state_fits_only_the_same_devices_in_the_same_slots),
    };
    if (access("/dev/kvm", R_OK | W_OK) < 0) {
        fprintf(stderr, "skipped: needs /dev/kvm\n");
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
