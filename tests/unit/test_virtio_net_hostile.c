/* Unit tests of virtio-net against drivers that do what they must not: rings, headers, resets. */
#include "tests/unit/net_fixture.h"

#include <endian.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define BIT(feature) (1ULL << (feature))
#define MRG          BIT(VIRTIO_NET_F_MRG_RXBUF)

enum { RX, TX };

static bool needs_reset(struct net_fixture *f)
{
    return fake_mmio_get(f->mmio, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static bool host_received(struct net_fixture *f)
{
    char byte;
    return recv(f->host[0], &byte, 1, MSG_DONTWAIT) >= 0;
}

/* After whatever happened: a new driver's packets go both ways. */
static void assert_alive(struct net_fixture *f)
{
    net_fixture_start(f, MRG);
    struct fake_segment in = {f->room, 2048, true}, out = {f->room + 4096, NET_HEADER_BYTES + 60, false};
    fake_queue_add(&f->queue[RX], &in, 1);
    fake_queue_add(&f->queue[TX], &out, 1);
    fake_mmio_kick(f->mmio, f->loop, RX);
    fake_mmio_kick(f->mmio, f->loop, TX);
    assert_true(host_received(f));
    net_fixture_send(f, 0, NULL, 100);
    assert_true(fake_queue_used(&f->queue[RX], NULL, NULL));
    assert_false(needs_reset(f));
}

static void receive_buffer_without_room_for_a_header_breaks_the_queue(void **state)
{
    struct net_fixture *f = *state;
    net_fixture_start(f, MRG);
    struct fake_segment segment = {f->room, NET_HEADER_BYTES - 1, true};
    fake_queue_add(&f->queue[RX], &segment, 1);
    fake_mmio_kick(f->mmio, f->loop, RX);
    assert_true(needs_reset(f));
    net_fixture_send(f, 0, NULL, 100);
    assert_alive(f);
}

static void receive_buffer_that_is_read_only_breaks_the_queue(void **state)
{
    struct net_fixture *f = *state;
    net_fixture_start(f, MRG);
    struct fake_segment segments[] = {{f->room, 16, false}, {f->room + 64, 2048, true}};
    fake_queue_add(&f->queue[RX], segments, 2);
    fake_mmio_kick(f->mmio, f->loop, RX);
    assert_true(needs_reset(f));
    assert_int_equal(virtqueue_in_flight(f->device->queue[RX]), 0); /* it can be saved all the same */
    assert_alive(f);
}

static void receive_buffer_outside_memory_breaks_the_queue(void **state)
{
    struct net_fixture *f = *state;
    net_fixture_start(f, MRG);
    struct fake_segment good = {f->room, 2048, true}, bad = {0, 2048, true};
    fake_queue_add(&f->queue[RX], &good, 1);
    fake_queue_add(&f->queue[RX], &bad, 1);
    fake_mmio_kick(f->mmio, f->loop, RX);
    assert_true(needs_reset(f));
    net_fixture_send(f, 0, NULL, 100);
    assert_alive(f);
}

static void header_over_tiny_segments_is_put_together(void **state)
{
    struct net_fixture *f = *state;
    struct fake_segment segments[40];
    net_fixture_start(f, MRG);
    for (unsigned i = 0; i < 40; i++)
        segments[i] = (struct fake_segment){f->room + 16ULL * i, i < 39 ? 1 : 100, true};
    fake_queue_add(&f->queue[RX], segments, 40);
    fake_mmio_kick(f->mmio, f->loop, RX);
    net_fixture_send(f, 0, NULL, 120);
    uint32_t length;
    assert_true(fake_queue_used(&f->queue[RX], NULL, &length));
    assert_int_equal(length, 120);
    assert_int_equal(*(uint8_t *)fake_at(&f->memory, f->room + 16 * 10), 1); /* num_buffers */
    assert_int_equal(*(uint8_t *)fake_at(&f->memory, f->room + 16 * 11), 0);
    assert_int_equal(*(uint8_t *)fake_at(&f->memory, f->room + 16 * 12), net_fixture_pattern(0));
    assert_false(needs_reset(f));
}

static void queue_of_tiny_buffers_drops_what_does_not_fit(void **state)
{
    struct net_fixture *f = *state;
    net_fixture_start(f, MRG);
    for (unsigned i = 0; i < NET_TEST_QUEUE_SIZE; i++) {
        struct fake_segment segment = {f->room + 16ULL * i, 16, true};
        fake_queue_add(&f->queue[RX], &segment, 1);
    }
    fake_mmio_kick(f->mmio, f->loop, RX);
    net_fixture_send(f, 0, NULL, 1 + 16 * NET_TEST_QUEUE_SIZE);
    net_fixture_send(f, 0, NULL, 64); /* waits: the queue could still grow by what the driver takes back */
    assert_false(needs_reset(f));
    assert_alive(f);
}

/* Indirect chains of 600 elements each: two do not fit into one system call. */
static void buffers_in_many_pieces_are_used_one_by_one(void **state)
{
    struct net_fixture *f = *state;
    struct fake_segment segments[600];
    net_fixture_start(f, MRG | BIT(VIRTIO_RING_F_INDIRECT_DESC));
    for (unsigned chain = 0; chain < 3; chain++) {
        for (unsigned i = 0; i < 600; i++)
            segments[i] = (struct fake_segment){f->room + 8192ULL * chain + 8ULL * i, 4, true};
        fake_queue_add_indirect(&f->queue[RX], segments, 600);
    }
    fake_mmio_kick(f->mmio, f->loop, RX);
    uint32_t length;
    for (unsigned chain = 0; chain < 3; chain++) {
        net_fixture_send(f, 0, NULL, 2400);
        assert_true(fake_queue_used(&f->queue[RX], NULL, &length));
        assert_int_equal(length, 2400);
    }
    net_fixture_send(f, 0, NULL, 100);
    for (unsigned i = 0; i < 600; i++)
        segments[i] = (struct fake_segment){f->room + 8ULL * i, 4, true};
    fake_queue_add_indirect(&f->queue[RX], segments, 600);
    fake_mmio_kick(f->mmio, f->loop, RX);
    assert_true(fake_queue_used(&f->queue[RX], NULL, &length));
    assert_int_equal(length, 100);
    assert_false(needs_reset(f));
}

static void receive_buffer_in_too_many_pieces_breaks_the_queue(void **state)
{
    struct net_fixture *f = *state;
    struct fake_segment segments[VIRTIO_CHAIN_MAX];
    net_fixture_start(f, MRG | BIT(VIRTIO_RING_F_INDIRECT_DESC));
    for (unsigned i = 0; i < VIRTIO_CHAIN_MAX; i++)
        segments[i] = (struct fake_segment){f->room + 8ULL * i, 4, true};
    fake_queue_add_indirect(&f->queue[RX], segments, VIRTIO_CHAIN_MAX);
    fake_mmio_kick(f->mmio, f->loop, RX);
    assert_true(needs_reset(f));
    assert_alive(f);
}

static void packet_in_too_many_pieces_is_dropped(void **state)
{
    struct net_fixture *f = *state;
    struct fake_segment segments[VIRTIO_CHAIN_MAX];
    net_fixture_start(f, BIT(VIRTIO_RING_F_INDIRECT_DESC));
    for (unsigned i = 0; i < VIRTIO_CHAIN_MAX; i++)
        segments[i] = (struct fake_segment){f->room + 16ULL * i, 12, false};
    fake_queue_add_indirect(&f->queue[TX], segments, VIRTIO_CHAIN_MAX);
    fake_mmio_kick(f->mmio, f->loop, TX);
    assert_true(fake_queue_used(&f->queue[TX], NULL, NULL));
    assert_true(host_received(f)); /* 1023 elements behind the header's: just what a system call takes */
    for (unsigned i = 0; i < VIRTIO_CHAIN_MAX; i++)
        segments[i].len = i == 0 ? 13 : 12;
    fake_queue_add_indirect(&f->queue[TX], segments, VIRTIO_CHAIN_MAX);
    fake_mmio_kick(f->mmio, f->loop, TX);
    assert_true(fake_queue_used(&f->queue[TX], NULL, NULL));
    assert_false(host_received(f));
    assert_false(needs_reset(f));
}

static void short_packets_are_dropped(void **state)
{
    struct net_fixture *f = *state;
    net_fixture_start(f, 0);
    const uint32_t lengths[] = {1, NET_HEADER_BYTES - 1, NET_HEADER_BYTES, NET_HEADER_BYTES + ETH_HLEN - 1};
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct fake_segment segment = {f->room, lengths[i], false};
        fake_queue_add(&f->queue[TX], &segment, 1);
        fake_mmio_kick(f->mmio, f->loop, TX);
        assert_true(fake_queue_used(&f->queue[TX], NULL, NULL));
        assert_false(host_received(f));
    }
    struct fake_segment writable = {f->room, 2048, true}; /* nothing to read */
    fake_queue_add(&f->queue[TX], &writable, 1);
    fake_mmio_kick(f->mmio, f->loop, TX);
    assert_true(fake_queue_used(&f->queue[TX], NULL, NULL));
    assert_false(needs_reset(f));
    assert_alive(f);
}

static void reset_within_a_burst_is_clean(void **state)
{
    struct net_fixture *f = *state;
    net_fixture_start(f, MRG);
    for (unsigned i = 0; i < NET_TEST_QUEUE_SIZE / 2; i++) {
        struct fake_segment in = {f->room, 600, true}, out = {f->room, 600, false};
        fake_queue_add(&f->queue[RX], &in, 1);
        fake_queue_add(&f->queue[TX], &out, 1);
    }
    fake_mmio_set(f->mmio, VIRTIO_MMIO_QUEUE_NOTIFY, RX);
    fake_mmio_set(f->mmio, VIRTIO_MMIO_QUEUE_NOTIFY, TX);
    loop_once(f->loop, 0);
    fake_mmio_set(f->mmio, VIRTIO_MMIO_STATUS, 0);
    fake_loop_settle(f->loop);
    while (host_received(f))
        ;
    assert_alive(f);
}

static void queues_that_the_driver_left_out_are_not_touched(void **state)
{
    struct net_fixture *f = *state;
    net_fixture_start(f, 0);
    fake_mmio_set(f->mmio, VIRTIO_MMIO_STATUS, 0);
    /* Only the receive queue: no pair, no packets, but no harm either. */
    uint32_t status = fake_mmio_start(f->mmio, MRG, f->queue, 1);
    assert_false(status & VIRTIO_CONFIG_S_NEEDS_RESET);
    net_fixture_send(f, 0, NULL, 100);
    fake_mmio_kick(f->mmio, f->loop, RX);
    fake_mmio_kick(f->mmio, f->loop, TX);
    fake_mmio_kick(f->mmio, f->loop, 2);
    assert_alive(f);
}

struct header_case {
    const char *what;
    struct virtio_net_hdr_v1 header;
    bool good;
    uint64_t features;
    size_t bytes;
};

#define CSUM(start, offset)                                                                                  \
    .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = (start), .csum_offset = (offset)
#define ALL                                                                                                  \
    (BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |                    \
     BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_HOST_USO))

