/* Unit tests of the virtio-fs device: its queues and threads under a driver, requests that block, resets, and
 * snapshots. */
#include "tests/unit/fake_driver.h"
#include "tests/unit/fs_rig.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_fs.h>
#include <linux/virtio_mmio.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define QUEUE_SIZE 128
#define OUT_BYTES  4096
#define IN_BYTES   8192
#define WAIT_MS    5000

enum { FORGETS, REQUESTS, QUEUES };

/* A device with its driver. */
struct side {
    struct fake_memory memory;
    struct fake_queue queue[QUEUES];
    struct loop *loop;
    struct virtio_device *device;
    struct virtio_mmio *mmio;
    int irq_fd;
};

struct fixture {
    struct fs_rig rig; /* for its directory only */
    struct side side;
    uint64_t unique;
};

static unsigned started;

static int count_start(void *arg)
{
    (void)arg;
    __atomic_fetch_add(&started, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static int fail_start(void *arg)
{
    (void)arg;
    return -EPERM;
}

static struct virtio_device *device_new(struct fixture *f, struct loop *loop, int (*start)(void *arg))
{
    struct virtio_fs_options options = {.tag = "husk",
                                        .request_queues = 1,
                                        .workers = 2,
                                        .cache = FS_CACHE_AUTO,
                                        .fd_limit = 200,
                                        .proc_self_fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY),
                                        .worker_start = start};
    return virtio_fs_new(loop, open(f->rig.path, O_PATH | O_DIRECTORY), &options);
}

static void side_init(struct fixture *f, struct side *side)
{
    fake_memory_init(&side->memory, 4 << 20);
    side->loop = loop_new();
    side->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    side->device = device_new(f, side->loop, count_start);
    side->mmio = virtio_mmio_new(side->device, &side->memory.map, side->irq_fd);
    assert_non_null(side->mmio);
    started = 0;
    assert_int_equal(virtio_fs_start(side->device), 0);
    assert_int_equal(started, 3); /* two for requests, one for forgets */
    for (unsigned i = 0; i < QUEUES; i++)
        fake_queue_init(&side->queue[i], &side->memory, QUEUE_SIZE);
}

static void side_fini(struct side *side)
{
    virtio_transport_free(virtio_mmio_transport(side->mmio));
    loop_free(side->loop);
    close(side->irq_fd);
    fake_memory_fini(&side->memory);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    fs_rig_init(&f->rig, FS_CACHE_AUTO, false, 100);
    side_init(f, &f->side);
    *state = f;
    uint32_t status = fake_mmio_start(f->side.mmio, 1ULL << VIRTIO_RING_F_EVENT_IDX, f->side.queue, QUEUES);
    return status & VIRTIO_CONFIG_S_DRIVER_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    side_fini(&f->side);
    fs_rig_fini(&f->rig);
    free(f);
    return 0;
}

/* A request under way. */
struct flight {
    uint16_t head;
    gpa_t in;
};

static struct flight send(struct fixture *f, struct side *side, unsigned queue, uint32_t opcode,
                          uint64_t nodeid, const void *args, size_t length)
{
    gpa_t out = fake_alloc(&side->memory, OUT_BYTES, 8), in = fake_alloc(&side->memory, IN_BYTES, 8);
    struct fuse_in_header header = {.len = (uint32_t)(sizeof(header) + length),
                                    .opcode = opcode,
                                    .unique = ++f->unique,
                                    .nodeid = nodeid};
    memcpy(fake_at(&side->memory, out), &header, sizeof(header));
    memcpy((uint8_t *)fake_at(&side->memory, out) + sizeof(header), args, length);
    struct fake_segment segments[] = {{out, sizeof(header), false},
                                      {out + sizeof(header), (uint32_t)length, false},
                                      {in, sizeof(struct fuse_out_header), true},
                                      {in + sizeof(struct fuse_out_header), 4096, true}};
    struct flight flight = {.in = in};
    flight.head = fake_queue_add(&side->queue[queue], segments, 4);
    fake_mmio_kick(side->mmio, side->loop, queue);
    return flight;
}

/* The next finished request's head; fails the test after WAIT_MS. */
static uint32_t next_used(struct side *side, unsigned queue, unsigned wait_ms)
{
    uint32_t head = UINT32_MAX;
    for (unsigned i = 0; i < wait_ms; i++) {
        if (fake_queue_used(&side->queue[queue], &head, NULL))
            return head;
        usleep(1000);
    }
    return UINT32_MAX;
}

/* One request from start to end. Its error; the payload in *reply. */
static int call(struct fixture *f, struct side *side, uint32_t opcode, uint64_t nodeid, const void *args,
                size_t length, void **reply)
{
    struct flight flight = send(f, side, REQUESTS, opcode, nodeid, args, length);
    assert_int_equal(next_used(side, REQUESTS, WAIT_MS), flight.head);
    struct fuse_out_header *out = fake_at(&side->memory, flight.in);
    *reply = out + 1;
    return out->error;
}

static void session_start(struct fixture *f, struct side *side)
{
    struct fuse_init_in in = {.major = 7, .minor = 41};
    void *reply;
    assert_int_equal(call(f, side, FUSE_INIT, 0, &in, sizeof(in), &reply), 0);
}

static uint64_t lookup(struct fixture *f, struct side *side, const char *name)
{
    void *reply;
    assert_int_equal(call(f, side, FUSE_LOOKUP, FUSE_ROOT_ID, name, strlen(name) + 1, &reply), 0);
    return ((struct fuse_entry_out *)reply)->nodeid;
}

static uint64_t open_file(struct fixture *f, struct side *side, uint64_t nodeid)
{
    struct fuse_open_in in = {.flags = O_RDWR};
    void *reply;
    assert_int_equal(call(f, side, FUSE_OPEN, nodeid, &in, sizeof(in), &reply), 0);
    return ((struct fuse_open_out *)reply)->fh;
}

/* The file `name`, made by the host. */
static int host_file(struct fixture *f, const char *name, const char *content)
{
    int fd = openat(f->rig.dir, name, O_CREAT | O_RDWR | O_TRUNC, 0644);
    assert_int_equal(write(fd, content, strlen(content)), strlen(content));
    return fd;
}

static void test_configuration_space(void **state)
{
    struct fixture *f = *state;
    struct virtio_fs_config config;
    virtio_mmio_read(f->side.mmio, VIRTIO_MMIO_CONFIG, &config.tag, 4);
    assert_memory_equal(config.tag, "husk", 4);
    uint32_t queues;
    virtio_mmio_read(f->side.mmio, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_fs_config, num_request_queues),
                     &queues, 4);
    assert_int_equal(queues, 1);
}

