/* Unit tests of the PCI bus: configuration mechanism #1, snapshots. */
#include "vmm/pci.h"
#include "vmm/snapshot.h"

#include <endian.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ENABLE      0x80000000u
#define DATA        4u /* from PCI_PORT */
#define DEVICE_HERE 3u

struct fixture {
    struct pci_host host;
    unsigned reads, writes; /* that came to devices */
    unsigned device;        /* of the last one */
    uint32_t offset, length;
    uint8_t space[256]; /* of device DEVICE_HERE */
};

static bool device_read(void *arg, unsigned device, uint32_t offset, void *data, uint32_t length)
{
    struct fixture *f = arg;
    f->reads++;
    f->device = device;
    f->offset = offset;
    f->length = length;
    assert_true(device < PCI_DEVICES_MAX);
    assert_true(offset <= sizeof(f->space) && length <= sizeof(f->space) - offset && offset % length == 0);
    if (device != DEVICE_HERE)
        return false;
    memcpy(data, f->space + offset, length);
    return true;
}

static bool device_write(void *arg, unsigned device, uint32_t offset, const void *data, uint32_t length)
{
    struct fixture *f = arg;
    f->writes++;
    f->device = device;
    f->offset = offset;
    f->length = length;
    assert_true(device < PCI_DEVICES_MAX);
    assert_true(offset <= sizeof(f->space) && length <= sizeof(f->space) - offset && offset % length == 0);
    if (device == DEVICE_HERE)
        memcpy(f->space + offset, data, length);
    return device == DEVICE_HERE;
}

static const struct pci_ops ops = {.read = device_read, .write = device_write};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    if (!f)
        return -1;
    for (unsigned i = 0; i < sizeof(f->space); i++)
        f->space[i] = (uint8_t)(i ^ 0x5a);
    pci_host_init(&f->host, &ops, f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    pci_host_fini(&f->host);
    free(f);
    return 0;
}

static uint32_t get(struct fixture *f, uint64_t offset, uint32_t length)
{
    uint32_t value = 0;
    pci_host_read(&f->host, offset, &value, length);
    return le32toh(value);
}

static void set(struct fixture *f, uint64_t offset, uint32_t length, uint32_t value)
{
    value = htole32(value);
    pci_host_write(&f->host, offset, &value, length);
}

static uint32_t address(uint32_t bus, uint32_t device, uint32_t function, uint32_t offset)
{
    return ENABLE | bus << 16 | device << 11 | function << 8 | offset;
}

static void address_register_keeps_its_bits(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(get(f, 0, 4), 0);
    set(f, 0, 4, UINT32_MAX);
    assert_int_equal(get(f, 0, 4), 0x80fffffc); /* the others are reserved */
    set(f, 0, 4, address(0, DEVICE_HERE, 0, 0x40));
    assert_int_equal(get(f, 0, 4), address(0, DEVICE_HERE, 0, 0x40));
    /* Anything but a whole word is no access to it. */
    for (uint32_t offset = 0; offset < DATA; offset++) {
        for (uint32_t length = 1; length <= 2; length++) {
            set(f, offset, length, 0);
            assert_int_equal(get(f, offset, length), length == 1 ? 0xff : 0xffff);
        }
    }
    assert_int_equal(get(f, 0, 4), address(0, DEVICE_HERE, 0, 0x40));
    assert_int_equal(f->reads + f->writes, 0);
}

static void address_of_eight_bytes_is_none(void **state)
{
    struct fixture *f = *state;
    uint64_t value = address(0, DEVICE_HERE, 0, 0);
    pci_host_write(&f->host, 0, &value, 8);
    assert_int_equal(get(f, 0, 4), 0);
    value = 0;
    pci_host_read(&f->host, 0, &value, 8);
    assert_true(value == UINT64_MAX);
}

static void data_is_read_in_any_width(void **state)
{
    struct fixture *f = *state;
    for (uint32_t offset = 0; offset < sizeof(f->space); offset += 4) {
        set(f, 0, 4, address(0, DEVICE_HERE, 0, offset));
        for (uint32_t length = 1; length <= 4; length *= 2) {
            for (uint32_t within = 0; within < 4; within += length) {
                uint32_t expected = 0;
                memcpy(&expected, f->space + offset + within, length);
                assert_int_equal(get(f, DATA + within, length), le32toh(expected));
                assert_int_equal(f->offset, offset + within);
                assert_int_equal(f->length, length);
                assert_int_equal(f->device, DEVICE_HERE);
            }
        }
    }
}