static const struct header_case header_cases[] = {
    {"plain", {0}, true, 0, 60},
    {"shorter than Ethernet", {0}, false, 0, 13},
    {"longer than any packet", {0}, false, ALL, NET_PACKET_BYTES_MAX},
    {"checksum", {CSUM(34, 16)}, true, ALL, 60},
    {"checksum not negotiated", {CSUM(34, 16)}, false, 0, 60},
    {"checksum up to the end", {CSUM(42, 16)}, true, ALL, 60},
    {"checksum behind the end", {CSUM(43, 16)}, false, ALL, 60},
    {"checksum sum wraps", {CSUM(0xffff, 0xffff)}, false, ALL, 60},
    {"segments", {CSUM(34, 16), .gso_type = 1, .gso_size = 1448}, true, ALL, 3000},
    {"segments not negotiated",
     {CSUM(34, 16), .gso_type = 1, .gso_size = 1448},
     false,
     BIT(VIRTIO_NET_F_CSUM),
     3000},
    {"segments without a size", {CSUM(34, 16), .gso_type = 1}, false, ALL, 3000},
    {"segments without checksum", {.gso_type = 1, .gso_size = 1448}, false, ALL, 3000},
    {"segments with a header longer than the packet",
     {CSUM(34, 16), .gso_type = 4, .gso_size = 1, .hdr_len = 0xffff},
     true,
     ALL,
     60},
    {"ECN", {CSUM(34, 16), .gso_type = 0x81, .gso_size = 1448}, true, ALL, 3000},
    {"ECN not negotiated",
     {CSUM(34, 16), .gso_type = 0x81, .gso_size = 1448},
     false,
     ALL & ~BIT(VIRTIO_NET_F_HOST_ECN),
     3000},
    {"ECN of nothing", {.gso_type = 0x80}, false, ALL, 3000},
    {"UDP segments", {CSUM(34, 6), .gso_type = 5, .gso_size = 1400}, true, ALL, 3000},
    {"UDP fragments", {CSUM(34, 6), .gso_type = 3, .gso_size = 1400}, false, ALL, 3000},
    {"unknown segments", {CSUM(34, 6), .gso_type = 7, .gso_size = 1400}, false, ALL, 3000},
};

