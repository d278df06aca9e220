/*
 * Memory and vCPUs that come and go while the guest runs: the control socket's methods about them, and what
 * they wait for. In the loop's thread.
 */
#ifndef HUSK_VMM_CONTROL_MEMORY_H
#define HUSK_VMM_CONTROL_MEMORY_H

struct loop;
struct machine;
struct memory_control;
struct virtio_device;

/* `mem` (virtio-mem) and `balloon` may be NULL: methods that need them say so. Everything given stays the
 * caller's and outlives it. Before the thread is confined: it makes its timers. NULL with errno. */
struct memory_control *memory_control_new(struct loop *loop, struct machine *machine,
                                          struct virtio_device *mem, struct virtio_device *balloon);
void memory_control_free(struct memory_control *control);

#endif
