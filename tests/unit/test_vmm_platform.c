/* Unit tests of the small parts around the machine: busses, power, the serial port, status lines and options.
 */
#include "vmm/bus.h"
#include "vmm/options.h"
#include "vmm/power.h"
#include "vmm/serial_8250.h"
#include "vmm/snapshot.h"
#include "vmm/status.h"

#include <errno.h>
#include <jansson.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* A device that remembers its last access. */
struct probe {
    uint64_t offset;
    uint32_t length;
    unsigned reads, writes;
};

static void probe_read(void *device, uint64_t offset, void *data, uint32_t length)
{
    struct probe *probe = device;
    probe->offset = offset;
    probe->length = length;
    probe->reads++;
    memset(data, 0x11, length);
}

static void probe_write(void *device, uint64_t offset, const void *data, uint32_t length)
{
    struct probe *probe = device;
    (void)data;
    probe->offset = offset;
    probe->length = length;
    probe->writes++;
}

static void a_bus_finds_the_window_that_holds_the_whole_access(void **state)
{
    struct bus bus = {.windows = 0};
    struct probe probe = {0};
    uint8_t data[8];
    (void)state;
    const struct bus_window window = {0x1000, 0x100, probe_read, probe_write, &probe};
    assert_int_equal(bus_add(&bus, &window), 0);
    assert_true(bus_read(&bus, 0x10fc, data, 4));
    assert_int_equal(probe.offset, 0xfc);
    assert_int_equal(probe.length, 4);
    assert_int_equal(data[3], 0x11);
    assert_true(bus_write(&bus, 0x1000, data, 1));
    assert_int_equal(probe.writes, 1);
    static const uint64_t outside[] = {0xfff, 0x10fd, 0x1100, 0, UINT64_MAX, UINT64_MAX - 3};
    for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
        memset(data, 0, sizeof(data));
        assert_false(bus_read(&bus, outside[i], data, 4));
        assert_memory_equal(data, "\xff\xff\xff\xff\0\0\0\0", 8);
        assert_false(bus_write(&bus, outside[i], data, 4));
    }
    assert_int_equal(probe.reads, 1);
    assert_int_equal(probe.writes, 1);
}

static void bad_windows_are_refused(void **state)
{
    struct bus bus = {.windows = 0};
    struct bus_window window = {0x1000, 0x100, probe_read, probe_write, NULL};
    (void)state;
    assert_int_equal(bus_add(&bus, &window), 0);
    window.base = 0x10ff;
    assert_int_equal(bus_add(&bus, &window), -EEXIST);
    window.base = 0xf01;
    assert_int_equal(bus_add(&bus, &window), -EEXIST);
    window.base = UINT64_MAX - 0xfe;
    assert_int_equal(bus_add(&bus, &window), -EINVAL);
    window.bytes = 0;
    assert_int_equal(bus_add(&bus, &window), -EINVAL);
    window.bytes = 1;
    for (unsigned i = 1; i < BUS_WINDOWS_MAX; i++) {
        window.base = 0x2000 + i;
        assert_int_equal(bus_add(&bus, &window), 0);
    }
    window.base = 0x4000;
    assert_int_equal(bus_add(&bus, &window), -ENOSPC);
}

struct ends {
    unsigned count, panics;
    enum end_reason reason;
};

static void on_end(void *arg, enum end_reason reason, const char *detail)
{
    struct ends *ends = arg;
    (void)detail;
    ends->count++;
    ends->reason = reason;
}

static void on_panicked(void *arg)
{
    struct ends *ends = arg;
    ends->panics++;
}

static void power_registers_end_the_machine(void **state)
{
    struct ends ends = {0};
    struct power power = {.end = on_end, .panicked = on_panicked, .arg = &ends};
    uint8_t value = 0xaa, panicked = 1, shutdown = 4, unknown = 0x80, reset = 0xfe, keyboard = 0x20;
    (void)state;
    power_pvpanic_read(&power, 0, &value, 1);
    assert_int_equal(value, 5); /* it knows panicked and shutdown */
    power_pvpanic_read(&power, 1, &value, 1);
    assert_int_equal(value, 0);
    power_reset_read(&power, 0, &value, 1);
    assert_int_equal(value, 0); /* never busy */
    power_reset_write(&power, 0, &keyboard, 1);
    power_pvpanic_write(&power, 0, &unknown, 1);
    power_pvpanic_write(&power, 1, &shutdown, 1);
    assert_int_equal(ends.count, 0);
    power_reset_write(&power, 0, &reset, 1);
    assert_int_equal(ends.reason, END_RESET);
    power_pvpanic_write(&power, 0, &panicked, 1);
    power_pvpanic_write(&power, 0, &panicked, 1);
    assert_int_equal(ends.panics, 1);
    power_reset_write(&power, 0, &reset, 1);
    assert_int_equal(ends.reason, END_PANIC);
    power_pvpanic_write(&power, 0, &shutdown, 1);
    assert_int_equal(ends.reason, END_POWER_OFF);
}

