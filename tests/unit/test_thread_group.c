/* Unit tests of thread groups: all begin, then all work; or none does. */
#include "vmm/thread_group.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cmocka.h>

#define THREADS 4

struct work {
    unsigned fails; /* the thread whose begin does; THREADS: none */
    atomic_uint begun, run, early;
    char name[THREADS][16];
    bool signals_blocked[THREADS];
};

static int begin(void *arg, unsigned index)
{
    struct work *work = arg;
    usleep(index * 2000); /* the last comes late */
    atomic_fetch_add(&work->begun, 1);
    return index == work->fails ? -EXDEV : 0;
}

static void run(void *arg, unsigned index)
{
    struct work *work = arg;
    sigset_t blocked;
    if (atomic_load(&work->begun) < THREADS)
        atomic_fetch_add(&work->early, 1);
    atomic_fetch_add(&work->run, 1);
    prctl(PR_GET_NAME, work->name[index]);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    work->signals_blocked[index] = sigismember(&blocked, SIGTERM) == 1 && sigismember(&blocked, SIGCHLD) == 1;
}

static int start(struct work *work, struct thread_group **group)
{
    struct thread_group_config config = {
        .name = "worker", .count = THREADS, .begin = begin, .run = run, .arg = work};
    return thread_group_start(group, &config);
}

static void all_begin_before_one_works(void **state)
{
    (void)state;
    struct work work = {.fails = THREADS};
    struct thread_group *group = NULL;
    assert_int_equal(start(&work, &group), 0);
    thread_group_join(group);
    assert_int_equal(atomic_load(&work.run), THREADS);
    assert_int_equal(atomic_load(&work.early), 0);
    assert_string_equal(work.name[3], "worker-3");
    for (unsigned i = 0; i < THREADS; i++)
        assert_true(work.signals_blocked[i]);
}

static void none_works_when_one_fails(void **state)
{
    (void)state;
    for (unsigned fails = 0; fails < THREADS; fails++) {
        struct work work = {.fails = fails};
        struct thread_group *group = NULL;
        assert_int_equal(start(&work, &group), -EXDEV);
        assert_null(group);
        assert_int_equal(atomic_load(&work.begun), THREADS);
        assert_int_equal(atomic_load(&work.run), 0);
    }
}

static void the_callers_signals_stay(void **state)
{
    (void)state;
    sigset_t before, after;
    struct work work = {.fails = THREADS};
    struct thread_group *group = NULL;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_int_equal(start(&work, &group), 0);
    thread_group_join(group);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int number = 1; number < SIGRTMAX; number++)
        assert_int_equal(sigismember(&before, number), sigismember(&after, number));
    thread_group_join(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_begin_before_one_works),
        cmocka_unit_test(none_works_when_one_fails),
        cmocka_unit_test(the_callers_signals_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
