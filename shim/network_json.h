/*
 * Attributes of rtnetlink as members of the JSON that the agent gets: addresses as text, numbers as the
 * kernel's. Attributes of an odd length, which the kernel does not send, are left out.
 */
#ifndef HUSK_SHIM_NETWORK_JSON_H
#define HUSK_SHIM_NETWORK_JSON_H

#include <jansson.h>
#include <libmnl/libmnl.h>

/* object[key] = "10.88.0.2" or "fd00::2". family: AF_INET or AF_INET6. */
void network_json_set_address(json_t *object, const char *key, int family, const struct nlattr *attribute);

/* The same of an address that is no attribute. */
void network_json_set_bytes(json_t *object, const char *key, int family, const void *address, size_t length);

/* object[key] = "10.88.0.0/16"; without an attribute the whole of the family ("0.0.0.0/0"). */
void network_json_set_prefix(json_t *object, const char *key, int family, const struct nlattr *attribute,
                             unsigned length);

/* object["peer"], unless both are the same address. */
void network_json_set_peer(json_t *object, int family, const struct nlattr *local, const struct nlattr *peer);

/* object[key] = "aa:bb:cc:dd:ee:ff". */
void network_json_set_mac(json_t *object, const char *key, const struct nlattr *attribute);

/* object["valid_s"] and ["preferred_s"] from a struct ifa_cacheinfo, where they are not for ever. */
void network_json_set_lifetimes(json_t *object, const struct nlattr *attribute);

#endif
