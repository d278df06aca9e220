/* See net_fixture.h. */
#include "tests/unit/net_fixture.h"

#undef NDEBUG /* an assertion is the test */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct fake_tap fake_tap;

int tap_init(int fd, bool multi_queue, struct error *err)
{
    (void)multi_queue;
    (void)err;
    return fcntl(fd, F_SETFL, O_NONBLOCK);
}

unsigned tap_known_offloads(int fd)
{
    (void)fd;
    return fake_tap.known_offloads;
}

int tap_set_offloads(int fd, unsigned offloads)
{
    (void)fd;
    if (offloads && fake_tap.refuse_offloads)
        return -fake_tap.refuse_offloads;
    fake_tap.offloads = offloads;
    return 0;
}

int tap_set_attached(int fd, bool attached)
{
    for (unsigned i = 0; i < NET_TEST_PAIRS; i++) {
        if (fake_tap.fd[i] == fd)
            fake_tap.attached[i] = attached;
    }
    return 0;
}

int tap_set_filter(int fd, const uint8_t (*addresses)[ETH_ALEN], unsigned count, bool all_groups)
{
    (void)fd;
    assert(count <= TAP_FILTER_MAX);
    if (count > 0)
        memcpy(fake_tap.filter, addresses, (size_t)count * ETH_ALEN);
    fake_tap.filter_count = count;
    fake_tap.filter_all_groups = all_groups;
    return 0;
}

void tap_drain(int fd)
{
    char byte;
    while (recv(fd, &byte, 1, MSG_DONTWAIT) > 0)
        fake_tap.drained++;
}

void net_fixture_init(struct net_fixture *f, unsigned pairs)
{
    struct virtio_net_options options;
    struct error err;
    fake_tap = (struct fake_tap){.known_offloads = 0x7f, .attached = {true, true}, .fd = {-1, -1}};
    fake_memory_init(&f->memory, 4 << 20);
    f->loop = loop_new();
    f->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    virtio_net_options_init(&options);
    memcpy(options.mac, "\x52\x54\x00\x01\x02\x03", ETH_ALEN);
    options.id = 7;
    options.mtu = 1400;
    options.pairs = pairs;
    f->host[0] = f->host[1] = -1;
    for (unsigned i = 0; i < pairs; i++) {
        int ends[2];
        int failed = socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends);
        assert(!failed);
        f->host[i] = ends[0];
        options.tap_fd[i] = fake_tap.fd[i] = ends[1];
    }
    struct virtio_net_host host = {
        .loop = f->loop, .loops = &f->loop, .loop_count = 1, .memory = &f->memory.map};
    f->device = virtio_net_new(&host, &options, &err);
    assert(f->device);
    f->mmio = virtio_mmio_new(f->device, &f->memory.map, f->irq_fd);
    assert(f->mmio);
}

void net_fixture_fini(struct net_fixture *f)
{
    virtio_transport_free(virtio_mmio_transport(f->mmio));
    loop_free(f->loop);
    close(f->irq_fd);
    for (unsigned i = 0; i < NET_TEST_PAIRS; i++) {
        if (f->host[i] >= 0)
            close(f->host[i]);
    }
    fake_memory_fini(&f->memory);
}

int net_fixture_set_up(void **state)
{
    struct net_fixture *f = calloc(1, sizeof(*f));
    if (!f)
        return -1;
    net_fixture_init(f, 1);
    *state = f;
    return 0;
}

int net_fixture_tear_down(void **state)
{
    net_fixture_fini(*state);
    free(*state);
    return 0;
}

uint32_t net_fixture_start(struct net_fixture *f, uint64_t features)
{
    fake_mmio_set(f->mmio, VIRTIO_MMIO_STATUS, 0);
    f->memory.next = FAKE_RAM_BASE;
    memset(f->memory.ram, 0, 64 << 10); /* the rings */
    for (unsigned i = 0; i < NET_TEST_QUEUES; i++)
        fake_queue_init(&f->queue[i], &f->memory, NET_TEST_QUEUE_SIZE);
    f->room = fake_alloc(&f->memory, NET_TEST_ROOM_BYTES, 4096);
    uint32_t status = fake_mmio_start(f->mmio, features, f->queue, f->device->queue_count);
    fake_loop_settle(f->loop);
    return status;
}

uint8_t net_fixture_pattern(size_t offset)
{
    return (uint8_t)(offset * 7 + offset / 251);
}

void net_fixture_send(struct net_fixture *f, unsigned pair, const struct virtio_net_hdr_v1 *header,
                      size_t bytes)
{
    uint8_t packet[NET_PACKET_BYTES_MAX] = {0};
    assert(bytes <= sizeof(packet) && bytes >= NET_HEADER_BYTES);
    if (header)
        memcpy(packet, header, NET_HEADER_BYTES);
    for (size_t i = NET_HEADER_BYTES; i < bytes; i++)
        packet[i] = net_fixture_pattern(i - NET_HEADER_BYTES);
    ssize_t sent = send(f->host[pair], packet, bytes, 0);
    assert(sent == (ssize_t)bytes);
    fake_loop_settle(f->loop);
}

int net_fixture_command(struct net_fixture *f, unsigned queue, uint8_t class, uint8_t command,
                        const void *data, uint32_t bytes)
{
    struct virtio_net_ctrl_hdr header = {.class = class, .cmd = command};
    gpa_t at = f->room + NET_TEST_ROOM_BYTES - 8192, answer = at + 8000;
    memcpy(fake_at(&f->memory, at), &header, sizeof(header));
    if (bytes > 0)
        memcpy(fake_at(&f->memory, at + sizeof(header)), data, bytes);
    *(uint8_t *)fake_at(&f->memory, answer) = 0xee;
    struct fake_segment segments[] = {{at, sizeof(header) + bytes, false}, {answer, 1, true}};
    fake_interrupts(f->irq_fd);
    fake_queue_add(&f->queue[queue], segments, 2);
    fake_mmio_kick(f->mmio, f->loop, queue);
    uint32_t length;
    if (!fake_queue_used(&f->queue[queue], NULL, &length) || length != 1 || fake_interrupts(f->irq_fd) == 0)
        return -1;
    return *(uint8_t *)fake_at(&f->memory, answer);
}
