/* Unit tests of virtio-vsock: a fake driver on one side, clients of the Unix socket on the other. */
#include "common/fd.h"
#include "tests/unit/fake_driver.h"
#include "vmm/snapshot.h"
#include "vmm/virtio/vsock.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_vsock.h>
#include <linux/vm_sockets.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#define GUEST_CID   3
#define KNOCK_PORT  1024
#define PORT        5000
#define QUEUE_SIZE  128
#define RX_BYTES    3776 /* a Linux 6.12 driver's rx buffer */
#define TX_BYTES    65536
#define HEADER      ((uint32_t)sizeof(struct virtio_vsock_hdr))
#define GUEST_ALLOC (256u << 10)

enum { RX, TX, EVENT };

struct guest {
    struct fake_memory memory;
    struct fake_queue queue[3];
    struct loop *loop;
    struct virtio_device *device;
    struct virtio_mmio *mmio;
    int irq_fd, listen_fd;
    struct sockaddr_un address;
    socklen_t address_length;
    gpa_t rx_buffer[QUEUE_SIZE]; /* of the descriptor with that index */
    gpa_t tx_buffer, event_buffer;
    uint32_t fwd_cnt; /* told to the device */
    unsigned knocks;
};

/* A packet the device sent, in host byte order where tests look at it. */
struct packet {
    struct virtio_vsock_hdr header;
    uint8_t payload[RX_BYTES];
};

static void count_knock(void *arg)
{
    (*(unsigned *)arg)++;
}

static void guest_make_device(struct guest *guest)
{
    guest->device = virtio_vsock_new(guest->loop, guest->listen_fd, GUEST_CID, KNOCK_PORT);
    assert_non_null(guest->device);
    virtio_vsock_on_knock(guest->device, count_knock, &guest->knocks);
    guest->mmio = virtio_mmio_new(guest->device, &guest->memory.map, guest->irq_fd);
    assert_non_null(guest->mmio);
}

static int set_up(void **state)
{
    struct guest *guest = calloc(1, sizeof(*guest));
    if (!guest)
        return -1;
    fake_memory_init(&guest->memory, 4 << 20);
    guest->loop = loop_new();
    guest->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    guest->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    guest->address.sun_family = AF_UNIX; /* no more: the kernel gives an abstract name */
    guest->address_length = sizeof(guest->address);
    if (bind(guest->listen_fd, (struct sockaddr *)&guest->address, sizeof(sa_family_t)) ||
        getsockname(guest->listen_fd, (struct sockaddr *)&guest->address, &guest->address_length) ||
        listen(guest->listen_fd, 64))
        return -1;
    guest->tx_buffer = fake_alloc(&guest->memory, HEADER + TX_BYTES, 16);
    guest->event_buffer = fake_alloc(&guest->memory, 64, 16);
    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        guest->rx_buffer[i] = fake_alloc(&guest->memory, RX_BYTES, 16);
    for (unsigned i = 0; i < 3; i++)
        fake_queue_init(&guest->queue[i], &guest->memory, QUEUE_SIZE);
    guest_make_device(guest);
    *state = guest;
    return 0;
}

static int tear_down(void **state)
{
    struct guest *guest = *state;
    virtio_mmio_free(guest->mmio);
    loop_free(guest->loop);
    close(guest->listen_fd);
    close(guest->irq_fd);
    fake_memory_fini(&guest->memory);
    free(guest);
    return 0;
}

static void guest_offer_rx(struct guest *guest, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct fake_segment segment = {guest->rx_buffer[guest->queue[RX].next_desc], RX_BYTES, true};
        fake_queue_add(&guest->queue[RX], &segment, 1);
    }
    fake_mmio_kick(guest->mmio, guest->loop, RX);
}

static void guest_offer_events(struct guest *guest, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct fake_segment segment = {guest->event_buffer, 4, true};
        fake_queue_add(&guest->queue[EVENT], &segment, 1);
    }
    fake_mmio_kick(guest->mmio, guest->loop, EVENT);
}

