/* Unit tests of virtio-mem: blocks come and go as asked for and allowed, and hostile requests change nothing.
 */
#include "tests/unit/fake_driver.h"
#include "vmm/snapshot.h"
#include "vmm/virtio/mem.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mem.h>
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

#define PAGE         4096u
#define BLOCK        VIRTIO_MEM_BLOCK_BYTES
#define REGION       0x100000000ull
#define BLOCKS       32u
#define REGION_BYTES (BLOCKS * BLOCK)
#define BYTES_MAX    (24 * BLOCK)
#define QUEUE_SIZE   16

struct fixture {
    struct fake_rig rig;
    struct fake_queue queue;
    uint8_t *region;
};

static void device_make(struct fixture *f)
{
    struct virtio_mem_options options = {&f->rig.memory.map, REGION, REGION_BYTES, BYTES_MAX};
    fake_rig_attach(&f->rig, virtio_mem_new(f->rig.loop, &options));
}

static void start(struct fixture *f)
{
    fake_queue_init(&f->queue, &f->rig.memory, QUEUE_SIZE);
    assert_true(fake_mmio_start(f->rig.mmio, 0, &f->queue, 1) & VIRTIO_CONFIG_S_DRIVER_OK);
    fake_loop_settle(f->rig.loop);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    if (!f)
        return -1;
    fake_rig_init(&f->rig, 1 << 20, PAGE);
    f->region =
        mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f->region == MAP_FAILED || guest_memory_add(&f->rig.memory.map, REGION, REGION_BYTES, f->region) < 0)
        return -1;
    madvise(f->region, REGION_BYTES, MADV_NOHUGEPAGE);
    device_make(f);
    start(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    fake_rig_fini(&f->rig);
    munmap(f->region, REGION_BYTES);
    free(f);
    return 0;
}

static struct virtio_mem_resp request(struct fixture *f, uint16_t type, uint64_t addr, uint16_t blocks)
{
    struct virtio_mem_req request = {.type = htole16(type),
                                     .u.plug = {.addr = htole64(addr), .nb_blocks = htole16(blocks)}};
    struct virtio_mem_resp *response = fake_at(&f->rig.memory, f->rig.buffer + 256);
    memset(response, 0xff, sizeof(*response));
    memcpy(fake_at(&f->rig.memory, f->rig.buffer), &request, sizeof(request));
    struct fake_segment segments[] = {{f->rig.buffer, sizeof(request), false},
                                      {f->rig.buffer + 256, sizeof(*response), true}};
    assert_int_equal(fake_rig_request(&f->rig, &f->queue, 0, segments, 2), sizeof(*response));
    return *response;
}

static unsigned plug(struct fixture *f, unsigned block, uint16_t count)
{
    return le16toh(request(f, VIRTIO_MEM_REQ_PLUG, REGION + block * BLOCK, count).type);
}

static unsigned unplug(struct fixture *f, unsigned block, uint16_t count)
{
    return le16toh(request(f, VIRTIO_MEM_REQ_UNPLUG, REGION + block * BLOCK, count).type);
}

static unsigned state_of(struct fixture *f, unsigned block, uint16_t count)
{
    struct virtio_mem_resp response = request(f, VIRTIO_MEM_REQ_STATE, REGION + block * BLOCK, count);
    assert_int_equal(le16toh(response.type), VIRTIO_MEM_RESP_ACK);
    return le16toh(response.u.state.state);
}

static uint64_t config(struct fixture *f, size_t offset)
{
    uint64_t value;
    virtio_mmio_read(f->rig.mmio, VIRTIO_MMIO_CONFIG + offset, &value, sizeof(value));
    return le64toh(value);
}

static unsigned resident(const struct fixture *f)
{
    static unsigned char present[REGION_BYTES / PAGE];
    unsigned count = 0;
    assert_int_equal(mincore(f->region, REGION_BYTES, present), 0);
    for (size_t i = 0; i < sizeof(present); i++)
        count += present[i] & 1;
    return count;
}

static void the_region_is_described(void **state)
{
    struct fixture *f = *state;
    assert_true(config(f, offsetof(struct virtio_mem_config, block_size)) == BLOCK);
    assert_true(config(f, offsetof(struct virtio_mem_config, addr)) == REGION);
    assert_true(config(f, offsetof(struct virtio_mem_config, region_size)) == REGION_BYTES);
    assert_true(config(f, offsetof(struct virtio_mem_config, usable_region_size)) == REGION_BYTES);
    assert_true(config(f, offsetof(struct virtio_mem_config, plugged_size)) == 0);
    assert_true(config(f, offsetof(struct virtio_mem_config, requested_size)) == 0);
}

