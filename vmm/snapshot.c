/*
 * The snapshot stream: see snapshot.h.
 *
 * Layout, all little-endian: the stream's head {magic "HUSKSNAP", u32 format}, then sections {u32 header
 * magic, char name[32], u32 instance, u32 version, u64 length, bytes}. A reader walks the headers once when
 * it is made and refuses a stream whose sections do not fit it exactly; after that, section_open is a walk
 * over headers known to be good.
 *
 * Trust boundary: the reader's bytes may come from anywhere. Every getter is bounded by its section.
 */
#include "vmm/snapshot.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STREAM_MAGIC   "HUSKSNAP"
#define STREAM_FORMAT  1u
#define SECTION_MAGIC  0x54434553u /* "SECT" */
#define NAME_BYTES     32u
#define CAPACITY_FIRST 4096u

struct stream_head {
    char magic[8];
    uint32_t format;
} __attribute__((packed));

struct section_head {
    uint32_t magic;
    char name[NAME_BYTES]; /* NUL-terminated */
    uint32_t instance, version;
    uint64_t length; /* bytes that follow */
} __attribute__((packed));

struct snapshot_writer {
    uint8_t *bytes;
    size_t length, capacity;
    size_t section; /* offset of the open section's head; 0 when none is open */
    int error;      /* the first failure; sticks */
};

struct snapshot_reader {
    const uint8_t *bytes;
    size_t length;
    size_t at, end; /* cursor within the open section */
    int error;      /* the first failure; sticks */
};

static void writer_append(struct snapshot_writer *writer, const void *bytes, size_t length)
{
    if (writer->error)
        return;
    size_t needed;
    if (__builtin_add_overflow(writer->length, length, &needed)) {
        writer->error = -ENOMEM;
        return;
    }
    if (needed > writer->capacity) {
        size_t capacity = writer->capacity ? writer->capacity : CAPACITY_FIRST;
        while (capacity < needed && capacity <= SIZE_MAX / 2)
            capacity *= 2;
        uint8_t *grown = capacity < needed ? NULL : realloc(writer->bytes, capacity);
        if (!grown) {
            writer->error = -ENOMEM;
            return;
        }
        writer->bytes = grown;
        writer->capacity = capacity;
    }
    if (length > 0)
        memcpy(writer->bytes + writer->length, bytes, length);
    writer->length = needed;
}

struct snapshot_writer *snapshot_writer_new(void)
{
    struct snapshot_writer *writer = calloc(1, sizeof(*writer));
    if (!writer)
        return NULL;
    struct stream_head head = {.format = htole32(STREAM_FORMAT)};
    memcpy(head.magic, STREAM_MAGIC, sizeof(head.magic));
    writer_append(writer, &head, sizeof(head));
    return writer;
}

void snapshot_writer_free(struct snapshot_writer *writer)
{
    if (!writer)
        return;
    free(writer->bytes);
    free(writer);
}

void snapshot_section_begin(struct snapshot_writer *writer, const char *name, uint32_t instance,
                            uint32_t version)
{
    struct section_head head = {
        .magic = htole32(SECTION_MAGIC), .instance = htole32(instance), .version = htole32(version)};
    size_t name_length = strlen(name);
    if (writer->section || name_length >= sizeof(head.name)) {
        writer->error = writer->error ? writer->error : -EINVAL;
        return;
    }
    memcpy(head.name, name, name_length);
    size_t at = writer->length;
    writer_append(writer, &head, sizeof(head));
    writer->section = at;
}

void snapshot_section_end(struct snapshot_writer *writer)
{
    if (writer->error)
        return;
    if (!writer->section) {
        writer->error = -EINVAL;
        return;
    }
    uint64_t length = htole64(writer->length - writer->section - sizeof(struct section_head));
    memcpy(writer->bytes + writer->section + offsetof(struct section_head, length), &length, sizeof(length));
    writer->section = 0;
}

void snapshot_put_u8(struct snapshot_writer *writer, uint8_t value)
{
    writer_append(writer, &value, sizeof(value));
}

void snapshot_put_u16(struct snapshot_writer *writer, uint16_t value)
{
    value = htole16(value);
    writer_append(writer, &value, sizeof(value));
}

void snapshot_put_u32(struct snapshot_writer *writer, uint32_t value)
{
    value = htole32(value);
    writer_append(writer, &value, sizeof(value));
}

void snapshot_put_u64(struct snapshot_writer *writer, uint64_t value)
{
    value = htole64(value);
    writer_append(writer, &value, sizeof(value));
}

void snapshot_put_bytes(struct snapshot_writer *writer, const void *bytes, size_t length)
{
    if (length > UINT32_MAX) {
        writer->error = writer->error ? writer->error : -EFBIG;
        return;
    }
    snapshot_put_u32(writer, (uint32_t)length);
    writer_append(writer, bytes, length);
}