/* Brings the driver up, with rx buffers; one descriptor stays free for a test's own. */
static void guest_start(struct guest *guest)
{
    uint32_t status = fake_mmio_start(guest->mmio, 1ULL << VIRTIO_RING_F_EVENT_IDX, guest->queue, 3);
    assert_int_equal(status, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
                                 VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
    guest_offer_rx(guest, QUEUE_SIZE - 1);
    guest_offer_events(guest, 8);
}

static void guest_send_raw(struct guest *guest, const struct virtio_vsock_hdr *header, const void *payload,
                           uint32_t length)
{
    memcpy(fake_at(&guest->memory, guest->tx_buffer), header, sizeof(*header));
    if (length)
        memcpy(fake_at(&guest->memory, guest->tx_buffer + HEADER), payload, length);
    struct fake_segment segments[] = {{guest->tx_buffer, HEADER, false},
                                      {guest->tx_buffer + HEADER, length, false}};
    fake_queue_add(&guest->queue[TX], segments, length ? 2 : 1);
    fake_mmio_kick(guest->mmio, guest->loop, TX);
    assert_true(fake_queue_used(&guest->queue[TX], NULL, NULL)); /* given back at once, whatever it was */
}

static struct virtio_vsock_hdr guest_header(const struct guest *guest, uint16_t op, uint32_t host_port,
                                            uint32_t guest_port)
{
    return (struct virtio_vsock_hdr){.src_cid = htole64(GUEST_CID),
                                     .dst_cid = htole64(VMADDR_CID_HOST),
                                     .src_port = htole32(guest_port),
                                     .dst_port = htole32(host_port),
                                     .type = htole16(VIRTIO_VSOCK_TYPE_STREAM),
                                     .op = htole16(op),
                                     .buf_alloc = htole32(GUEST_ALLOC),
                                     .fwd_cnt = htole32(guest->fwd_cnt)};
}

static void guest_send(struct guest *guest, uint16_t op, uint32_t host_port, uint32_t flags)
{
    struct virtio_vsock_hdr header = guest_header(guest, op, host_port, PORT);
    header.flags = htole32(flags);
    guest_send_raw(guest, &header, NULL, 0);
}

static void guest_write(struct guest *guest, uint32_t host_port, const void *bytes, uint32_t length)
{
    struct virtio_vsock_hdr header = guest_header(guest, VIRTIO_VSOCK_OP_RW, host_port, PORT);
    header.len = htole32(length);
    guest_send_raw(guest, &header, bytes, length);
}

/* The next packet of the device, its buffer offered again; false when there is none. */
static bool guest_receive(struct guest *guest, struct packet *packet)
{
    fake_loop_settle(guest->loop);
    uint32_t id, length;
    if (!fake_queue_used(&guest->queue[RX], &id, &length))
        return false;
    assert_true(length >= HEADER && length <= RX_BYTES);
    const uint8_t *bytes = fake_at(&guest->memory, guest->rx_buffer[id]);
    memcpy(&packet->header, bytes, HEADER);
    assert_int_equal(length, HEADER + le32toh(packet->header.len));
    memcpy(packet->payload, bytes + HEADER, length - HEADER);
    assert_int_equal(le64toh(packet->header.dst_cid), GUEST_CID);
    guest_offer_rx(guest, 1);
    return true;
}

/* The next packet must be this one; its source port. */
static uint32_t guest_expect(struct guest *guest, uint16_t op, uint32_t flags)
{
    struct packet packet;
    assert_true(guest_receive(guest, &packet));
    assert_int_equal(le16toh(packet.header.op), op);
    assert_int_equal(le32toh(packet.header.flags), flags);
    assert_int_equal(le16toh(packet.header.type), VIRTIO_VSOCK_TYPE_STREAM);
    return le32toh(packet.header.src_port);
}

static void guest_expect_nothing(struct guest *guest)
{
    struct packet packet;
    assert_false(guest_receive(guest, &packet));
}

static int client_connect(struct guest *guest, const char *greeting)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&guest->address, guest->address_length), 0);
    assert_int_equal(send(fd, greeting, strlen(greeting), 0), strlen(greeting));
    assert_int_equal(fd_set_nonblock(fd, 1), 0);
    fake_loop_settle(guest->loop);
    return fd;
}

/* What the client can read now, at most `size` bytes; -1 when nothing is there, 0 at the end. */
static ssize_t client_read(struct guest *guest, int fd, void *bytes, size_t size)
{
    fake_loop_settle(guest->loop);
    ssize_t length = recv(fd, bytes, size, MSG_DONTWAIT);
    if (length < 0)
        assert_int_equal(errno, EAGAIN);
    return length;
}

static void client_expect(struct guest *guest, int fd, const char *text)
{
    char buffer[64];
    assert_int_equal(client_read(guest, fd, buffer, sizeof(buffer)), strlen(text));
    assert_memory_equal(buffer, text, strlen(text));
}

static void client_expect_end(struct guest *guest, int fd)
{
    char byte;
    assert_int_equal(client_read(guest, fd, &byte, 1), 0);
}

static void client_write(struct guest *guest, int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    fake_loop_settle(guest->loop);
}

/* An open connection to PORT: the client's fd and the host's port. */
static int open_connection(struct guest *guest, uint32_t *host_port)
{
    int fd = client_connect(guest, "CONNECT 5000\n");
    *host_port = guest_expect(guest, VIRTIO_VSOCK_OP_REQUEST, 0);
    guest_send(guest, VIRTIO_VSOCK_OP_RESPONSE, *host_port, 0);
    char line[32];
    snprintf(line, sizeof(line), "OK %u\n", *host_port);
    client_expect(guest, fd, line);
    return fd;
}

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

