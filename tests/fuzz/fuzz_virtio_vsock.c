/*
 * Fuzz target: packets of a hostile guest on the vsock device, with real clients on the Unix socket.
 *
 * Input: operations. Each begins with a byte that tells what: a packet of the guest (raw header bytes, or one
 * addressed to a live connection so that states are reached), a client that comes, writes, half-closes, reads
 * or goes, rx buffers, a reset, a pause. The device may neither touch memory that is not the guest's nor lose
 * track: at the end a reset device still carries a connection.
 */
#include "common/log.h"
#include "common/loop.h"
#include "tests/unit/fake_driver.h"
#include "vmm/virtio/vsock.h"

#undef NDEBUG /* an assertion is the test */
#include <assert.h>
#include <endian.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_vsock.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENTS    4
#define CID        3
#define PORT       5000
#define QUEUE_SIZE 32
#define OPERATIONS 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RX, TX, EVENT };

struct input {
    const uint8_t *at, *end;
};

struct world {
    struct fake_memory memory;
    struct fake_queue queue[3];
    struct loop *loop;
    struct virtio_mmio *mmio;
    int irq_fd, listen_fd, client[CLIENTS];
    struct sockaddr_un address;
    socklen_t address_length;
    gpa_t buffer, rx_buffer;
    uint32_t host_port[CLIENTS]; /* as seen in the last REQUESTs */
    unsigned requests;
};

static uint32_t take(struct input *input, size_t bytes)
{
    uint32_t value = 0;
    for (; bytes > 0 && input->at < input->end; bytes--)
        value = value << 8 | *input->at++;
    return value;
}

/* Reads what the device sent, to know its ports. */
static void drain_rx(struct world *world)
{
    fake_loop_settle(world->loop);
    uint32_t id, length;
    while (fake_queue_used(&world->queue[RX], &id, &length)) {
        struct virtio_vsock_hdr header;
        uint64_t addr = le64toh(fake_queue_desc(&world->queue[RX], (uint16_t)id)->addr);
        assert(length == 0 || length >= sizeof(header));
        memcpy(&header, fake_at(&world->memory, addr), sizeof(header));
        if (length && le16toh(header.op) == VIRTIO_VSOCK_OP_REQUEST)
            world->host_port[world->requests++ % CLIENTS] = le32toh(header.src_port);
    }
}

static void offer_rx(struct world *world, unsigned count, uint32_t bytes)
{
    for (unsigned i = 0; i < count; i++) {
        uint16_t outstanding = (uint16_t)(world->queue[RX].avail_idx - world->queue[RX].used_seen);
        if (outstanding + 2 >= QUEUE_SIZE)
            break;
        gpa_t buffer = world->rx_buffer + 4096ULL * world->queue[RX].next_desc;
        struct fake_segment segments[] = {{buffer, bytes / 2, true},
                                          {buffer + bytes / 2, bytes - bytes / 2, true}};
        fake_queue_add(&world->queue[RX], segments + 1, 1);
    }
    fake_mmio_kick(world->mmio, world->loop, RX);
    drain_rx(world);
}

static void send_packet(struct world *world, const struct virtio_vsock_hdr *header, uint32_t bytes)
{
    memcpy(fake_at(&world->memory, world->buffer), header, sizeof(*header));
    struct fake_segment segments[] = {{world->buffer, sizeof(*header), false},
                                      {world->buffer + sizeof(*header), bytes, false}};
    uint16_t outstanding = (uint16_t)(world->queue[TX].avail_idx - world->queue[TX].used_seen);
    if (outstanding + 3 >= QUEUE_SIZE / 2)
        return; /* the device waits for rx buffers */
    fake_queue_add(&world->queue[TX], segments, 2);
    fake_mmio_kick(world->mmio, world->loop, TX);
    while (fake_queue_used(&world->queue[TX], NULL, NULL))
        ;
    drain_rx(world);
}

static void send_raw(struct world *world, struct input *input)
{
    struct virtio_vsock_hdr header = {0};
    size_t length = (size_t)(input->end - input->at);
    if (length > sizeof(header))
        length = sizeof(header);
    memcpy(&header, input->at, length);
    input->at += length;
    send_packet(world, &header, take(input, 1));
}

