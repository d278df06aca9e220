/*
 * What is asked of a tap besides packets: the ioctls of <linux/if_tun.h>. Packets are read and written by
 * net_rx.c and net_tx.c. All from the device's own loop; the descriptors are the caller's.
 */
#ifndef HUSK_VMM_VIRTIO_TAP_H
#define HUSK_VMM_VIRTIO_TAP_H

#include "common/error.h"

#include <linux/if_ether.h>
#include <stdbool.h>
#include <stdint.h>

/* Addresses that a tap's filter takes. The first eight count exactly, then group addresses by a hash. */
#define TAP_FILTER_MAX 130u

/* Checks that fd is an attached tap queue with packets preceded by struct virtio_net_hdr_v1, makes it
 * non-blocking and little-endian, all offloads off, no filter. 0, or -1 with err. */
int tap_init(int fd, bool multi_queue, struct error *err);
/* The TUN_F_* the kernel knows. */
unsigned tap_known_offloads(int fd);
/* What packets to the guest may need (TUN_F_*). 0 or -errno. */
int tap_set_offloads(int fd, unsigned offloads);
/* Whether the queue gets packets. 0 or -errno. A queue that is detached already may be told so again. */
int tap_set_attached(int fd, bool attached);
/* Only these destinations pass to the guest, or all with count 0; with all_groups every group address does.
 * 0 or -errno. */
int tap_set_filter(int fd, const uint8_t (*addresses)[ETH_ALEN], unsigned count, bool all_groups);
/* Throws away what waits in the queue. */
void tap_drain(int fd);

#endif
