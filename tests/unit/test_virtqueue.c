/* Unit tests of split virtqueues: what a driver may do works. What it must not do:
 * test_virtqueue_malformed.c. */
#include "tests/unit/virtqueue_fixture.h"
#include "vmm/snapshot.h"

static void chain_is_read_written_and_given_back(void **state)
{
    struct fixture *f = *state;
    memcpy(fake_at(&f->memory, f->buffer), "hello, world", 12);
    struct fake_segment segments[] = {{f->buffer, 5, false},
                                      {f->buffer + 5, 7, false},
                                      {f->buffer + 100, 3, true},
                                      {f->buffer + 200, 10, true}};
    uint16_t head = fake_queue_add(&f->driver, segments, 4);

    assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);
    assert_int_equal(virtqueue_in_flight(f->queue), 1);
    assert_int_equal(f->chain.out_left, 12);
    assert_int_equal(f->chain.in_left, 13);
    char text[16] = {0};
    assert_int_equal(virtio_chain_read(&f->chain, text, 4), 4);
    assert_int_equal(virtio_chain_read(&f->chain, text + 4, sizeof(text) - 4), 8);
    assert_string_equal(text, "hello, world");
    assert_int_equal(virtio_chain_read(&f->chain, text, 1), 0);
    assert_int_equal(virtio_chain_write(&f->chain, "abcde", 5), 5);
    assert_int_equal(f->chain.in_left, 8);
    virtqueue_push(f->queue, &f->chain);

    uint32_t id, len;
    assert_true(fake_queue_used(&f->driver, &id, &len));
    assert_int_equal(id, head);
    assert_int_equal(len, 5);
    assert_memory_equal(fake_at(&f->memory, f->buffer + 100), "abc", 3);
    assert_memory_equal(fake_at(&f->memory, f->buffer + 200), "de", 2);
    assert_int_equal(virtqueue_in_flight(f->queue), 0);
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), 0);
}

static void iovecs_follow_the_cursor(void **state)
{
    struct fixture *f = *state;
    struct fake_segment segments[] = {{f->buffer, 8, false},
                                      {f->buffer + 100, 8, false},
                                      {f->buffer + 200, 8, true},
                                      {f->buffer + 300, 8, true}};
    fake_queue_add(&f->driver, segments, 4);
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);

    struct iovec iov[VIRTIO_CHAIN_MAX];
    virtio_chain_out_skip(&f->chain, 3);
    assert_int_equal(virtio_chain_out_iov(&f->chain, 7, iov), 2);
    assert_ptr_equal(iov[0].iov_base, fake_at(&f->memory, f->buffer + 3));
    assert_int_equal(iov[0].iov_len, 5);
    assert_int_equal(iov[1].iov_len, 2);
    virtio_chain_out_skip(&f->chain, 5);
    assert_int_equal(virtio_chain_out_iov(&f->chain, 100, iov), 1);
    assert_ptr_equal(iov[0].iov_base, fake_at(&f->memory, f->buffer + 100));
    virtio_chain_out_skip(&f->chain, 100);
    assert_int_equal(f->chain.out_left, 0);
    assert_int_equal(virtio_chain_out_iov(&f->chain, 100, iov), 0);

    virtio_chain_in_skip(&f->chain, 10);
    assert_int_equal(f->chain.in_written, 10);
    assert_int_equal(virtio_chain_in_iov(&f->chain, 100, iov), 1);
    assert_ptr_equal(iov[0].iov_base, fake_at(&f->memory, f->buffer + 302));
    assert_int_equal(iov[0].iov_len, 6);
    virtio_chain_in_skip(&f->chain, 100);
    assert_int_equal(f->chain.in_written, 16);
}

static void indirect_table_is_a_chain(void **state)
{
    struct fixture *f = *state;
    /* Longer than the queue, which Linux does. */
    struct fake_segment segments[2 * QUEUE_SIZE];
    for (unsigned i = 0; i < 2 * QUEUE_SIZE; i++)
        segments[i] = (struct fake_segment){f->buffer + 16ULL * i, 16, i >= QUEUE_SIZE};
    fake_queue_add_indirect(&f->driver, segments, 2 * QUEUE_SIZE);
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);
    assert_int_equal(f->chain.out_count, QUEUE_SIZE);
    assert_int_equal(f->chain.in_count, QUEUE_SIZE);
    assert_int_equal(f->chain.in_left, 16 * QUEUE_SIZE);
}