static void headers_are_checked(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(header_cases) / sizeof(header_cases[0]); i++) {
        struct header_case c = header_cases[i];
        c.header.flags |= VIRTIO_NET_HDR_F_DATA_VALID; /* means nothing in this direction */
        c.header.num_buffers = 0xffff;
        if (net_tx_check_header(&c.header, c.features, c.bytes) != c.good)
            fail_msg("%s", c.what);
        if (c.good && (c.header.num_buffers || c.header.flags & VIRTIO_NET_HDR_F_DATA_VALID ||
                       le16toh(c.header.hdr_len) > c.bytes))
            fail_msg("%s: not cleaned", c.what);
    }
}

#define net_test(name) cmocka_unit_test_setup_teardown(name, net_fixture_set_up, net_fixture_tear_down)

int main(void)
{
    log_init("test", -1, LOG_FORMAT_TEXT, LOG_LEVEL_ERR);
    const struct CMUnitTest tests[] = {
        net_test(receive_buffer_without_room_for_a_header_breaks_the_queue),
        net_test(receive_buffer_that_is_read_only_breaks_the_queue),
        net_test(receive_buffer_outside_memory_breaks_the_queue),
        net_test(header_over_tiny_segments_is_put_together),
        net_test(queue_of_tiny_buffers_drops_what_does_not_fit),
        net_test(buffers_in_many_pieces_are_used_one_by_one),
        net_test(receive_buffer_in_too_many_pieces_breaks_the_queue),
        net_test(packet_in_too_many_pieces_is_dropped),
        net_test(short_packets_are_dropped),
        net_test(reset_within_a_burst_is_clean),
        net_test(queues_that_the_driver_left_out_are_not_touched),
        net_test(headers_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
