/* The file server's threads: see workers.h. */
#include "vmm/fs/workers.h"

#include "common/fd.h"
#include "vmm/fs/fuse_request.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#define STACK_BYTES (256 * 1024)

struct served_queue {
    struct fs_workers *workers;
    unsigned index;
    pthread_mutex_t lock;
    pthread_cond_t quiet;
    /* Under the lock: */
    bool open;
    unsigned busy;    /* threads between taking a chain and finding the queue empty */
    unsigned threads; /* that serve it */
};

struct worker {
    struct fs_workers *workers;
    pthread_t thread;
    struct fs_context *context; /* made by the thread itself */
    int epoll_fd;
    unsigned first_queue, queues;
};

struct fs_workers {
    struct fs_server *server;
    struct virtio_device *device;
    int stop_fd; /* eventfd: stays readable once the threads must end */
    bool open;
    unsigned running; /* threads to join */
    unsigned count;
    struct worker *worker;
    struct served_queue queue[VIRTIO_DEVICE_QUEUES_MAX];
    /* How the threads' start went: */
    pthread_mutex_t lock;
    pthread_cond_t reported;
    unsigned reports;
    int error;
    int (*start)(void *arg);
    void *start_arg;
};

static void wake_another(int kick_fd)
{
    uint64_t one = 1;
    while (write(kick_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* Takes the next chain. While a thread is idle the driver's kicks stay on, so that what comes during a
 * blocking request is served by that one, and what is here already is passed on to it. When all are busy
 * kicks are needless: each looks again when it has done. */
static int take_locked(struct served_queue *queue, struct fs_context *context)
{
    struct virtqueue *ring = queue->workers->device->queue[queue->index];
    int got;
    do {
        got = virtqueue_pop(ring, &context->chain);
    } while (got == 0 && virtqueue_enable_kicks(ring));
    if (got <= 0)
        return got;
    if (queue->busy == queue->threads)
        virtqueue_disable_kicks(ring);
    else if (virtqueue_enable_kicks(ring))
        wake_another(queue->workers->device->kick_fd[queue->index]);
    return 1;
}

/* Serves until the queue is empty, closed or broken. */
static void serve(struct served_queue *queue, struct fs_context *context)
{
    struct virtio_device *device = queue->workers->device;
    int got = 0;
    pthread_mutex_lock(&queue->lock);
    queue->busy++;
    while (queue->open && (got = take_locked(queue, context)) > 0) {
        pthread_mutex_unlock(&queue->lock);
        fs_request_serve(context);
        pthread_mutex_lock(&queue->lock);
        virtqueue_push(device->queue[queue->index], &context->chain);
        virtqueue_notify(device->queue[queue->index]);
    }
    queue->busy--;
    if (queue->busy == 0)
        pthread_cond_broadcast(&queue->quiet);
    pthread_mutex_unlock(&queue->lock);
    if (got < 0)
        virtio_device_broken(device, queue->index);
}

static void worker_loop(struct worker *worker)
{
    struct fs_workers *workers = worker->workers;
    struct epoll_event events[8];
    for (;;) {
        int count = epoll_wait(worker->epoll_fd, events, 8, -1);
        if (count < 0 && errno != EINTR) {
            log_err("virtio-fs: epoll: %s", strerror(errno));
            return;
        }
        for (int i = 0; i < count; i++) {
            struct served_queue *queue = events[i].data.ptr;
            uint64_t kicks;
            if (!queue)
                return; /* stop_fd */
            /* Another thread may have been quicker. A queue being closed is left by serve. */
            if (read(workers->device->kick_fd[queue->index], &kicks, sizeof(kicks)) == sizeof(kicks))
                serve(queue, worker->context);
        }
    }
}

/* What a thread does before it serves: the staircase ends with the caller's own step (the seccomp filter). */
static int worker_prepare(struct worker *worker)
{
    struct fs_workers *workers = worker->workers;
    char name[16];
    if (worker->first_queue == 0)
        snprintf(name, sizeof(name), "fs-forget");
    else
        snprintf(name, sizeof(name), "fs-%u", (unsigned)(worker - workers->worker) - 1);
    prctl(PR_SET_NAME, name);
    worker->context = fs_context_new(workers->server);
    if (!worker->context)
        return -errno;
    return workers->start ? workers->start(workers->start_arg) : 0;
}

static void *worker_run(void *arg)
{
    struct worker *worker = arg;
    struct fs_workers *workers = worker->workers;
    int err = worker_prepare(worker);
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

static int worker_init(struct fs_workers *workers, struct worker *worker, bool forgets)
{
    worker->workers = workers;
    worker->first_queue = forgets ? 0 : 1;
    worker->queues = forgets ? 1 : workers->device->queue_count - 1;
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (worker->epoll_fd < 0 || epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, workers->stop_fd, &event) < 0)
        return -errno;
    return 0;
}

struct fs_workers *fs_workers_new(struct fs_server *server, struct virtio_device *device, unsigned threads)
{
    struct fs_workers *workers = calloc(1, sizeof(*workers));
    struct worker *worker = calloc(threads + 1, sizeof(*worker));
    if (!workers || !worker) {
        free(workers);
        free(worker);
        return NULL;
    }
    workers->server = server;
    workers->device = device;
    workers->worker = worker;
    workers->count = threads + 1;
    workers->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->reported, NULL);
    for (unsigned i = 0; i < device->queue_count; i++) {
        struct served_queue *queue = &workers->queue[i];
        *queue = (struct served_queue){.workers = workers, .index = i, .threads = i == 0 ? 1 : threads};
        pthread_mutex_init(&queue->lock, NULL);
        pthread_cond_init(&queue->quiet, NULL);
    }
    for (unsigned i = 0; i < workers->count; i++)
        worker[i].epoll_fd = -1;
    int err = workers->stop_fd < 0 ? -errno : 0;
    for (unsigned i = 0; !err && i < workers->count; i++)
        err = worker_init(workers, &worker[i], i == 0);
    if (!err)
        return workers;
    fs_workers_free(workers);
    errno = -err;
    return NULL;
}

static void workers_join(struct fs_workers *workers)
{
    uint64_t one = 1;
    if (workers->running > 0)
        fd_write_full(workers->stop_fd, &one, sizeof(one));
    for (unsigned i = 0; i < workers->running; i++) {
        pthread_join(workers->worker[i].thread, NULL);
        fs_context_free(workers->worker[i].context);
    }
    workers->running = 0;
}

void fs_workers_free(struct fs_workers *workers)
{
    if (!workers)
        return;
    workers_join(workers);
    for (unsigned i = 0; i < workers->count; i++)
        fd_close(&workers->worker[i].epoll_fd);
    for (unsigned i = 0; i < workers->device->queue_count; i++) {
        pthread_mutex_destroy(&workers->queue[i].lock);
        pthread_cond_destroy(&workers->queue[i].quiet);
    }
    fd_close(&workers->stop_fd);
    pthread_mutex_destroy(&workers->lock);
    pthread_cond_destroy(&workers->reported);
    free(workers->worker);
    free(workers);
}

/* Signals are the main thread's: the new threads inherit a full mask. */
static int threads_create(struct fs_workers *workers)
{
    pthread_attr_t attr;
    sigset_t all, before;
    int err = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    while (!err && workers->running < workers->count) {
        struct worker *worker = &workers->worker[workers->running];
        err = -pthread_create(&worker->thread, &attr, worker_run, worker);
        if (!err)
            workers->running++;
    }
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err;
}

int fs_workers_start(struct fs_workers *workers, int (*start)(void *arg), void *arg)
{
    workers->start = start;
    workers->start_arg = arg;
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

static int worker_watch(struct worker *worker)
{
    for (unsigned i = worker->first_queue; i < worker->first_queue + worker->queues; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE,
                                    .data.ptr = &worker->workers->queue[i]};
        if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->workers->device->kick_fd[i], &event) < 0)
            return -errno;
    }
    return 0;
}

