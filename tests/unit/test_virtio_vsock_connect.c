/* Unit tests of virtio-vsock: how connections come about, wait, and end with the driver. */
#include "tests/unit/vsock_fixture.h"
#include "vmm/snapshot.h"
#include "vmm/virtio/vsock.h"

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
    virtio_transport_pause(virtio_mmio_transport(guest->mmio));
    client_write(guest, fd, "while paused");
    struct snapshot_writer *writer = snapshot_writer_new();
    assert_int_equal(virtio_transport_save(virtio_mmio_transport(guest->mmio), writer, 2), 0);
    const void *bytes;
    size_t length;
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);
    uint32_t none;
    fake_queue_avail(&guest->queue[RX]); /* nothing went into guest memory during the pause */
    assert_false(fake_queue_used(&guest->queue[RX], &none, NULL));

    virtio_transport_free(virtio_mmio_transport(guest->mmio));
    guest_make_device(guest);
    client_expect_end(guest, fd);
    close(fd);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(virtio_transport_restore(virtio_mmio_transport(guest->mmio), reader, 2), 0);
    int waiting = client_connect(guest, "CONNECT 5000\n");
    virtio_transport_resume(virtio_mmio_transport(guest->mmio));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        vsock_test(bytes_behind_the_connect_line_belong_to_the_stream),
        vsock_test(connect_line_may_come_in_pieces),
        vsock_test(bad_connect_lines_end_the_client),
        vsock_test(refused_connection_is_closed),
        vsock_test(connections_wait_for_driver_and_knock),
        vsock_test(client_that_goes_before_the_answer),
        vsock_test(reset_ends_guests_and_keeps_waiting_clients),
        vsock_test(restored_guest_hears_of_the_reset_first),
        vsock_test(configuration_is_the_cid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
