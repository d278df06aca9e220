/* Threads that keep their maker's signal mask: see thread_start.h. By system calls: the C library's functions
 * leave its own two signals out. */
#include "shim/thread_start.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

struct start {
    void *(*run)(void *arg);
    void *arg;
    uint64_t mask; /* the kernel's signal set */
};

static void *begin(void *arg)
{
    struct start start = *(struct start *)arg;
    free(arg);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &start.mask, NULL, sizeof(start.mask));
    return start.run(start.arg);
}

int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
    struct start *start = malloc(sizeof(*start));
    if (!start)
        return ENOMEM;
    *start = (struct start){.run = run, .arg = arg};
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &start->mask, sizeof(start->mask));
    uint64_t mask = start->mask;
    int failed = pthread_create(thread, NULL, begin, start);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
    if (failed)
        free(start);
    return failed;
}
