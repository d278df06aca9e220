/* Unit tests of virtio-net's data path: packets both ways, merged buffers, offloads, interrupts. */
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
#include <unistd.h>

#include <cmocka.h>

#define BIT(feature) (1ULL << (feature))
#define MRG          BIT(VIRTIO_NET_F_MRG_RXBUF)

enum { RX, TX };

static void start(struct net_fixture *f, uint64_t features)
{
    uint32_t status = net_fixture_start(f, features);
    assert_int_equal(status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET),
                     VIRTIO_CONFIG_S_DRIVER_OK);
}

/* Offers `count` receive buffers of `bytes`, one behind the other in the room. */
static void offer(struct net_fixture *f, unsigned count, uint32_t bytes)
{
    for (unsigned i = 0; i < count; i++) {
        struct fake_segment segment = {f->room + (uint64_t)f->queue[RX].avail_idx * bytes, bytes, true};
        fake_queue_add(&f->queue[RX], &segment, 1);
    }
    fake_mmio_kick(f->mmio, f->loop, RX);
}

static void assert_pattern(struct net_fixture *f, gpa_t at, size_t from, size_t count)
{
    const uint8_t *bytes = fake_at(&f->memory, at);
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != net_fixture_pattern(from + i))
            fail_msg("byte %zu of the packet is %02x", from + i, bytes[i]);
    }
}

static void packet_is_received_with_its_header(void **state)
{
    struct net_fixture *f = *state;
    struct virtio_net_hdr_v1 header = {.flags = VIRTIO_NET_HDR_F_DATA_VALID, .num_buffers = 0xffff}, got;
    uint32_t id, length;
    start(f, MRG);
    offer(f, 4, 2048);
    fake_interrupts(f->irq_fd);
    net_fixture_send(f, 0, &header, NET_HEADER_BYTES + 60);
    assert_true(fake_queue_used(&f->queue[RX], &id, &length));
    assert_int_equal(length, NET_HEADER_BYTES + 60);
    memcpy(&got, fake_at(&f->memory, f->room), sizeof(got));
    assert_int_equal(got.flags, VIRTIO_NET_HDR_F_DATA_VALID);
    assert_int_equal(le16toh(got.num_buffers), 1);
    assert_pattern(f, f->room + NET_HEADER_BYTES, 0, 60);
    assert_int_equal(fake_interrupts(f->irq_fd), 1);
    assert_false(fake_queue_used(&f->queue[RX], NULL, NULL));
}

static void long_packet_is_merged_from_buffers(void **state)
{
    struct net_fixture *f = *state;
    uint32_t length, total = 0, bytes = 5000;
    start(f, MRG);
    offer(f, 8, 1500);
    net_fixture_send(f, 0, NULL, bytes);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(fake_queue_used(&f->queue[RX], NULL, &length));
        total += length;
    }
    assert_int_equal(total, bytes);
    assert_int_equal(length, bytes - 3 * 1500);
    assert_false(fake_queue_used(&f->queue[RX], NULL, NULL));
    struct virtio_net_hdr_v1 *header = fake_at(&f->memory, f->room);
    assert_int_equal(le16toh(header->num_buffers), 4);
    assert_pattern(f, f->room + NET_HEADER_BYTES, 0, bytes - NET_HEADER_BYTES);
    /* The next packet begins in the next buffer. */
    net_fixture_send(f, 0, NULL, 100);
    assert_true(fake_queue_used(&f->queue[RX], NULL, &length));
    assert_int_equal(length, 100);
    assert_pattern(f, f->room + 4 * 1500 + NET_HEADER_BYTES, 0, 100 - NET_HEADER_BYTES);
}

static void largest_packet_is_received(void **state)
{
    struct net_fixture *f = *state;
    start(f, MRG);
    offer(f, 60, 2048);
    net_fixture_send(f, 0, NULL, NET_PACKET_BYTES_MAX);
    struct virtio_net_hdr_v1 *header = fake_at(&f->memory, f->room);
    assert_int_equal(le16toh(header->num_buffers), (NET_PACKET_BYTES_MAX + 2047) / 2048);
    assert_pattern(f, f->room + NET_HEADER_BYTES, 0, NET_PACKET_BYTES_MAX - NET_HEADER_BYTES);
}

static void packet_waits_for_buffers(void **state)
{
    struct net_fixture *f = *state;
    start(f, MRG);
    net_fixture_send(f, 0, NULL, 200);
    assert_false(fake_queue_used(&f->queue[RX], NULL, NULL));
    offer(f, 1, 2048);
    uint32_t length;
    assert_true(fake_queue_used(&f->queue[RX], NULL, &length));
    assert_int_equal(length, 200);
}

