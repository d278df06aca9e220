/*
 * A device that only writes down what it is told, and a virtio-mmio transport over it, for the transports'
 * tests.
 */
#ifndef HUSK_TESTS_UNIT_MMIO_FIXTURE_H
#define HUSK_TESTS_UNIT_MMIO_FIXTURE_H

#include "tests/unit/fake_driver.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define QUEUES         3
#define QUEUE_SIZE_MAX 16
#define DEVICE_ID      42
#define DEVICE_FEATURE (1ULL << 5)
#define RING_FEATURES  (1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_RING_F_EVENT_IDX)
#define STATUS_RUNNING                                                                                       \
    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |                    \
     VIRTIO_CONFIG_S_DRIVER_OK)

struct recorder {
    struct virtio_device device;
    unsigned activated, reset, paused, resumed, freed;
    unsigned kicks[QUEUES];
    uint64_t features;
    int activate_result;
    uint32_t state; /* what save and restore carry; after a restore it is also in config[0] */
    uint8_t config[10];
    bool slow; /* lets others run while its configuration is half read */
    bool echo; /* give each chain back */
    bool in_kick;
    atomic_bool overlapped; /* called while another call was under way */
    struct virtio_chain chain;
};

/* A fresh device in the caller's storage, for a transport to own. */
struct virtio_device *recorder_make(struct recorder *recorder, struct loop *loop);

struct fixture {
    struct fake_memory memory;
    struct loop *loop;
    struct recorder *recorder;
    struct virtio_mmio *mmio;
    struct fake_queue queue[QUEUES];
    int irq_fd;
};

int mmio_set_up(void **state);
int mmio_tear_down(void **state);
/* A fresh device and transport in place of a freed one. */
void transport_make(struct fixture *f);
uint32_t transport_get(struct fixture *f, uint64_t offset);
void transport_set(struct fixture *f, uint64_t offset, uint32_t value);
/* Brings the device up with all its queues and the ring features; the status. */
uint32_t transport_start(struct fixture *f);
/* Interrupts raised since the last call. */
uint64_t transport_interrupts(struct fixture *f);

#define mmio_test(name) cmocka_unit_test_setup_teardown(name, mmio_set_up, mmio_tear_down)

#endif
