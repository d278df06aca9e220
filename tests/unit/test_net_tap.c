/*
 * virtio-net over a real tap, with our own data path and, where the kernel has it, with vhost-net. Needs root
 * and /dev/net/tun, in a network namespace of its own; skipped (exit status 77) without.
 */
#include "common/fd.h"
#include "tests/unit/fake_driver.h"
#include "vmm/snapshot.h"
#include "vmm/virtio/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SKIPPED      77
#define QUEUE_SIZE   64
#define HEADER_BYTES sizeof(struct virtio_net_hdr_v1)
#define ETH_P_TEST   0x88b5 /* for local experiments */
#define BIT(feature) (1ULL << (feature))
#define PATIENCE_MS  5000

enum { RX, TX, CONTROL };

struct fixture {
    struct fake_memory memory;
    struct fake_queue queue[3];
    struct loop *loop;
    struct virtio_mmio *mmio;
    int irq_fd, packet_fd; /* the host's side of the tap */
    bool vhost;
    gpa_t room;
};

static int tap_open(const char *name, short flags)
{
    struct ifreq request = {.ifr_flags = flags};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    strncpy(request.ifr_name, name, sizeof(request.ifr_name) - 1);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0)
        fail_msg("tap: %s", strerror(errno));
    return fd;
}

/* Brings the interface up and opens a socket on it that sees and sends the test's packets only. */
static int packet_open(const char *name)
{
    struct ifreq request = {.ifr_flags = 0};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    strncpy(request.ifr_name, name, sizeof(request.ifr_name) - 1);
    assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &request), 0);
    request.ifr_flags |= IFF_UP;
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_TEST), .sll_ifindex = (int)if_nametoindex(name)};
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* A tap, the device that has it, and the host's side of it. */
static void make_device(struct fixture *f)
{
    struct virtio_net_options options;
    struct error err;
    f->loop = loop_new();
    f->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    virtio_net_options_init(&options);
    memcpy(options.mac, "\x52\x54\0\1\2\3", ETH_ALEN);
    options.pairs = 1;
    options.tap_fd[0] = tap_open("husktest", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    if (f->vhost)
        options.vhost_fd[0] = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
    f->packet_fd = packet_open("husktest");
    struct virtio_net_host host = {
        .loop = f->loop, .loops = &f->loop, .loop_count = 1, .memory = &f->memory.map};
    struct virtio_device *device = virtio_net_new(&host, &options, &err);
    if (!device)
        fail_msg("%s", err.text);
    f->mmio = virtio_mmio_new(device, &f->memory.map, f->irq_fd);
}

static void free_device(struct fixture *f)
{
    virtio_transport_free(virtio_mmio_transport(f->mmio));
    loop_free(f->loop);
    close(f->irq_fd);
    close(f->packet_fd);
}

static int set_up_with(void **state, bool vhost)
{
    struct fixture *f = calloc(1, sizeof(*f));
    if (!f)
        return -1;
    *state = f;
    f->vhost = vhost;
    fake_memory_init(&f->memory, 1 << 20);
    for (unsigned i = 0; i < 3; i++)
        fake_queue_init(&f->queue[i], &f->memory, QUEUE_SIZE);
    f->room = fake_alloc(&f->memory, 512 << 10, 4096);
    make_device(f);
    uint64_t features = BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) |
                        BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4);
    uint32_t status = fake_mmio_start(f->mmio, features, f->queue, 3);
    fake_loop_settle(f->loop);
    return (status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) == VIRTIO_CONFIG_S_DRIVER_OK
               ? 0
               : -1;
}

static int set_up(void **state)
{
    return set_up_with(state, false);
}

static int set_up_vhost(void **state)
{
    return set_up_with(state, true);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    free_device(f);
    fake_memory_fini(&f->memory);
    free(f);
    return 0;
}

