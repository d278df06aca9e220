/* Unit tests of the snapshot stream: what was put is what one gets, and a broken stream is found out. */
#include "vmm/snapshot.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Two instances of one section and another, as devices would write them. The caller frees the writer. */
static struct snapshot_writer *make(const void **bytes, size_t *length)
{
    struct snapshot_writer *writer = snapshot_writer_new();
    assert_non_null(writer);
    snapshot_section_begin(writer, "disk", 0, 1);
    snapshot_put_u8(writer, 0x12);
    snapshot_put_u16(writer, 0x1234);
    snapshot_put_u32(writer, 0x12345678);
    snapshot_put_u64(writer, 0x123456789abcdef0);
    snapshot_put_bytes(writer, "hello", 5);
    snapshot_section_end(writer);
    snapshot_section_begin(writer, "disk", 1, 3);
    snapshot_put_u32(writer, 7);
    snapshot_section_end(writer);
    snapshot_section_begin(writer, "empty", 0, 1);
    snapshot_section_end(writer);
    assert_int_equal(snapshot_writer_content(writer, bytes, length), 0);
    return writer;
}

static void values_come_back(void **state)
{
    const void *bytes;
    size_t length;
    uint32_t version;
    char text[5];
    (void)state;
    struct snapshot_writer *writer = make(&bytes, &length);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_non_null(reader);
    /* Sections may be opened in any order. */
    assert_int_equal(snapshot_section_open(reader, "disk", 1, 3, &version), 0);
    assert_int_equal(version, 3);
    assert_int_equal(snapshot_get_u32(reader), 7);
    assert_int_equal(snapshot_section_finish(reader), 0);
    assert_int_equal(snapshot_section_open(reader, "disk", 0, 3, &version), 0);
    assert_int_equal(version, 1);
    assert_int_equal(snapshot_get_u8(reader), 0x12);
    assert_int_equal(snapshot_get_u16(reader), 0x1234);
    assert_int_equal(snapshot_get_u32(reader), 0x12345678);
    assert_true(snapshot_get_u64(reader) == 0x123456789abcdef0);
    snapshot_get_bytes(reader, text, sizeof(text));
    assert_memory_equal(text, "hello", 5);
    assert_int_equal(snapshot_section_finish(reader), 0);
    assert_int_equal(snapshot_section_open(reader, "empty", 0, 1, NULL), 0);
    assert_int_equal(snapshot_section_finish(reader), 0);
    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
}

static void absent_and_newer_sections_are_told(void **state)
{
    const void *bytes;
    size_t length;
    (void)state;
    struct snapshot_writer *writer = make(&bytes, &length);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(snapshot_section_open(reader, "tape", 0, 1, NULL), -ENOENT);
    assert_int_equal(snapshot_section_open(reader, "disk", 2, 1, NULL), -ENOENT);
    assert_int_equal(snapshot_section_open(reader, "disk", 1, 2, NULL), -EPROTO);
    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
}

static void reading_past_a_section_sticks(void **state)
{
    const void *bytes;
    size_t length;
    (void)state;
    struct snapshot_writer *writer = make(&bytes, &length);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(snapshot_section_open(reader, "disk", 1, 3, NULL), 0);
    assert_int_equal(snapshot_get_u64(reader), 0);
    assert_int_equal(snapshot_reader_error(reader), -EPROTO);
    assert_int_equal(snapshot_get_u32(reader), 0);
    assert_int_equal(snapshot_section_finish(reader), -EPROTO);
    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
}

static void unread_rest_and_wrong_lengths_are_faults(void **state)
{
    const void *bytes;
    size_t length, got;
    char text[8];
    (void)state;
    struct snapshot_writer *writer = make(&bytes, &length);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(snapshot_section_open(reader, "disk", 1, 3, NULL), 0);
    assert_int_equal(snapshot_section_finish(reader), -EPROTO);
    snapshot_reader_free(reader);

    reader = snapshot_reader_new(bytes, length);
    assert_int_equal(snapshot_section_open(reader, "disk", 0, 1, NULL), 0);
    snapshot_get_u8(reader);
    snapshot_get_u16(reader);
    snapshot_get_u32(reader);
    snapshot_get_u64(reader);
    assert_null(snapshot_get_blob(reader, 4, &got)); /* it has 5 */
    assert_int_equal(got, 0);
    assert_int_equal(snapshot_reader_error(reader), -EPROTO);
    snapshot_get_bytes(reader, text, sizeof(text));
    assert_int_equal(text[0], 0);
    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
}

/* Every cut and every changed byte of the stream must be refused, or read without leaving the buffer (which
 * the sanitizers watch). */
static void damaged_streams_do_no_harm(void **state)
{
    const void *bytes;
    size_t length;
    (void)state;
    struct snapshot_writer *writer = make(&bytes, &length);
    for (size_t cut = 0; cut < length; cut++) {
        void *copy = malloc(cut ? cut : 1);
        assert_non_null(copy);
        memcpy(copy, bytes, cut);
        struct snapshot_reader *reader = snapshot_reader_new(copy, cut);
        if (reader) /* cut between two sections: the rest is whole */
            assert_int_equal(snapshot_section_open(reader, "empty", 0, 1, NULL), -ENOENT);
        snapshot_reader_free(reader);
        free(copy);
    }
    uint8_t *copy = malloc(length + 1);
    assert_non_null(copy);
    for (size_t i = 0; i < length; i++) {
        memcpy(copy, bytes, length);
        copy[i] ^= 0xff;
        struct snapshot_reader *reader = snapshot_reader_new(copy, length);
        if (reader && snapshot_section_open(reader, "disk", 0, 1, NULL) == 0) {
            for (int j = 0; j < 16; j++)
                snapshot_get_u64(reader);
            assert_int_equal(snapshot_reader_error(reader), -EPROTO);
        }
        snapshot_reader_free(reader);
    }
    free(copy);
    snapshot_writer_free(writer);
}

static void writers_misuse_is_told(void **state)
{
    const void *bytes;
    size_t length;
    (void)state;
    struct snapshot_writer *writer = snapshot_writer_new();
    snapshot_section_begin(writer, "a", 0, 1);
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), -EINVAL);
    snapshot_section_begin(writer, "nested", 0, 1);
    snapshot_section_end(writer);
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), -EINVAL);
    snapshot_writer_free(writer);
    writer = snapshot_writer_new();
    snapshot_section_begin(writer, "a name that has more than 31 bytes", 0, 1);
    snapshot_section_end(writer);
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), -EINVAL);
    snapshot_writer_free(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_back),
        cmocka_unit_test(absent_and_newer_sections_are_told),
        cmocka_unit_test(reading_past_a_section_sticks),
        cmocka_unit_test(unread_rest_and_wrong_lengths_are_faults),
        cmocka_unit_test(damaged_streams_do_no_harm),
        cmocka_unit_test(writers_misuse_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
