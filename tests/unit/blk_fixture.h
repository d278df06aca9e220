/* A disk over a temporary file, with its fake driver, for the tests of virtio-blk. */
#ifndef HUSK_TESTS_UNIT_BLK_FIXTURE_H
#define HUSK_TESTS_UNIT_BLK_FIXTURE_H

#include "tests/unit/fake_driver.h"
#include "vmm/virtio/blk.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECTOR      512u
#define DISK_BYTES  (4u << 20)
#define QUEUES      4
#define QUEUE_SIZE  64
#define BUFFER_SIZE (256u << 10)
#define BIT(n)      (1ull << (n))
#define USUAL                                                                                                \
    (BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_BLK_F_DISCARD) |                    \
     BIT(VIRTIO_BLK_F_WRITE_ZEROES) | BIT(VIRTIO_RING_F_INDIRECT_DESC))
#define NO_STATUS 0xee /* the device wrote none */

struct blk_fixture {
    struct fake_memory memory;
    struct fake_queue queue[QUEUES];
    struct loop *loop;
    struct virtio_device *device;
    struct virtio_mmio *mmio;
    gpa_t header, buffer, status;
    int irq_fd;
    int file; /* the test's own descriptor of the disk */
};

int blk_set_up(void **state);
int blk_tear_down(void **state);
/* Another device over the same file in place of the last, not started. */
void blk_make(struct blk_fixture *f, const struct virtio_blk_options *options);
/* A new descriptor of the file. */
int blk_open(const struct blk_fixture *f, int flags);
void blk_start(struct blk_fixture *f, uint64_t features, unsigned queues);

/* Offers a request of `bytes` at `buffer` (the device writes them if `in`) without a kick. */
void blk_offer(struct blk_fixture *f, unsigned queue, uint32_t type, uint64_t sector, uint32_t bytes,
               bool in);
void blk_kick(struct blk_fixture *f, unsigned queue);
/* Waits for the next used element; its length. Fails the test after a few seconds. */
uint32_t blk_wait(struct blk_fixture *f, unsigned queue);
/* All of these: the status. */
uint8_t blk_request(struct blk_fixture *f, uint32_t type, uint64_t sector, uint32_t bytes, bool in);
uint8_t blk_range(struct blk_fixture *f, uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags);

static inline void *blk_data(struct blk_fixture *f)
{
    return fake_at(&f->memory, f->buffer);
}

static inline uint8_t blk_status(struct blk_fixture *f)
{
    return *(uint8_t *)fake_at(&f->memory, f->status);
}

#define blk_test(name) cmocka_unit_test_setup_teardown(name, blk_set_up, blk_tear_down)

#endif