static void test_options_out_of_range(void **state)
{
    struct fixture *f = *state;
    struct virtio_fs_options options = {.tag = "", .request_queues = 1, .workers = 1, .proc_self_fd = -1};
    assert_null(virtio_fs_new(f->side.loop, open("/", O_PATH), &options));
    options.tag = "0123456789012345678901234567890123456";
    assert_null(virtio_fs_new(f->side.loop, open("/", O_PATH), &options));
    options.tag = "x";
    options.workers = 0;
    assert_null(virtio_fs_new(f->side.loop, open("/", O_PATH), &options));
    assert_int_equal(errno, EINVAL);
    options.workers = 1;
    assert_null(virtio_fs_new(f->side.loop, open("/dev/null", O_PATH), &options));
    assert_int_equal(errno, ENOTDIR);
}

static void test_a_worker_that_cannot_start(void **state)
{
    struct fixture *f = *state;
    struct virtio_device *device = device_new(f, f->side.loop, fail_start);
    assert_non_null(device);
    assert_int_equal(virtio_fs_start(device), -EPERM);
    assert_int_equal(device->ops->activate(device, 0), -EINVAL);
    device->ops->free(device);
}

static void test_requests_through_the_ring(void **state)
{
    struct fixture *f = *state;
    close(host_file(f, "file", "content"));
    session_start(f, &f->side);
    uint64_t node = lookup(f, &f->side, "file");
    struct fuse_read_in in = {.fh = open_file(f, &f->side, node), .size = 100};
    struct flight flight[32];
    for (unsigned i = 0; i < 32; i++)
        flight[i] = send(f, &f->side, REQUESTS, FUSE_READ, node, &in, sizeof(in));
    for (unsigned i = 0; i < 32; i++)
        assert_int_not_equal(next_used(&f->side, REQUESTS, WAIT_MS), UINT32_MAX);
    for (unsigned i = 0; i < 32; i++) {
        struct fuse_out_header *out = fake_at(&f->side.memory, flight[i].in);
        assert_int_equal(out->error, 0);
        assert_memory_equal(out + 1, "content", 7);
    }
}

