/*
 * Saved state: a flat stream of named, versioned sections that every device writes and reads back.
 *
 * A section is {name, instance, version, length, bytes}. Integers are little-endian. Trust boundary: a
 * snapshot file may be hostile; the reader bounds every access, and its first fault sticks: after it all
 * getters give zero, and snapshot_reader_error tells. So a device's restore reads everything, then checks the
 * error and the values' ranges.
 */
#ifndef HUSK_VMM_SNAPSHOT_H
#define HUSK_VMM_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct snapshot_writer;
struct snapshot_reader;

struct snapshot_writer *snapshot_writer_new(void);
void snapshot_writer_free(struct snapshot_writer *writer);
/* Sections do not nest. `name` at most 31 characters. */
void snapshot_section_begin(struct snapshot_writer *writer, const char *name, uint32_t instance,
                            uint32_t version);
void snapshot_section_end(struct snapshot_writer *writer);
void snapshot_put_u8(struct snapshot_writer *writer, uint8_t value);
void snapshot_put_u16(struct snapshot_writer *writer, uint16_t value);
void snapshot_put_u32(struct snapshot_writer *writer, uint32_t value);
void snapshot_put_u64(struct snapshot_writer *writer, uint64_t value);
/* Length (u32) and bytes. */
void snapshot_put_bytes(struct snapshot_writer *writer, const void *bytes, size_t length);
/* The stream so far; borrowed, valid until the next put. Returns 0, or -ENOMEM if any put failed. */
int snapshot_writer_content(const struct snapshot_writer *writer, const void **bytes, size_t *length);

/* Reads from memory that stays the caller's until snapshot_reader_free. NULL on a broken stream or without
 * memory. */
struct snapshot_reader *snapshot_reader_new(const void *bytes, size_t length);
void snapshot_reader_free(struct snapshot_reader *reader);
/* Goes to the section. 0; -ENOENT when absent; -EPROTO when its version is above max_version. */
int snapshot_section_open(struct snapshot_reader *reader, const char *name, uint32_t instance,
                          uint32_t max_version, uint32_t *version);
uint8_t snapshot_get_u8(struct snapshot_reader *reader);
uint16_t snapshot_get_u16(struct snapshot_reader *reader);
uint32_t snapshot_get_u32(struct snapshot_reader *reader);
uint64_t snapshot_get_u64(struct snapshot_reader *reader);
/* What snapshot_put_bytes wrote: exactly `length` bytes are expected. */
void snapshot_get_bytes(struct snapshot_reader *reader, void *bytes, size_t length);
/* As above with the length taken from the stream: borrowed pointer into it; NULL and fault when longer than
 * max. */
const void *snapshot_get_blob(struct snapshot_reader *reader, size_t max, size_t *length);
/* 0, or -EPROTO once anything was wrong: a read past the section's end, a length that does not match. */
int snapshot_reader_error(const struct snapshot_reader *reader);
/* 0, or -EPROTO when the section has bytes left that nobody read. */
int snapshot_section_finish(struct snapshot_reader *reader);

#endif
