/* Unit tests of --blk's value. */
#include "vmm/blk_option.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void all_parts_are_taken(void **state)
{
    struct virtio_blk_options options;
    (void)state;
    assert_int_equal(blk_option_parse("fd:7", &options), 0);
    assert_int_equal(options.fd, 7);
    assert_false(options.read_only || options.direct);
    assert_int_equal(options.queues, 1);
    assert_string_equal(options.serial, "");
    assert_int_equal(
        blk_option_parse("serial=12345678901234567890,fd:0,ro,direct,queues=3,threads=2,bps=1000,iops=9",
                         &options),
        0);
    assert_string_equal(options.serial, "12345678901234567890");
    assert_true(options.read_only && options.direct && options.fd == 0);
    assert_int_equal(options.queues, 3);
    assert_int_equal(options.threads, 2);
    assert_int_equal(options.bytes_per_s, 1000);
    assert_int_equal(options.ops_per_s, 9);
}

static void nonsense_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "ro",
        "fd:",
        "fd:x",
        "fd:-1",
        "fd:1,",
        "fd:1,rw",
        "fd:1,ro=1",
        "fd:1,serial",
        "fd:1,serial=",
        "fd:1,serial=a b",
        "fd:1,serial=123456789012345678901",
        "fd:1,bps=0",
        "fd:1,bps=-1",
        "fd:1,bps=1k",
        "fd:1,queues=0",
        "fd:1,queues=17",
        "fd:1,threads=99",
        "fd=1",
    };
    struct virtio_blk_options options;
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (blk_option_parse(bad[i], &options) == 0)
            fail_msg("'%s' was taken", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_parts_are_taken),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
