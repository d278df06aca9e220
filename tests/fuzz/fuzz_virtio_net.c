/*
 * Fuzz target: a hostile driver on the network device, with packets from the host at the same time.
 *
 * Input: operations. Each begins with a byte that tells what: chains for any queue with segments of any place
 * and size (headers and commands are the input's raw bytes), a packet from the host, a restart with other
 * features, a pause. The device may not touch memory that is not the guest's, what leaves for the host must
 * be what net_tx_check_header lets pass, and at the end a reset device still carries packets both ways.
 */
#include "tests/unit/net_fixture.h"

#undef NDEBUG /* an assertion is the test */
#include <assert.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define OPERATIONS   512
#define SEGMENTS_MAX 24

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *at, *end;
};

static uint64_t features;

static uint32_t take(struct input *input, size_t bytes)
{
    uint32_t value = 0;
    for (; bytes > 0 && input->at < input->end; bytes--)
        value = value << 8 | *input->at++;
    return value;
}

static void take_bytes(struct input *input, void *to, size_t bytes)
{
    size_t left = (size_t)(input->end - input->at);
    memset(to, 0, bytes);
    memcpy(to, input->at, bytes < left ? bytes : left);
    input->at += bytes < left ? bytes : left;
}

/* What the host gets was checked: it can rely on it. */
static void drain_host(struct net_fixture *f)
{
    static uint8_t packet[NET_PACKET_BYTES_MAX + 1];
    fake_loop_settle(f->loop);
    for (unsigned pair = 0; pair < NET_TEST_PAIRS; pair++) {
        ssize_t got;
        while ((got = recv(f->host[pair], packet, sizeof(packet), MSG_DONTWAIT)) > 0) {
            struct virtio_net_hdr_v1 header;
            assert(got >= (ssize_t)(NET_HEADER_BYTES + ETH_HLEN) && got <= (ssize_t)NET_PACKET_BYTES_MAX);
            memcpy(&header, packet, sizeof(header));
            assert(net_tx_check_header(&header, features, (size_t)got - NET_HEADER_BYTES));
            assert(memcmp(&header, packet, sizeof(header)) == 0);
        }
    }
    fake_loop_settle(f->loop);
}

static void restart(struct net_fixture *f, uint64_t wanted)
{
    features = wanted & f->device->ops->features(f->device);
    uint32_t status = net_fixture_start(f, features | (wanted & 3ULL << 28)); /* indirect, event index */
    assert((status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) == VIRTIO_CONFIG_S_DRIVER_OK);
}

static bool has_room(const struct fake_queue *queue, unsigned descriptors)
{
    uint16_t outstanding = (uint16_t)(queue->avail_idx - queue->used_seen);
    return outstanding + descriptors < NET_TEST_QUEUE_SIZE;
}

static void add_chain(struct net_fixture *f, struct input *input)
{
    struct fake_segment segments[SEGMENTS_MAX];
    struct fake_queue *queue = &f->queue[take(input, 1) % NET_TEST_QUEUES];
    uint32_t shape = take(input, 1);
    unsigned count = 1 + shape % SEGMENTS_MAX;
    while (fake_queue_used(queue, NULL, NULL))
        ;
    if (!has_room(queue, count))
        return;
    for (unsigned i = 0; i < count; i++) {
        uint32_t place = take(input, 3);
        segments[i].addr = place & 0x800000 ? place << 4 : f->room + place % (NET_TEST_ROOM_BYTES / 2);
        segments[i].len = take(input, 1) & 1 ? take(input, 2) : take(input, 1);
        segments[i].in = take(input, 1) & 1;
    }
    if (shape & 0x80) /* the segments' beginning is the input's, where it lies in RAM */
        take_bytes(input, fake_at(&f->memory, f->room), 64);
    if (shape & 0x40 && f->memory.next + sizeof(segments) * 2 < FAKE_RAM_BASE + f->memory.size)
        fake_queue_add_indirect(queue, segments, count);
    else
        fake_queue_add(queue, segments, count);
    fake_mmio_kick(f->mmio, f->loop, (unsigned)(queue - f->queue));
}

