/*
 * What a network device is to be, as text: the value of --net, "id=3,mac=..,taps=7:8,vhosts=9:10,mtu=1500".
 * taps and vhosts are numbers of descriptors, one a queue pair; without vhosts the data path is our own. mtu
 * may be left out. The caller is trusted; checks are for clear messages.
 */
#ifndef HUSK_VMM_NET_OPTION_H
#define HUSK_VMM_NET_OPTION_H

#include "vmm/virtio/net.h"

#define NET_OPTION_MTU_MIN 68u    /* IPv4's least (RFC 791); what Linux's driver wants at least */
#define NET_OPTION_MTU_MAX 65535u /* the configuration field's */

/* Fills options, descriptors by their numbers. 0 or -EINVAL. */
int net_option_parse(const char *value, struct virtio_net_options *options);
/* Six hexadecimal octets with colons; no multicast address, not all zero. 0 or -EINVAL. */
int net_option_parse_mac(const char *text, uint8_t mac[ETH_ALEN]);

#endif
