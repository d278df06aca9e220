/* Unit tests of malformed rings: each thing a driver must not do breaks its queue and nothing else. */
#include "tests/unit/virtqueue_fixture.h"

/* Popping what was offered must break the queue for that reason, and keep it broken. */
static void assert_broken(struct fixture *f, const char *fault)
{
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), -EPROTO);
    assert_string_equal(virtqueue_fault(f->queue), fault);
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), -EPROTO);
    assert_false(virtqueue_enable_kicks(f->queue));
    assert_int_equal(virtqueue_in_flight(f->queue), 0);
    assert_false(fake_queue_used(&f->driver, NULL, NULL));
    /* A new start heals it. */
    assert_int_equal(start_with(f, F_INDIRECT), 0);
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), 0);
}

static void head_out_of_range(void **state)
{
    struct fixture *f = *state;
    fake_queue_offer(&f->driver, QUEUE_SIZE);
    assert_broken(f, "descriptor index out of range");
}

static void next_out_of_range(void **state)
{
    struct fixture *f = *state;
    set_desc(f, 0, f->buffer, 4, VRING_DESC_F_NEXT, QUEUE_SIZE);
    fake_queue_offer(&f->driver, 0);
    assert_broken(f, "descriptor index out of range");
}

static void indirect_next_out_of_range(void **state)
{
    struct fixture *f = *state;
    struct fake_segment segments[] = {{f->buffer, 4, false}, {f->buffer, 4, false}};
    uint16_t head = fake_queue_add_indirect(&f->driver, segments, 2);
    struct vring_desc *table = fake_at(&f->memory, le64toh(fake_queue_desc(&f->driver, head)->addr));
    table[0].next = htole16(2);
    assert_broken(f, "descriptor index out of range");
}

static void chain_that_loops(void **state)
{
    struct fixture *f = *state;
    set_desc(f, 0, f->buffer, 4, VRING_DESC_F_NEXT, 1);
    set_desc(f, 1, f->buffer, 4, VRING_DESC_F_NEXT, 0);
    fake_queue_offer(&f->driver, 0);
    assert_broken(f, "descriptor loop");
}

static void chain_of_empty_buffers_that_loops(void **state)
{
    struct fixture *f = *state;
    set_desc(f, 0, 0, 0, VRING_DESC_F_NEXT, 0);
    fake_queue_offer(&f->driver, 0);
    assert_broken(f, "descriptor loop");
}

static void indirect_table_that_loops(void **state)
{
    struct fixture *f = *state;
    struct fake_segment segments[] = {{f->buffer, 4, false}, {f->buffer, 4, false}};
    uint16_t head = fake_queue_add_indirect(&f->driver, segments, 2);
    struct vring_desc *table = fake_at(&f->memory, le64toh(fake_queue_desc(&f->driver, head)->addr));
    table[1].flags = htole16(VRING_DESC_F_NEXT);
    table[1].next = 0;
    assert_broken(f, "descriptor loop");
}

static void indirect_not_negotiated(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(start_with(f, 0), 0);
    struct fake_segment segment = {f->buffer, 4, false};
    fake_queue_add_indirect(&f->driver, &segment, 1);
    assert_broken(f, "indirect descriptor not negotiated");
}

static void indirect_within_indirect(void **state)
{
    struct fixture *f = *state;
    struct fake_segment segment = {f->buffer, 16, false};
    uint16_t head = fake_queue_add_indirect(&f->driver, &segment, 1);
    struct vring_desc *table = fake_at(&f->memory, le64toh(fake_queue_desc(&f->driver, head)->addr));
    table[0].flags = htole16(VRING_DESC_F_INDIRECT);
    assert_broken(f, "indirect table within an indirect table");
}

static void indirect_and_chained(void **state)
{
    struct fixture *f = *state;
    set_desc(f, 0, f->buffer, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
    fake_queue_offer(&f->driver, 0);
    assert_broken(f, "descriptor both indirect and chained");
}

static void indirect_table_of_no_length(void **state)
{
    struct fixture *f = *state;
    set_desc(f, 0, f->buffer, 0, VRING_DESC_F_INDIRECT, 0);
    fake_queue_offer(&f->driver, 0);
    assert_broken(f, "length of indirect table");
}

static void indirect_table_of_odd_length(void **state)
{
    struct fixture *f = *state;
    set_desc(f, 0, f->buffer, 24, VRING_DESC_F_INDIRECT, 0);
    fake_queue_offer(&f->driver, 0);
    assert_broken(f, "length of indirect table");
}

static void indirect_table_too_long(void **state)
{
    struct fixture *f = *state;
    set_desc(f, 0, f->buffer, (VIRTIO_CHAIN_MAX + 1) * 16, VRING_DESC_F_INDIRECT, 0);
    fake_queue_offer(&f->driver, 0);
    assert_broken(f, "indirect table too long");
}

static void indirect_table_outside_ram(void **state)
{
    struct fixture *f = *state;
    set_desc(f, 0, FAKE_RAM_BASE - 16, 32, VRING_DESC_F_INDIRECT, 0);
    fake_queue_offer(&f->driver, 0);
    assert_broken(f, "indirect table outside RAM");
}

static void direct_and_indirect_elements_beyond_the_maximum(void **state)
{
    struct fixture *f = *state;
    gpa_t table = fake_alloc(&f->memory, VIRTIO_CHAIN_MAX * 16, 16);
    struct vring_desc *desc = fake_at(&f->memory, table);
    for (unsigned i = 0; i < VIRTIO_CHAIN_MAX; i++)
        desc[i] = (struct vring_desc){.addr = htole64(f->buffer),
                                      .len = htole32(1),
                                      .flags = htole16(i + 1 < VIRTIO_CHAIN_MAX ? VRING_DESC_F_NEXT : 0),
                                      .next = htole16((uint16_t)(i + 1))};
    set_desc(f, 0, f->buffer, 1, VRING_DESC_F_NEXT, 1);
    set_desc(f, 1, table, VIRTIO_CHAIN_MAX * 16, VRING_DESC_F_INDIRECT, 0);
    fake_queue_offer(&f->driver, 1); /* alone it is just as long as allowed */
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);
    virtqueue_unpop(f->queue, &f->chain);
    fake_queue_avail(&f->driver)->ring[0] = htole16(0);
    assert_broken(f, "chain too long");
}