static void worker_unwatch(struct worker *worker)
{
    for (unsigned i = worker->first_queue; i < worker->first_queue + worker->queues; i++)
        epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, worker->workers->device->kick_fd[i], NULL);
}

int fs_workers_open(struct fs_workers *workers)
{
    if (workers->running == 0)
        return -EINVAL;
    workers->open = true;
    for (unsigned i = 0; i < workers->device->queue_count; i++) {
        struct served_queue *queue = &workers->queue[i];
        pthread_mutex_lock(&queue->lock);
        queue->open = virtqueue_started(workers->device->queue[i]);
        pthread_mutex_unlock(&queue->lock);
    }
    for (unsigned i = 0; i < workers->count; i++) {
        int err = worker_watch(&workers->worker[i]);
        if (err) {
            fs_workers_close(workers);
            return err;
        }
    }
    return 0;
}

void fs_workers_close(struct fs_workers *workers)
{
    if (!workers->open)
        return;
    workers->open = false;
    for (unsigned i = 0; i < workers->count; i++)
        worker_unwatch(&workers->worker[i]);
    for (unsigned i = 0; i < workers->device->queue_count; i++) {
        struct served_queue *queue = &workers->queue[i];
        pthread_mutex_lock(&queue->lock);
        queue->open = false;
        while (queue->busy > 0)
            pthread_cond_wait(&queue->quiet, &queue->lock);
        pthread_mutex_unlock(&queue->lock);
    }
}
