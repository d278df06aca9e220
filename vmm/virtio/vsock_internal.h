/*
 * Inside virtio-vsock: the device's state and what its files call of each other.
 *
 *   vsock.c             the device: queues, packets from the guest, snapshots
 *   vsock_rx.c          packets to the guest: who may send next into the guest's rx buffers
 *   vsock_connection.c  one connection: states, credit, half-closes, bytes that wait for the host
 *   vsock_host.c        the Unix socket: accepting, the CONNECT line, parking
 *
 * "Host" is the client of the Unix socket, "guest" the other end; both ends' bytes pass without a copy unless
 * the host is slow. Everything runs in the device's thread. Nobody else includes this.
 */
#ifndef HUSK_VMM_VIRTIO_VSOCK_INTERNAL_H
#define HUSK_VMM_VIRTIO_VSOCK_INTERNAL_H

#include "vmm/virtio/vsock.h"

#include "common/loop.h"
#include "vmm/virtio/device.h"

#include <limits.h>
#include <linux/virtio_vsock.h>
#include <linux/vm_sockets.h>
#include <sys/queue.h>

enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };

#define VSOCK_SHUTDOWN_BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

/* What a connection lets the guest send ahead (buf_alloc): as much as a Linux guest's own buffer, beyond
 * which it does not go. Those that come when the budget is used up get the small size, so that a guest cannot
 * have us hold more than about 100 MB for hosts that do not read. */
#define VSOCK_BUFFER_BYTES       (256u << 10)
#define VSOCK_BUFFER_SMALL_BYTES (8u << 10)
#define VSOCK_BUFFER_BUDGET      (64u << 20)

#define VSOCK_RX_BATCH     20 /* rx chains filled by one read */
#define VSOCK_REPLIES_MAX  256
#define VSOCK_LINE_MAX     32 /* bytes of the CONNECT line */
#define VSOCK_HEADER_BYTES sizeof(struct virtio_vsock_hdr)

/* A packet header in host memory and byte order. */
struct vsock_packet {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port;
    uint32_t len;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
};

enum vsock_state {
    VSOCK_GREETING,  /* the CONNECT line has not come in full */
    VSOCK_PARKED,    /* waits for the driver, or for the knock */
    VSOCK_REQUESTED, /* REQUEST is sent, or about to be */
    VSOCK_OPEN,
    VSOCK_GONE, /* the guest knows it no more: what it sent before still goes to the host */
};

/* Control packets a connection owes the guest: bits, since each is owed at most once. */
enum {
    VSOCK_OWES_REQUEST = 1,
    VSOCK_OWES_CREDIT_REQUEST = 2,
    VSOCK_OWES_CREDIT_UPDATE = 4,
    VSOCK_OWES_SHUTDOWN = 8,
    VSOCK_OWES_RST = 16,
};

struct virtio_vsock;

struct vsock_connection {
    struct virtio_vsock *vsock;
    enum vsock_state state;
    struct watch host; /* the Unix socket, edge-triggered */
    uint32_t host_port, guest_port;

    unsigned owes;
    bool ready; /* in the device's list of those with something for the guest */
    TAILQ_ENTRY(vsock_connection) link;

    /* Host to guest. */
    bool readable;           /* reading may give bytes */
    bool ended;              /* EPOLLRDHUP or worse was seen: read until the end of file */
    bool host_eof;           /* the host sends no more */
    bool credit_asked;       /* CREDIT_REQUEST was sent in this stall */
    uint32_t guest_shutdown; /* VIRTIO_VSOCK_SHUTDOWN_* the guest sent */
    uint32_t guest_buf_alloc, guest_fwd_cnt;
    uint32_t sent_cnt; /* bytes sent to the guest, modulo 2^32 as the counters of §5.10.6.3 */

