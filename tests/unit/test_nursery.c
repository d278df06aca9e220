/* Unit tests of the thread that makes threads: calls run in it, one after the other, and it ends. */
#include "vmm/nursery.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

struct call {
    pid_t thread;
    int result;
    unsigned count;
};

static unsigned confined;

static int confine(void)
{
    confined++;
    return 0;
}

static int refuse(void)
{
    return -EACCES;
}

static int note(void *arg)
{
    struct call *call = arg;
    call->thread = gettid();
    call->count++;
    return call->result;
}

static void calls_run_in_its_thread(void **state)
{
    struct call call = {.result = -ENOSPC};
    (void)state;
    confined = 0;
    struct nursery *nursery = nursery_new(confine);
    assert_non_null(nursery);
    assert_int_equal(confined, 1);
    assert_int_equal(nursery_call(nursery, note, &call), -ENOSPC);
    pid_t first = call.thread;
    assert_int_not_equal(first, gettid());
    call.result = 7;
    assert_int_equal(nursery_call(nursery, note, &call), 7);
    assert_int_equal(call.thread, first);
    assert_int_equal(call.count, 2);
    assert_int_equal(confined, 1);
    nursery_free(nursery);
}

static void one_that_cannot_be_confined_does_not_start(void **state)
{
    (void)state;
    assert_null(nursery_new(refuse));
    assert_int_equal(errno, EACCES);
    nursery_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_run_in_its_thread),
        cmocka_unit_test(one_that_cannot_be_confined_does_not_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
