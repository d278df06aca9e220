/* Unit tests of virtio-vsock: streams, half-closes and credit. */
#include "tests/unit/vsock_fixture.h"

static void bytes_go_both_ways(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port;
    int fd = open_connection(guest, &port);

    client_write(guest, fd, "to the guest");
    struct packet packet;
    assert_true(guest_receive(guest, &packet));
    assert_int_equal(le16toh(packet.header.op), VIRTIO_VSOCK_OP_RW);
    assert_int_equal(le32toh(packet.header.len), 12);
    assert_int_equal(le64toh(packet.header.src_cid), VMADDR_CID_HOST);
    assert_int_equal(le32toh(packet.header.src_port), port);
    assert_int_equal(le32toh(packet.header.dst_port), PORT);
    assert_memory_equal(packet.payload, "to the guest", 12);
    assert_true(le32toh(packet.header.buf_alloc) >= 65536);

    guest_write(guest, port, "to the host", 11);
    client_expect(guest, fd, "to the host");
    guest_expect_nothing(guest);
    close(fd);
}

static void host_half_close_lets_the_guest_answer(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port;
    int fd = open_connection(guest, &port);
    client_write(guest, fd, "last");
    shutdown(fd, SHUT_WR);
    struct packet packet;
    assert_true(guest_receive(guest, &packet));
    assert_memory_equal(packet.payload, "last", 4);
    guest_expect(guest, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND);
    guest_write(guest, port, "answer", 6);
    guest_send(guest, VIRTIO_VSOCK_OP_SHUTDOWN, port, VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
    guest_expect(guest, VIRTIO_VSOCK_OP_RST, 0);
    client_expect(guest, fd, "answer");
    client_expect_end(guest, fd);
    close(fd);
}

static void guest_half_close_lets_the_host_answer(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port;
    int fd = open_connection(guest, &port);
    guest_write(guest, port, "question", 8);
    guest_send(guest, VIRTIO_VSOCK_OP_SHUTDOWN, port, VIRTIO_VSOCK_SHUTDOWN_SEND);
    client_expect(guest, fd, "question");
    client_expect_end(guest, fd);
    client_write(guest, fd, "answer");
    struct packet packet;
    assert_true(guest_receive(guest, &packet));
    assert_memory_equal(packet.payload, "answer", 6);
    close(fd);
    /* The host is gone altogether, in one packet or two. */
    uint32_t flags = 0;
    while (guest_receive(guest, &packet)) {
        assert_int_equal(le16toh(packet.header.op), VIRTIO_VSOCK_OP_SHUTDOWN);
        flags |= le32toh(packet.header.flags);
    }
    assert_int_equal(flags, VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
}

static void guest_that_stops_reading_breaks_the_hosts_pipe(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port;
    int fd = open_connection(guest, &port);
    guest_send(guest, VIRTIO_VSOCK_OP_SHUTDOWN, port, VIRTIO_VSOCK_SHUTDOWN_RCV);
    assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
    assert_int_equal(errno, EPIPE);
    guest_write(guest, port, "still", 5);
    client_expect(guest, fd, "still");
    close(fd);
}

static void host_close_delivers_what_it_wrote(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port;
    int fd = open_connection(guest, &port);
    static uint8_t sent[20000];
    for (size_t i = 0; i < sizeof(sent); i++)
        sent[i] = (uint8_t)(i * 7);
    assert_int_equal(send(fd, sent, sizeof(sent), 0), sizeof(sent));
    close(fd);
    struct packet packet;
    size_t got = 0;
    uint32_t flags = 0;
    while (guest_receive(guest, &packet)) {
        if (le16toh(packet.header.op) == VIRTIO_VSOCK_OP_RW) {
            assert_memory_equal(packet.payload, sent + got, le32toh(packet.header.len));
            got += le32toh(packet.header.len);
        } else {
            assert_int_equal(le16toh(packet.header.op), VIRTIO_VSOCK_OP_SHUTDOWN);
            flags |= le32toh(packet.header.flags);
            if (flags & VIRTIO_VSOCK_SHUTDOWN_SEND)
                assert_int_equal(got, sizeof(sent)); /* its end comes after its bytes */
        }
    }
    assert_int_equal(got, sizeof(sent));
    assert_int_equal(flags, VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
    /* The connection is forgotten: what the guest still sends is answered with RST. */
    guest_write(guest, port, "late", 4);
    guest_expect(guest, VIRTIO_VSOCK_OP_RST, 0);
}

static void guest_close_delivers_what_it_wrote(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port;
    int fd = open_connection(guest, &port);
    /* More than the socket takes at once: the rest waits in the device. */
    int small = 4608;
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    static uint8_t sent[TX_BYTES * 3], got[TX_BYTES * 3 + 1];
    for (size_t i = 0; i < sizeof(sent); i++)
        sent[i] = (uint8_t)(i * 13 >> 3);
    for (size_t i = 0; i < sizeof(sent); i += TX_BYTES)
        guest_write(guest, port, sent + i, TX_BYTES);
    guest_send(guest, VIRTIO_VSOCK_OP_SHUTDOWN, port, VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
    size_t length = 0;
    ssize_t part;
    while ((part = client_read(guest, fd, got + length, sizeof(got) - length)) > 0)
        length += (size_t)part;
    assert_int_equal(part, 0);
    assert_int_equal(length, sizeof(sent));
    assert_memory_equal(got, sent, sizeof(sent));
    close(fd);
}

static void slow_host_holds_the_guest_by_credit(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port;
    int fd = open_connection(guest, &port);
    static uint8_t block[TX_BYTES], got[TX_BYTES];
    struct packet packet;
    /* Send without regard to the socket's speed, but within the credit the device tells. */
    uint64_t sent = 0, received = 0, told = 0;
    uint32_t alloc = 256u << 10;
    bool stalled = false;
    while (received < 4u << 20) {
        while (sent + TX_BYTES - told <= alloc && sent < 4u << 20) {
            for (size_t i = 0; i < TX_BYTES; i++)
                block[i] = (uint8_t)((sent + i) * 31 >> 5);
            guest_write(guest, port, block, TX_BYTES);
            sent += TX_BYTES;
        }
        while (guest_receive(guest, &packet)) {
            assert_int_equal(le16toh(packet.header.op), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
            assert_int_equal(le32toh(packet.header.buf_alloc), alloc);
            told = le32toh(packet.header.fwd_cnt);
        }
        if (sent + TX_BYTES - told > alloc)
            stalled = true;
        ssize_t part = client_read(guest, fd, got, 30000);
        assert_true(part > 0);
        for (ssize_t i = 0; i < part; i++)
            assert_int_equal(got[i], (uint8_t)((received + (uint64_t)i) * 31 >> 5));
        received += (uint64_t)part;
    }
    assert_true(stalled);
    close(fd);
}

static void guest_with_a_small_buffer_hears_of_credit_in_time(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port;
    int fd = open_connection(guest, &port);
    /* Linux sends no more ahead than its own buf_alloc, so credit has to come before that many bytes. */
    struct virtio_vsock_hdr header = guest_header(guest, VIRTIO_VSOCK_OP_RW, port, PORT);
    header.buf_alloc = htole32(16384);
    header.len = htole32(4096);
    char block[4096] = {0};
    uint32_t told = 0, sent = 0;
    struct packet packet;
    while (sent < 1u << 20) {
        assert_true(sent - told < 16384);
        guest_send_raw(guest, &header, block, sizeof(block));
        sent += 4096;
        assert_int_equal(client_read(guest, fd, block, sizeof(block)), sizeof(block));
        while (guest_receive(guest, &packet))
            told = le32toh(packet.header.fwd_cnt);
    }
    assert_true(told > 0);
    close(fd);
}

static void slow_guest_holds_the_host_by_credit(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port;
    int fd = open_connection(guest, &port);
    static uint8_t block[65536];
    uint64_t written = 0, got = 0;
    struct packet packet;
    unsigned asked = 0;
    for (;;) { /* the guest's program reads nothing */
        ssize_t length = send(fd, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (length < 0)
            break;
        written += (uint64_t)length;
        while (guest_receive(guest, &packet)) {
            asked += le16toh(packet.header.op) == VIRTIO_VSOCK_OP_CREDIT_REQUEST;
            got += le32toh(packet.header.len);
            if (le16toh(packet.header.op) == VIRTIO_VSOCK_OP_CREDIT_REQUEST)
                guest_send(guest, VIRTIO_VSOCK_OP_CREDIT_UPDATE, port, 0); /* which changes nothing */
        }
    }
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(got, GUEST_ALLOC);
    assert_int_equal(asked, 1);
    guest_expect_nothing(guest);

    guest->fwd_cnt = GUEST_ALLOC; /* it read everything */
    guest_send(guest, VIRTIO_VSOCK_OP_CREDIT_UPDATE, port, 0);
    while (guest_receive(guest, &packet)) {
        got += le32toh(packet.header.len);
        guest->fwd_cnt += le32toh(packet.header.len);
        guest_send(guest, VIRTIO_VSOCK_OP_CREDIT_UPDATE, port, 0);
    }
    assert_int_equal(got, written);
    close(fd);
}

static void credit_request_is_answered(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port;
    int fd = open_connection(guest, &port);
    guest_send(guest, VIRTIO_VSOCK_OP_CREDIT_REQUEST, port, 0);
    guest_expect(guest, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
    guest_expect_nothing(guest);
    close(fd);
}

static void streams_take_turns(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port[2];
    int fd[2] = {open_connection(guest, &port[0]), open_connection(guest, &port[1])};
    static uint8_t block[150000];
    virtio_transport_pause(
        virtio_mmio_transport(guest->mmio)); /* so that both have bytes when the device goes on */
    for (unsigned i = 0; i < 2; i++)
        assert_true(send(fd[i], block, sizeof(block), MSG_DONTWAIT) > 100000);
    fake_loop_settle(guest->loop);
    virtio_transport_resume(virtio_mmio_transport(guest->mmio));
    struct packet packet;
    size_t got[2] = {0, 0};
    while (guest_receive(guest, &packet)) {
        unsigned which = le32toh(packet.header.src_port) == port[1];
        got[which] += le32toh(packet.header.len);
        size_t ahead = got[0] > got[1] ? got[0] - got[1] : got[1] - got[0];
        assert_true(ahead <= 65536 || got[0] > 100000 || got[1] > 100000);
    }
    assert_true(got[0] > 100000 && got[1] > 100000);
    close(fd[0]);
    close(fd[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        vsock_test(bytes_go_both_ways),
        vsock_test(host_half_close_lets_the_guest_answer),
        vsock_test(guest_half_close_lets_the_host_answer),
        vsock_test(guest_that_stops_reading_breaks_the_hosts_pipe),
        vsock_test(host_close_delivers_what_it_wrote),
        vsock_test(guest_close_delivers_what_it_wrote),
        vsock_test(slow_host_holds_the_guest_by_credit),
        vsock_test(guest_with_a_small_buffer_hears_of_credit_in_time),
        vsock_test(slow_guest_holds_the_host_by_credit),
        vsock_test(credit_request_is_answered),
        vsock_test(streams_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