static void make_frame(uint8_t *frame, size_t bytes, const void *destination)
{
    static const uint8_t source[ETH_ALEN] = {2, 0, 0, 0, 0, 1};
    for (size_t i = 0; i < bytes; i++)
        frame[i] = (uint8_t)(i * 3);
    memcpy(frame, destination, ETH_ALEN);
    memcpy(frame + ETH_ALEN, source, ETH_ALEN);
    frame[12] = ETH_P_TEST >> 8;
    frame[13] = ETH_P_TEST & 0xff;
}

/* Serves the loop until the queue has a used buffer. */
static bool wait_used(struct fixture *f, unsigned queue, int patience_ms, uint32_t *length)
{
    for (int i = 0; i < patience_ms; i++) {
        if (fake_queue_used(&f->queue[queue], NULL, length))
            return true;
        loop_once(f->loop, 1);
    }
    return false;
}

static void guest_sends(struct fixture *f, const uint8_t *frame, uint32_t bytes)
{
    memset(fake_at(&f->memory, f->room), 0, HEADER_BYTES);
    memcpy(fake_at(&f->memory, f->room + HEADER_BYTES), frame, bytes);
    struct fake_segment segment = {f->room, (uint32_t)HEADER_BYTES + bytes, false};
    fake_queue_add(&f->queue[TX], &segment, 1);
    fake_mmio_kick(f->mmio, f->loop, TX);
}

/* One frame each way. */
static void assert_works(struct fixture *f)
{
    uint8_t frame[600], got[700];
    uint32_t length = 0;
    make_frame(frame, sizeof(frame), "\xff\xff\xff\xff\xff\xff");
    guest_sends(f, frame, sizeof(frame));
    assert_true(wait_used(f, TX, PATIENCE_MS, NULL));
    struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    setsockopt(f->packet_fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(recv(f->packet_fd, got, sizeof(got), 0), sizeof(frame));
    assert_memory_equal(got, frame, sizeof(frame));

    gpa_t buffer = f->room + 4096 + 512ULL * (f->queue[RX].avail_idx % 64);
    for (unsigned i = 0; i < 2; i++) {
        struct fake_segment segment = {buffer + 512 * i, 512, true};
        fake_queue_add(&f->queue[RX], &segment, 1);
    }
    fake_mmio_kick(f->mmio, f->loop, RX);
    assert_int_equal(send(f->packet_fd, frame, sizeof(frame), 0), sizeof(frame));
    assert_true(wait_used(f, RX, PATIENCE_MS, &length));
    assert_int_equal(length, 512);
    assert_true(wait_used(f, RX, PATIENCE_MS, &length));
    assert_int_equal(length, HEADER_BYTES + sizeof(frame) - 512);
    struct virtio_net_hdr_v1 *header = fake_at(&f->memory, buffer);
    assert_int_equal(le16toh(header->num_buffers), 2);
    assert_memory_equal(header + 1, frame, 500);
}

static void frames_go_both_ways(void **state)
{
    struct fixture *f = *state;
    uint64_t count = 0;
    for (unsigned i = 0; i < 40; i++) /* rings wrap */
        assert_works(f);
    assert_int_equal(read(f->irq_fd, &count, sizeof(count)), sizeof(count)); /* the guest was interrupted */
    assert_true(fake_mmio_get(f->mmio, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_VRING);
}

static void pause_and_resume_lose_no_place(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 5; i++) {
        assert_works(f);
        virtio_transport_pause(virtio_mmio_transport(f->mmio));
        assert_int_equal(
            virtqueue_in_flight(virtio_transport_device(virtio_mmio_transport(f->mmio))->queue[RX]), 0);
        assert_int_equal(
            virtqueue_position(virtio_transport_device(virtio_mmio_transport(f->mmio))->queue[TX]),
            f->queue[TX].used_seen);
        virtio_transport_resume(virtio_mmio_transport(f->mmio));
        fake_loop_settle(f->loop);
    }
    assert_works(f);
}

/* The path that a packet took: the kernel's leaves our own one's counters alone. */
static void packets_take_the_path(void **state)
{
    struct fixture *f = *state;
    struct virtio_statistic rows[16];
    struct virtio_device *device = virtio_transport_device(virtio_mmio_transport(f->mmio));
    assert_works(f);
    unsigned count = device->ops->statistics(device, rows, 16), seen = 0;
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(rows[i].name, "rx-packets") == 0 || strcmp(rows[i].name, "tx-packets") == 0) {
            assert_int_equal(rows[i].value, f->vhost ? 0 : 1);
            seen++;
        } else if (strcmp(rows[i].name, "vhost") == 0) {
            assert_int_equal(rows[i].value, f->vhost);
            seen++;
        }
    }
    assert_int_equal(seen, 3);
}

