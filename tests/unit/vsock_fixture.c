/* See vsock_fixture.h. */
#include "tests/unit/vsock_fixture.h"

#include "common/fd.h"
#include "vmm/virtio/vsock.h"

#include <fcntl.h>
#include <sys/eventfd.h>

static void count_knock(void *arg)
{
    (*(unsigned *)arg)++;
}

void guest_make_device(struct guest *guest)
{
    guest->device = virtio_vsock_new(guest->loop, guest->listen_fd, GUEST_CID, KNOCK_PORT);
    assert_non_null(guest->device);
    virtio_vsock_on_knock(guest->device, count_knock, &guest->knocks);
    guest->mmio = virtio_mmio_new(guest->device, &guest->memory.map, guest->irq_fd);
    assert_non_null(guest->mmio);
}

int vsock_set_up(void **state)
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

int vsock_tear_down(void **state)
{
    struct guest *guest = *state;
    virtio_transport_free(virtio_mmio_transport(guest->mmio));
    loop_free(guest->loop);
    close(guest->listen_fd);
    close(guest->irq_fd);
    fake_memory_fini(&guest->memory);
    free(guest);
    return 0;
}

void guest_offer_rx(struct guest *guest, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct fake_segment segment = {guest->rx_buffer[guest->queue[RX].next_desc], RX_BYTES, true};
        fake_queue_add(&guest->queue[RX], &segment, 1);
    }
    fake_mmio_kick(guest->mmio, guest->loop, RX);
}

void guest_offer_events(struct guest *guest, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct fake_segment segment = {guest->event_buffer, 4, true};
        fake_queue_add(&guest->queue[EVENT], &segment, 1);
    }
    fake_mmio_kick(guest->mmio, guest->loop, EVENT);
}

void guest_start(struct guest *guest)
{
    uint32_t status = fake_mmio_start(guest->mmio, 1ULL << VIRTIO_RING_F_EVENT_IDX, guest->queue, 3);
    assert_int_equal(status, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
                                 VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
    guest_offer_rx(guest, QUEUE_SIZE - 1);
    guest_offer_events(guest, 8);
}

void guest_send_raw(struct guest *guest, const struct virtio_vsock_hdr *header, const void *payload,
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

struct virtio_vsock_hdr guest_header(const struct guest *guest, uint16_t op, uint32_t host_port,
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

void guest_send(struct guest *guest, uint16_t op, uint32_t host_port, uint32_t flags)
{
    struct virtio_vsock_hdr header = guest_header(guest, op, host_port, PORT);
    header.flags = htole32(flags);
    guest_send_raw(guest, &header, NULL, 0);
}

void guest_write(struct guest *guest, uint32_t host_port, const void *bytes, uint32_t length)
{
    struct virtio_vsock_hdr header = guest_header(guest, VIRTIO_VSOCK_OP_RW, host_port, PORT);
    header.len = htole32(length);
    guest_send_raw(guest, &header, bytes, length);
}

bool guest_receive(struct guest *guest, struct packet *packet)
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

uint32_t guest_expect(struct guest *guest, uint16_t op, uint32_t flags)
{
    struct packet packet = {0};
    assert_true(guest_receive(guest, &packet));
    assert_int_equal(le16toh(packet.header.op), op);
    assert_int_equal(le32toh(packet.header.flags), flags);
    assert_int_equal(le16toh(packet.header.type), VIRTIO_VSOCK_TYPE_STREAM);
    return le32toh(packet.header.src_port);
}

void guest_expect_nothing(struct guest *guest)
{
    struct packet packet;
    assert_false(guest_receive(guest, &packet));
}

int client_connect(struct guest *guest, const char *greeting)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&guest->address, guest->address_length), 0);
    assert_int_equal(send(fd, greeting, strlen(greeting), 0), strlen(greeting));
    assert_int_equal(fd_set_nonblock(fd, 1), 0);
    fake_loop_settle(guest->loop);
    return fd;
}

ssize_t client_read(struct guest *guest, int fd, void *bytes, size_t size)
{
    fake_loop_settle(guest->loop);
    ssize_t length = recv(fd, bytes, size, MSG_DONTWAIT);
    if (length < 0)
        assert_int_equal(errno, EAGAIN);
    return length;
}

void client_expect(struct guest *guest, int fd, const char *text)
{
    char buffer[64];
    assert_int_equal(client_read(guest, fd, buffer, sizeof(buffer)), strlen(text));
    assert_memory_equal(buffer, text, strlen(text));
}

void client_expect_end(struct guest *guest, int fd)
{
    char byte;
    assert_int_equal(client_read(guest, fd, &byte, 1), 0);
}

void client_write(struct guest *guest, int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    fake_loop_settle(guest->loop);
}

int open_connection(struct guest *guest, uint32_t *host_port)
{
    int fd = client_connect(guest, "CONNECT 5000\n");
    *host_port = guest_expect(guest, VIRTIO_VSOCK_OP_REQUEST, 0);
    guest_send(guest, VIRTIO_VSOCK_OP_RESPONSE, *host_port, 0);
    char line[32];
    snprintf(line, sizeof(line), "OK %u\n", *host_port);
    client_expect(guest, fd, line);
    return fd;
}