static void send_addressed(struct world *world, struct input *input)
{
    uint32_t bytes = take(input, 2);
    struct virtio_vsock_hdr header = {.src_cid = htole64(CID),
                                      .dst_cid = htole64(VMADDR_CID_HOST),
                                      .src_port = htole32(PORT),
                                      .dst_port = htole32(world->host_port[take(input, 1) % CLIENTS]),
                                      .len = htole32(bytes),
                                      .type = htole16(VIRTIO_VSOCK_TYPE_STREAM),
                                      .op = htole16((uint16_t)(take(input, 1) % 9)),
                                      .flags = htole32(take(input, 1)),
                                      .buf_alloc = htole32(take(input, 3)),
                                      .fwd_cnt = htole32(take(input, 3))};
    send_packet(world, &header, bytes);
}

static void client_act(struct world *world, struct input *input)
{
    static char bytes[65536];
    unsigned index = take(input, 1) % CLIENTS;
    int *fd = &world->client[index];
    unsigned act = take(input, 1) % 6;
    if (*fd < 0) {
        *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (connect(*fd, (struct sockaddr *)&world->address, world->address_length) == 0 && act)
            send(*fd, "CONNECT 5000\n", 13, MSG_NOSIGNAL);
    } else if (act == 0) {
        close(*fd);
        *fd = -1;
    } else if (act == 1) {
        shutdown(*fd, SHUT_WR);
    } else if (act == 2) {
        shutdown(*fd, SHUT_RD);
    } else if (act == 3) {
        while (recv(*fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
            ;
    } else {
        send(*fd, bytes, take(input, 2), MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    drain_rx(world);
}

static void start(struct world *world)
{
    world->memory.next = FAKE_RAM_BASE;
    memset(world->memory.ram, 0, QUEUE_SIZE * 64);
    for (unsigned i = 0; i < 3; i++)
        fake_queue_init(&world->queue[i], &world->memory, QUEUE_SIZE);
    world->buffer = fake_alloc(&world->memory, 70000, 16);
    world->rx_buffer = fake_alloc(&world->memory, QUEUE_SIZE * 4096, 16);
    uint32_t status = fake_mmio_start(world->mmio, 0, world->queue, 3);
    assert((status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) == VIRTIO_CONFIG_S_DRIVER_OK);
    fake_loop_settle(world->loop);
}

static void step(struct world *world, struct input *input)
{
    switch (take(input, 1) % 8) {
    case 0:
        send_raw(world, input);
        break;
    case 1:
    case 2:
    case 3:
        send_addressed(world, input);
        break;
    case 4:
        offer_rx(world, take(input, 1) % QUEUE_SIZE, 4 * take(input, 1) + 2);
        break;
    case 5:
        if (take(input, 1) < 64) {
            start(world);
        } else {
            virtio_transport_pause(virtio_mmio_transport(world->mmio));
            fake_loop_settle(world->loop);
            virtio_transport_resume(virtio_mmio_transport(world->mmio));
        }
        break;
    default:
        client_act(world, input);
    }
}

/* Whatever happened: a client that comes now is heard of by a new driver. */
static void check_alive(struct world *world)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (world->client[i] >= 0)
            close(world->client[i]);
        world->client[i] = -1;
    }
    start(world);
    offer_rx(world, QUEUE_SIZE / 2, 1000);
    unsigned requests = world->requests;
    world->client[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(connect(world->client[0], (struct sockaddr *)&world->address, world->address_length) == 0);
    assert(send(world->client[0], "CONNECT 5000\n", 13, MSG_NOSIGNAL) == 13);
    drain_rx(world);
    assert(world->requests == requests + 1);
    close(world->client[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_init("fuzz", -1, LOG_FORMAT_TEXT, LOG_LEVEL_ERR);
    struct world world = {.address.sun_family = AF_UNIX};
    struct input input = {data, data + size};
    fake_memory_init(&world.memory, 256 << 10);
    world.loop = loop_new();
    world.irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    world.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    world.address_length = sizeof(world.address);
    int failed = bind(world.listen_fd, (struct sockaddr *)&world.address, sizeof(sa_family_t)) ||
                 getsockname(world.listen_fd, (struct sockaddr *)&world.address, &world.address_length) ||
                 listen(world.listen_fd, 64);
    assert(!failed);
    for (unsigned i = 0; i < CLIENTS; i++)
        world.client[i] = -1;
    struct virtio_device *device = virtio_vsock_new(world.loop, world.listen_fd, CID, 1024);
    assert(device);
    world.mmio = virtio_mmio_new(device, &world.memory.map, world.irq_fd);
    assert(world.mmio);
    start(&world);

    for (unsigned i = 0; i < OPERATIONS && input.at < input.end; i++)
        step(&world, &input);
    check_alive(&world);

    virtio_transport_free(virtio_mmio_transport(world.mmio));
    loop_free(world.loop);
    close(world.listen_fd);
    close(world.irq_fd);
    fake_memory_fini(&world.memory);
    return 0;
}
