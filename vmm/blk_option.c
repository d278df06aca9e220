/* Parsing --blk: see blk_option.h. */
#include "vmm/blk_option.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_BYTES_MAX 512

static int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno || end == text || *end || *text == '-' || *text == '+' || *out < min || *out > max ? -EINVAL
                                                                                                    : 0;
}

int blk_option_set_serial(struct virtio_blk_options *options, const char *serial)
{
    size_t length = strlen(serial);
    if (length == 0 || length > VIRTIO_BLK_ID_BYTES)
        return -EINVAL;
    for (size_t i = 0; i < length; i++) {
        if (serial[i] <= ' ' || serial[i] > '~' || serial[i] == ',')
            return -EINVAL;
    }
    memcpy(options->serial, serial, length + 1);
    return 0;
}

static int parse_switch(struct virtio_blk_options *options, const char *key)
{
    uint64_t fd;
    if (strcmp(key, "ro") == 0) {
        options->read_only = true;
    } else if (strcmp(key, "direct") == 0) {
        options->direct = true;
    } else if (strncmp(key, "fd:", 3) == 0 && parse_number(key + 3, 0, INT_MAX, &fd) == 0) {
        options->fd = (int)fd;
    } else {
        return -EINVAL;
    }
    return 0;
}

static int parse_value(struct virtio_blk_options *options, const char *key, const char *value)
{
    uint64_t number;
    if (strcmp(key, "serial") == 0)
        return blk_option_set_serial(options, value);
    if (strcmp(key, "bps") == 0)
        return parse_number(value, 1, INT64_MAX, &options->bytes_per_s);
    if (strcmp(key, "iops") == 0)
        return parse_number(value, 1, INT64_MAX, &options->ops_per_s);
    if (strcmp(key, "queues") == 0 && parse_number(value, 1, VIRTIO_BLK_QUEUES_MAX, &number) == 0)
        options->queues = (unsigned)number;
    else if (strcmp(key, "threads") == 0 && parse_number(value, 1, VIRTIO_BLK_THREADS_MAX, &number) == 0)
        options->threads = (unsigned)number;
    else
        return -EINVAL;
    return 0;
}

int blk_option_parse(const char *value, struct virtio_blk_options *options)
{
    char text[VALUE_BYTES_MAX], *rest = text;
    size_t length = strlen(value);
    if (length >= sizeof(text))
        return -EINVAL;
    memcpy(text, value, length + 1);
    virtio_blk_options_init(options);
    for (char *part; (part = strsep(&rest, ","));) {
        char *key = strsep(&part, "=");
        if ((part ? parse_value(options, key, part) : parse_switch(options, key)) < 0)
            return -EINVAL;
    }
    return options->fd >= 0 ? 0 : -EINVAL;
}