    /* Guest to host. */
    bool host_dead;           /* the host reads no more */
    bool host_ended;          /* its end of file was made */
    uint32_t shutdown_sent;   /* VIRTIO_VSOCK_SHUTDOWN_* we sent */
    uint32_t buf_alloc;       /* bytes the guest may send ahead */
    uint32_t received_cnt;    /* bytes the guest sent */
    uint32_t fwd_cnt;         /* of these, bytes the host was given */
    uint32_t fwd_told;        /* fwd_cnt as the guest knows it */
    uint8_t *buffer;          /* a ring of buf_alloc bytes, there only while it holds some */
    uint32_t start, buffered; /* bytes */
};

TAILQ_HEAD(vsock_ready, vsock_connection);

/* An RST owed to an address pair that has no connection. */
struct vsock_reply {
    uint64_t src_cid;
    uint32_t src_port, dst_port;
    uint16_t type;
};

/* TRANSPORT_RESET of a restored device. */
enum vsock_reset { VSOCK_RESET_NONE, VSOCK_RESET_DUE, VSOCK_RESET_SENT };

struct virtio_vsock {
    struct virtio_device device;
    uint64_t guest_cid;
    uint32_t knock_port;
    void (*knock)(void *arg);
    void *knock_arg;
    bool active, paused;
    bool guest_listens; /* it knocked or accepted: an RST from now on is a refusal */

    struct watch listen;
    bool accepting;
    int spare_fd; /* given up for a moment to turn a client away when fds are out */
    struct vsock_connection *slot[VSOCK_CONNECTIONS_MAX];
    unsigned connections;
    unsigned next_slot;
    uint32_t generation; /* makes the host port of each connection in a slot another one */
    size_t buffer_promised;

    struct vsock_ready ready;
    struct vsock_reply reply[VSOCK_REPLIES_MAX]; /* a ring */
    unsigned reply_start, replies;
    bool tx_stalled; /* tx chains wait for room in `reply` */

    enum vsock_reset reset;
    unsigned event_buffers; /* free event buffers before TRANSPORT_RESET took one */

    struct log_limit limit;
    struct virtio_chain tx_chain;
    struct virtio_chain rx_chain[VSOCK_RX_BATCH];
    struct iovec iov[IOV_MAX + VIRTIO_CHAIN_MAX];
};

/* vsock_host.c */

/* Begins or stops accepting as there is room. */
void vsock_host_accept_more(struct virtio_vsock *vsock);
/* Sends the REQUESTs of parked connections, if the guest can take them now. */
void vsock_host_release_parked(struct virtio_vsock *vsock);
/* The guest refused or forgot a requested connection: parks it. */
void vsock_host_park(struct vsock_connection *connection);
/* Reads the CONNECT line; the caller settles the connection after. */
void vsock_host_greet(struct vsock_connection *connection);

/* vsock_connection.c */

/* A connection in a free slot that owns fd (also on failure), or NULL. */
struct vsock_connection *vsock_connection_new(struct virtio_vsock *vsock, int fd);
/* Closes and frees it, whatever it still holds. */
void vsock_connection_free(struct vsock_connection *connection);
/* The connection between these ports that the guest may know, or NULL. */
struct vsock_connection *vsock_connection_find(const struct virtio_vsock *vsock, uint32_t host_port,
                                               uint32_t guest_port);
/* A packet of the guest for it; the chain's cursor is at the payload. */
void vsock_connection_receive(struct vsock_connection *connection, const struct vsock_packet *packet,
                              struct virtio_chain *chain);
/* The guest's driver is gone, and its end of every connection with it. */
void vsock_connection_forget(struct vsock_connection *connection);
/* Draws the consequences of what changed: frees the connection if it is done, else queues it if it has
 * something for the guest. False if it was freed. Ends every function that changes a connection from
 * outside. */
bool vsock_connection_settle(struct vsock_connection *connection);
/* Bytes that may be sent to the guest now; 0 too if there is nothing to read. */
uint32_t vsock_connection_may_send(const struct vsock_connection *connection);

/* vsock_rx.c */

/* Sends what is owed to the guest as far as it has rx buffers, one interrupt at the end. */
void vsock_rx_pump(struct virtio_vsock *vsock);
/* Owes the sender of `packet` an RST. False when too many are owed already. */
bool vsock_rx_reply_rst(struct virtio_vsock *vsock, const struct vsock_packet *packet);

#endif
