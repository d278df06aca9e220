/* Unit tests of threads that keep their maker's signal mask. */
#include "shim/thread_start.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Nobody blocks these. */
#define NEVER (1ULL << (SIGKILL - 1) | 1ULL << (SIGSTOP - 1))

static uint64_t mask_now(void)
{
    uint64_t mask = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &mask, sizeof(mask));
    return mask;
}

static void *note_mask(void *arg)
{
    *(uint64_t *)arg = mask_now();
    return NULL;
}

/* In a process of its own: a mask cannot be undone for the others. 0 when both threads have it. */
static int masks_differ(uint64_t mask)
{
    for (unsigned round = 0; round < 2; round++) {
        pthread_t thread;
        uint64_t seen = 0;
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
        if (thread_start(&thread, note_mask, &seen) != 0 || pthread_join(thread, NULL) != 0)
            return 1;
        if (seen != (mask & ~NEVER) || mask_now() != (mask & ~NEVER))
            return 2;
    }
    return 0;
}

static void check(uint64_t mask)
{
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(masks_differ(mask));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void every_signal_stays_blocked(void **state)
{
    (void)state;
    check(UINT64_MAX);
}

static void what_is_not_blocked_stays_so(void **state)
{
    (void)state;
    check(0);
    check(1ULL << (SIGUSR1 - 1) | 1ULL << 32); /* SIGSETXID */
    check(1ULL << 31);                         /* SIGCANCEL */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_signal_stays_blocked),
                                       cmocka_unit_test(what_is_not_blocked_stays_so)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
