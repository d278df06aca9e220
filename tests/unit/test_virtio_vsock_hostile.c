/* Unit tests of virtio-vsock: a guest that breaks rules harms its own connection only. */
#include "tests/unit/vsock_fixture.h"

static void guest_cannot_connect_out(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    struct virtio_vsock_hdr request = guest_header(guest, VIRTIO_VSOCK_OP_REQUEST, 80, 777);
    guest_send_raw(guest, &request, NULL, 0);
    assert_int_equal(guest_expect(guest, VIRTIO_VSOCK_OP_RST, 0), 80);
    assert_int_equal(guest->knocks, 0);
}

static void guest_beyond_its_credit_is_reset(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port;
    int fd = open_connection(guest, &port);
    int other_fd;
    uint32_t other;
    static uint8_t block[TX_BYTES];
    struct packet packet;
    bool reset = false;
    for (unsigned i = 0; i < 64 && !reset; i++) { /* 4 MiB, and the host reads nothing */
        guest_write(guest, port, block, TX_BYTES);
        while (guest_receive(guest, &packet))
            reset = le16toh(packet.header.op) == VIRTIO_VSOCK_OP_RST;
    }
    assert_true(reset);
    other_fd = open_connection(guest, &other); /* the device goes on */
    close(other_fd);
    close(fd);
}

static void packets_that_break_a_rule_reset_the_connection(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    for (unsigned i = 0; i < 5; i++) {
        uint32_t port;
        int fd = open_connection(guest, &port);
        struct virtio_vsock_hdr header = guest_header(guest, VIRTIO_VSOCK_OP_RW, port, PORT);
        switch (i) {
        case 0: /* longer than its chain */
            header.len = htole32(100);
            break;
        case 1: /* bytes after their end */
            guest_send(guest, VIRTIO_VSOCK_OP_SHUTDOWN, port, VIRTIO_VSOCK_SHUTDOWN_SEND);
            header.len = htole32(1);
            break;
        case 2:
            header.op = htole16(VIRTIO_VSOCK_OP_RESPONSE);
            break;
        case 3:
            header.op = htole16(VIRTIO_VSOCK_OP_INVALID);
            break;
        case 4:
            header.op = htole16(99);
            break;
        }
        guest_send_raw(guest, &header, "x", 1);
        assert_int_equal(guest_expect(guest, VIRTIO_VSOCK_OP_RST, 0), port);
        client_expect_end(guest, fd);
        guest_expect_nothing(guest);
        close(fd);
    }
}

static void packets_for_nobody_are_answered_with_rst(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port;
    int fd = open_connection(guest, &port);
    struct virtio_vsock_hdr header = guest_header(guest, VIRTIO_VSOCK_OP_RW, port, PORT + 1); /* another's */
    guest_send_raw(guest, &header, NULL, 0);
    guest_expect(guest, VIRTIO_VSOCK_OP_RST, 0);
    header = guest_header(guest, VIRTIO_VSOCK_OP_RW, port + 4096, PORT); /* same slot, older connection */
    guest_send_raw(guest, &header, NULL, 0);
    guest_expect(guest, VIRTIO_VSOCK_OP_RST, 0);
    header = guest_header(guest, VIRTIO_VSOCK_OP_RW, port, PORT); /* unknown type */
    header.type = htole16(VIRTIO_VSOCK_TYPE_SEQPACKET);
    guest_send_raw(guest, &header, NULL, 0);
    struct packet packet;
    assert_true(guest_receive(guest, &packet));
    assert_int_equal(le16toh(packet.header.op), VIRTIO_VSOCK_OP_RST);
    assert_int_equal(le16toh(packet.header.type), VIRTIO_VSOCK_TYPE_SEQPACKET);
    header = guest_header(guest, VIRTIO_VSOCK_OP_RST, 1, 1); /* never an RST for an RST */
    guest_send_raw(guest, &header, NULL, 0);
    guest_expect_nothing(guest);
    header = guest_header(guest, VIRTIO_VSOCK_OP_RW, port, PORT); /* not its own address */
    header.src_cid = htole64(9);
    guest_send_raw(guest, &header, NULL, 0);
    guest_expect_nothing(guest);
    struct fake_segment half_a_header = {guest->tx_buffer, 20, false};
    fake_queue_add(&guest->queue[TX], &half_a_header, 1);
    fake_mmio_kick(guest->mmio, guest->loop, TX);
    assert_true(fake_queue_used(&guest->queue[TX], NULL, NULL));
    guest_expect_nothing(guest);
    client_write(guest, fd, "ok"); /* and the connection is as it was */
    guest_expect(guest, VIRTIO_VSOCK_OP_RW, 0);
    close(fd);
}

