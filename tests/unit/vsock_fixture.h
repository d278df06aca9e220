/*
 * A vsock device between a fake driver and clients of its Unix socket, for the tests of virtio-vsock. The
 * functions that expect something fail the running test.
 */
#ifndef HUSK_TESTS_UNIT_VSOCK_FIXTURE_H
#define HUSK_TESTS_UNIT_VSOCK_FIXTURE_H

#include "tests/unit/fake_driver.h"

#include <endian.h>
#include <errno.h>
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
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

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

void guest_make_device(struct guest *guest);
int vsock_set_up(void **state);
int vsock_tear_down(void **state);
void guest_offer_rx(struct guest *guest, unsigned count);
void guest_offer_events(struct guest *guest, unsigned count);
/* Brings the driver up, with rx buffers; one descriptor stays free for a test's own. */
void guest_start(struct guest *guest);
void guest_send_raw(struct guest *guest, const struct virtio_vsock_hdr *header, const void *payload,
                    uint32_t length);
struct virtio_vsock_hdr guest_header(const struct guest *guest, uint16_t op, uint32_t host_port,
                                     uint32_t guest_port);
void guest_send(struct guest *guest, uint16_t op, uint32_t host_port, uint32_t flags);
void guest_write(struct guest *guest, uint32_t host_port, const void *bytes, uint32_t length);
/* The next packet of the device, its buffer offered again; false when there is none. */
bool guest_receive(struct guest *guest, struct packet *packet);
/* The next packet must be this one; its source port. */
uint32_t guest_expect(struct guest *guest, uint16_t op, uint32_t flags);
void guest_expect_nothing(struct guest *guest);
int client_connect(struct guest *guest, const char *greeting);
/* What the client can read now, at most `size` bytes; -1 when nothing is there, 0 at the end. */
ssize_t client_read(struct guest *guest, int fd, void *bytes, size_t size);
void client_expect(struct guest *guest, int fd, const char *text);
void client_expect_end(struct guest *guest, int fd);
void client_write(struct guest *guest, int fd, const char *text);
/* An open connection to PORT: the client's fd and the host's port. */
int open_connection(struct guest *guest, uint32_t *host_port);

#define vsock_test(name) cmocka_unit_test_setup_teardown(name, vsock_set_up, vsock_tear_down)

#endif