static void packet_that_runs_over_waits_for_more_buffers(void **state)
{
    struct net_fixture *f = *state;
    start(f, MRG);
    offer(f, 2, 1000);
    net_fixture_send(f, 0, NULL, 4500);
    net_fixture_send(f, 0, NULL, 60); /* must not overtake */
    assert_false(fake_queue_used(&f->queue[RX], NULL, NULL));
    offer(f, 1, 1000);
    assert_false(fake_queue_used(&f->queue[RX], NULL, NULL));
    offer(f, 3, 1000);
    uint32_t length;
    for (unsigned i = 0; i < 5; i++)
        assert_true(fake_queue_used(&f->queue[RX], NULL, &length));
    assert_int_equal(length, 500);
    assert_pattern(f, f->room + NET_HEADER_BYTES, 0, 4500 - NET_HEADER_BYTES);
    struct virtio_net_hdr_v1 *header = fake_at(&f->memory, f->room);
    assert_int_equal(le16toh(header->num_buffers), 5);
    assert_true(fake_queue_used(&f->queue[RX], NULL, &length));
    assert_int_equal(length, 60);
    assert_int_equal(fake_statistic(f->device, "rx-packets"), 2);
    assert_int_equal(fake_statistic(f->device, "rx-dropped"), 0);
}

static void without_merging_a_packet_has_one_chain(void **state)
{
    struct net_fixture *f = *state;
    start(f, 0);
    struct fake_segment segments[] = {{f->room, NET_HEADER_BYTES, true}, {f->room + 4096, 1600, true}};
    fake_queue_add(&f->queue[RX], segments, 2);
    fake_mmio_kick(f->mmio, f->loop, RX);
    net_fixture_send(f, 0, NULL, 3000); /* too long: dropped, the buffer stays for the next */
    net_fixture_send(f, 0, NULL, 700);
    uint32_t length;
    assert_true(fake_queue_used(&f->queue[RX], NULL, &length));
    assert_int_equal(length, 700);
    assert_pattern(f, f->room + 4096, 0, 700 - NET_HEADER_BYTES);
    struct virtio_net_hdr_v1 *header = fake_at(&f->memory, f->room);
    assert_int_equal(le16toh(header->num_buffers), 1);
    assert_int_equal(fake_statistic(f->device, "rx-dropped"), 1);
}

static void packets_in_a_row_interrupt_once(void **state)
{
    struct net_fixture *f = *state;
    uint8_t packet[100] = {0};
    start(f, MRG | BIT(VIRTIO_RING_F_EVENT_IDX));
    offer(f, 40, 2048);
    net_fixture_send(f, 0, NULL, 100);
    fake_interrupts(f->irq_fd);
    *fake_queue_used_event(&f->queue[RX]) = htole16(1);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(send(f->host[0], packet, sizeof(packet), 0), sizeof(packet));
    uint64_t before = virtio_transport_interrupts(virtio_mmio_transport(f->mmio));
    fake_loop_settle(f->loop);
    assert_int_equal(virtio_transport_interrupts(virtio_mmio_transport(f->mmio)) - before, 1);
    assert_int_equal(fake_statistic(f->device, "rx-packets"), 21);
}

static ssize_t host_receives(struct net_fixture *f, void *packet, size_t room)
{
    return recv(f->host[0], packet, room, MSG_DONTWAIT);
}

/* Sends header and payload of the guest as one chain of two segments. */
static void transmit(struct net_fixture *f, const struct virtio_net_hdr_v1 *header, uint32_t bytes)
{
    gpa_t at = f->room + (256u << 10);
    memcpy(fake_at(&f->memory, at), header, sizeof(*header));
    uint8_t *payload = fake_at(&f->memory, at + 4096);
    for (uint32_t i = 0; i < bytes; i++)
        payload[i] = net_fixture_pattern(i);
    struct fake_segment segments[] = {{at, sizeof(*header), false}, {at + 4096, bytes, false}};
    fake_interrupts(f->irq_fd);
    fake_queue_add(&f->queue[TX], segments, 2);
    fake_mmio_kick(f->mmio, f->loop, TX);
    assert_true(fake_queue_used(&f->queue[TX], NULL, NULL));
    assert_true(fake_interrupts(f->irq_fd) > 0);
}

static void packet_is_sent_with_its_header(void **state)
{
    struct net_fixture *f = *state;
    uint8_t packet[70000];
    struct virtio_net_hdr_v1 header = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                       .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                       .hdr_len = htole16(54),
                                       .gso_size = htole16(1448),
                                       .csum_start = htole16(34),
                                       .csum_offset = htole16(16)};
    start(f, BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4));
    transmit(f, &header, 60000);
    assert_int_equal(host_receives(f, packet, sizeof(packet)), NET_HEADER_BYTES + 60000);
    assert_memory_equal(packet, &header, sizeof(header));
    for (size_t i = 0; i < 60000; i++)
        assert_int_equal(packet[NET_HEADER_BYTES + i], net_fixture_pattern(i));
    assert_int_equal(fake_statistic(f->device, "tx-bytes"), 60000);
}

