/*
 * A running machine is paused, saved, and goes on in another machine where it was. Needs a KVM device;
 * skipped (exit status 77) without.
 */
#include "common/loop.h"
#include "vmm/machine_internal.h"
#include "vmm/nursery.h"
#include "vmm/snapshot.h"
#include "vmm/virtio/rng.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SKIPPED      77
#define LOAD         0x1000000u
#define COUNTER      0x10000u
#define MEMORY_BYTES (64ull << 20)
#define PATIENCE_S   30

/* Counts in memory and in %rbx, for ever, so that *COUNTER == %rbx or %rbx + 1 between any two instructions.
 */
static const uint8_t counting[] = {
    0x49, 0xbc, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, /* movabs $0x0123456789abcdef, %r12 */
    0x31, 0xdb,                                                 /* xor %ebx, %ebx */
    0x48, 0xff, 0x04, 0x25, 0x00, 0x00, 0x01, 0x00,             /* again: incq 0x10000 */
    0x48, 0xff, 0xc3,                                           /* inc %rbx */
    0xeb, 0xf3,                                                 /* jmp again */
};

static int kernel_new(void)
{
    struct {
        Elf64_Ehdr header;
        Elf64_Phdr segment;
        uint8_t code[64];
    } image = {
        .header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                   .e_type = ET_EXEC,
                   .e_machine = EM_X86_64,
                   .e_entry = LOAD,
                   .e_phoff = sizeof(Elf64_Ehdr),
                   .e_phentsize = sizeof(Elf64_Phdr),
                   .e_phnum = 1},
        .segment = {.p_type = PT_LOAD,
                    .p_offset = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr),
                    .p_paddr = LOAD,
                    .p_filesz = 64,
                    .p_memsz = 64},
    };
    memcpy(image.code, counting, sizeof(counting));
    int fd = memfd_create("kernel", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, &image, sizeof(image)), sizeof(image));
    return fd;
}

static int thread_start(void *arg, unsigned index)
{
    (void)arg;
    (void)index;
    return 0;
}

static struct machine *machine_build(struct loop *loop, unsigned cpus, unsigned cpus_max,
                                     const struct machine_boot *boot)
{
    struct error err;
    struct machine_config config = {.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC),
                                    .cpus = cpus,
                                    .cpus_max = cpus_max,
                                    .memory = {.bytes = MEMORY_BYTES},
                                    .console_fd = -1,
                                    .vcpu_thread_start = thread_start,
                                    .boot = boot};
    struct machine *machine = machine_new(&config, loop, &err);
    if (!machine)
        fail_msg("%s", err.text);
    if (machine_add_virtio(machine, virtio_rng_new(loop), &err) < 0)
        fail_msg("%s", err.text);
    return machine;
}

/* One to restore into. */
static struct machine *machine_make(struct loop *loop, unsigned cpus)
{
    return machine_build(loop, cpus, 0, NULL);
}

static uint64_t counter(const struct machine *machine)
{
    const uint64_t *at = guest_memory_at(&machine->memory.map, COUNTER, sizeof(*at));
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

/* Serves the loop until the guest has counted beyond `value`. */
static void wait_beyond(struct machine *machine, uint64_t value)
{
    time_t deadline = time(NULL) + PATIENCE_S;
    while (counter(machine) <= value) {
        assert_true(time(NULL) < deadline);
        loop_once(machine->loop, 1);
    }
}

static void on_paused(void *arg)
{
    *(bool *)arg = true;
}

static void pause_now(struct machine *machine)
{
    bool paused = false;
    time_t deadline = time(NULL) + PATIENCE_S;
    assert_int_equal(machine_pause(machine, on_paused, &paused), 0);
    assert_int_equal(machine_pause(machine, on_paused, &paused), -EBUSY);
    while (!paused) {
        assert_true(time(NULL) < deadline);
        loop_once(machine->loop, 10);
    }
}

static struct machine *start_counting_growing(struct loop *loop, unsigned cpus, unsigned cpus_max)
{
    struct error err;
    int kernel = kernel_new();
    struct machine_boot boot = {.kernel_fd = kernel, .initrd_fd = -1};
    struct machine *machine = machine_build(loop, cpus, cpus_max, &boot);
    if (machine_load(machine, NULL, &err) < 0 || machine_start(machine, &err) < 0)
        fail_msg("%s", err.text);
    close(kernel);
    machine_resume(machine);
    wait_beyond(machine, 1000);
    return machine;
}

static struct machine *start_counting(struct loop *loop, unsigned cpus)
{
    return start_counting_growing(loop, cpus, 0);
}

static void a_paused_machine_stands_still_and_goes_on(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct machine *machine = start_counting(loop, 1);
    pause_now(machine);
    uint64_t stood_at = counter(machine);
    usleep(50000);
    assert_true(counter(machine) == stood_at);
    machine_resume(machine);
    wait_beyond(machine, stood_at);
    machine_free(machine);
    loop_free(loop);
}

static void a_saved_machine_goes_on_in_another(void **state)
{
    const void *bytes;
    size_t length;
    struct kvm_regs before, after;
    struct error err;
    (void)state;
    struct loop *loop = loop_new();
    struct machine *machine = start_counting(loop, 2);
    pause_now(machine);
    struct snapshot_writer *writer = snapshot_writer_new();
    assert_int_equal(machine_save(machine, writer), 0);
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);
    assert_int_equal(ioctl(machine->vcpu[0].fd, KVM_GET_REGS, &before), 0);
    assert_true(before.r12 == 0x0123456789abcdef);

    struct machine *copy = machine_make(loop, 2);
    memcpy(copy->memory.base, machine->memory.base, MEMORY_BYTES);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_non_null(reader);
    assert_int_equal(machine_restore(copy, reader), 0);
    assert_int_equal(ioctl(copy->vcpu[0].fd, KVM_GET_REGS, &after), 0);
    assert_memory_equal(&before, &after, sizeof(before));
    struct kvm_mp_state mp_state;
    assert_int_equal(ioctl(copy->vcpu[1].fd, KVM_GET_MP_STATE, &mp_state), 0);
    assert_int_equal(mp_state.mp_state, KVM_MP_STATE_UNINITIALIZED);

    uint64_t saved_at = counter(machine);
    if (machine_start(copy, &err) < 0)
        fail_msg("%s", err.text);
    machine_resume(copy);
    wait_beyond(copy, saved_at + 1000);
    assert_true(counter(machine) == saved_at);
    pause_now(copy);
    assert_int_equal(ioctl(copy->vcpu[0].fd, KVM_GET_REGS, &after), 0);
    assert_true(counter(copy) - after.rbx <= 1);

    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
    machine_free(copy);
    machine_free(machine);
    loop_free(loop);
}

