/* Unit tests of virtio-net's control queue, queue pairs, configuration space and saved state. */
#include "tests/unit/net_fixture.h"
#include "vmm/snapshot.h"

#include <endian.h>
#include <errno.h>
#include <linux/if_tun.h>
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
#define ALL                                                                                                  \
    (BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) |                   \
     BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | BIT(VIRTIO_NET_F_MQ) |        \
     BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) |        \
     BIT(VIRTIO_NET_F_STATUS))
#define CONTROL (NET_TEST_QUEUES - 1)

static int set_up(void **state)
{
    struct net_fixture *f = calloc(1, sizeof(*f));
    if (!f)
        return -1;
    net_fixture_init(f, NET_TEST_PAIRS);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    net_fixture_fini(*state);
    free(*state);
    return 0;
}

static int set_pairs(struct net_fixture *f, uint16_t pairs)
{
    pairs = htole16(pairs);
    return net_fixture_command(f, CONTROL, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs,
                               sizeof(pairs));
}

/* Packets go both ways through the pair. */
static bool pair_works(struct net_fixture *f, unsigned pair)
{
    uint8_t packet[200];
    struct fake_segment in = {f->room + 8192ULL * pair, 2048, true},
                        out = {f->room + 8192ULL * pair + 4096, NET_HEADER_BYTES + 60, false};
    fake_queue_add(&f->queue[2 * pair], &in, 1);
    fake_queue_add(&f->queue[2 * pair + 1], &out, 1);
    fake_mmio_kick(f->mmio, f->loop, 2 * pair);
    fake_mmio_kick(f->mmio, f->loop, 2 * pair + 1);
    bool sent = recv(f->host[pair], packet, sizeof(packet), MSG_DONTWAIT) == NET_HEADER_BYTES + 60;
    net_fixture_send(f, pair, NULL, 100);
    return fake_queue_used(&f->queue[2 * pair], NULL, NULL) && sent;
}

static void first_pair_is_used_until_more_are_asked_for(void **state)
{
    struct net_fixture *f = *state;
    assert_true(fake_tap.attached[0]);
    assert_false(fake_tap.attached[1]); /* it must be given no packets */
    net_fixture_start(f, ALL);
    assert_true(pair_works(f, 0));
    assert_false(fake_tap.attached[1]);
    assert_int_equal(set_pairs(f, 2), VIRTIO_NET_OK);
    assert_true(fake_tap.attached[1]);
    assert_true(pair_works(f, 1));
    assert_true(pair_works(f, 0));
    assert_int_equal(set_pairs(f, 1), VIRTIO_NET_OK);
    assert_false(fake_tap.attached[1]);
    assert_true(pair_works(f, 0));
}

static void chains_that_came_before_their_pair_are_served(void **state)
{
    struct net_fixture *f = *state;
    uint8_t packet[200];
    net_fixture_start(f, ALL);
    struct fake_segment out = {f->room, NET_HEADER_BYTES + 60, false};
    fake_queue_add(&f->queue[3], &out, 1);
    fake_mmio_kick(f->mmio, f->loop, 3);
    assert_false(fake_queue_used(&f->queue[3], NULL, NULL));
    assert_int_equal(set_pairs(f, 2), VIRTIO_NET_OK);
    fake_loop_settle(f->loop);
    assert_true(fake_queue_used(&f->queue[3], NULL, NULL));
    assert_true(recv(f->host[1], packet, sizeof(packet), MSG_DONTWAIT) > 0);
}

static void impossible_numbers_of_pairs_are_refused(void **state)
{
    struct net_fixture *f = *state;
    net_fixture_start(f, ALL);
    assert_int_equal(set_pairs(f, 0), VIRTIO_NET_ERR);
    assert_int_equal(set_pairs(f, NET_TEST_PAIRS + 1), VIRTIO_NET_ERR);
    assert_int_equal(set_pairs(f, 0x8000), VIRTIO_NET_ERR);
    assert_true(pair_works(f, 0));
}

static void reset_goes_back_to_one_pair(void **state)
{
    struct net_fixture *f = *state;
    net_fixture_start(f, ALL);
    assert_int_equal(set_pairs(f, 2), VIRTIO_NET_OK);
    fake_mmio_set(f->mmio, VIRTIO_MMIO_STATUS, 0);
    assert_false(fake_tap.attached[1]);
    net_fixture_start(f, ALL);
    assert_true(pair_works(f, 0));
    assert_int_equal(set_pairs(f, 2), VIRTIO_NET_OK);
    assert_true(pair_works(f, 1));
}

static void control_queue_is_the_third_without_multiqueue(void **state)
{
    struct net_fixture *f = *state;
    uint8_t on = 1;
    net_fixture_start(f, ALL & ~BIT(VIRTIO_NET_F_MQ));
    assert_int_equal(net_fixture_command(f, 2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1),
                     VIRTIO_NET_OK);
    assert_true(pair_works(f, 0));
}