static void put(struct serial *serial, uint64_t offset, uint8_t value)
{
    serial_write(serial, offset, &value, 1);
}

static uint8_t get(struct serial *serial, uint64_t offset)
{
    uint8_t value;
    serial_read(serial, offset, &value, 1);
    return value;
}

static void the_serial_port_prints_lines_up_to_its_limit(void **state)
{
    char text[64] = "";
    int fd = memfd_create("console", MFD_CLOEXEC);
    (void)state;
    struct serial *serial = serial_new(fd, 10);
    for (const char *at = "abc\nde"; *at; at++)
        put(serial, 0, (uint8_t)*at);
    assert_int_equal(pread(fd, text, sizeof(text), 0), 4); /* a line is written when it ends */
    for (const char *at = "fghijkl\n"; *at; at++)
        put(serial, 0, (uint8_t)*at);
    put(serial, 0, '\n');
    serial_free(serial);
    assert_int_equal(pread(fd, text, sizeof(text), 0), 10);
    assert_memory_equal(text, "abc\ndefghi", 10);
    close(fd);
}

static void the_serial_ports_registers_come_back(void **state)
{
    const void *bytes;
    size_t length;
    (void)state;
    struct serial *serial = serial_new(-1, 0), *copy = serial_new(-1, 0);
    put(serial, 3, 0x83); /* DLAB */
    put(serial, 0, 0x01);
    put(serial, 1, 0x02);
    assert_int_equal(get(serial, 0), 0x01);
    assert_int_equal(get(serial, 1), 0x02);
    put(serial, 3, 0x03);
    put(serial, 7, 0x5a);
    assert_int_equal(get(serial, 0), 0); /* nothing to receive */
    assert_int_equal(get(serial, 5), 0x60);
    struct snapshot_writer *writer = snapshot_writer_new();
    assert_int_equal(serial_save(serial, writer), 0);
    assert_int_equal(snapshot_writer_content(writer, &bytes, &length), 0);
    struct snapshot_reader *reader = snapshot_reader_new(bytes, length);
    assert_int_equal(serial_restore(copy, reader), 0);
    assert_int_equal(get(copy, 3), 0x03);
    assert_int_equal(get(copy, 7), 0x5a);
    put(copy, 3, 0x83);
    assert_int_equal(get(copy, 1), 0x02);
    snapshot_reader_free(reader);
    snapshot_writer_free(writer);
    serial_free(copy);
    serial_free(serial);
}

static void the_status_is_one_json_line(void **state)
{
    char text[1024];
    struct status_mark end = {.since_start_us = 30, .since_run_us = 20};
    struct status status = {.reason = END_PANIC, .detail = "a \"quoted\"\nword", .end = &end};
    int fd = memfd_create("status", MFD_CLOEXEC);
    (void)state;
    end.exits.kind[KVM_EXIT_IO] = 3;
    end.exits.kind[KVM_EXIT_MMIO] = 4;
    end.exits.kind[EXIT_KINDS - 1] = 1;
    assert_int_equal(status_write(fd, &status), 0);
    ssize_t length = pread(fd, text, sizeof(text), 0);
    assert_true(length > 0);
    assert_ptr_equal(memchr(text, '\n', (size_t)length), text + length - 1);
    json_t *line = json_loadb(text, (size_t)length, 0, NULL);
    assert_non_null(line);
    assert_string_equal(json_string_value(json_object_get(line, "reason")), "panic");
    assert_string_equal(json_string_value(json_object_get(line, "detail")), status.detail);
    assert_null(json_object_get(line, "hello"));
    json_t *mark = json_object_get(line, "end"), *exits = json_object_get(mark, "exits");
    assert_int_equal(json_integer_value(json_object_get(mark, "since_run_us")), 20);
    assert_int_equal(json_integer_value(json_object_get(exits, "io")), 3);
    assert_int_equal(json_integer_value(json_object_get(exits, "mmio")), 4);
    assert_int_equal(json_integer_value(json_object_get(exits, "total")), 8);
    assert_null(json_object_get(exits, "hlt"));
    json_decref(line);
    close(fd);
    assert_int_equal(status_write(-1, &status), -EBADF);
}

