/* Loops with a thread each: see io_threads.h. Called by main, before and after the guest runs. */
#include "vmm/io_threads.h"

#include "common/log.h"
#include "common/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#define STACK_BYTES (128u << 10)

struct io_thread {
    struct io_threads *threads;
    struct loop *loop;
    pthread_t thread;
};

struct io_threads {
    unsigned count, running;
    struct io_thread *thread;
    struct loop **loop; /* of all threads, as an array for those who use them */
    const char *name;
    int (*start)(void *arg);
    void *start_arg;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t reported;
    unsigned reports;
    int error;
};

struct io_threads *io_threads_new(unsigned count)
{
    struct io_threads *threads = calloc(1, sizeof(*threads));
    if (!threads)
        return NULL;
    pthread_mutex_init(&threads->lock, NULL);
    pthread_cond_init(&threads->reported, NULL);
    threads->thread = calloc(count, sizeof(*threads->thread));
    threads->loop = calloc(count, sizeof(struct loop *));
    while (threads->thread && threads->loop && threads->count < count) {
        struct loop *loop = loop_new();
        if (!loop)
            break;
        threads->loop[threads->count] = loop;
        threads->thread[threads->count++] = (struct io_thread){.threads = threads, .loop = loop};
    }
    if (count > 0 && threads->count == count)
        return threads;
    int error = count == 0 ? EINVAL : errno;
    io_threads_free(threads);
    errno = error;
    return NULL;
}

/* Tells how the thread's start went. */
static void report(struct io_threads *threads, int err)
{
    pthread_mutex_lock(&threads->lock);
    threads->reports++;
    if (err && !threads->error)
        threads->error = err;
    pthread_cond_signal(&threads->reported);
    pthread_mutex_unlock(&threads->lock);
}

static void *thread_run(void *arg)
{
    struct io_thread *thread = arg;
    struct io_threads *threads = thread->threads;
    char name[16];
    snprintf(name, sizeof(name), "%s-%u", threads->name, (unsigned)(thread - threads->thread));
    prctl(PR_SET_NAME, name);
    int err = threads->start ? threads->start(threads->start_arg) : 0;
    report(threads, err);
    if (err)
        return NULL;
    err = loop_run(thread->loop);
    if (err)
        log_err("%s: event loop: %s", name, strerror(-err));
    return NULL;
}

static void threads_join(struct io_threads *threads)
{
    for (unsigned i = 0; i < threads->running; i++) {
        loop_stop(threads->thread[i].loop);
        pthread_join(threads->thread[i].thread, NULL);
    }
    threads->running = 0;
}

/* Signals are the main thread's: the new threads inherit a full mask. */
static int threads_create(struct io_threads *threads)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    int err = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    while (!err && threads->running < threads->count) {
        struct io_thread *thread = &threads->thread[threads->running];
        err = -pthread_create(&thread->thread, &attributes, thread_run, thread);
        if (!err)
            threads->running++;
    }
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err;
}

int io_threads_start(struct io_threads *threads, const char *name, int (*start)(void *arg), void *arg)
{
    threads->name = name;
    threads->start = start;
    threads->start_arg = arg;
    int err = threads_create(threads);
    pthread_mutex_lock(&threads->lock);
    while (threads->reports < threads->running)
        pthread_cond_wait(&threads->reported, &threads->lock);
    if (!err)
        err = threads->error;
    pthread_mutex_unlock(&threads->lock);
    if (err)
        threads_join(threads);
    return err;
}

void io_threads_free(struct io_threads *threads)
{
    if (!threads)
        return;
    threads_join(threads);
    for (unsigned i = 0; i < threads->count; i++)
        loop_free(threads->loop[i]);
    pthread_mutex_destroy(&threads->lock);
    pthread_cond_destroy(&threads->reported);
    free(threads->loop);
    free(threads->thread);
    free(threads);
}

struct loop *const *io_threads_loops(const struct io_threads *threads, unsigned *count)
{
    *count = threads->count;
    return threads->loop;
}
