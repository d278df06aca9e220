/*
 * The threads of a disk: they wait for kicks themselves, take chains, serve them and give them back.
 *
 * Each waits on the ioeventfds of all queues with EPOLLEXCLUSIVE, so that a kick wakes one idle thread. A
 * queue's lock is held only around its ring. While a thread is idle the driver's kicks stay on; when all are
 * busy they are needless, since each looks again when it has done. Over the rate limit threads wait before
 * they take the next chain.
 */
#include "vmm/virtio/blk_internal.h"

#include "common/fd.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>

#define STACK_BYTES   (128u << 10)
#define EVENTS        8
#define SECOND_NS     1000000000ull
#define LIMIT_WAIT_NS (SECOND_NS / 10) /* limits may change meanwhile */

struct blk_queue {
    struct blk_workers *workers;
    unsigned index;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* closed, or nobody busy any more */
    /* Under the lock: */
    bool open;
    unsigned busy; /* threads between taking a chain and finding the queue empty */
};

struct blk_worker {
    struct blk_workers *workers;
    pthread_t thread;
    int epoll_fd;
    struct blk_context context;
};

struct blk_workers {
    struct virtio_blk *blk;
    int stop_fd; /* eventfd: stays readable once the threads must end */
    bool open;
    unsigned running; /* threads to join */
    struct blk_queue queue[VIRTIO_BLK_QUEUES_MAX];
    /* How the threads' start went: */
    pthread_mutex_t lock;
    pthread_cond_t reported;
    unsigned reports;
    int error;
    struct blk_worker *worker; /* options.threads of them */
};

uint64_t blk_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* Waits while the disk is over its rate. Called and left with the lock held. */
static void wait_for_rate_locked(struct blk_queue *queue)
{
    uint64_t now = blk_now_ns(), wait;
    while (queue->open && (wait = blk_limit_wait_ns(&queue->workers->blk->limit, now)) > 0) {
        uint64_t until = now + (wait < LIMIT_WAIT_NS ? wait : LIMIT_WAIT_NS);
        struct timespec at = {.tv_sec = (time_t)(until / SECOND_NS), .tv_nsec = (long)(until % SECOND_NS)};
        pthread_cond_timedwait(&queue->changed, &queue->lock, &at);
        now = blk_now_ns();
    }
}

/* 1 with the next chain; 0 when there is none; -EPROTO. */
static int take_locked(struct blk_queue *queue, struct virtio_chain *chain)
{
    struct virtio_blk *blk = queue->workers->blk;
    struct virtqueue *ring = blk->device.queue[queue->index];
    int got;
    wait_for_rate_locked(queue);
    do {
        got = queue->open ? virtqueue_pop(ring, chain) : 0;
    } while (got == 0 && queue->open && virtqueue_enable_kicks(ring));
    if (got <= 0)
        return got;
    if (queue->busy == blk->options.threads) {
        virtqueue_disable_kicks(ring);
    } else if (virtqueue_enable_kicks(ring)) {
        uint64_t one = 1; /* another thread's; EAGAIN: it is kicked already */
        while (write(blk->device.kick_fd[queue->index], &one, sizeof(one)) < 0 && errno == EINTR)
            ;
    }
    return 1;
}

/* Serves until the queue is empty, closed or broken. */
static void serve_queue(struct blk_queue *queue, struct blk_context *context)
{
    struct virtio_device *device = &context->blk->device;
    struct virtqueue *ring = device->queue[queue->index];
    int got = 0;
    pthread_mutex_lock(&queue->lock);
    queue->busy++;
    while (queue->open && (got = take_locked(queue, &context->chain)) > 0) {
        pthread_mutex_unlock(&queue->lock);
        blk_request_serve(context);
        pthread_mutex_lock(&queue->lock);
        virtqueue_push(ring, &context->chain);
        virtqueue_notify(ring);
    }
    /* While it counts as busy: a reset waits, and the next driver's queue is not called broken. */
    if (got < 0)
        virtio_device_broken(device, queue->index);
    queue->busy--;
    if (queue->busy == 0)
        pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}

static void worker_loop(struct blk_worker *worker)
{
    struct epoll_event events[EVENTS];
    for (;;) {
        int count = epoll_wait(worker->epoll_fd, events, EVENTS, -1);
        if (count < 0 && errno != EINTR) {
            log_err("blk: epoll: %s", strerror(errno));
            return;
        }
        for (int i = 0; i < count; i++) {
            if (!events[i].data.ptr)
                return; /* stop_fd */
            serve_queue(events[i].data.ptr, &worker->context);
        }
    }
}

static void *worker_run(void *arg)
{
    struct blk_worker *worker = arg;
    struct blk_workers *workers = worker->workers;
    const struct virtio_blk_options *options = &workers->blk->options;
    char name[16];
    snprintf(name, sizeof(name), "blk-%u", (unsigned)(worker - workers->worker));
    prctl(PR_SET_NAME, name);
    int err = options->thread_start ? options->thread_start(options->thread_start_arg) : 0;
    pthread_mutex_lock(&workers->lock);
    workers->reports++;
    if (err && !workers->error)
        workers->error = err;
    pthread_cond_signal(&workers->reported);
    pthread_mutex_unlock(&workers->lock);
    if (!err)
        worker_loop(worker);
    return NULL;
}