/* A packet or command that begins as it should. */
static void add_good_chain(struct net_fixture *f, struct input *input)
{
    unsigned index = take(input, 1) % NET_TEST_QUEUES;
    struct fake_queue *queue = &f->queue[index];
    uint32_t bytes = take(input, 2);
    gpa_t at = f->room + (index + 1) * 0x10000ULL / 2;
    struct fake_segment segments[] = {{at, bytes % 4096 + 1, false}, {at + 4096, bytes, true}};
    while (fake_queue_used(queue, NULL, NULL))
        ;
    if (!has_room(queue, 2))
        return;
    take_bytes(input, fake_at(&f->memory, at), 32);
    if (index % 2 == 0 && index < NET_TEST_QUEUES - 1)
        fake_queue_add(queue, segments + 1, 1);
    else
        fake_queue_add(queue, segments, index % 2 ? 1 : 2);
    fake_mmio_kick(f->mmio, f->loop, index);
}

static void host_sends(struct net_fixture *f, struct input *input)
{
    static uint8_t packet[NET_PACKET_BYTES_MAX];
    unsigned pair = take(input, 1) % NET_TEST_PAIRS;
    size_t bytes = 1 + take(input, 2) + take(input, 1); /* no tap gives an empty packet */
    take_bytes(input, packet, NET_HEADER_BYTES);
    if (bytes > sizeof(packet))
        bytes = sizeof(packet);
    send(f->host[pair], packet, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void step(struct net_fixture *f, struct input *input)
{
    switch (take(input, 1) % 8) {
    case 0:
    case 1:
        add_chain(f, input);
        break;
    case 2:
    case 3:
        add_good_chain(f, input);
        break;
    case 4:
    case 5:
        host_sends(f, input);
        break;
    case 6: {
        uint64_t high = take(input, 4);
        restart(f, high << 32 | take(input, 4));
        break;
    }
    default:
        virtio_transport_pause(virtio_mmio_transport(f->mmio));
        for (unsigned i = 0; i < NET_TEST_QUEUES; i++)
            assert(virtqueue_in_flight(f->device->queue[i]) == 0);
        drain_host(f);
        virtio_transport_resume(virtio_mmio_transport(f->mmio));
    }
    drain_host(f);
}

static void check_alive(struct net_fixture *f)
{
    uint8_t packet[200];
    restart(f, 1ULL << VIRTIO_NET_F_MRG_RXBUF);
    drain_host(f);
    struct fake_segment in = {f->room, 2048, true}, out = {f->room + 4096, NET_HEADER_BYTES + 60, false};
    memset(fake_at(&f->memory, f->room + 4096), 0, NET_HEADER_BYTES);
    fake_queue_add(&f->queue[0], &in, 1);
    fake_queue_add(&f->queue[1], &out, 1);
    fake_mmio_kick(f->mmio, f->loop, 0);
    fake_mmio_kick(f->mmio, f->loop, 1);
    assert(recv(f->host[0], packet, sizeof(packet), MSG_DONTWAIT) == NET_HEADER_BYTES + 60);
    assert(fake_queue_used(&f->queue[1], NULL, NULL));
    while (fake_queue_used(&f->queue[0], NULL, NULL)) {
        fake_queue_add(&f->queue[0], &in, 1); /* what the host sent before */
        fake_mmio_kick(f->mmio, f->loop, 0);
    }
    net_fixture_send(f, 0, NULL, 100);
    assert(fake_queue_used(&f->queue[0], NULL, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_init("fuzz", -1, LOG_FORMAT_TEXT, LOG_LEVEL_ERR);
    struct net_fixture f;
    struct input input = {data, data + size};
    net_fixture_init(&f, NET_TEST_PAIRS);
    restart(&f, UINT64_MAX);
    for (unsigned i = 0; i < OPERATIONS && input.at < input.end; i++)
        step(&f, &input);
    check_alive(&f);
    net_fixture_fini(&f);
    return 0;
}
