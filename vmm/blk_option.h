/*
 * What a disk is to be, as text: the value of --blk, "fd:N[,ro][,direct][,serial=S][,queues=N][,threads=N]
 * [,bps=N][,iops=N]". The caller is trusted; checks are for clear messages.
 */
#ifndef HUSK_VMM_BLK_OPTION_H
#define HUSK_VMM_BLK_OPTION_H

#include "vmm/virtio/blk.h"

/* Fills options, the descriptor by its number. 0 or -EINVAL. */
int blk_option_parse(const char *value, struct virtio_blk_options *options);
/* A serial of at most VIRTIO_BLK_ID_BYTES printable characters that are no ',' or space. 0 or -EINVAL. */
int blk_option_set_serial(struct virtio_blk_options *options, const char *serial);

#endif