static void a_machine_built_otherwise_refuses_the_state(void **state)
{
    const void *bytes;
    size_t length;
    (void)state;
    struct loop *loop = loop_new();
    struct machine *machine = machine_make(loop, 1), *other = machine_make(loop, 2);
    bool paused = false;
    /* Never started: nothing runs, so it is paused at once. */
    assert_int_equal(machine_pause(machine, on_paused, &paused), 0);
    loop_once(loop, 0);
    assert_true(paused);
    struct snapshot_writer *writer = snapshot_writer_new();
    assert_int_equal(machine_save(machine, writer), 0);
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(machine_restore(other, reader), -EINVAL);
    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
    machine_free(other);
    machine_free(machine);
    loop_free(loop);
}

static int nursery_start(void)
{
    return 0;
}

static void vcpus_are_made_when_asked_for(void **state)
{
    const void *bytes;
    size_t length;
    struct error err;
    (void)state;
    struct loop *loop = loop_new();
    struct nursery *nursery = nursery_new(nursery_start);
    struct machine *machine = start_counting_growing(loop, 1, 4);
    assert_int_equal(machine_get_cpus(machine), 1);
    assert_int_equal(machine_set_cpus(machine, 3, &err), -1); /* nothing to make them in */
    machine_set_nursery(machine, nursery);
    assert_int_equal(machine_set_cpus(machine, 3, &err), 0);
    assert_int_equal(machine_get_cpus(machine), 3);
    assert_int_equal(machine_set_cpus(machine, 2, &err), 0); /* never fewer */
    assert_int_equal(machine_get_cpus(machine), 3);
    assert_int_equal(machine_set_cpus(machine, 5, &err), -1);
    assert_int_equal(err.code, ERANGE);
    assert_int_equal(machine_set_cpus(machine, 0, &err), -1);
    wait_beyond(machine, counter(machine) + 1000);

    pause_now(machine);
    assert_int_equal(machine_set_cpus(machine, 4, &err), -1);
    assert_int_equal(err.code, EBUSY);
    struct snapshot_writer *writer = snapshot_writer_new();
    assert_int_equal(machine_save(machine, writer), 0);
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);
    struct machine *copy = machine_build(loop, 1, 4, NULL), *other = machine_make(loop, 3);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(machine_restore(other, reader), -EINVAL); /* its guest was told of 3 */
    memcpy(copy->memory.base, machine->memory.base, MEMORY_BYTES);
    assert_int_equal(machine_restore(copy, reader), 0);
    assert_int_equal(machine_get_cpus(copy), 3);
    uint64_t saved_at = counter(machine);
    machine_set_nursery(copy, nursery);
    if (machine_start(copy, &err) < 0)
        fail_msg("%s", err.text);
    machine_resume(copy);
    wait_beyond(copy, saved_at + 1000);
    assert_int_equal(machine_set_cpus(copy, 4, &err), 0);
    wait_beyond(copy, counter(copy) + 1000);

    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
    machine_free(other);
    machine_free(copy);
    machine_free(machine);
    nursery_free(nursery);
    loop_free(loop);
}

static void an_end_during_a_pause_wins(void **state)
{
    struct status status;
    bool paused = false;
    (void)state;
    struct loop *loop = loop_new();
    struct machine *machine = start_counting(loop, 1);
    assert_int_equal(machine_pause(machine, on_paused, &paused), 0);
    machine_end(machine, END_TERMINATED, "first");
    machine_end(machine, END_POWER_OFF, "second");
    assert_int_equal(loop_run(loop), 0);
    machine_stop(machine);
    assert_false(paused);
    machine_get_status(machine, true, &status);
    assert_int_equal(status.reason, END_TERMINATED);
    assert_string_equal(status.detail, "first");
    assert_non_null(status.end);
    assert_null(status.hello);
    machine_free(machine);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_paused_machine_stands_still_and_goes_on),
        cmocka_unit_test(a_saved_machine_goes_on_in_another),
        cmocka_unit_test(a_machine_built_otherwise_refuses_the_state),
        cmocka_unit_test(an_end_during_a_pause_wins),
        cmocka_unit_test(vcpus_are_made_when_asked_for),
    };
    if (access("/dev/kvm", R_OK | W_OK) < 0) {
        fprintf(stderr, "skipped: needs /dev/kvm\n");
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