static int parse(struct options *options, struct error *err, const char *first, const char *second)
{
    char *argv[] = {(char *)(uintptr_t) "husk-vmm", (char *)(uintptr_t)first, (char *)(uintptr_t)second,
                    NULL};
    return options_parse(options, second ? 3 : 2, argv, err);
}

static void refused(const char *first, const char *second, const char *why)
{
    struct options options;
    struct error err = {.code = 0};
    assert_int_equal(parse(&options, &err, first, second), -1);
    if (!strstr(err.text, why))
        fail_msg("got \"%s\", expected \"%s\"", err.text, why);
}

static void options_are_taken_in_both_forms(void **state)
{
    struct options options;
    struct error err;
    char *argv[] = {(char *)(uintptr_t) "husk-vmm",
                    (char *)(uintptr_t) "--kernel",
                    (char *)(uintptr_t) "fd:3",
                    (char *)(uintptr_t) "--cpus=4",
                    (char *)(uintptr_t) "--memory",
                    (char *)(uintptr_t) "1024",
                    (char *)(uintptr_t) "--prefault",
                    (char *)(uintptr_t) "--fs-cache=always",
                    (char *)(uintptr_t) "--log-level",
                    (char *)(uintptr_t) "debug",
                    NULL};
    (void)state;
    assert_int_equal(options_parse(&options, 10, argv, &err), 0);
    assert_string_equal(options.kernel, "fd:3");
    assert_int_equal(options.cpus, 4);
    assert_int_equal(options.memory_mib, 1024);
    assert_true(options.prefault);
    assert_false(options.hugepages);
    assert_int_equal(options.fs_cache, FS_CACHE_ALWAYS);
    assert_int_equal(options.log_level, LOG_LEVEL_DEBUG);
    assert_null(options.initrd);
    assert_int_equal(parse(&options, &err, "--help", NULL), 0);
    assert_true(options.help);
}

static void bad_options_are_named(void **state)
{
    (void)state;
    refused("--stats", NULL, "--kernel is required");
    refused("--colour", NULL, "unknown option '--colour'");
    refused("kernel", NULL, "unknown option 'kernel'");
    refused("-k", NULL, "unknown option '-k'");
    refused("--", NULL, "unknown option '--'");
    refused("--kernel", NULL, "--kernel needs an argument");
    refused("--kernel", "", "--kernel : expected a file");
    refused("--stats=yes", NULL, "--stats takes no argument");
    refused("--cpus", "0", "expected a number from 1 to 32");
    refused("--cpus", "33", "expected a number from 1 to 32");
    refused("--cpus", "-1", "expected a number from 1 to 32");
    refused("--cpus", "2x", "expected a number from 1 to 32");
    refused("--cpus", "99999999999999999999", "expected a number from 1 to 32");
    refused("--memory", "63", "expected a number from 64 to 524288");
    refused("--memory", "524289", "expected a number from 64 to 524288");
    refused("--fs-cache", "some", "expected none, auto or always");
    refused("--id", "a/b", "--id a/b: expected");
    refused("--id", "", "--id");
}

static void help_names_every_kind_of_option(void **state)
{
    char text[8192] = "";
    (void)state;
    FILE *to = fmemopen(text, sizeof(text), "w");
    options_print_help(to);
    fclose(to);
    assert_non_null(strstr(text, "--kernel FILE"));
    assert_non_null(strstr(text, "--cpu-mask FEATURE,..."));
    assert_non_null(strstr(text, "--stats"));
    assert_non_null(strstr(text, "Exit status"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bus_finds_the_window_that_holds_the_whole_access),
        cmocka_unit_test(bad_windows_are_refused),
        cmocka_unit_test(power_registers_end_the_machine),
        cmocka_unit_test(the_serial_port_prints_lines_up_to_its_limit),
        cmocka_unit_test(the_serial_ports_registers_come_back),
        cmocka_unit_test(the_status_is_one_json_line),
        cmocka_unit_test(options_are_taken_in_both_forms),
        cmocka_unit_test(bad_options_are_named),
        cmocka_unit_test(help_names_every_kind_of_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
