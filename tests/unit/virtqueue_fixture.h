/* A virtqueue with its fake driver, for the tests of well-formed and malformed rings. */
#ifndef HUSK_TESTS_UNIT_VIRTQUEUE_FIXTURE_H
#define HUSK_TESTS_UNIT_VIRTQUEUE_FIXTURE_H

#include "tests/unit/fake_driver.h"

#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define QUEUE_SIZE  8
#define F_INDIRECT  (1ULL << VIRTIO_RING_F_INDIRECT_DESC)
#define F_EVENT_IDX (1ULL << VIRTIO_RING_F_EVENT_IDX)

struct fixture {
    struct fake_memory memory;
    struct fake_queue driver;
    struct virtqueue *queue;
    struct virtio_chain chain;
    gpa_t buffer; /* 64 KiB */
    unsigned calls;
};

static inline void count_call(void *arg)
{
    (*(unsigned *)arg)++;
}

static inline int start_with(struct fixture *f, uint64_t features)
{
    virtqueue_stop(f->queue);
    fake_queue_init(&f->driver, &f->memory, QUEUE_SIZE);
    return virtqueue_start(f->queue, &f->driver.config, features);
}

static inline int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    if (!f)
        return -1;
    fake_memory_init(&f->memory, 1 << 20);
    f->buffer = fake_alloc(&f->memory, 1 << 16, 4096);
    f->queue = virtqueue_new(&f->memory.map, count_call, &f->calls);
    *state = f;
    return start_with(f, F_INDIRECT);
}

static inline int tear_down(void **state)
{
    struct fixture *f = *state;
    virtqueue_free(f->queue);
    fake_memory_fini(&f->memory);
    free(f);
    return 0;
}

static inline void set_desc(struct fixture *f, uint16_t index, gpa_t addr, uint32_t len, uint16_t flags,
                            uint16_t next)
{
    *fake_queue_desc(&f->driver, index) = (struct vring_desc){
        .addr = htole64(addr), .len = htole32(len), .flags = htole16(flags), .next = htole16(next)};
}

#define ring_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