static void test_forgets_have_no_reply(void **state)
{
    struct fixture *f = *state;
    close(host_file(f, "file", ""));
    session_start(f, &f->side);
    uint64_t node = lookup(f, &f->side, "file");
    struct fuse_forget_in in = {.nlookup = 1};
    struct flight flight = send(f, &f->side, FORGETS, FUSE_FORGET, node, &in, sizeof(in));
    assert_int_equal(next_used(&f->side, FORGETS, WAIT_MS), flight.head);
    void *reply;
    struct fuse_getattr_in attr = {0};
    assert_int_equal(call(f, &f->side, FUSE_GETATTR, node, &attr, sizeof(attr), &reply), -ESTALE);
}

/* A lease of the host's makes an open wait until it is given up. */
static void test_a_blocked_request_holds_up_no_other(void **state)
{
    struct fixture *f = *state;
    signal(SIGIO, SIG_IGN);
    int fd = host_file(f, "leased", "");
    assert_int_equal(fcntl(fd, F_SETLEASE, F_WRLCK), 0);
    session_start(f, &f->side);
    uint64_t node = lookup(f, &f->side, "leased");
    struct fuse_open_in in = {.flags = O_RDONLY};
    struct flight blocked = send(f, &f->side, REQUESTS, FUSE_OPEN, node, &in, sizeof(in));
    usleep(20000);
    for (unsigned i = 0; i < 20; i++)
        lookup(f, &f->side, "leased"); /* each is answered, in between */
    struct fuse_forget_in forget = {.nlookup = 1};
    struct flight flight = send(f, &f->side, FORGETS, FUSE_FORGET, node, &forget, sizeof(forget));
    assert_int_equal(next_used(&f->side, FORGETS, WAIT_MS), flight.head);
    assert_int_equal(next_used(&f->side, REQUESTS, 20), UINT32_MAX);
    assert_int_equal(fcntl(fd, F_SETLEASE, F_UNLCK), 0);
    assert_int_equal(next_used(&f->side, REQUESTS, WAIT_MS), blocked.head);
    close(fd);
}

/* Both workers blocked: what comes meanwhile is served when one is free, without another kick. */
static void test_all_workers_blocked(void **state)
{
    struct fixture *f = *state;
    signal(SIGIO, SIG_IGN);
    int one = host_file(f, "one", ""), two = host_file(f, "two", "");
    session_start(f, &f->side);
    uint64_t node[2] = {lookup(f, &f->side, "one"), lookup(f, &f->side, "two")};
    assert_int_equal(fcntl(one, F_SETLEASE, F_WRLCK) | fcntl(two, F_SETLEASE, F_WRLCK), 0);
    struct fuse_open_in in = {.flags = O_RDONLY};
    send(f, &f->side, REQUESTS, FUSE_OPEN, node[0], &in, sizeof(in));
    send(f, &f->side, REQUESTS, FUSE_OPEN, node[1], &in, sizeof(in));
    usleep(20000);
    for (unsigned i = 0; i < 10; i++)
        send(f, &f->side, REQUESTS, FUSE_LOOKUP, FUSE_ROOT_ID, "one", 4);
    assert_int_equal(next_used(&f->side, REQUESTS, 20), UINT32_MAX);
    assert_int_equal(fcntl(one, F_SETLEASE, F_UNLCK), 0);
    for (unsigned i = 0; i < 11; i++)
        assert_int_not_equal(next_used(&f->side, REQUESTS, WAIT_MS), UINT32_MAX);
    assert_int_equal(fcntl(two, F_SETLEASE, F_UNLCK), 0);
    assert_int_not_equal(next_used(&f->side, REQUESTS, WAIT_MS), UINT32_MAX);
    close(one);
    close(two);
}

static void test_reset_ends_the_session(void **state)
{
    struct fixture *f = *state;
    close(host_file(f, "file", "content"));
    for (unsigned round = 0; round < 20; round++) {
        session_start(f, &f->side);
        uint64_t node = lookup(f, &f->side, "file");
        struct fuse_read_in in = {.fh = open_file(f, &f->side, node), .size = 100};
        for (unsigned i = 0; i < round; i++)
            send(f, &f->side, REQUESTS, FUSE_READ, node, &in, sizeof(in));
        fake_mmio_set(f->side.mmio, VIRTIO_MMIO_STATUS, 0); /* with requests in flight */
        assert_int_equal(virtqueue_in_flight(f->side.device->queue[REQUESTS]), 0);
        for (unsigned i = 0; i < QUEUES; i++)
            fake_queue_init(&f->side.queue[i], &f->side.memory, QUEUE_SIZE);
        assert_true(fake_mmio_start(f->side.mmio, 1ULL << VIRTIO_RING_F_EVENT_IDX, f->side.queue, QUEUES) &
                    VIRTIO_CONFIG_S_DRIVER_OK);
    }
    void *reply;
    assert_int_equal(call(f, &f->side, FUSE_LOOKUP, FUSE_ROOT_ID, "file", 5, &reply), -EIO);
}

