/* The monitor's threads: see monitor_threads.h. */
#include "shim/monitor_threads.h"

#include "shim/thread_start.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <unistd.h>

struct monitor_thread {
    pthread_t thread;
    sem_t apart, go;
    int failed;
    void (*run)(void *arg); /* NULL: nothing to do */
    void *arg;
};

struct monitor_threads {
    struct monitor_thread live, serve;
};

static void *thread_main(void *arg)
{
    struct monitor_thread *thread = arg;
    /* Root, working directory and mount namespace are the process's unless a thread has its own. */
    thread->failed = unshare(CLONE_FS) < 0 ? errno : 0;
    sem_post(&thread->apart);
    while (sem_wait(&thread->go) < 0)
        ;
    if (thread->run)
        thread->run(thread->arg);
    return NULL;
}

static int start_apart(struct monitor_thread *thread)
{
    sem_init(&thread->apart, 0, 0);
    sem_init(&thread->go, 0, 0);
    int failed = thread_start(&thread->thread, thread_main, thread);
    if (failed)
        return failed;
    while (sem_wait(&thread->apart) < 0)
        ;
    return thread->failed;
}

struct monitor_threads *monitor_threads_start(struct error *err)
{
    struct monitor_threads *threads = calloc(1, sizeof(*threads));
    int failed = threads ? start_apart(&threads->live) : ENOMEM;
    if (!failed)
        failed = start_apart(&threads->serve);
    if (!failed)
        return threads;
    /* A thread that waits still has its part of this: the process is about to end. */
    error_set(err, failed, "monitor: threads");
    return NULL;
}

void monitor_threads_run(struct monitor_threads *threads, void (*live)(void *arg), void (*serve)(void *arg),
                         void *arg)
{
    threads->live.run = live;
    threads->serve.run = serve;
    threads->live.arg = threads->serve.arg = arg;
    sem_post(&threads->live.go);
    sem_post(&threads->serve.go);
    for (;;)
        pause();
}
