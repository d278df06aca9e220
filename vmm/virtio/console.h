/* virtio-console (virtio 1.2 §5.3), one port: hvc0 carries the guest kernel's log out; there is no way in. */
#ifndef HUSK_VMM_VIRTIO_CONSOLE_H
#define HUSK_VMM_VIRTIO_CONSOLE_H

struct loop;
struct virtio_device;

/* Writes what the guest prints to output_fd: a file, pipe, socket or terminal, the caller's, kept open. At
 * most limit_bytes in all, so that a guest cannot fill the host's disk: the rest is dropped and one line says
 * so. A reader that is slow loses lines, which is told in their place; the guest never waits for it. The
 * process ignores SIGPIPE. NULL with errno. */
struct virtio_device *virtio_console_new(struct loop *loop, int output_fd, unsigned long limit_bytes);

#endif
