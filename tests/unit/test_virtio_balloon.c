/* Unit tests of virtio-balloon: pages leave the host's memory when the guest gives them up, and only then. */
#include "tests/unit/fake_driver.h"
#include "vmm/snapshot.h"
#include "vmm/virtio/balloon.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE       4096u
#define RAM_BYTES  (64u << 20)
#define QUEUE_SIZE 128
#define BIT(n)     (1ull << (n))
#define STATS      BIT(VIRTIO_BALLOON_F_STATS_VQ)
#define POISON     BIT(VIRTIO_BALLOON_F_PAGE_POISON)
#define REPORTING  BIT(VIRTIO_BALLOON_F_REPORTING)

enum { INFLATEQ, DEFLATEQ, STATSQ, DENSE_REPORTINGQ, REPORTINGQ, QUEUES };

struct fixture {
    struct fake_rig rig;
    struct fake_queue queue[QUEUES];
};

static void start(struct fixture *f, uint64_t features, unsigned queues)
{
    uint32_t status = fake_mmio_start(f->rig.mmio, features, f->queue, queues);
    assert_true(status & VIRTIO_CONFIG_S_DRIVER_OK);
    assert_false(status & VIRTIO_CONFIG_S_NEEDS_RESET);
    fake_loop_settle(f->rig.loop);
}

static void device_make(struct fixture *f)
{
    fake_rig_attach(&f->rig, virtio_balloon_new(f->rig.loop, &f->rig.memory.map));
}