static void a_request_is_announced_and_met(void **state)
{
    struct fixture *f = *state;
    uint64_t raised;
    while (read(f->rig.irq_fd, &raised, sizeof(raised)) > 0)
        ;
    assert_int_equal(plug(f, 0, 1), VIRTIO_MEM_RESP_NACK); /* nobody asked for it */
    assert_int_equal(virtio_mem_request(f->rig.device, 4 * BLOCK - 1), 0);
    assert_true(fake_mmio_get(f->rig.mmio, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
    assert_true(config(f, offsetof(struct virtio_mem_config, requested_size)) == 4 * BLOCK);
    assert_int_equal(plug(f, 0, 3), VIRTIO_MEM_RESP_ACK);
    assert_int_equal(plug(f, 8, 2), VIRTIO_MEM_RESP_NACK); /* one too many */
    assert_int_equal(plug(f, 8, 1), VIRTIO_MEM_RESP_ACK);
    assert_true(virtio_mem_get_plugged(f->rig.device) == 4 * BLOCK);
    assert_true(config(f, offsetof(struct virtio_mem_config, plugged_size)) == 4 * BLOCK);
    assert_int_equal(state_of(f, 0, 3), VIRTIO_MEM_STATE_PLUGGED);
    assert_int_equal(state_of(f, 3, 5), VIRTIO_MEM_STATE_UNPLUGGED);
    assert_int_equal(state_of(f, 0, BLOCKS), VIRTIO_MEM_STATE_MIXED);
    assert_int_equal(virtio_mem_request(f->rig.device, BYTES_MAX + 1), -ERANGE);
}

static void unplugged_blocks_leave_the_host(void **state)
{
    struct fixture *f = *state;
    virtio_mem_request(f->rig.device, 4 * BLOCK);
    assert_int_equal(plug(f, 4, 4), VIRTIO_MEM_RESP_ACK);
    memset(f->region + 4 * BLOCK, 1, 4 * BLOCK);
    assert_int_equal(resident(f), 4 * BLOCK / PAGE);
    assert_int_equal(unplug(f, 5, 2), VIRTIO_MEM_RESP_ACK);
    assert_int_equal(resident(f), 2 * BLOCK / PAGE);
    assert_int_equal(f->region[5 * BLOCK], 0);
    assert_int_equal(f->region[7 * BLOCK], 1);
    /* All of it, with what was touched but never plugged. */
    memset(f->region + 20 * BLOCK, 1, BLOCK);
    assert_int_equal(le16toh(request(f, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0).type), VIRTIO_MEM_RESP_ACK);
    assert_int_equal(resident(f), 0);
    assert_true(virtio_mem_get_plugged(f->rig.device) == 0);
    assert_true(virtio_mem_get_requested(f->rig.device) == 4 * BLOCK);
}

static void bad_ranges_are_errors(void **state)
{
    struct fixture *f = *state;
    const struct {
        uint64_t addr;
        uint16_t blocks;
    } bad[] = {
        {REGION, 0},          {REGION + PAGE, 1},          {REGION - BLOCK, 1},
        {REGION - BLOCK, 2},  {REGION + REGION_BYTES, 1},  {REGION + REGION_BYTES - BLOCK, 2},
        {REGION, BLOCKS + 1}, {REGION, UINT16_MAX},        {0, 1},
        {UINT64_MAX, 1},      {UINT64_MAX - BLOCK + 1, 1}, {FAKE_RAM_BASE, 1},
    };
    virtio_mem_request(f->rig.device, BYTES_MAX);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const uint16_t types[] = {VIRTIO_MEM_REQ_PLUG, VIRTIO_MEM_REQ_UNPLUG, VIRTIO_MEM_REQ_STATE};
        for (size_t type = 0; type < 3; type++)
            assert_int_equal(le16toh(request(f, types[type], bad[i].addr, bad[i].blocks).type),
                             VIRTIO_MEM_RESP_ERROR);
    }
    assert_int_equal(le16toh(request(f, 4, REGION, 1).type), VIRTIO_MEM_RESP_ERROR);
    assert_int_equal(le16toh(request(f, UINT16_MAX, REGION, 1).type), VIRTIO_MEM_RESP_ERROR);
    assert_true(virtio_mem_get_plugged(f->rig.device) == 0);
}

static void blocks_in_the_wrong_state_are_errors(void **state)
{
    struct fixture *f = *state;
    virtio_mem_request(f->rig.device, BYTES_MAX);
    assert_int_equal(unplug(f, 0, 1), VIRTIO_MEM_RESP_ERROR);
    assert_int_equal(plug(f, 0, 2), VIRTIO_MEM_RESP_ACK);
    assert_int_equal(plug(f, 1, 2), VIRTIO_MEM_RESP_ERROR);
    assert_int_equal(unplug(f, 1, 2), VIRTIO_MEM_RESP_ERROR);
    assert_true(virtio_mem_get_plugged(f->rig.device) == 2 * BLOCK);
    /* Less is wanted now: nothing more may come, what is there may go. */
    virtio_mem_request(f->rig.device, BLOCK);
    assert_int_equal(plug(f, 5, 1), VIRTIO_MEM_RESP_NACK);
    assert_int_equal(unplug(f, 1, 1), VIRTIO_MEM_RESP_ACK);
}

static void short_requests_are_answered(void **state)
{
    struct fixture *f = *state;
    uint32_t length;
    struct virtio_mem_resp *response = fake_at(&f->rig.memory, f->rig.buffer + 256);
    struct fake_segment segments[] = {{f->rig.buffer, 8, false},
                                      {f->rig.buffer + 256, sizeof(*response), true}};
    memset(fake_at(&f->rig.memory, f->rig.buffer), 0, 64); /* would be a plug */
    fake_queue_add(&f->queue, segments, 2);
    fake_queue_add(&f->queue, segments, 1); /* no room for an answer */
    fake_queue_add(&f->queue, segments + 1, 1);
    fake_mmio_kick(f->rig.mmio, f->rig.loop, 0);
    assert_true(fake_queue_used(&f->queue, NULL, &length));
    assert_int_equal(le16toh(response->type), VIRTIO_MEM_RESP_ERROR);
    assert_true(fake_queue_used(&f->queue, NULL, &length));
    assert_int_equal(length, 0);
    assert_true(fake_queue_used(&f->queue, NULL, &length));
    struct fake_segment outside = {0, 16, false};
    fake_queue_add(&f->queue, &outside, 1);
    fake_mmio_kick(f->rig.mmio, f->rig.loop, 0);
    assert_true(fake_mmio_get(f->rig.mmio, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void count(void *arg)
{
    (*(unsigned *)arg)++;
}

static void plugged_blocks_survive_a_reset_and_a_restore(void **state)
{
    struct fixture *f = *state;
    const void *bytes;
    size_t length;
    unsigned changes = 0;
    virtio_mem_on_change(f->rig.device, count, &changes);
    virtio_mem_request(f->rig.device, 6 * BLOCK);
    assert_int_equal(plug(f, 2, 5), VIRTIO_MEM_RESP_ACK);
    assert_int_equal(plug(f, 2, 5), VIRTIO_MEM_RESP_ERROR);
    assert_int_equal(changes, 1);
    fake_mmio_set(f->rig.mmio, VIRTIO_MMIO_STATUS, 0);
    start(f);
    assert_int_equal(state_of(f, 2, 5), VIRTIO_MEM_STATE_PLUGGED);

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
    assert_true(virtio_mem_get_plugged(f->rig.device) == 5 * BLOCK);
    assert_true(virtio_mem_get_requested(f->rig.device) == 6 * BLOCK);
    assert_int_equal(state_of(f, 2, 5), VIRTIO_MEM_STATE_PLUGGED);
    assert_int_equal(plug(f, 10, 1), VIRTIO_MEM_RESP_ACK);
    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
}

static void regions_that_are_none_are_refused(void **state)
{
    struct fixture *f = *state;
    const struct virtio_mem_options bad[] = {
        {&f->rig.memory.map, REGION + PAGE, REGION_BYTES, BLOCK},
        {&f->rig.memory.map, REGION, REGION_BYTES - PAGE, BLOCK},
        {&f->rig.memory.map, REGION, 0, 0},
        {&f->rig.memory.map, REGION, REGION_BYTES, REGION_BYTES + BLOCK},
        {&f->rig.memory.map, REGION, 2 * REGION_BYTES, BLOCK},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(virtio_mem_new(f->rig.loop, &bad[i]));
        assert_int_equal(errno, EINVAL);
    }
}

#define mem_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        mem_test(the_region_is_described),
        mem_test(a_request_is_announced_and_met),
        mem_test(unplugged_blocks_leave_the_host),
        mem_test(bad_ranges_are_errors),
        mem_test(blocks_in_the_wrong_state_are_errors),
        mem_test(short_requests_are_answered),
        mem_test(plugged_blocks_survive_a_reset_and_a_restore),
        mem_test(regions_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