static void bytes_behind_the_connect_line_belong_to_the_stream(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    int fd = client_connect(guest, "CONNECT 5000\nearly");
    uint32_t port = guest_expect(guest, VIRTIO_VSOCK_OP_REQUEST, 0);
    guest_expect_nothing(guest);
    guest_send(guest, VIRTIO_VSOCK_OP_RESPONSE, port, 0);
    struct packet packet;
    assert_true(guest_receive(guest, &packet));
    assert_int_equal(le32toh(packet.header.len), 5);
    assert_memory_equal(packet.payload, "early", 5);
    close(fd);
}

static void connect_line_may_come_in_pieces(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    int fd = client_connect(guest, "CONN");
    guest_expect_nothing(guest);
    client_write(guest, fd, "ECT 50");
    client_write(guest, fd, "00\n");
    guest_expect(guest, VIRTIO_VSOCK_OP_REQUEST, 0);
    close(fd);
}

static void bad_connect_lines_end_the_client(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    const char *lines[] = {"connect 5000\n",
                           "CONNECT \n",
                           "CONNECT -1\n",
                           "CONNECT 5000 \n",
                           "CONNECT 4294967295\n",
                           "CONNECT 99999999999\n",
                           "\n",
                           "CONNECT 500000000000000000000000000000000000\n"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        int fd = client_connect(guest, lines[i]);
        client_expect_end(guest, fd);
        guest_expect_nothing(guest);
        close(fd);
    }
}

static void refused_connection_is_closed(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port;
    int first = open_connection(guest, &port); /* the guest has accepted: an RST is a refusal from now on */
    int fd = client_connect(guest, "CONNECT 5000\n");
    port = guest_expect(guest, VIRTIO_VSOCK_OP_REQUEST, 0);
    guest_send(guest, VIRTIO_VSOCK_OP_RST, port, 0);
    client_expect_end(guest, fd);
    guest_expect_nothing(guest);
    close(fd);
    close(first);
}

static void connections_wait_for_driver_and_knock(void **state)
{
    struct guest *guest = *state;
    int fd = client_connect(guest, "CONNECT 5000\n");
    guest_start(guest); /* it was asked for before there was a driver */
    uint32_t port = guest_expect(guest, VIRTIO_VSOCK_OP_REQUEST, 0);
    guest_send(guest, VIRTIO_VSOCK_OP_RST, port, 0); /* nobody listens yet */
    guest_expect_nothing(guest);
    char byte;
    assert_int_equal(client_read(guest, fd, &byte, 1), -1); /* still waits */

    assert_int_equal(guest->knocks, 0);
    struct virtio_vsock_hdr knock = guest_header(guest, VIRTIO_VSOCK_OP_REQUEST, KNOCK_PORT, 777);
    guest_send_raw(guest, &knock, NULL, 0);
    assert_int_equal(guest->knocks, 1);
    struct packet packet;
    assert_true(guest_receive(guest, &packet));
    assert_int_equal(le16toh(packet.header.op), VIRTIO_VSOCK_OP_RST);
    assert_int_equal(le32toh(packet.header.src_port), KNOCK_PORT);
    assert_int_equal(le32toh(packet.header.dst_port), 777);
    port = guest_expect(guest, VIRTIO_VSOCK_OP_REQUEST, 0);
    guest_send(guest, VIRTIO_VSOCK_OP_RESPONSE, port, 0);
    assert_true(client_read(guest, fd, &byte, 1) == 1 && byte == 'O');
    close(fd);
}

static void guest_cannot_connect_out(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    struct virtio_vsock_hdr request = guest_header(guest, VIRTIO_VSOCK_OP_REQUEST, 80, 777);
    guest_send_raw(guest, &request, NULL, 0);
    assert_int_equal(guest_expect(guest, VIRTIO_VSOCK_OP_RST, 0), 80);
    assert_int_equal(guest->knocks, 0);
}

