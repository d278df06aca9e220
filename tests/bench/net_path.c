/*
 * Joins two taps by virtio-net's own data path, without a VM: one tap is the device's, the other stands for
 * the guest's network stack, with a driver between it and the rings. What it measures is the device's part of
 * a packet's way, and how often it kicks and interrupts. Called by net-path.
 *
 *   net_path HOST_TAP GUEST_TAP   until its standard input ends; then prints one line of counts
 */
#include "tests/unit/fake_driver.h"
#include "vmm/io_threads.h"
#include "vmm/virtio/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define QUEUE_SIZE   256
#define PACKET_BYTES 69632u /* any packet with its header */
#define BUFFER_BYTES 4096u
#define TURN         64

enum { RX, TX, CONTROL, QUEUES };

struct guest {
    struct fake_memory memory;
    struct fake_queue queue[QUEUES];
    struct loop *loop;
    struct virtio_device *device;
    struct virtio_mmio *mmio;
    int irq_fd, tap_fd;
    gpa_t tx, rx; /* a packet, or a buffer, for each descriptor */
    unsigned tx_free;
    uint64_t tx_next, rx_offered, rx_taken; /* counts, which are also places modulo QUEUE_SIZE */
    uint16_t kicked[2];
    uint64_t kicks, interrupts;
};