static void header_and_payload_may_share_a_segment(void **state)
{
    struct net_fixture *f = *state;
    uint8_t packet[200];
    start(f, 0);
    struct fake_segment segment = {f->room, NET_HEADER_BYTES + 64, false};
    memset(fake_at(&f->memory, f->room), 0, NET_HEADER_BYTES);
    fake_queue_add(&f->queue[TX], &segment, 1);
    fake_mmio_kick(f->mmio, f->loop, TX);
    assert_int_equal(host_receives(f, packet, sizeof(packet)), NET_HEADER_BYTES + 64);
}

static void full_tap_is_waited_for(void **state)
{
    struct net_fixture *f = *state;
    uint8_t packet[70000];
    unsigned sent = 0, received = 0;
    start(f, 0);
    struct fake_segment segment = {f->room, NET_HEADER_BYTES + 60000, false};
    memset(fake_at(&f->memory, f->room), 0, NET_HEADER_BYTES);
    for (unsigned i = 0; i < 30; i++)
        fake_queue_add(&f->queue[TX], &segment, 1);
    fake_mmio_kick(f->mmio, f->loop, TX);
    while (fake_queue_used(&f->queue[TX], NULL, NULL))
        sent++;
    assert_true(sent > 0 && sent < 30);
    while (received < 30) {
        assert_int_equal(host_receives(f, packet, sizeof(packet)), NET_HEADER_BYTES + 60000);
        received++;
        fake_loop_settle(f->loop);
    }
    while (fake_queue_used(&f->queue[TX], NULL, NULL))
        sent++;
    assert_int_equal(sent, 30);
    assert_int_equal(fake_statistic(f->device, "tx-dropped"), 0);
}

static void one_turn_is_bounded(void **state)
{
    struct net_fixture *f = *state;
    uint8_t packet[200];
    start(f, 0);
    struct fake_segment segment = {f->room, NET_HEADER_BYTES + 64, false};
    memset(fake_at(&f->memory, f->room), 0, NET_HEADER_BYTES);
    for (unsigned i = 0; i < NET_TEST_QUEUE_SIZE; i++)
        fake_queue_add(&f->queue[TX], &segment, 1);
    fake_mmio_kick(f->mmio, f->loop, TX);
    while (host_receives(f, packet, sizeof(packet)) > 0)
        fake_loop_settle(f->loop);
    assert_int_equal(fake_statistic(f->device, "tx-packets"), NET_TEST_QUEUE_SIZE);
}

static void pause_keeps_buffers_and_packets(void **state)
{
    struct net_fixture *f = *state;
    start(f, MRG);
    offer(f, 8, 2048);
    net_fixture_send(f, 0, NULL, 100);
    virtio_transport_pause(virtio_mmio_transport(f->mmio));
    assert_int_equal(virtqueue_in_flight(f->device->queue[RX]), 0);
    net_fixture_send(f, 0, NULL, 200);
    uint32_t length;
    assert_true(fake_queue_used(&f->queue[RX], NULL, &length));
    assert_false(fake_queue_used(&f->queue[RX], NULL, NULL));
    virtio_transport_resume(virtio_mmio_transport(f->mmio));
    fake_loop_settle(f->loop);
    assert_true(fake_queue_used(&f->queue[RX], NULL, &length));
    assert_int_equal(length, 200);
    assert_pattern(f, f->room + 2048 + NET_HEADER_BYTES, 0, 200 - NET_HEADER_BYTES);
}

static void reset_lets_go_of_everything(void **state)
{
    struct net_fixture *f = *state;
    start(f, MRG | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4));
    assert_int_equal(fake_tap.offloads, 3); /* TUN_F_CSUM | TUN_F_TSO4 */
    offer(f, 2, 1000);
    net_fixture_send(f, 0, NULL, 4500); /* runs over */
    net_fixture_send(f, 0, NULL, 60);
    fake_mmio_set(f->mmio, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(fake_tap.offloads, 0);
    assert_int_equal(fake_tap.drained, 1);
    /* The next driver gets what comes for it, and nothing of before. */
    start(f, MRG);
    offer(f, 4, 2048);
    net_fixture_send(f, 0, NULL, 300);
    uint32_t length;
    assert_true(fake_queue_used(&f->queue[RX], NULL, &length));
    assert_int_equal(length, 300);
    assert_false(fake_queue_used(&f->queue[RX], NULL, NULL));
}

#define net_test(name) cmocka_unit_test_setup_teardown(name, net_fixture_set_up, net_fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        net_test(packet_is_received_with_its_header),
        net_test(long_packet_is_merged_from_buffers),
        net_test(largest_packet_is_received),
        net_test(packet_waits_for_buffers),
        net_test(packet_that_runs_over_waits_for_more_buffers),
        net_test(without_merging_a_packet_has_one_chain),
        net_test(packets_in_a_row_interrupt_once),
        net_test(packet_is_sent_with_its_header),
        net_test(header_and_payload_may_share_a_segment),
        net_test(full_tap_is_waited_for),
        net_test(one_turn_is_bounded),
        net_test(pause_keeps_buffers_and_packets),
        net_test(reset_lets_go_of_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
