/* Unit tests of the guest's memory map: ranges at every edge, and what is no range. */
#include "vmm/guest_memory.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define PAGE 4096ull
#define HIGH (4ull << 30)

_Alignas(4096) static uint8_t low[4 * PAGE];
_Alignas(4096) static uint8_t high[2 * PAGE];

static void make(struct guest_memory *memory)
{
    *memory = (struct guest_memory){.regions = 0};
    assert_int_equal(guest_memory_add(memory, 0, sizeof(low), low), 0);
    assert_int_equal(guest_memory_add(memory, HIGH, sizeof(high), high), 0);
}

static void ranges_within_a_region_translate(void **state)
{
    struct guest_memory memory;
    (void)state;
    make(&memory);
    assert_ptr_equal(guest_memory_at(&memory, 0, 1), low);
    assert_ptr_equal(guest_memory_at(&memory, 0, sizeof(low)), low);
    assert_ptr_equal(guest_memory_at(&memory, 100, sizeof(low) - 100), low + 100);
    assert_ptr_equal(guest_memory_at(&memory, sizeof(low) - 1, 1), low + sizeof(low) - 1);
    assert_ptr_equal(guest_memory_at(&memory, HIGH + PAGE, PAGE), high + PAGE);
    assert_ptr_equal(guest_memory_at(&memory, 5, 0), low + 5);
}

static void ranges_outside_are_refused(void **state)
{
    struct guest_memory memory;
    (void)state;
    make(&memory);
    assert_null(guest_memory_at(&memory, 0, sizeof(low) + 1));
    assert_null(guest_memory_at(&memory, sizeof(low) - 1, 2));
    assert_null(guest_memory_at(&memory, sizeof(low), 1));
    assert_null(guest_memory_at(&memory, sizeof(low), 0));
    assert_null(guest_memory_at(&memory, HIGH - 1, 2));
    assert_null(guest_memory_at(&memory, HIGH + sizeof(high), 1));
    assert_null(guest_memory_at(&memory, 1, UINT64_MAX));
    assert_null(guest_memory_at(&memory, UINT64_MAX, 1));
    assert_null(guest_memory_at(&memory, UINT64_MAX, UINT64_MAX));
}

static void a_range_over_two_adjacent_regions_is_refused(void **state)
{
    struct guest_memory memory = {.regions = 0};
    (void)state;
    assert_int_equal(guest_memory_add(&memory, 0, PAGE, low), 0);
    assert_int_equal(guest_memory_add(&memory, PAGE, PAGE, low + PAGE), 0);
    assert_non_null(guest_memory_at(&memory, PAGE - 1, 1));
    assert_null(guest_memory_at(&memory, PAGE - 1, 2));
}

static void bad_regions_are_refused(void **state)
{
    struct guest_memory memory;
    (void)state;
    make(&memory);
    assert_int_equal(guest_memory_add(&memory, PAGE, PAGE, low), -EEXIST);
    assert_int_equal(guest_memory_add(&memory, HIGH - PAGE, 2 * PAGE, low), -EEXIST);
    assert_int_equal(guest_memory_add(&memory, 8 * PAGE, 0, low), -EINVAL);
    assert_int_equal(guest_memory_add(&memory, 8 * PAGE, 100, low), -EINVAL);
    assert_int_equal(guest_memory_add(&memory, 8 * PAGE + 1, PAGE, low), -EINVAL);
    assert_int_equal(guest_memory_add(&memory, 8 * PAGE, PAGE, low + 1), -EINVAL);
    assert_int_equal(guest_memory_add(&memory, 8 * PAGE, PAGE, NULL), -EINVAL);
    assert_int_equal(guest_memory_add(&memory, UINT64_MAX - PAGE + 1, PAGE, low), -EINVAL);
    assert_int_equal(memory.regions, 2);
    assert_int_equal(guest_memory_add(&memory, 8 * PAGE, PAGE, low), 0);
    assert_int_equal(guest_memory_add(&memory, 9 * PAGE, PAGE, low), 0);
    assert_int_equal(guest_memory_add(&memory, 10 * PAGE, PAGE, low), -ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_within_a_region_translate),
        cmocka_unit_test(ranges_outside_are_refused),
        cmocka_unit_test(a_range_over_two_adjacent_regions_is_refused),
        cmocka_unit_test(bad_regions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
