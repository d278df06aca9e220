/*
 * virtio-vsock (virtio 1.2 §5.10) in user space: stream sockets between the guest's AF_VSOCK and a Unix
 * socket outside.
 *
 * Host side: a client connects to the listening Unix socket, writes "CONNECT <port>\n" and reads "OK <host
 * port>\n", then the stream is the guest's. Refused or unknown: the socket is closed. Connections asked for
 * before the guest listens are parked (bounded) and sent when the guest's driver is up; those the guest
 * resets while it has never accepted one stay parked until the guest "knocks": its connect to
 * (VMADDR_CID_HOST, knock_port) is answered with RST and releases the parked ones. Apart from the knock,
 * guest-initiated connections are refused with RST.
 *
 * Trust boundary: packet headers and credit come from the guest; a guest that overruns our credit loses the
 * connection. Shutdown is per direction (half-close is kept both ways), and nothing is lost: a peer's bytes
 * sent before its close arrive.
 *
 * Connections do not survive a snapshot: those open when it was taken go on in the process that took it, and
 * the restored guest is told by a TRANSPORT_RESET event, before any new connection.
 */
#ifndef HUSK_VMM_VIRTIO_VSOCK_H
#define HUSK_VMM_VIRTIO_VSOCK_H

#include <stdint.h>

struct loop;
struct virtio_device;

/* Connections at a time, parked ones included; further clients wait in the listening socket's backlog. */
#define VSOCK_CONNECTIONS_MAX 4096

/* listen_fd: a listening AF_UNIX stream socket, the caller's, kept open; made non-blocking. guest_cid > 2.
 * NULL with errno. */
struct virtio_device *virtio_vsock_new(struct loop *loop, int listen_fd, uint64_t guest_cid,
                                       uint32_t knock_port);

/* Has `fn(arg)` called at each knock, in the device's thread. Before the loop runs. */
void virtio_vsock_on_knock(struct virtio_device *device, void (*fn)(void *arg), void *arg);

#endif