static void queues_make(struct fixture *f)
{
    for (unsigned i = 0; i < QUEUES; i++)
        fake_queue_init(&f->queue[i], &f->rig.memory, QUEUE_SIZE);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    if (!f)
        return -1;
    fake_rig_init(&f->rig, RAM_BYTES, PAGE);
    device_make(f);
    queues_make(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    fake_rig_fini(&f->rig);
    free(f);
    return 0;
}

/* Pages of [gpa, gpa + bytes) that the host holds. */
static unsigned resident(const struct fixture *f, gpa_t gpa, size_t bytes)
{
    unsigned char present[8192];
    unsigned count = 0;
    assert_true(bytes / PAGE <= sizeof(present));
    assert_int_equal(mincore(fake_at(&f->rig.memory, gpa), bytes, present), 0);
    for (size_t i = 0; i < bytes / PAGE; i++)
        count += present[i] & 1;
    return count;
}

static gpa_t touched(struct fixture *f, size_t bytes)
{
    gpa_t gpa = fake_alloc(&f->rig.memory, bytes, 2u << 20);
    memset(fake_at(&f->rig.memory, gpa), 0xa5, bytes);
    assert_int_equal(resident(f, gpa, bytes), bytes / PAGE);
    return gpa;
}

static uint32_t request(struct fixture *f, unsigned queue, const struct fake_segment *segments,
                        unsigned count)
{
    uint32_t length = fake_rig_request(&f->rig, &f->queue[queue], queue, segments, count);
    assert_int_not_equal(length, UINT32_MAX);
    return length;
}

static void inflate(struct fixture *f, unsigned queue, const uint32_t *pages, unsigned count)
{
    uint32_t *numbers = fake_at(&f->rig.memory, f->rig.buffer);
    for (unsigned i = 0; i < count; i++)
        numbers[i] = htole32(pages[i]);
    struct fake_segment segment = {f->rig.buffer, count * 4, false};
    request(f, queue, &segment, 1);
}

static void inflated_pages_leave(void **state)
{
    struct fixture *f = *state;
    start(f, 0, 2);
    gpa_t gpa = touched(f, 64 * PAGE);
    uint32_t first = (uint32_t)(gpa / PAGE);
    /* A run upwards, one downwards, and single pages. */
    uint32_t pages[] = {first, first + 1, first + 2, first + 9, first + 8, first + 7, first + 40, first + 20};
    inflate(f, INFLATEQ, pages, 8);
    assert_int_equal(resident(f, gpa, 64 * PAGE), 64 - 8);
    assert_int_equal(virtio_balloon_get_returned_bytes(f->rig.device), 8 * PAGE);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(resident(f, (gpa_t)pages[i] * PAGE, PAGE), 0);
    /* Taken back by touching; deflating itself changes nothing. */
    inflate(f, DEFLATEQ, pages, 8);
    assert_int_equal(*(uint8_t *)fake_at(&f->rig.memory, gpa), 0);
    assert_int_equal(((uint8_t *)fake_at(&f->rig.memory, gpa))[3 * PAGE], 0xa5);
}

static void pages_that_are_no_ram_are_skipped(void **state)
{
    struct fixture *f = *state;
    start(f, 0, 2);
    gpa_t gpa = touched(f, PAGE);
    uint32_t pages[] = {0, UINT32_MAX, (uint32_t)(gpa / PAGE), 0x80000000u};
    inflate(f, INFLATEQ, pages, 4);
    assert_int_equal(resident(f, gpa, PAGE), 0);
    assert_int_equal(virtio_balloon_get_returned_bytes(f->rig.device), PAGE);
    assert_false(fake_mmio_get(f->rig.mmio, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void reported_ranges_leave(void **state)
{
    struct fixture *f = *state;
    start(f, STATS | REPORTING, 4); /* as Linux counts queues */
    gpa_t gpa = touched(f, 32u << 20);
    struct fake_segment segments[] = {{gpa, 4u << 20, true}, {gpa + (8u << 20), 16u << 20, true}};
    assert_int_equal(request(f, DENSE_REPORTINGQ, segments, 2), 0);
    assert_int_equal(resident(f, gpa, 32u << 20), (12u << 20) / PAGE);
    assert_int_equal(((uint8_t *)fake_at(&f->rig.memory, gpa))[5u << 20], 0xa5);
}

static void reporting_works_at_each_place_of_its_queue(void **state)
{
    struct fixture *f = *state;
    gpa_t gpa = touched(f, 2u << 20);
    struct fake_segment segment = {gpa, 1u << 20, true};
    start(f, REPORTING, 3); /* without statistics, as Linux counts */
    request(f, STATSQ, &segment, 1);
    assert_int_equal(resident(f, gpa, 2u << 20), 256);
    queues_make(f);
    segment.addr += 1u << 20;
    start(f, REPORTING | STATS, QUEUES); /* as the specification counts */
    request(f, REPORTINGQ, &segment, 1);
    assert_int_equal(resident(f, gpa, 2u << 20), 0);
}

static void parts_of_pages_stay(void **state)
{
    struct fixture *f = *state;
    start(f, STATS | REPORTING, 4);
    gpa_t gpa = touched(f, 4 * PAGE);
    struct fake_segment segment = {gpa + 100, 2 * PAGE, true};
    request(f, DENSE_REPORTINGQ, &segment, 1);
    assert_int_equal(resident(f, gpa, 4 * PAGE), 3);
    assert_int_equal(((uint8_t *)fake_at(&f->rig.memory, gpa))[2 * PAGE], 0xa5);
}

static void poisoned_pages_are_not_reported_away(void **state)
{
    struct fixture *f = *state;
    start(f, STATS | POISON | REPORTING, 4);
    gpa_t gpa = touched(f, 2 * PAGE);
    struct fake_segment segment = {gpa, PAGE, true};
    fake_mmio_set(f->rig.mmio, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_balloon_config, poison_val),
                  0xaaaaaaaa);
    request(f, DENSE_REPORTINGQ, &segment, 1);
    assert_int_equal(resident(f, gpa, 2 * PAGE), 2);
    /* Zero is what fresh pages hold. */
    fake_mmio_set(f->rig.mmio, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_balloon_config, poison_val), 0);
    request(f, DENSE_REPORTINGQ, &segment, 1);
    assert_int_equal(resident(f, gpa, 2 * PAGE), 1);
}

static void file_pages_become_zeros(void **state)
{
    struct fixture *f = *state;
    start(f, STATS | REPORTING, 4);
    gpa_t gpa = touched(f, 8 * PAGE);
    int fd = memfd_create("kernel", MFD_CLOEXEC);
    char text[2 * PAGE];
    memset(text, 'k', sizeof(text));
    assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
    uint8_t *hva = fake_at(&f->rig.memory, gpa);
    assert_ptr_not_equal(
        mmap(hva + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0), MAP_FAILED);
    close(fd);
    assert_int_equal(guest_memory_set_file(&f->rig.memory.map, gpa + 2 * PAGE, 2 * PAGE), 0);
    assert_int_equal(hva[3 * PAGE], 'k');
    struct fake_segment segment = {gpa + PAGE, 6 * PAGE, true};
    request(f, DENSE_REPORTINGQ, &segment, 1);
    for (unsigned i = 1; i < 7; i++)
        assert_int_equal(hva[i * PAGE], 0);
    assert_int_equal(hva[0], 0xa5);
    assert_int_equal(hva[7 * PAGE], 0xa5);
}

static void target_is_announced(void **state)
{
    struct fixture *f = *state;
    uint64_t raised;
    start(f, STATS | REPORTING, 4);
    while (read(f->rig.irq_fd, &raised, sizeof(raised)) > 0)
        ;
    virtio_balloon_set_target(f->rig.device, 1234);
    assert_int_equal(read(f->rig.irq_fd, &raised, sizeof(raised)), sizeof(raised));
    assert_true(fake_mmio_get(f->rig.mmio, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
    assert_int_equal(fake_mmio_get(f->rig.mmio, VIRTIO_MMIO_CONFIG), 1234);
    fake_mmio_set(f->rig.mmio, VIRTIO_MMIO_CONFIG + 4, 1200);
    assert_int_equal(virtio_balloon_get_actual(f->rig.device), 1200);
    fake_mmio_set(f->rig.mmio, VIRTIO_MMIO_CONFIG, 99); /* not the driver's to write */
    assert_int_equal(fake_mmio_get(f->rig.mmio, VIRTIO_MMIO_CONFIG), 1234);
    virtio_balloon_set_target(f->rig.device, 1234); /* no news */
    assert_int_equal(read(f->rig.irq_fd, &raised, sizeof(raised)), -1);
}

static void count(void *arg)
{
    (*(unsigned *)arg)++;
}

static void offer_statistics(struct fixture *f, uint64_t free_bytes)
{
    struct virtio_balloon_stat stats[] = {
        {htole16(VIRTIO_BALLOON_S_MEMFREE), htole64(free_bytes)},
        {htole16(0xffff), htole64(1)},
        {htole16(VIRTIO_BALLOON_S_OOM_KILL), htole64(3)},
    };
    memcpy(fake_at(&f->rig.memory, f->rig.buffer), stats, sizeof(stats));
    struct fake_segment segment = {f->rig.buffer, sizeof(stats), false};
    fake_queue_add(&f->queue[STATSQ], &segment, 1);
    fake_mmio_kick(f->rig.mmio, f->rig.loop, STATSQ);
}

static void statistics_come_when_asked_for(void **state)
{
    struct fixture *f = *state;
    unsigned done = 0;
    assert_int_equal(virtio_balloon_request_statistics(f->rig.device, count, &done), -ENODEV);
    start(f, STATS | REPORTING, 4);
    offer_statistics(f, 1000);
    assert_false(fake_queue_used(&f->queue[STATSQ], NULL, NULL)); /* held */
    assert_int_equal(virtio_balloon_get_statistics(f->rig.device)->value[VIRTIO_BALLOON_S_MEMFREE], 1000);
    fake_interrupts(f->rig.irq_fd);
    assert_int_equal(virtio_balloon_request_statistics(f->rig.device, count, &done), 0);
    assert_int_equal(virtio_balloon_request_statistics(f->rig.device, count, &done), -EBUSY);
    assert_true(fake_queue_used(&f->queue[STATSQ], NULL, NULL));
    assert_true(fake_interrupts(f->rig.irq_fd) > 0);
    assert_int_equal(done, 0);
    offer_statistics(f, 2000);
    assert_int_equal(done, 1);
    const struct virtio_balloon_statistics *statistics = virtio_balloon_get_statistics(f->rig.device);
    assert_int_equal(statistics->value[VIRTIO_BALLOON_S_MEMFREE], 2000);
    assert_int_equal(statistics->value[VIRTIO_BALLOON_S_OOM_KILL], 3);
    assert_int_equal(statistics->present, 1u << VIRTIO_BALLOON_S_MEMFREE | 1u << VIRTIO_BALLOON_S_OOM_KILL);
    assert_int_equal(virtio_balloon_request_statistics(f->rig.device, NULL, NULL), 0);
}

static void more_statistics_buffers_than_one_are_given_back(void **state)
{
    struct fixture *f = *state;
    start(f, STATS | REPORTING, 4);
    for (unsigned i = 0; i < 20; i++)
        offer_statistics(f, i);
    unsigned given_back = 0;
    while (fake_queue_used(&f->queue[STATSQ], NULL, NULL))
        given_back++;
    assert_int_equal(given_back, 19);
    assert_int_equal(virtio_balloon_get_statistics(f->rig.device)->value[VIRTIO_BALLOON_S_MEMFREE], 19);
}

static void broken_rings_need_reset(void **state)
{
    struct fixture *f = *state;
    for (unsigned queue = 0; queue < QUEUES; queue++) {
        queues_make(f);
        start(f, STATS | REPORTING, QUEUES);
        struct fake_segment outside = {0, 16, queue >= DENSE_REPORTINGQ};
        fake_queue_add(&f->queue[queue], &outside, 1);
        fake_mmio_kick(f->rig.mmio, f->rig.loop, queue);
        assert_true(fake_mmio_get(f->rig.mmio, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
    }
    queues_make(f);
    start(f, STATS | REPORTING, QUEUES);
}

static void reset_forgets_the_driver(void **state)
{
    struct fixture *f = *state;
    unsigned done = 0;
    start(f, STATS | REPORTING, 4);
    offer_statistics(f, 1);
    assert_int_equal(virtio_balloon_request_statistics(f->rig.device, count, &done), 0);
    fake_mmio_set(f->rig.mmio, VIRTIO_MMIO_CONFIG + 4, 77);
    fake_mmio_set(f->rig.mmio, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(virtio_balloon_get_actual(f->rig.device), 0);
    queues_make(f);
    start(f, STATS | REPORTING, 4);
    offer_statistics(f, 2);
    assert_int_equal(done, 0); /* that request died with the driver */
    assert_int_equal(virtio_balloon_request_statistics(f->rig.device, count, &done), 0);
}

static void state_goes_on_in_another_device(void **state)
{
    struct fixture *f = *state;
    const void *bytes;
    size_t length;
    start(f, STATS | REPORTING, 4);
    offer_statistics(f, 5);
    virtio_balloon_set_target(f->rig.device, 300);
    fake_mmio_set(f->rig.mmio, VIRTIO_MMIO_CONFIG + 4, 250);
    struct snapshot_writer *writer = snapshot_writer_new();
    virtio_transport_pause(virtio_mmio_transport(f->rig.mmio));
    assert_int_equal(virtio_transport_save(virtio_mmio_transport(f->rig.mmio), writer, 0), 0);
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);
    virtio_transport_free(virtio_mmio_transport(f->rig.mmio));
    device_make(f);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(virtio_transport_restore(virtio_mmio_transport(f->rig.mmio), reader, 0), 0);
    virtio_transport_resume(virtio_mmio_transport(f->rig.mmio));
    fake_loop_settle(f->rig.loop);
    assert_int_equal(virtio_balloon_get_actual(f->rig.device), 250);
    assert_int_equal(fake_mmio_get(f->rig.mmio, VIRTIO_MMIO_CONFIG), 300);
    /* The held buffer is held again: a request gives it back. */
    assert_int_equal(virtio_balloon_get_statistics(f->rig.device)->value[VIRTIO_BALLOON_S_MEMFREE], 5);
    assert_int_equal(virtio_balloon_request_statistics(f->rig.device, NULL, NULL), 0);
    assert_true(fake_queue_used(&f->queue[STATSQ], NULL, NULL));
    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
}

#define balloon_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        balloon_test(inflated_pages_leave),
        balloon_test(pages_that_are_no_ram_are_skipped),
        balloon_test(reported_ranges_leave),
        balloon_test(reporting_works_at_each_place_of_its_queue),
        balloon_test(parts_of_pages_stay),
        balloon_test(poisoned_pages_are_not_reported_away),
        balloon_test(file_pages_become_zeros),
        balloon_test(target_is_announced),
        balloon_test(statistics_come_when_asked_for),
        balloon_test(more_statistics_buffers_than_one_are_given_back),
        balloon_test(broken_rings_need_reset),
        balloon_test(reset_forgets_the_driver),
        balloon_test(state_goes_on_in_another_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