static void answers_wait_for_rx_buffers(void **state)
{
    struct guest *guest = *state;
    assert_true(fake_mmio_start(guest->mmio, 0, guest->queue, 3) & VIRTIO_CONFIG_S_DRIVER_OK);
    struct virtio_vsock_hdr header = guest_header(guest, VIRTIO_VSOCK_OP_RW, 1, 1);
    memcpy(fake_at(&guest->memory, guest->tx_buffer), &header, HEADER);
    struct fake_segment segment = {guest->tx_buffer, HEADER, false};
    /* Without rx buffers answers pile up to a limit, then the device stops taking packets. */
    unsigned taken = 0, offered = 0;
    for (unsigned i = 0; i < 4; i++) {
        for (; offered - taken < QUEUE_SIZE; offered++)
            fake_queue_add(&guest->queue[TX], &segment, 1);
        fake_mmio_kick(guest->mmio, guest->loop, TX);
        while (fake_queue_used(&guest->queue[TX], NULL, NULL))
            taken++;
    }
    assert_int_equal(taken, 256);
    guest_offer_rx(guest, QUEUE_SIZE - 1);
    unsigned answers = 0;
    struct packet packet;
    while (guest_receive(guest, &packet)) {
        assert_int_equal(le16toh(packet.header.op), VIRTIO_VSOCK_OP_RST);
        answers++;
    }
    while (fake_queue_used(&guest->queue[TX], NULL, NULL))
        taken++;
    assert_int_equal(taken, offered);
    assert_int_equal(answers, offered);
}

static void rx_buffers_of_any_shape(void **state)
{
    struct guest *guest = *state;
    assert_true(fake_mmio_start(guest->mmio, 0, guest->queue, 3) & VIRTIO_CONFIG_S_DRIVER_OK);
    gpa_t buffer = guest->rx_buffer[0];
    /* Too small for a header: comes back empty. Then a header in two pieces and payload in two. */
    struct fake_segment small = {buffer, 10, true};
    struct fake_segment pieces[] = {{buffer, 20, true},
                                    {buffer + 100, HEADER - 20 + 2, true},
                                    {buffer + 200, 3, true},
                                    {buffer + 300, 3, true}};
    struct fake_segment plain = {buffer + 1000, 100, true};
    fake_queue_add(&guest->queue[RX], &small, 1);
    fake_queue_add(&guest->queue[RX], &plain, 1);
    fake_mmio_kick(guest->mmio, guest->loop, RX);
    int fd = client_connect(guest, "CONNECT 5000\n");
    uint32_t length;
    assert_true(fake_queue_used(&guest->queue[RX], NULL, &length));
    assert_int_equal(length, 0);
    assert_true(fake_queue_used(&guest->queue[RX], NULL, &length));
    assert_int_equal(length, HEADER);
    struct virtio_vsock_hdr header;
    memcpy(&header, fake_at(&guest->memory, plain.addr), HEADER);
    guest_send(guest, VIRTIO_VSOCK_OP_RESPONSE, le32toh(header.src_port), 0);

    client_write(guest, fd, "abcdefghijkl");
    fake_queue_add(&guest->queue[RX], pieces, 4); /* room for 8 */
    fake_mmio_kick(guest->mmio, guest->loop, RX);
    assert_true(fake_queue_used(&guest->queue[RX], NULL, &length));
    assert_int_equal(length, HEADER + 8);
    memcpy(&header, fake_at(&guest->memory, buffer), 20);
    memcpy((char *)&header + 20, fake_at(&guest->memory, buffer + 100), HEADER - 20);
    assert_int_equal(le32toh(header.len), 8);
    assert_memory_equal(fake_at(&guest->memory, buffer + 100 + HEADER - 20), "ab", 2);
    assert_memory_equal(fake_at(&guest->memory, buffer + 200), "cde", 3);
    assert_memory_equal(fake_at(&guest->memory, buffer + 300), "fgh", 3);
    fake_queue_add(&guest->queue[RX], &plain, 1);
    fake_mmio_kick(guest->mmio, guest->loop, RX);
    assert_true(fake_queue_used(&guest->queue[RX], NULL, &length));
    assert_int_equal(length, HEADER + 4);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        vsock_test(guest_cannot_connect_out),
        vsock_test(guest_beyond_its_credit_is_reset),
        vsock_test(packets_that_break_a_rule_reset_the_connection),
        vsock_test(packets_for_nobody_are_answered_with_rst),
        vsock_test(answers_wait_for_rx_buffers),
        vsock_test(rx_buffers_of_any_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