int snapshot_writer_content(const struct snapshot_writer *writer, const void **bytes, size_t *length)
{
    if (writer->error)
        return writer->error;
    if (writer->section)
        return -EINVAL;
    *bytes = writer->bytes;
    *length = writer->length;
    return 0;
}

/* Copies the head at `at` into host order. False when it does not fit the stream or is not a section. */
static bool section_at(const struct snapshot_reader *reader, size_t at, struct section_head *head)
{
    if (reader->length - at < sizeof(*head))
        return false;
    memcpy(head, reader->bytes + at, sizeof(*head));
    head->magic = le32toh(head->magic);
    head->instance = le32toh(head->instance);
    head->version = le32toh(head->version);
    head->length = le64toh(head->length);
    return head->magic == SECTION_MAGIC && memchr(head->name, 0, sizeof(head->name)) &&
           head->length <= reader->length - at - sizeof(*head);
}

static bool stream_valid(const struct snapshot_reader *reader)
{
    struct stream_head stream;
    if (reader->length < sizeof(stream))
        return false;
    memcpy(&stream, reader->bytes, sizeof(stream));
    if (memcmp(stream.magic, STREAM_MAGIC, sizeof(stream.magic)) != 0 ||
        le32toh(stream.format) != STREAM_FORMAT)
        return false;
    struct section_head head;
    for (size_t at = sizeof(stream); at < reader->length; at += sizeof(head) + (size_t)head.length) {
        if (!section_at(reader, at, &head))
            return false;
    }
    return true;
}

struct snapshot_reader *snapshot_reader_new(const void *bytes, size_t length)
{
    struct snapshot_reader *reader = calloc(1, sizeof(*reader));
    if (!reader)
        return NULL;
    reader->bytes = bytes;
    reader->length = length;
    if (!stream_valid(reader)) {
        free(reader);
        return NULL;
    }
    return reader;
}

void snapshot_reader_free(struct snapshot_reader *reader)
{
    free(reader);
}

int snapshot_section_open(struct snapshot_reader *reader, const char *name, uint32_t instance,
                          uint32_t max_version, uint32_t *version)
{
    struct section_head head;
    for (size_t at = sizeof(struct stream_head); at < reader->length;
         at += sizeof(head) + (size_t)head.length) {
        if (!section_at(reader, at, &head))
            return -EPROTO;
        if (head.instance != instance || strcmp(head.name, name) != 0)
            continue;
        if (head.version > max_version)
            return -EPROTO;
        reader->at = at + sizeof(head);
        reader->end = reader->at + (size_t)head.length;
        if (version)
            *version = head.version;
        return 0;
    }
    return -ENOENT;
}

/* The next `length` bytes of the section, or NULL and the reader is at fault from here on. */
static const void *reader_take(struct snapshot_reader *reader, size_t length)
{
    if (reader->error || length > reader->end - reader->at) {
        reader->error = -EPROTO;
        return NULL;
    }
    const void *taken = reader->bytes + reader->at;
    reader->at += length;
    return taken;
}

uint8_t snapshot_get_u8(struct snapshot_reader *reader)
{
    const uint8_t *from = reader_take(reader, sizeof(*from));
    return from ? *from : 0;
}

uint16_t snapshot_get_u16(struct snapshot_reader *reader)
{
    uint16_t value = 0;
    const void *from = reader_take(reader, sizeof(value));
    if (from)
        memcpy(&value, from, sizeof(value));
    return le16toh(value);
}

uint32_t snapshot_get_u32(struct snapshot_reader *reader)
{
    uint32_t value = 0;
    const void *from = reader_take(reader, sizeof(value));
    if (from)
        memcpy(&value, from, sizeof(value));
    return le32toh(value);
}

uint64_t snapshot_get_u64(struct snapshot_reader *reader)
{
    uint64_t value = 0;
    const void *from = reader_take(reader, sizeof(value));
    if (from)
        memcpy(&value, from, sizeof(value));
    return le64toh(value);
}

const void *snapshot_get_blob(struct snapshot_reader *reader, size_t max, size_t *length)
{
    size_t got = snapshot_get_u32(reader);
    const void *from = NULL;
    if (got <= max)
        from = reader_take(reader, got);
    else
        reader->error = -EPROTO;
    *length = from ? got : 0;
    return from;
}

void snapshot_get_bytes(struct snapshot_reader *reader, void *bytes, size_t length)
{
    size_t got;
    const void *from = snapshot_get_blob(reader, length, &got);
    if (from && got == length) {
        memcpy(bytes, from, length);
        return;
    }
    reader->error = -EPROTO;
    memset(bytes, 0, length);
}

int snapshot_reader_error(const struct snapshot_reader *reader)
{
    return reader->error;
}

int snapshot_section_finish(struct snapshot_reader *reader)
{
    if (!reader->error && reader->at != reader->end)
        reader->error = -EPROTO;
    return reader->error;
}