static void readable_after_writable(void **state)
{
    struct fixture *f = *state;
    struct fake_segment segments[] = {{f->buffer, 4, true}, {f->buffer, 4, false}};
    fake_queue_add(&f->driver, segments, 2);
    assert_broken(f, "readable descriptor after a writable one");
}

static void lengths_that_overflow(void **state)
{
    struct fixture *f = *state;
    /* RAM of 4 GiB that costs nothing until touched: the buffers are valid, their sum is not. */
    struct guest_memory_region *region = &f->memory.map.region[1];
    struct guest_memory_region saved = *region;
    region->gpa = 1ULL << 33;
    region->size = 1ULL << 32;
    set_desc(f, 0, region->gpa, 0xfffff000, VRING_DESC_F_NEXT, 1);
    set_desc(f, 1, region->gpa, 0x1000, 0, 0);
    fake_queue_offer(&f->driver, 0);
    assert_broken(f, "chain holds too many bytes");
    *region = saved;
}

static void buffer_outside_ram(void **state)
{
    struct fixture *f = *state;
    const gpa_t end = FAKE_RAM_BASE + f->memory.size + FAKE_RAM2_BYTES;
    const struct fake_segment cases[] = {
        {0, 4, false},          {FAKE_RAM_BASE - 2, 4, true}, {end - 2, 4, true},         {end, 1, false},
        {UINT64_MAX, 1, false}, {UINT64_MAX - 1, 4, true},    {end - 1, UINT32_MAX, true}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake_queue_add(&f->driver, &cases[i], 1);
        assert_broken(f, "buffer outside RAM");
    }
}

static void buffer_across_two_regions(void **state)
{
    struct fixture *f = *state;
    struct fake_segment segment = {FAKE_RAM_BASE + f->memory.size - 2, 4, true};
    fake_queue_add(&f->driver, &segment, 1);
    assert_broken(f, "buffer outside RAM");
}

static void avail_index_jumps(void **state)
{
    struct fixture *f = *state;
    fake_queue_avail(&f->driver)->idx = htole16(QUEUE_SIZE + 1);
    assert_broken(f, "avail index too far ahead");
}

static void avail_index_goes_back(void **state)
{
    struct fixture *f = *state;
    fake_queue_avail(&f->driver)->idx = htole16(UINT16_MAX);
    assert_broken(f, "avail index too far ahead");
}

static void more_chains_than_descriptors(void **state)
{
    struct fixture *f = *state;
    struct fake_segment segment = {f->buffer, 4, false};
    for (unsigned i = 0; i < QUEUE_SIZE; i++) {
        fake_queue_add(&f->driver, &segment, 1);
        assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);
    }
    fake_queue_add(&f->driver, &segment, 1); /* none was given back */
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), -EPROTO);
    assert_string_equal(virtqueue_fault(f->queue), "avail index too far ahead");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ring_test(head_out_of_range),
        ring_test(next_out_of_range),
        ring_test(indirect_next_out_of_range),
        ring_test(chain_that_loops),
        ring_test(chain_of_empty_buffers_that_loops),
        ring_test(indirect_table_that_loops),
        ring_test(indirect_not_negotiated),
        ring_test(indirect_within_indirect),
        ring_test(indirect_and_chained),
        ring_test(indirect_table_of_no_length),
        ring_test(indirect_table_of_odd_length),
        ring_test(indirect_table_too_long),
        ring_test(indirect_table_outside_ram),
        ring_test(direct_and_indirect_elements_beyond_the_maximum),
        ring_test(readable_after_writable),
        ring_test(lengths_that_overflow),
        ring_test(buffer_outside_ram),
        ring_test(buffer_across_two_regions),
        ring_test(avail_index_jumps),
        ring_test(avail_index_goes_back),
        ring_test(more_chains_than_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