static int worker_init(struct blk_workers *workers, struct blk_worker *worker)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    worker->workers = workers;
    worker->context.blk = workers->blk;
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (worker->epoll_fd < 0 || epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, workers->stop_fd, &event) < 0)
        return -errno;
    return 0;
}

static void queue_init(struct blk_workers *workers, unsigned index)
{
    struct blk_queue *queue = &workers->queue[index];
    pthread_condattr_t attributes;
    *queue = (struct blk_queue){.workers = workers, .index = index};
    pthread_mutex_init(&queue->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

struct blk_workers *blk_workers_new(struct virtio_blk *blk)
{
    struct blk_workers *workers = calloc(1, sizeof(*workers));
    struct blk_worker *worker = calloc(blk->options.threads, sizeof(*worker));
    if (!workers || !worker) {
        free(workers);
        free(worker);
        return NULL;
    }
    workers->blk = blk;
    workers->worker = worker;
    workers->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->reported, NULL);
    for (unsigned i = 0; i < blk->options.queues; i++)
        queue_init(workers, i);
    for (unsigned i = 0; i < blk->options.threads; i++)
        worker[i].epoll_fd = -1;
    int err = workers->stop_fd < 0 ? -errno : 0;
    for (unsigned i = 0; !err && i < blk->options.threads; i++)
        err = worker_init(workers, &worker[i]);
    if (!err)
        return workers;
    blk_workers_free(workers);
    errno = -err;
    return NULL;
}

static void workers_join(struct blk_workers *workers)
{
    uint64_t one = 1;
    if (workers->running > 0)
        fd_write_full(workers->stop_fd, &one, sizeof(one));
    for (unsigned i = 0; i < workers->running; i++)
        pthread_join(workers->worker[i].thread, NULL);
    workers->running = 0;
}

void blk_workers_free(struct blk_workers *workers)
{
    if (!workers)
        return;
    workers_join(workers);
    for (unsigned i = 0; i < workers->blk->options.threads; i++)
        fd_close(&workers->worker[i].epoll_fd);
    for (unsigned i = 0; i < workers->blk->options.queues; i++) {
        pthread_mutex_destroy(&workers->queue[i].lock);
        pthread_cond_destroy(&workers->queue[i].changed);
    }
    fd_close(&workers->stop_fd);
    pthread_mutex_destroy(&workers->lock);
    pthread_cond_destroy(&workers->reported);
    free(workers->worker);
    free(workers);
}

/* Signals are the main thread's: the new threads inherit a full mask. */
static int threads_create(struct blk_workers *workers)
{
    pthread_attr_t attr;
    sigset_t all, before;
    int err = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    while (!err && workers->running < workers->blk->options.threads) {
        struct blk_worker *worker = &workers->worker[workers->running];
        err = -pthread_create(&worker->thread, &attr, worker_run, worker);
        if (!err)
            workers->running++;
    }
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err;
}

int blk_workers_start(struct blk_workers *workers)
{
    int err = threads_create(workers);
    pthread_mutex_lock(&workers->lock);
    while (workers->reports < workers->running)
        pthread_cond_wait(&workers->reported, &workers->lock);
    if (!err)
        err = workers->error;
    pthread_mutex_unlock(&workers->lock);
    if (err)
        workers_join(workers);
    return err;
}

/* Edges: each kick wakes one thread, and the eventfd need not be read. */
static int worker_watch(struct blk_worker *worker)
{
    struct blk_workers *workers = worker->workers;
    for (unsigned i = 0; i < workers->blk->options.queues; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE,
                                    .data.ptr = &workers->queue[i]};
        if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, workers->blk->device.kick_fd[i], &event) < 0)
            return -errno;
    }
    return 0;
}

static void worker_unwatch(struct blk_worker *worker)
{
    struct virtio_blk *blk = worker->workers->blk;
    for (unsigned i = 0; i < blk->options.queues; i++)
        epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, blk->device.kick_fd[i], NULL);
}

int blk_workers_open(struct blk_workers *workers)
{
    struct virtio_blk *blk = workers->blk;
    if (workers->running == 0)
        return -EINVAL;
    workers->open = true;
    for (unsigned i = 0; i < blk->options.queues; i++) {
        struct blk_queue *queue = &workers->queue[i];
        pthread_mutex_lock(&queue->lock);
        queue->open = virtqueue_started(blk->device.queue[i]);
        pthread_mutex_unlock(&queue->lock);
    }
    for (unsigned i = 0; i < blk->options.threads; i++) {
        int err = worker_watch(&workers->worker[i]);
        if (err) {
            blk_workers_close(workers);
            return err;
        }
    }
    return 0;
}

void blk_workers_close(struct blk_workers *workers)
{
    if (!workers->open)
        return;
    workers->open = false;
    for (unsigned i = 0; i < workers->blk->options.threads; i++)
        worker_unwatch(&workers->worker[i]);
    for (unsigned i = 0; i < workers->blk->options.queues; i++) {
        struct blk_queue *queue = &workers->queue[i];
        pthread_mutex_lock(&queue->lock);
        queue->open = false;
        pthread_cond_broadcast(&queue->changed); /* those who wait for the rate */
        while (queue->busy > 0)
            pthread_cond_wait(&queue->changed, &queue->lock);
        pthread_mutex_unlock(&queue->lock);
    }
}