static void direct_descriptors_may_end_in_an_indirect_one(void **state)
{
    struct fixture *f = *state;
    gpa_t table = fake_alloc(&f->memory, 16, 16) + 1; /* misaligned: nothing forbids it */
    struct vring_desc inner = {
        .addr = htole64(f->buffer + 64), .len = htole32(4), .flags = htole16(VRING_DESC_F_WRITE)};
    fake_alloc(&f->memory, 16, 16);
    memcpy(fake_at(&f->memory, table), &inner, sizeof(inner));
    set_desc(f, 0, f->buffer, 4, VRING_DESC_F_NEXT, 1);
    /* The WRITE flag beside INDIRECT is to be ignored. */
    set_desc(f, 1, table, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE, 0);
    fake_queue_offer(&f->driver, 0);
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);
    assert_int_equal(f->chain.out_count, 1);
    assert_int_equal(f->chain.in_count, 1);
}

static void empty_buffers_are_left_out(void **state)
{
    struct fixture *f = *state;
    struct fake_segment segments[] = {{0, 0, false}, {f->buffer, 4, false}, {0, 0, true}};
    fake_queue_add(&f->driver, segments, 3);
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);
    assert_int_equal(f->chain.out_count, 1);
    assert_int_equal(f->chain.in_count, 0);
}

static void ring_wraps_around_65536_chains(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(start_with(f, F_INDIRECT | F_EVENT_IDX), 0);
    struct fake_segment segment = {f->buffer, 4, false};
    for (unsigned i = 0; i < 70000; i++) {
        fake_queue_add(&f->driver, &segment, 1);
        assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);
        virtqueue_push(f->queue, &f->chain);
        assert_true(fake_queue_used(&f->driver, NULL, NULL));
        assert_false(virtqueue_enable_kicks(f->queue));
    }
}

static void unpop_gives_the_same_chain_again(void **state)
{
    struct fixture *f = *state;
    struct fake_segment segment = {f->buffer, 4, true};
    fake_queue_add(&f->driver, &segment, 1);
    uint16_t head = fake_queue_add(&f->driver, &segment, 1);
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);
    virtqueue_unpop(f->queue, &f->chain);
    assert_int_equal(virtqueue_in_flight(f->queue), 1);
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);
    assert_int_equal(f->chain.head, head);
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), 0);
}

static void interrupts_without_event_idx_follow_the_flag(void **state)
{
    struct fixture *f = *state;
    struct fake_segment segment = {f->buffer, 4, true};
    for (unsigned i = 0; i < 2; i++) {
        fake_queue_avail(&f->driver)->flags = htole16(i ? VRING_AVAIL_F_NO_INTERRUPT : 0);
        fake_queue_add(&f->driver, &segment, 1);
        assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);
        virtqueue_push(f->queue, &f->chain);
        virtqueue_notify(f->queue);
        virtqueue_notify(f->queue); /* nothing new: no second one */
        assert_int_equal(f->calls, 1);
    }
}

static void interrupts_with_event_idx_follow_the_event(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(start_with(f, F_EVENT_IDX), 0);
    struct fake_segment segment = {f->buffer, 4, true};
    *fake_queue_used_event(&f->driver) = htole16(3);
    unsigned expected[] = {1, 1, 1, 2, 2}; /* the first always, then when the index passes 3 */
    for (unsigned i = 0; i < 5; i++) {
        fake_queue_add(&f->driver, &segment, 1);
        assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);
        virtqueue_push(f->queue, &f->chain);
        virtqueue_notify(f->queue);
        assert_int_equal(f->calls, expected[i]);
    }
}

static void kicks_are_asked_for_and_refused(void **state)
{
    struct fixture *f = *state;
    struct fake_segment segment = {f->buffer, 4, true};
    virtqueue_disable_kicks(f->queue);
    assert_int_equal(le16toh(fake_queue_used_ring(&f->driver)->flags), VRING_USED_F_NO_NOTIFY);
    fake_queue_add(&f->driver, &segment, 1);
    assert_true(virtqueue_enable_kicks(f->queue)); /* came in meanwhile */
    assert_int_equal(le16toh(fake_queue_used_ring(&f->driver)->flags), 0);

    assert_int_equal(start_with(f, F_EVENT_IDX), 0);
    fake_queue_add(&f->driver, &segment, 1);
    fake_queue_add(&f->driver, &segment, 1);
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);
    assert_true(virtqueue_enable_kicks(f->queue));
    assert_int_equal(le16toh(*fake_queue_avail_event(&f->driver)), 1);
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);
    assert_false(virtqueue_enable_kicks(f->queue));
    assert_int_equal(le16toh(*fake_queue_avail_event(&f->driver)), 2);
}

