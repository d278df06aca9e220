/*
 * A virtio-net device over socket pairs that stand for taps (net_fixture.c has its own tap.h functions, which
 * write down what they are told), and a driver with buffers in its queues. Shared by the unit tests and the
 * fuzz target.
 */
#ifndef HUSK_TESTS_UNIT_NET_FIXTURE_H
#define HUSK_TESTS_UNIT_NET_FIXTURE_H

#include "tests/unit/fake_driver.h"
#include "vmm/virtio/net_internal.h"

#define NET_TEST_PAIRS      2
#define NET_TEST_QUEUES     (2 * NET_TEST_PAIRS + 1)
#define NET_TEST_QUEUE_SIZE 64

/* What the tap of all pairs was told last. */
struct fake_tap {
    unsigned known_offloads, offloads;
    bool attached[NET_TEST_PAIRS];
    uint8_t filter[TAP_FILTER_MAX][ETH_ALEN];
    unsigned filter_count;
    bool filter_all_groups;
    unsigned drained;    /* packets */
    int refuse_offloads; /* errno */
    int fd[NET_TEST_PAIRS];
};
extern struct fake_tap fake_tap;

struct net_fixture {
    struct fake_memory memory;
    struct loop *loop;
    struct virtio_device *device;
    struct virtio_mmio *mmio;
    struct fake_queue queue[NET_TEST_QUEUES];
    int irq_fd;
    int host[NET_TEST_PAIRS]; /* the host's ends: a packet written here comes out of the tap */
    gpa_t room;               /* for what a test puts into buffers */
};

#define NET_TEST_ROOM_BYTES (512u << 10)

/* A device with pairs queue pairs, attached to its transport, not started. */
void net_fixture_init(struct net_fixture *f, unsigned pairs);
void net_fixture_fini(struct net_fixture *f);
/* cmocka's set-up and tear-down: *state is a fixture with one pair. */
int net_fixture_set_up(void **state);
int net_fixture_tear_down(void **state);
/* Reset to DRIVER_OK with fresh queues; the status. With MQ the control queue is the last one. */
uint32_t net_fixture_start(struct net_fixture *f, uint64_t features);
/* Sends a packet of `bytes` (header included) from the host: a zero header, then a pattern. */
void net_fixture_send(struct net_fixture *f, unsigned pair, const struct virtio_net_hdr_v1 *header,
                      size_t bytes);
/* The byte that the pattern has at an offset behind the header. */
uint8_t net_fixture_pattern(size_t offset);
/* Runs a command of the control queue with its data; the answer, or -1 when the chain did not come back. */
int net_fixture_command(struct net_fixture *f, unsigned queue, uint8_t class, uint8_t command,
                        const void *data, uint32_t bytes);

#endif
