/* Loops with a thread each: see io_threads.h. Called by main, before and after the guest runs. */
#include "vmm/io_threads.h"

#include "common/log.h"
#include "common/loop.h"
#include "vmm/thread_group.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct io_threads {
    unsigned count;
    struct loop **loop;
    int (*start)(void *arg);
    void *start_arg;
    struct thread_group *group; /* NULL unless started */
};

struct io_threads *io_threads_new(unsigned count)
{
    struct io_threads *threads = calloc(1, sizeof(*threads));
    if (!threads)
        return NULL;
    threads->loop = calloc(count, sizeof(struct loop *));
    while (threads->loop && threads->count < count) {
        threads->loop[threads->count] = loop_new();
        if (!threads->loop[threads->count])
            break;
        threads->count++;
    }
    if (count > 0 && threads->count == count)
        return threads;
    int error = count == 0 ? EINVAL : errno;
    io_threads_free(threads);
    errno = error;
    return NULL;
}

static int thread_begin(void *arg, unsigned index)
{
    struct io_threads *threads = arg;
    (void)index;
    return threads->start ? threads->start(threads->start_arg) : 0;
}

static void thread_run(void *arg, unsigned index)
{
    struct io_threads *threads = arg;
    int err = loop_run(threads->loop[index]);
    if (err)
        log_err("event loop %u: %s", index, strerror(-err));
}

int io_threads_start(struct io_threads *threads, const char *name, int (*start)(void *arg), void *arg)
{
    struct thread_group_config config = {
        .name = name, .count = threads->count, .begin = thread_begin, .run = thread_run, .arg = threads};
    threads->start = start;
    threads->start_arg = arg;
    return thread_group_start(&threads->group, &config);
}

void io_threads_free(struct io_threads *threads)
{
    if (!threads)
        return;
    for (unsigned i = 0; threads->group && i < threads->count; i++)
        loop_stop(threads->loop[i]);
    thread_group_join(threads->group);
    for (unsigned i = 0; i < threads->count; i++)
        loop_free(threads->loop[i]);
    free(threads->loop);
    free(threads);
}

struct loop *const *io_threads_loops(const struct io_threads *threads, unsigned *count)
{
    *count = threads->count;
    return threads->loop;
}