/* A new device on a new tap goes on where the saved one stood in the rings of the same memory. */
static void saved_device_goes_on(void **state)
{
    struct fixture *f = *state;
    const void *bytes;
    size_t length;
    for (unsigned i = 0; i < 3; i++) {
        assert_works(f);
        struct snapshot_writer *writer = snapshot_writer_new();
        virtio_transport_pause(virtio_mmio_transport(f->mmio));
        assert_int_equal(virtio_transport_save(virtio_mmio_transport(f->mmio), writer, 0), 0);
        assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);
        free_device(f);
        make_device(f);
        struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
        assert_int_equal(virtio_transport_restore(virtio_mmio_transport(f->mmio), reader, 0), 0);
        snapshot_reader_free(reader);
        snapshot_writer_free(writer);
        virtio_transport_resume(virtio_mmio_transport(f->mmio));
        fake_loop_settle(f->loop);
        assert_works(f);
    }
}

static void reset_and_restart_work(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 3; i++) {
        assert_works(f);
        fake_mmio_set(f->mmio, VIRTIO_MMIO_STATUS, 0);
        f->memory.next = FAKE_RAM_BASE;
        memset(f->memory.ram, 0, 16 << 10);
        for (unsigned queue = 0; queue < 3; queue++)
            fake_queue_init(&f->queue[queue], &f->memory, QUEUE_SIZE);
        assert_true(fake_mmio_start(f->mmio, BIT(VIRTIO_NET_F_MRG_RXBUF), f->queue, 3) &
                    VIRTIO_CONFIG_S_DRIVER_OK);
        fake_loop_settle(f->loop);
    }
}

/* The kernel itself keeps from us what the driver does not want. */
static void tap_filters_by_destination(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[100], command[3] = {VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0};
    memcpy(fake_at(&f->memory, f->room), command, sizeof(command));
    struct fake_segment segments[] = {{f->room, sizeof(command), false}, {f->room + 16, 1, true}};
    fake_queue_add(&f->queue[CONTROL], segments, 2);
    fake_mmio_kick(f->mmio, f->loop, CONTROL);
    assert_true(wait_used(f, CONTROL, PATIENCE_MS, NULL));
    assert_int_equal(*(uint8_t *)fake_at(&f->memory, f->room + 16), VIRTIO_NET_OK);
    for (unsigned i = 0; i < 4; i++) {
        struct fake_segment segment = {f->room + 4096 + 512 * i, 512, true};
        fake_queue_add(&f->queue[RX], &segment, 1);
    }
    fake_mmio_kick(f->mmio, f->loop, RX);
    make_frame(frame, sizeof(frame), "\x52\x54\0\x9\x9\x9"); /* somebody else */
    assert_int_equal(send(f->packet_fd, frame, sizeof(frame), 0), sizeof(frame));
    assert_false(wait_used(f, RX, 100, NULL));
    make_frame(frame, sizeof(frame), "\x52\x54\0\1\2\3");
    assert_int_equal(send(f->packet_fd, frame, sizeof(frame), 0), sizeof(frame));
    assert_true(wait_used(f, RX, PATIENCE_MS, NULL));
}

