/* Unit tests of virtio-console: everything printed arrives, or a note in its place, and the guest never
 * waits. */
#include "common/fd.h"
#include "tests/unit/fake_driver.h"
#include "vmm/virtio/console.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <cmocka.h>

#define QUEUE_SIZE   64
#define BUFFER_BYTES 32768

enum { RECEIVEQ, TRANSMITQ };

struct fixture {
    struct fake_memory memory;
    struct fake_queue queue[2];
    struct loop *loop;
    struct virtio_mmio *mmio;
    gpa_t buffer;
    int irq_fd, pipe[2];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    if (!f)
        return -1;
    signal(SIGPIPE, SIG_IGN); /* as the VMM does */
    fake_memory_init(&f->memory, 1 << 20);
    f->buffer = fake_alloc(&f->memory, BUFFER_BYTES, 16);
    f->loop = loop_new();
    f->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    *state = f;
    return pipe2(f->pipe, O_CLOEXEC); /* blocking, as a shell's would be */
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    virtio_transport_free(virtio_mmio_transport(f->mmio));
    loop_free(f->loop);
    close(f->irq_fd);
    fd_close(&f->pipe[0]);
    fd_close(&f->pipe[1]);
    fake_memory_fini(&f->memory);
    free(f);
    return 0;
}

static void start(struct fixture *f, int fd, unsigned long limit)
{
    struct virtio_device *device = virtio_console_new(f->loop, fd, limit);
    assert_non_null(device);
    f->mmio = virtio_mmio_new(device, &f->memory.map, f->irq_fd);
    assert_non_null(f->mmio);
    for (unsigned i = 0; i < 2; i++)
        fake_queue_init(&f->queue[i], &f->memory, QUEUE_SIZE);
    uint32_t status = fake_mmio_start(f->mmio, 0, f->queue, 2);
    assert_true((status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) ==
                VIRTIO_CONFIG_S_DRIVER_OK);
}

static void print_bytes(struct fixture *f, const void *text, size_t length)
{
    memcpy(fake_at(&f->memory, f->buffer), text, length);
    struct fake_segment segment = {f->buffer, (uint32_t)length, false};
    fake_queue_add(&f->queue[TRANSMITQ], &segment, 1);
    fake_mmio_kick(f->mmio, f->loop, TRANSMITQ);
    assert_true(fake_queue_used(&f->queue[TRANSMITQ], NULL, NULL)); /* at once, whatever the output does */
}

static void print(struct fixture *f, const char *text)
{
    print_bytes(f, text, strlen(text));
}

static void text_arrives_in_order(void **state)
{
    struct fixture *f = *state;
    start(f, f->pipe[1], 1 << 20);
    print(f, "Linux version 6.12\n");
    print(f, "Command line: quiet\n");
    char got[64] = {0};
    assert_int_equal(read(f->pipe[0], got, sizeof(got) - 1), 39);
    assert_string_equal(got, "Linux version 6.12\nCommand line: quiet\n");
}

static void many_chains_in_one_kick(void **state)
{
    struct fixture *f = *state;
    start(f, f->pipe[1], 1 << 20);
    memcpy(fake_at(&f->memory, f->buffer), "ab", 2);
    struct fake_segment segments[] = {{f->buffer, 1, false}, {f->buffer + 1, 1, false}};
    for (unsigned i = 0; i < QUEUE_SIZE / 2; i++)
        fake_queue_add(&f->queue[TRANSMITQ], segments, 2);
    fake_mmio_kick(f->mmio, f->loop, TRANSMITQ);
    char got[QUEUE_SIZE + 1];
    assert_int_equal(read(f->pipe[0], got, sizeof(got)), QUEUE_SIZE);
    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        assert_int_equal(got[i], "ab"[i % 2]);
}

static void slow_reader_loses_text_and_is_told(void **state)
{
    struct fixture *f = *state;
    start(f, f->pipe[1], 64 << 20);
    static char line[BUFFER_BYTES], got[1 << 20];
    memset(line, 'x', sizeof(line));
    for (unsigned i = 0; i < 16; i++) /* 512 KiB into 64 KiB of pipe and 64 KiB of buffer */
        print_bytes(f, line, sizeof(line));
    assert_int_equal(fd_set_nonblock(f->pipe[0], 1), 0);
    size_t length = 0;
    ssize_t part;
    while ((part = read(f->pipe[0], got + length, sizeof(got) - 1 - length)) > 0) {
        length += (size_t)part;
        fake_loop_settle(f->loop);
    }
    got[length] = '\0';
    char *note = strstr(got, "\n[husk: ");
    assert_non_null(note);
    size_t kept = (size_t)(note - got);
    assert_true(kept >= 100000);
    assert_int_equal(strtoul(note + 8, NULL, 10), 16 * sizeof(line) - kept);
    print(f, "after\n");
    fake_loop_settle(f->loop);
    assert_int_equal(read(f->pipe[0], got, sizeof(got)), 6);
}

static void limit_ends_the_log_with_a_note(void **state)
{
    struct fixture *f = *state;
    start(f, f->pipe[1], 10);
    print(f, "0123456789abcdef");
    print(f, "more");
    char got[256] = {0};
    assert_true(read(f->pipe[0], got, sizeof(got) - 1) > 10);
    assert_memory_equal(got, "0123456789\n[husk: limit", 23);
    assert_null(strstr(got, "more"));
    assert_int_equal(fd_set_nonblock(f->pipe[0], 1), 0);
    assert_int_equal(read(f->pipe[0], got, sizeof(got)), -1);
}

static void reader_that_goes_away_does_not_matter(void **state)
{
    struct fixture *f = *state;
    start(f, f->pipe[1], 1 << 20);
    print(f, "one");
    fd_close(&f->pipe[0]);
    print(f, "two");
    print(f, "three");
}

static void file_gets_everything(void **state)
{
    struct fixture *f = *state;
    cleanup_fd int fd = memfd_create("console", MFD_CLOEXEC);
    assert_true(fd >= 0);
    start(f, fd, 64 << 20);
    static char block[BUFFER_BYTES];
    memset(block, 'y', sizeof(block));
    for (unsigned i = 0; i < 16; i++)
        print_bytes(f, block, sizeof(block));
    assert_int_equal(lseek(fd, 0, SEEK_END), 16 * sizeof(block));
}

static void receive_queue_keeps_its_buffers(void **state)
{
    struct fixture *f = *state;
    start(f, f->pipe[1], 1 << 20);
    struct fake_segment segment = {f->buffer, 16, true};
    fake_queue_add(&f->queue[RECEIVEQ], &segment, 1);
    fake_mmio_kick(f->mmio, f->loop, RECEIVEQ);
    assert_false(fake_queue_used(&f->queue[RECEIVEQ], NULL, NULL));
}

static void broken_ring_needs_reset(void **state)
{
    struct fixture *f = *state;
    start(f, f->pipe[1], 1 << 20);
    fake_queue_offer(&f->queue[TRANSMITQ], QUEUE_SIZE);
    fake_mmio_kick(f->mmio, f->loop, TRANSMITQ);
    assert_true(fake_mmio_get(f->mmio, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

#define console_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        console_test(text_arrives_in_order),
        console_test(many_chains_in_one_kick),
        console_test(slow_reader_loses_text_and_is_told),
        console_test(limit_ends_the_log_with_a_note),
        console_test(reader_that_goes_away_does_not_matter),
        console_test(file_gets_everything),
        console_test(receive_queue_keeps_its_buffers),
        console_test(broken_ring_needs_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