static void data_is_written_in_any_width(void **state)
{
    struct fixture *f = *state;
    set(f, 0, 4, address(0, DEVICE_HERE, 0, 0xfc));
    set(f, DATA, 4, 0x44332211);
    set(f, DATA + 2, 2, 0x6655);
    set(f, DATA + 1, 1, 0x77);
    assert_memory_equal(f->space + 0xfc, "\x11\x77\x55\x66", 4);
    assert_int_equal(f->writes, 3);
    assert_int_equal(f->offset, 0xfd);
}

static void unaligned_data_is_refused(void **state)
{
    struct fixture *f = *state;
    set(f, 0, 4, address(0, DEVICE_HERE, 0, 0x40));
    const struct {
        uint32_t within, length;
    } places[] = {{1, 2}, {3, 2}, {1, 4}, {2, 4}, {0, 3}, {1, 3}};
    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        uint64_t value = 0;
        pci_host_read(&f->host, DATA + places[i].within, &value, places[i].length);
        assert_true(value == UINT64_MAX >> (64 - 8 * places[i].length));
        pci_host_write(&f->host, DATA + places[i].within, &value, places[i].length);
    }
    assert_int_equal(f->reads + f->writes, 0);
}

static void there_is_nothing_elsewhere(void **state)
{
    struct fixture *f = *state;
    const uint32_t places[] = {address(0, DEVICE_HERE, 0, 0) & ~ENABLE,
                               address(1, DEVICE_HERE, 0, 0),
                               address(255, DEVICE_HERE, 0, 0),
                               address(0, DEVICE_HERE, 1, 0),
                               address(0, DEVICE_HERE, 7, 0),
                               address(0, 0, 1, 0),
                               address(1, 0, 0, 0)};
    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        set(f, 0, 4, places[i]);
        assert_int_equal(get(f, DATA, 4), UINT32_MAX);
        set(f, DATA, 4, 0);
    }
    assert_int_equal(f->reads + f->writes, 0);
    set(f, 0, 4, address(0, PCI_DEVICES_MAX - 1, 0, 0)); /* asked, but not there */
    assert_int_equal(get(f, DATA, 2), 0xffff);
    assert_int_equal(f->device, PCI_DEVICES_MAX - 1);
    set(f, DATA, 2, 0);
    assert_int_equal(f->reads, 1);
    assert_int_equal(f->writes, 1);
}

static uint8_t *save(struct fixture *f, size_t *length)
{
    struct snapshot_writer *writer = snapshot_writer_new();
    const void *bytes;
    assert_int_equal(pci_host_save(&f->host, writer), 0);
    assert_int_equal(snapshot_writer_content(writer, &bytes, length), 0);
    uint8_t *copy = malloc(*length);
    assert_non_null(copy);
    memcpy(copy, bytes, *length);
    snapshot_writer_free(writer);
    return copy;
}

static int restore(struct fixture *f, const uint8_t *bytes, size_t length)
{
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_non_null(reader);
    int rc = pci_host_restore(&f->host, reader);
    snapshot_reader_free(reader);
    return rc;
}

static void address_survives_a_snapshot(void **state)
{
    struct fixture *f = *state;
    size_t length;
    set(f, 0, 4, address(0, DEVICE_HERE, 0, 0x40));
    uint8_t *bytes = save(f, &length);
    set(f, 0, 4, 0);
    assert_int_equal(restore(f, bytes, length), 0);
    assert_int_equal(get(f, 0, 4), address(0, DEVICE_HERE, 0, 0x40));
    assert_int_equal(get(f, DATA, 1), f->space[0x40]);
    bytes[length - 4] |= 1; /* the register cannot have this bit */
    set(f, 0, 4, address(0, 5, 0, 0));
    assert_int_equal(restore(f, bytes, length), -EPROTO);
    assert_int_equal(get(f, 0, 4), address(0, 5, 0, 0));
    free(bytes);
}

static void snapshot_of_another_shape_is_refused(void **state)
{
    struct fixture *f = *state;
    const void *bytes;
    size_t length;
    for (unsigned words = 0; words <= 2; words++) {
        struct snapshot_writer *writer = snapshot_writer_new();
        snapshot_section_begin(writer, "pci", 0, 1);
        for (unsigned i = 0; i < words; i++)
            snapshot_put_u32(writer, 0);
        snapshot_section_end(writer);
        assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);
        assert_int_equal(restore(f, bytes, length), words == 1 ? 0 : -EPROTO);
        snapshot_writer_free(writer);
    }
}

#define host_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        host_test(address_register_keeps_its_bits), host_test(address_of_eight_bytes_is_none),
        host_test(data_is_read_in_any_width),       host_test(data_is_written_in_any_width),
        host_test(unaligned_data_is_refused),       host_test(there_is_nothing_elsewhere),
        host_test(address_survives_a_snapshot),     host_test(snapshot_of_another_shape_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