static void malformed_frames_do_not_reach_the_host(void **state)
{
    struct fixture *f = *state;
    struct virtio_net_hdr_v1 header = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 0xfff0, .csum_offset = 0xfff0};
    uint8_t frame[60], got[100];
    make_frame(frame, sizeof(frame), "\xff\xff\xff\xff\xff\xff");
    memcpy(fake_at(&f->memory, f->room), &header, sizeof(header));
    memcpy(fake_at(&f->memory, f->room + HEADER_BYTES), frame, sizeof(frame));
    struct fake_segment segment = {f->room, (uint32_t)(HEADER_BYTES + sizeof(frame)), false};
    fake_queue_add(&f->queue[TX], &segment, 1);
    fake_mmio_kick(f->mmio, f->loop, TX);
    assert_true(wait_used(f, TX, PATIENCE_MS, NULL));
    assert_true(recv(f->packet_fd, got, sizeof(got), MSG_DONTWAIT) < 0);
    assert_works(f);
}

static void what_is_no_tap_is_refused(void **state)
{
    struct virtio_net_options options;
    struct error err;
    (void)state;
    struct loop *loop = loop_new();
    struct virtio_net_host host = {.loop = loop, .loops = &loop, .loop_count = 1};
    virtio_net_options_init(&options);
    options.pairs = 1;
    options.tap_fd[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_null(virtio_net_new(&host, &options, &err));
    assert_int_equal(err.code, ENOTTY);
    assert_int_equal(options.tap_fd[0], -1); /* taken, thus closed */
    virtio_net_options_init(&options);
    options.pairs = 2; /* but no IFF_MULTI_QUEUE */
    options.tap_fd[0] = tap_open("husktest", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    assert_null(virtio_net_new(&host, &options, &err));
    assert_non_null(strstr(err.text, "IFF_MULTI_QUEUE"));
    loop_free(loop);
}

/* The kernel's own packets (multicast listeners, router solicitations) would come between. */
static void disable_ipv6(void)
{
    cleanup_fd int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "1", 1) != 1)
        fprintf(stderr, "IPv6 is not there or stays on: %s\n", strerror(errno));
}

#define tap_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define vhost_test(name)                                                                                     \
    {                                                                                                        \
#name " (vhost)", name, set_up_vhost, tear_down, NULL                                                \
    }

int main(void)
{
    log_init("test", STDERR_FILENO, LOG_FORMAT_TEXT, LOG_LEVEL_ERR);
    const struct CMUnitTest tests[] = {
        tap_test(frames_go_both_ways),
        tap_test(pause_and_resume_lose_no_place),
        tap_test(packets_take_the_path),
        tap_test(saved_device_goes_on),
        tap_test(reset_and_restart_work),
        tap_test(tap_filters_by_destination),
        tap_test(malformed_frames_do_not_reach_the_host),
        cmocka_unit_test(what_is_no_tap_is_refused),
    };
    const struct CMUnitTest vhost_tests[] = {
        vhost_test(frames_go_both_ways),    vhost_test(pause_and_resume_lose_no_place),
        vhost_test(packets_take_the_path),  vhost_test(saved_device_goes_on),
        vhost_test(reset_and_restart_work), vhost_test(tap_filters_by_destination),
    };
    cleanup_fd int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (tun < 0 || geteuid() != 0 || unshare(CLONE_NEWNET) < 0) {
        fprintf(stderr, "skipped: needs root, /dev/net/tun and a network namespace\n");
        return SKIPPED;
    }
    disable_ipv6();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (access("/dev/vhost-net", R_OK | W_OK) < 0)
        fprintf(stderr, "without vhost-net: no /dev/vhost-net\n");
    else
        failed += cmocka_run_group_tests(vhost_tests, NULL, NULL);
    return failed;
}
