/*
 * rtnetlink's attributes as JSON: see network_json.h. Called by network_snapshot.c and network_routes.c.
 */
#include "shim/network_json.h"

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/if_ether.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define LIFETIME_INFINITE UINT32_MAX

static size_t address_bytes(int family)
{
    return family == AF_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr);
}

void network_json_set_bytes(json_t *object, const char *key, int family, const void *address, size_t length)
{
    char text[INET6_ADDRSTRLEN];
    if (length != address_bytes(family))
        return;
    inet_ntop(family, address, text, sizeof(text));
    json_object_set_new(object, key, json_string(text));
}

void network_json_set_address(json_t *object, const char *key, int family, const struct nlattr *attribute)
{
    if (attribute)
        network_json_set_bytes(object, key, family, mnl_attr_get_payload(attribute),
                               mnl_attr_get_payload_len(attribute));
}

void network_json_set_prefix(json_t *object, const char *key, int family, const struct nlattr *attribute,
                             unsigned length)
{
    static const uint8_t any[sizeof(struct in6_addr)];
    char address[INET6_ADDRSTRLEN], text[INET6_ADDRSTRLEN + 8];
    if (attribute && mnl_attr_get_payload_len(attribute) != address_bytes(family))
        return;
    inet_ntop(family, attribute ? mnl_attr_get_payload(attribute) : any, address, sizeof(address));
    snprintf(text, sizeof(text), "%s/%u", address, length);
    json_object_set_new(object, key, json_string(text));
}

void network_json_set_peer(json_t *object, int family, const struct nlattr *local, const struct nlattr *peer)
{
    uint16_t length = mnl_attr_get_payload_len(local);
    if (mnl_attr_get_payload_len(peer) == length &&
        memcmp(mnl_attr_get_payload(peer), mnl_attr_get_payload(local), length) == 0)
        return;
    network_json_set_address(object, "peer", family, peer);
}

void network_json_set_mac(json_t *object, const char *key, const struct nlattr *attribute)
{
    char text[3 * ETH_ALEN];
    if (mnl_attr_get_payload_len(attribute) != ETH_ALEN)
        return;
    const uint8_t *mac = mnl_attr_get_payload(attribute);
    snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
             mac[5]);
    json_object_set_new(object, key, json_string(text));
}

void network_json_set_lifetimes(json_t *object, const struct nlattr *attribute)
{
    struct ifa_cacheinfo info;
    if (mnl_attr_get_payload_len(attribute) < sizeof(info))
        return;
    memcpy(&info, mnl_attr_get_payload(attribute), sizeof(info));
    if (info.ifa_valid != LIFETIME_INFINITE)
        json_object_set_new(object, "valid_s", json_integer(info.ifa_valid));
    if (info.ifa_prefered != LIFETIME_INFINITE)
        json_object_set_new(object, "preferred_s", json_integer(info.ifa_prefered));
}