static void client_that_goes_before_the_answer(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    int fd = client_connect(guest, "CONNECT 5000\n");
    uint32_t port = guest_expect(guest, VIRTIO_VSOCK_OP_REQUEST, 0);
    close(fd);
    fake_loop_settle(guest->loop);
    guest_send(guest, VIRTIO_VSOCK_OP_RESPONSE, port, 0);
    assert_int_equal(guest_expect(guest, VIRTIO_VSOCK_OP_RST, 0), port);
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

static void streams_take_turns(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port[2];
    int fd[2] = {open_connection(guest, &port[0]), open_connection(guest, &port[1])};
    static uint8_t block[150000];
    virtio_mmio_pause(guest->mmio); /* so that both have bytes when the device goes on */
    for (unsigned i = 0; i < 2; i++)
        assert_true(send(fd[i], block, sizeof(block), MSG_DONTWAIT) > 100000);
    fake_loop_settle(guest->loop);
    virtio_mmio_resume(guest->mmio);
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

static void reset_ends_guests_and_keeps_waiting_clients(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port;
    int opened = open_connection(guest, &port);
    guest_write(guest, port, "before", 6);
    int waiting = client_connect(guest, "CONNECT 5000\n");
    fake_mmio_set(guest->mmio, VIRTIO_MMIO_STATUS, 0);
    client_expect(guest, opened, "before");
    client_expect_end(guest, opened);
    for (unsigned i = 0; i < 3; i++)
        fake_queue_init(&guest->queue[i], &guest->memory, QUEUE_SIZE);
    guest_start(guest);
    guest_expect(guest, VIRTIO_VSOCK_OP_REQUEST, 0);
    close(opened);
    close(waiting);
}

static void restored_guest_hears_of_the_reset_first(void **state)
{
    struct guest *guest = *state;
    guest_start(guest);
    uint32_t port;
    int fd = open_connection(guest, &port);
    virtio_mmio_pause(guest->mmio);
    client_write(guest, fd, "while paused");
    struct snapshot_writer *writer = snapshot_writer_new();
    assert_int_equal(virtio_mmio_save(guest->mmio, writer, 2), 0);
    const void *bytes;
    size_t length;
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);
    uint32_t none;
    fake_queue_avail(&guest->queue[RX]); /* nothing went into guest memory during the pause */
    assert_false(fake_queue_used(&guest->queue[RX], &none, NULL));

    virtio_mmio_free(guest->mmio);
    guest_make_device(guest);
    client_expect_end(guest, fd);
    close(fd);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(virtio_mmio_restore(guest->mmio, reader, 2), 0);
    int waiting = client_connect(guest, "CONNECT 5000\n");
    virtio_mmio_resume(guest->mmio);
    guest_expect_nothing(guest);
    uint32_t event_length;
    assert_true(fake_queue_used(&guest->queue[EVENT], NULL, &event_length));
    assert_int_equal(event_length, 4);
    assert_int_equal(le32toh(*(uint32_t *)fake_at(&guest->memory, guest->event_buffer)),
                     VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
    fake_mmio_kick(guest->mmio, guest->loop, EVENT); /* says nothing yet */
    guest_expect_nothing(guest);
    guest_offer_events(guest, 1); /* the driver has dealt with it */
    assert_true(guest_expect(guest, VIRTIO_VSOCK_OP_REQUEST, 0) > port);
    close(waiting);
    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
}

static void configuration_is_the_cid(void **state)
{
    struct guest *guest = *state;
    assert_int_equal(fake_mmio_get(guest->mmio, VIRTIO_MMIO_CONFIG), GUEST_CID);
    assert_int_equal(fake_mmio_get(guest->mmio, VIRTIO_MMIO_CONFIG + 4), 0);
    assert_int_equal(fake_mmio_get(guest->mmio, VIRTIO_MMIO_CONFIG + 8), 0);
    errno = 0;
    assert_null(virtio_vsock_new(guest->loop, guest->listen_fd, VMADDR_CID_HOST, KNOCK_PORT));
    assert_int_equal(errno, EINVAL);
}

#define vsock_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        vsock_test(bytes_go_both_ways),
        vsock_test(bytes_behind_the_connect_line_belong_to_the_stream),
        vsock_test(connect_line_may_come_in_pieces),
        vsock_test(bad_connect_lines_end_the_client),
        vsock_test(refused_connection_is_closed),
        vsock_test(connections_wait_for_driver_and_knock),
        vsock_test(guest_cannot_connect_out),
        vsock_test(client_that_goes_before_the_answer),
        vsock_test(host_half_close_lets_the_guest_answer),
        vsock_test(guest_half_close_lets_the_host_answer),
        vsock_test(guest_that_stops_reading_breaks_the_hosts_pipe),
        vsock_test(host_close_delivers_what_it_wrote),
        vsock_test(guest_close_delivers_what_it_wrote),
        vsock_test(slow_host_holds_the_guest_by_credit),
        vsock_test(slow_guest_holds_the_host_by_credit),
        vsock_test(credit_request_is_answered),
        vsock_test(guest_beyond_its_credit_is_reset),
        vsock_test(packets_that_break_a_rule_reset_the_connection),
        vsock_test(packets_for_nobody_are_answered_with_rst),
        vsock_test(answers_wait_for_rx_buffers),
        vsock_test(rx_buffers_of_any_shape),
        vsock_test(streams_take_turns),
        vsock_test(reset_ends_guests_and_keeps_waiting_clients),
        vsock_test(restored_guest_hears_of_the_reset_first),
        vsock_test(configuration_is_the_cid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