static void die(const char *what)
{
    fprintf(stderr, "net_path: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int tap_open(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0)
        die(name);
    return fd;
}

static void *device_thread(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void make_device(struct guest *guest, struct io_threads *threads, const char *tap)
{
    static const uint8_t mac[ETH_ALEN] = {0x52, 0x54, 0, 0, 0, 1};
    struct virtio_net_options options;
    struct error err;
    virtio_net_options_init(&options);
    memcpy(options.mac, mac, sizeof(mac));
    options.pairs = 1;
    options.tap_fd[0] = tap_open(tap);
    struct virtio_net_host host = {.loop = guest->loop, .memory = &guest->memory.map};
    host.loops = io_threads_loops(threads, &host.loop_count);
    guest->device = virtio_net_new(&host, &options, &err);
    if (!guest->device) {
        fprintf(stderr, "net_path: %s\n", err.text);
        exit(1);
    }
    guest->mmio = virtio_mmio_new(guest->device, &guest->memory.map, guest->irq_fd);
    if (!guest->mmio)
        die("transport");
}

static void start(struct guest *guest, const char *host_tap, const char *guest_tap)
{
    pthread_t thread;
    int header_bytes = sizeof(struct virtio_net_hdr_v1);
    fake_memory_init(&guest->memory, 64 << 20);
    for (unsigned i = 0; i < QUEUES; i++)
        fake_queue_init(&guest->queue[i], &guest->memory, QUEUE_SIZE);
    guest->tx = fake_alloc(&guest->memory, (uint64_t)QUEUE_SIZE * PACKET_BYTES, 4096);
    guest->rx = fake_alloc(&guest->memory, (uint64_t)QUEUE_SIZE * BUFFER_BYTES, 4096);
    guest->tx_free = QUEUE_SIZE - 1;
    guest->loop = loop_new();
    guest->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct io_threads *threads = io_threads_new(1);
    if (!guest->loop || !threads)
        die("loop");
    make_device(guest, threads, host_tap);
    if (io_threads_start(threads, "net", NULL, NULL) < 0 ||
        pthread_create(&thread, NULL, device_thread, guest->loop) != 0)
        die("threads");
    uint64_t features = guest->device->ops->features(guest->device) | 1ULL << VIRTIO_RING_F_EVENT_IDX;
    if (!(fake_mmio_start(guest->mmio, features, guest->queue, QUEUES) & VIRTIO_CONFIG_S_DRIVER_OK))
        die("device");
    guest->tap_fd = tap_open(guest_tap);
    if (ioctl(guest->tap_fd, TUNSETVNETHDRSZ, &header_bytes) < 0 ||
        ioctl(guest->tap_fd, TUNSETOFFLOAD, (unsigned long)(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)) < 0)
        die(guest_tap);
}

/* Kicks if the device wants to hear of what was offered since the last time (virtio 1.2 §2.7.10). */
static void kick(struct guest *guest, unsigned index)
{
    struct fake_queue *queue = &guest->queue[index];
    uint64_t one = 1;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (vring_need_event(*fake_queue_avail_event(queue), queue->avail_idx, guest->kicked[index])) {
        if (write(virtio_transport_queue_fd(virtio_mmio_transport(guest->mmio), index), &one, sizeof(one)) <
            0)
            die("kick");
        guest->kicks++;
    }
    guest->kicked[index] = queue->avail_idx;
}

static void offer_buffers(struct guest *guest, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        gpa_t at = guest->rx + guest->rx_offered++ % QUEUE_SIZE * BUFFER_BYTES;
        struct fake_segment segment = {at, BUFFER_BYTES, true};
        fake_queue_add(&guest->queue[RX], &segment, 1);
    }
    kick(guest, RX);
}

/* Packets of the host: put together and given to the guest's tap. Whether there was one. */
static bool receive(struct guest *guest)
{
    static uint8_t packet[PACKET_BYTES];
    uint32_t length;
    unsigned buffers = 1;
    size_t bytes = 0;
    for (unsigned i = 0; i < buffers; i++, guest->rx_taken++) {
        const struct virtio_net_hdr_v1 *header =
            fake_at(&guest->memory, guest->rx + guest->rx_taken % QUEUE_SIZE * BUFFER_BYTES);
        if (!fake_queue_used(&guest->queue[RX], NULL, &length)) {
            if (i == 0)
                return false;
            fprintf(stderr, "net_path: a packet is not whole\n");
            exit(1);
        }
        if (i == 0)
            buffers = header->num_buffers;
        memcpy(packet + bytes, header, length);
        bytes += length;
    }
    if (write(guest->tap_fd, packet, bytes) < 0 && errno != EIO) /* not up yet */
        die("guest's tap");
    offer_buffers(guest, buffers);
    return true;
}

/* A packet of the guest. Whether there was one, and room for it. */
static bool transmit(struct guest *guest)
{
    gpa_t at = guest->tx + guest->tx_next % QUEUE_SIZE * PACKET_BYTES;
    ssize_t bytes = guest->tx_free > 0 ? read(guest->tap_fd, fake_at(&guest->memory, at), PACKET_BYTES) : -1;
    if (bytes <= 0)
        return false;
    struct fake_segment segment = {at, (uint32_t)bytes, false};
    fake_queue_add(&guest->queue[TX], &segment, 1);
    guest->tx_next++;
    guest->tx_free--;
    kick(guest, TX);
    return true;
}

/* Moves packets until there are none, then asks for interrupts as Linux does: at once for packets, late for
 * what was sent. */
static void serve(struct guest *guest)
{
    for (bool any = true; any;) {
        any = false;
        while (fake_queue_used(&guest->queue[TX], NULL, NULL)) {
            guest->tx_free++;
            any = true;
        }
        for (unsigned i = 0; i < TURN && receive(guest); i++)
            any = true;
        for (unsigned i = 0; i < TURN && transmit(guest); i++)
            any = true;
        unsigned sent = QUEUE_SIZE - 1 - guest->tx_free;
        *fake_queue_used_event(&guest->queue[RX]) = guest->queue[RX].used_seen;
        *fake_queue_used_event(&guest->queue[TX]) = (uint16_t)(guest->queue[TX].used_seen + sent * 3 / 4);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
}

static void print_counts(const struct guest *guest)
{
    struct virtio_statistic rows[16];
    unsigned count = guest->device->ops->statistics(guest->device, rows, 16);
    printf("kicks=%llu interrupts=%llu", (unsigned long long)guest->kicks,
           (unsigned long long)guest->interrupts);
    for (unsigned i = 0; i < count; i++)
        printf(" %s=%llu", rows[i].name, (unsigned long long)rows[i].value);
    putchar('\n');
}

int main(int argc, char **argv)
{
    struct guest guest = {.tx_free = 0};
    uint64_t interrupts;
    if (argc != 3) {
        fprintf(stderr, "usage: net_path HOST_TAP GUEST_TAP\n");
        return 2;
    }
    log_init("net_path", STDERR_FILENO, LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
    start(&guest, argv[1], argv[2]);
    offer_buffers(&guest, QUEUE_SIZE - 1);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct pollfd wait[] = {{.fd = guest.irq_fd, .events = POLLIN},
                                {.fd = guest.tap_fd, .events = guest.tx_free > 0 ? POLLIN : 0},
                                {.fd = STDIN_FILENO, .events = POLLIN}};
        if (poll(wait, 3, -1) < 0 && errno != EINTR)
            die("poll");
        if (wait[2].revents)
            break;
        if (read(guest.irq_fd, &interrupts, sizeof(interrupts)) == sizeof(interrupts))
            guest.interrupts++;
        serve(&guest);
    }
    print_counts(&guest);
    return 0;
}