static void commands_that_were_not_negotiated_are_refused(void **state)
{
    struct net_fixture *f = *state;
    const uint8_t data[12] = {0};
    static const struct {
        uint8_t class, command;
        uint32_t bytes;
    } commands[] = {
        {VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 1},
        {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 6},
        {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 8},
        {VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 2},
        {VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, 0},
        {VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 2},
        {VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 8},
        {99, 0, 0},
    };
    net_fixture_start(f, BIT(VIRTIO_NET_F_CTRL_VQ));
    for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        assert_int_equal(
            net_fixture_command(f, 2, commands[i].class, commands[i].command, data, commands[i].bytes),
            VIRTIO_NET_ERR);
}

static void commands_with_data_of_the_wrong_length_are_refused(void **state)
{
    struct net_fixture *f = *state;
    const uint8_t data[16] = {0};
    net_fixture_start(f, ALL);
    for (uint8_t class = 0; class <= VIRTIO_NET_CTRL_GUEST_OFFLOADS; class ++) {
        assert_int_equal(net_fixture_command(f, CONTROL, class, 0, data, 3), VIRTIO_NET_ERR);
        assert_int_equal(net_fixture_command(f, CONTROL, class, 200, data, 1), VIRTIO_NET_ERR);
    }
    /* A header that is not whole, and no room for an answer: back it comes. */
    struct fake_segment segment = {f->room, 1, false};
    fake_queue_add(&f->queue[CONTROL], &segment, 1);
    fake_mmio_kick(f->mmio, f->loop, CONTROL);
    assert_true(fake_queue_used(&f->queue[CONTROL], NULL, NULL));
    assert_true(pair_works(f, 0));
}

static void tap_filters_what_the_driver_does_not_want(void **state)
{
    struct net_fixture *f = *state;
    uint8_t off = 0, on = 1;
    struct {
        uint32_t unicasts;
        uint8_t unicast[1][ETH_ALEN];
        uint32_t groups;
        uint8_t group[2][ETH_ALEN];
    } __attribute__((packed)) tables = {
        htole32(1), {{2, 0, 0, 0, 0, 9}}, htole32(2), {{1, 0, 0x5e, 0, 0, 1}, {0x33, 0x33, 0, 0, 0, 1}}};
    net_fixture_start(f, ALL);
    assert_int_equal(fake_tap.filter_count, 0); /* everything */
    assert_int_equal(net_fixture_command(f, CONTROL, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1),
                     VIRTIO_NET_OK);
    assert_int_equal(fake_tap.filter_count, 2);
    assert_memory_equal(fake_tap.filter[0], "\x52\x54\x00\x01\x02\x03", ETH_ALEN);
    assert_memory_equal(fake_tap.filter[1], "\xff\xff\xff\xff\xff\xff", ETH_ALEN);
    assert_int_equal(net_fixture_command(f, CONTROL, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET,
                                         &tables, sizeof(tables)),
                     VIRTIO_NET_OK);
    assert_int_equal(fake_tap.filter_count, 5);
    assert_memory_equal(fake_tap.filter[2], tables.unicast[0], ETH_ALEN);
    assert_memory_equal(fake_tap.filter[4], tables.group[1], ETH_ALEN);
    assert_false(fake_tap.filter_all_groups);
    assert_int_equal(net_fixture_command(f, CONTROL, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &on, 1),
                     VIRTIO_NET_OK);
    assert_true(fake_tap.filter_all_groups);
    /* A table that says it is longer than it is. */
    tables.groups = htole32(UINT32_MAX);
    assert_int_equal(net_fixture_command(f, CONTROL, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET,
                                         &tables, sizeof(tables)),
                     VIRTIO_NET_ERR);
    assert_int_equal(fake_tap.filter_count, 3);
    assert_int_equal(net_fixture_command(f, CONTROL, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1),
                     VIRTIO_NET_OK);
    assert_int_equal(fake_tap.filter_count, 0);
}

static void tables_too_long_for_the_filter_let_all_pass(void **state)
{
    struct net_fixture *f = *state;
    uint8_t off = 0, tables[4 + 100 * ETH_ALEN + 4] = {100};
    net_fixture_start(f, ALL);
    net_fixture_command(f, CONTROL, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1);
    assert_int_equal(net_fixture_command(f, CONTROL, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET,
                                         tables, sizeof(tables)),
                     VIRTIO_NET_OK);
    assert_int_equal(fake_tap.filter_count, 0);
    memset(tables, 0, sizeof(tables));
    tables[4] = 100;
    assert_int_equal(net_fixture_command(f, CONTROL, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET,
                                         tables, sizeof(tables)),
                     VIRTIO_NET_OK);
    assert_int_equal(fake_tap.filter_count, 2);
    assert_true(fake_tap.filter_all_groups);
}