/* ---- snapshots ---- */

static struct snapshot_writer *save(struct fixture *f, int *err)
{
    struct snapshot_writer *writer = snapshot_writer_new();
    virtio_transport_pause(virtio_mmio_transport(f->side.mmio));
    *err = virtio_transport_save(virtio_mmio_transport(f->side.mmio), writer, 0);
    return writer;
}

static void test_a_session_goes_on_in_another_device(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkdirat(f->rig.dir, "dir", 0755), 0);
    close(host_file(f, "dir/file", "content"));
    session_start(f, &f->side);
    void *reply;
    uint64_t dir = lookup(f, &f->side, "dir");
    assert_int_equal(call(f, &f->side, FUSE_LOOKUP, dir, "file", 5, &reply), 0);
    uint64_t node = ((struct fuse_entry_out *)reply)->nodeid;
    uint64_t fh = open_file(f, &f->side, node);
    struct fuse_forget_in forget = {.nlookup = 1};
    send(f, &f->side, FORGETS, FUSE_FORGET, dir, &forget, sizeof(forget)); /* only an ancestor now */
    assert_int_not_equal(next_used(&f->side, FORGETS, WAIT_MS), UINT32_MAX);
    int err;
    struct snapshot_writer *writer = save(f, &err);
    assert_int_equal(err, 0);
    const void *bytes;
    size_t length;
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);

    /* The guest's memory goes along: the same addresses with the same content. */
    struct side other;
    side_init(f, &other);
    memcpy(other.memory.ram, f->side.memory.ram, f->side.memory.size);
    other.memory.next = f->side.memory.next;
    for (unsigned i = 0; i < QUEUES; i++) {
        other.queue[i] = f->side.queue[i];
        other.queue[i].memory = &other.memory;
    }
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    virtio_transport_pause(virtio_mmio_transport(other.mmio));
    assert_int_equal(virtio_transport_restore(virtio_mmio_transport(other.mmio), reader, 0), 0);
    virtio_transport_resume(virtio_mmio_transport(other.mmio));
    struct fuse_read_in in = {.fh = fh, .size = 100};
    assert_int_equal(call(f, &other, FUSE_READ, node, &in, sizeof(in), &reply), 0);
    assert_memory_equal(reply, "content", 7);
    struct fuse_getattr_in attr = {0};
    assert_int_equal(call(f, &other, FUSE_GETATTR, node, &attr, sizeof(attr), &reply), 0);
    assert_int_equal(call(f, &other, FUSE_LOOKUP, FUSE_ROOT_ID, "dir", 4, &reply), 0);
    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
    side_fini(&other);
    virtio_transport_resume(virtio_mmio_transport(f->side.mmio));
    assert_int_equal(call(f, &f->side, FUSE_READ, node, &in, sizeof(in), &reply), 0);
}

static void test_an_unlinked_open_file_cannot_be_saved(void **state)
{
    struct fixture *f = *state;
    close(host_file(f, "file", "content"));
    session_start(f, &f->side);
    uint64_t node = lookup(f, &f->side, "file");
    open_file(f, &f->side, node);
    void *reply;
    assert_int_equal(call(f, &f->side, FUSE_UNLINK, FUSE_ROOT_ID, "file", 5, &reply), 0);
    int err;
    struct snapshot_writer *writer = save(f, &err);
    assert_int_equal(err, -ESTALE);
    snapshot_writer_free(writer);
    virtio_transport_resume(virtio_mmio_transport(f->side.mmio));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    log_init("test", -1, LOG_FORMAT_TEXT, LOG_LEVEL_ERR);
    const struct CMUnitTest tests[] = {
        TEST(test_configuration_space),
        TEST(test_options_out_of_range),
        TEST(test_a_worker_that_cannot_start),
        TEST(test_requests_through_the_ring),
        TEST(test_forgets_have_no_reply),
        TEST(test_a_blocked_request_holds_up_no_other),
        TEST(test_all_workers_blocked),
        TEST(test_reset_ends_the_session),
        TEST(test_a_session_goes_on_in_another_device),
        TEST(test_an_unlinked_open_file_cannot_be_saved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