static void start_refuses_bad_configurations(void **state)
{
    struct fixture *f = *state;
    virtqueue_stop(f->queue);
    const struct virtqueue_config good = f->driver.config;
    gpa_t end = FAKE_RAM_BASE + f->memory.size + FAKE_RAM2_BYTES;
    struct {
        struct virtqueue_config config;
        int err;
    } cases[] = {
        {{.size = 0, .desc = good.desc, .avail = good.avail, .used = good.used}, -EINVAL},
        {{.size = 6, .desc = good.desc, .avail = good.avail, .used = good.used}, -EINVAL},
        {{.size = 2048, .desc = good.desc, .avail = good.avail, .used = good.used}, -EINVAL},
        {{.size = 8, .desc = good.desc + 8, .avail = good.avail, .used = good.used}, -EINVAL},
        {{.size = 8, .desc = good.desc, .avail = good.avail + 1, .used = good.used}, -EINVAL},
        {{.size = 8, .desc = good.desc, .avail = good.avail, .used = good.used + 2}, -EINVAL},
        {{.size = 8, .desc = 0, .avail = good.avail, .used = good.used}, -EFAULT},
        {{.size = 8, .desc = end - 112, .avail = good.avail, .used = good.used}, -EFAULT},
        {{.size = 8, .desc = good.desc, .avail = end - 20, .used = good.used}, -EFAULT},
        {{.size = 8, .desc = good.desc, .avail = good.avail, .used = end - 68}, -EFAULT},
        {{.size = 8, .desc = good.desc, .avail = good.avail, .used = UINT64_MAX - 3}, -EFAULT},
        {{.size = 8, .desc = FAKE_RAM_BASE + f->memory.size - 64, .avail = good.avail, .used = good.used},
         -EFAULT},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(virtqueue_start(f->queue, &cases[i].config, 0), cases[i].err);
        assert_false(virtqueue_started(f->queue));
        assert_int_equal(virtqueue_pop(f->queue, &f->chain), 0);
    }
}

static void cursors_survive_a_snapshot(void **state)
{
    struct fixture *f = *state;
    struct fake_segment segment = {f->buffer, 4, true};
    for (unsigned i = 0; i < 3; i++) {
        fake_queue_add(&f->driver, &segment, 1);
        assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);
        if (i == 0) {
            struct snapshot_writer *early = snapshot_writer_new();
            assert_int_equal(virtqueue_save(f->queue, early), -EBUSY);
            snapshot_writer_free(early);
        }
        virtqueue_push(f->queue, &f->chain);
    }
    struct snapshot_writer *writer = snapshot_writer_new();
    snapshot_section_begin(writer, "queue", 0, 1);
    assert_int_equal(virtqueue_save(f->queue, writer), 0);
    snapshot_section_end(writer);
    const void *bytes;
    size_t length;
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);

    virtqueue_stop(f->queue);
    assert_int_equal(virtqueue_start(f->queue, &f->driver.config, F_INDIRECT), 0);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    uint32_t version;
    assert_int_equal(snapshot_section_open(reader, "queue", 0, 1, &version), 0);
    assert_int_equal(virtqueue_restore(f->queue, reader), 0);
    assert_int_equal(snapshot_section_finish(reader), 0);
    snapshot_reader_free(reader);
    snapshot_writer_free(writer);

    uint16_t head = fake_queue_add(&f->driver, &segment, 1);
    assert_int_equal(virtqueue_pop(f->queue, &f->chain), 1);
    assert_int_equal(f->chain.head, head);
    virtqueue_push(f->queue, &f->chain);
    uint32_t id = 0;
    for (unsigned i = 0; i < 4; i++)
        assert_true(fake_queue_used(&f->driver, &id, NULL));
    assert_int_equal(id, head);
}

static void snapshot_with_impossible_cursors(void **state)
{
    struct fixture *f = *state;
    struct snapshot_writer *writer = snapshot_writer_new();
    snapshot_section_begin(writer, "queue", 0, 1);
    snapshot_put_u16(writer, 7);
    snapshot_put_u16(writer, 6);
    snapshot_put_u8(writer, 0);
    snapshot_section_end(writer);
    const void *bytes;
    size_t length;
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    uint32_t version;
    assert_int_equal(snapshot_section_open(reader, "queue", 0, 1, &version), 0);
    assert_int_equal(virtqueue_restore(f->queue, reader), -EPROTO);
    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ring_test(chain_is_read_written_and_given_back),
        ring_test(iovecs_follow_the_cursor),
        ring_test(indirect_table_is_a_chain),
        ring_test(direct_descriptors_may_end_in_an_indirect_one),
        ring_test(empty_buffers_are_left_out),
        ring_test(ring_wraps_around_65536_chains),
        ring_test(unpop_gives_the_same_chain_again),
        ring_test(interrupts_without_event_idx_follow_the_flag),
        ring_test(interrupts_with_event_idx_follow_the_event),
        ring_test(kicks_are_asked_for_and_refused),
        ring_test(start_refuses_bad_configurations),
        ring_test(cursors_survive_a_snapshot),
        ring_test(snapshot_with_impossible_cursors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