static void address_can_be_changed(void **state)
{
    struct net_fixture *f = *state;
    uint8_t mac[ETH_ALEN] = {2, 1, 2, 3, 4, 5}, seen[ETH_ALEN];
    net_fixture_start(f, ALL);
    assert_int_equal(
        net_fixture_command(f, CONTROL, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, sizeof(mac)),
        VIRTIO_NET_OK);
    for (unsigned i = 0; i < ETH_ALEN; i++)
        virtio_mmio_read(f->mmio, VIRTIO_MMIO_CONFIG + i, &seen[i], 1);
    assert_memory_equal(seen, mac, ETH_ALEN);
    fake_mmio_set(f->mmio, VIRTIO_MMIO_STATUS, 0);
    virtio_mmio_read(f->mmio, VIRTIO_MMIO_CONFIG, seen, 4);
    assert_memory_equal(seen, "\x52\x54\x00\x01", 4);
}

static void offloads_follow_the_driver(void **state)
{
    struct net_fixture *f = *state;
    uint64_t wanted = htole64(BIT(VIRTIO_NET_F_GUEST_CSUM));
    net_fixture_start(f, ALL);
    assert_int_equal(fake_tap.offloads, TUN_F_CSUM | TUN_F_TSO4);
    assert_int_equal(net_fixture_command(f, CONTROL, VIRTIO_NET_CTRL_GUEST_OFFLOADS,
                                         VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &wanted, sizeof(wanted)),
                     VIRTIO_NET_OK);
    assert_int_equal(fake_tap.offloads, TUN_F_CSUM);
    wanted = htole64(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO6)); /* not negotiated */
    assert_int_equal(net_fixture_command(f, CONTROL, VIRTIO_NET_CTRL_GUEST_OFFLOADS,
                                         VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &wanted, sizeof(wanted)),
                     VIRTIO_NET_ERR);
    assert_int_equal(fake_tap.offloads, TUN_F_CSUM);
    net_fixture_start(f, ALL & ~BIT(VIRTIO_NET_F_GUEST_CSUM)); /* segments alone make no sense */
    assert_int_equal(fake_tap.offloads, 0);
}

static void tap_that_refuses_offloads_fails_the_activation(void **state)
{
    struct net_fixture *f = *state;
    fake_tap.refuse_offloads = EINVAL;
    assert_true(net_fixture_start(f, ALL) & VIRTIO_CONFIG_S_NEEDS_RESET);
    fake_tap.refuse_offloads = 0;
    net_fixture_start(f, ALL);
    assert_true(pair_works(f, 0));
}

static void features_are_what_the_tap_can(void **state)
{
    struct net_fixture *f = *state;
    uint64_t features = f->device->ops->features(f->device);
    assert_true(features & BIT(VIRTIO_NET_F_HOST_USO) && features & BIT(VIRTIO_NET_F_MTU));
    assert_false(features & (BIT(VIRTIO_NET_F_GUEST_UFO) | BIT(VIRTIO_NET_F_CTRL_VLAN)));
    net_fixture_fini(f);
    net_fixture_init(f, 1);
    assert_false(f->device->ops->features(f->device) & BIT(VIRTIO_NET_F_MQ));
}

static uint16_t link_status(struct net_fixture *f)
{
    uint16_t status;
    virtio_mmio_read(f->mmio, VIRTIO_MMIO_CONFIG + ETH_ALEN, &status, sizeof(status));
    return le16toh(status);
}

