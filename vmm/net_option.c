/* Parsing --net: see net_option.h. */
#include "vmm/net_option.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_BYTES_MAX 2048

/* All of `text` as a number in the given base, at most `max`. 0 or -EINVAL. */
static int parse_number(const char *text, int base, unsigned long max, unsigned long *out)
{
    char *end;
    errno = 0;
    *out = strtoul(text, &end, base);
    return errno || end == text || *end || *text == '-' || *text == '+' || *out > max ? -EINVAL : 0;
}

int net_option_parse_mac(const char *text, uint8_t mac[ETH_ALEN])
{
    uint8_t octets[ETH_ALEN], any = 0;
    for (unsigned i = 0; i < ETH_ALEN; i++) {
        const char *digits = text + 3 * (size_t)i;
        char octet[3] = {0};
        unsigned long value;
        if (strlen(text) != 3 * ETH_ALEN - 1 || (i > 0 && digits[-1] != ':'))
            return -EINVAL;
        memcpy(octet, digits, 2);
        if (strspn(octet, "0123456789abcdefABCDEF") != 2 || parse_number(octet, 16, 0xff, &value) < 0)
            return -EINVAL;
        octets[i] = (uint8_t)value;
        any |= octets[i];
    }
    if (!any || octets[0] & 1)
        return -EINVAL;
    memcpy(mac, octets, ETH_ALEN);
    return 0;
}

/* "7:8". The number of descriptors, or -EINVAL. */
static int parse_descriptors(char *text, int *fds)
{
    unsigned long fd;
    int count = 0;
    for (char *number; (number = strsep(&text, ":"));) {
        if (count == VIRTIO_NET_PAIRS_MAX || parse_number(number, 10, INT_MAX, &fd) < 0)
            return -EINVAL;
        fds[count++] = (int)fd;
    }
    return count;
}

/* What was given; the descriptors are checked against each other in the end. */
struct parsed {
    struct virtio_net_options *options;
    int taps, vhosts;
    bool id;
};

static int parse_part(struct parsed *parsed, const char *key, char *value)
{
    struct virtio_net_options *options = parsed->options;
    unsigned long number;
    if (strcmp(key, "taps") == 0)
        return (parsed->taps = parse_descriptors(value, options->tap_fd));
    if (strcmp(key, "vhosts") == 0)
        return (parsed->vhosts = parse_descriptors(value, options->vhost_fd));
    if (strcmp(key, "mac") == 0)
        return net_option_parse_mac(value, options->mac);
    if (strcmp(key, "id") == 0) {
        parsed->id = parse_number(value, 10, UINT32_MAX, &number) == 0;
        options->id = (uint32_t)number;
        return parsed->id ? 0 : -EINVAL;
    }
    if (strcmp(key, "mtu") != 0 || parse_number(value, 10, NET_OPTION_MTU_MAX, &number) < 0 ||
        number < NET_OPTION_MTU_MIN)
        return -EINVAL;
    options->mtu = (uint16_t)number;
    return 0;
}

int net_option_parse(const char *value, struct virtio_net_options *options)
{
    static const uint8_t none[ETH_ALEN];
    char text[VALUE_BYTES_MAX], *rest = text;
    struct parsed parsed = {.options = options};
    size_t length = strlen(value);
    if (length >= sizeof(text))
        return -EINVAL;
    memcpy(text, value, length + 1);
    virtio_net_options_init(options);
    for (char *part; (part = strsep(&rest, ","));) {
        char *key = strsep(&part, "=");
        if (!part || parse_part(&parsed, key, part) < 0)
            return -EINVAL;
    }
    if (!parsed.id || parsed.taps == 0 || (parsed.vhosts != 0 && parsed.vhosts != parsed.taps) ||
        memcmp(options->mac, none, ETH_ALEN) == 0)
        return -EINVAL;
    options->pairs = (unsigned)parsed.taps;
    return 0;
}