static void link_and_announcement_are_told(void **state)
{
    struct net_fixture *f = *state;
    net_fixture_start(f, ALL);
    assert_int_equal(link_status(f), VIRTIO_NET_S_LINK_UP);
    uint32_t generation = fake_mmio_get(f->mmio, VIRTIO_MMIO_CONFIG_GENERATION);
    virtio_net_set_link(f->device, false);
    assert_int_equal(link_status(f), 0);
    assert_int_not_equal(fake_mmio_get(f->mmio, VIRTIO_MMIO_CONFIG_GENERATION), generation);
    assert_true(fake_mmio_get(f->mmio, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
    virtio_net_set_link(f->device, true);
    virtio_net_announce(f->device);
    assert_int_equal(link_status(f), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
    assert_int_equal(
        net_fixture_command(f, CONTROL, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL, 0),
        VIRTIO_NET_OK);
    assert_int_equal(link_status(f), VIRTIO_NET_S_LINK_UP);
}

/* Saves the fixture's device and restores it into another over the same memory. */
static int save_and_restore(struct net_fixture *from, struct net_fixture *to,
                            void (*spoil)(uint8_t *, size_t))
{
    const void *bytes;
    size_t length;
    struct snapshot_writer *writer = snapshot_writer_new();
    virtio_transport_pause(virtio_mmio_transport(from->mmio));
    assert_int_equal(virtio_transport_save(virtio_mmio_transport(from->mmio), writer, 0), 0);
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);
    uint8_t *copy = malloc(length);
    assert_non_null(copy);
    memcpy(copy, bytes, length);
    if (spoil)
        spoil(copy, length);
    net_fixture_init(to, NET_TEST_PAIRS);
    memcpy(to->memory.ram, from->memory.ram, from->memory.size);
    memcpy(to->queue, from->queue, sizeof(to->queue));
    for (unsigned i = 0; i < NET_TEST_QUEUES; i++)
        to->queue[i].memory = &to->memory;
    to->room = from->room;
    struct snapshot_reader *reader = snapshot_reader_new(copy, length);
    assert_non_null(reader);
    int err = virtio_transport_restore(virtio_mmio_transport(to->mmio), reader, 0);
    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
    free(copy);
    return err;
}

static void saved_device_goes_on_elsewhere(void **state)
{
    struct net_fixture *f = *state, other;
    uint8_t mac[ETH_ALEN] = {2, 1, 2, 3, 4, 5}, off = 0;
    net_fixture_start(f, ALL);
    assert_int_equal(set_pairs(f, 2), VIRTIO_NET_OK);
    net_fixture_command(f, CONTROL, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, sizeof(mac));
    net_fixture_command(f, CONTROL, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1);
    assert_true(pair_works(f, 0) && pair_works(f, 1));
    for (unsigned i = 0; i < 4; i++) { /* buffers that the device holds when it is saved */
        struct fake_segment in = {f->room + 0x8000 + 2048ULL * i, 2048, true};
        fake_queue_add(&f->queue[0], &in, 1);
    }
    fake_mmio_kick(f->mmio, f->loop, 0);
    assert_int_equal(save_and_restore(f, &other, NULL), 0);
    assert_int_equal(fake_tap.offloads, TUN_F_CSUM | TUN_F_TSO4);
    assert_int_equal(fake_tap.filter_count, 2);
    assert_memory_equal(fake_tap.filter[0], mac, ETH_ALEN);
    assert_int_equal(link_status(&other), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
    virtio_transport_resume(virtio_mmio_transport(other.mmio));
    fake_loop_settle(other.loop);
    assert_true(fake_tap.attached[1]);
    net_fixture_send(&other, 0, NULL, 100);
    assert_true(fake_queue_used(&other.queue[0], NULL, NULL));
    assert_int_equal(*(uint8_t *)fake_at(&other.memory, other.room + 0x8000 + NET_HEADER_BYTES + 5),
                     net_fixture_pattern(5));
    assert_true(pair_works(&other, 1));
    net_fixture_fini(&other);
}

/* The number of pairs in use is the u32 behind the MAC and the number of pairs, at the section's start. */
static void spoil_pairs(uint8_t *bytes, size_t length)
{
    static const uint8_t mac[8] = {0x52, 0x54, 0, 1, 2, 3, 0, 0};
    uint8_t *at = memmem(bytes, length, mac, sizeof(mac));
    assert_non_null(at);
    at[8 + 4] = NET_TEST_PAIRS + 1;
}

static void impossible_state_is_refused(void **state)
{
    struct net_fixture *f = *state, other;
    net_fixture_start(f, ALL);
    assert_int_equal(save_and_restore(f, &other, spoil_pairs), -EPROTO);
    virtio_transport_resume(virtio_mmio_transport(other.mmio));
    net_fixture_start(&other, ALL);
    assert_true(pair_works(&other, 0));
    net_fixture_fini(&other);
}

#define net_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    log_init("test", -1, LOG_FORMAT_TEXT, LOG_LEVEL_ERR);
    const struct CMUnitTest tests[] = {
        net_test(first_pair_is_used_until_more_are_asked_for),
        net_test(chains_that_came_before_their_pair_are_served),
        net_test(impossible_numbers_of_pairs_are_refused),
        net_test(reset_goes_back_to_one_pair),
        net_test(control_queue_is_the_third_without_multiqueue),
        net_test(commands_that_were_not_negotiated_are_refused),
        net_test(commands_with_data_of_the_wrong_length_are_refused),
        net_test(tap_filters_what_the_driver_does_not_want),
        net_test(tables_too_long_for_the_filter_let_all_pass),
        net_test(address_can_be_changed),
        net_test(offloads_follow_the_driver),
        net_test(tap_that_refuses_offloads_fails_the_activation),
        net_test(features_are_what_the_tap_can),
        net_test(link_and_announcement_are_told),
        net_test(saved_device_goes_on_elsewhere),
        net_test(impossible_state_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
