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
#include <time.h>

#define STACK_BYTES     (256 * 1024)
#define FORGET_DELAY_MS 2
/* How long a thread looks for the next request: nothing at first, twice as long when a sleep turns out to
 * have been shorter than the limit, half as long when nothing came (as KVM polls for a halted vCPU). */
#define POLL_START_NS 10000
#define POLL_STEP_NS  1000
#define POLL_LIMIT_NS 200000

struct served_queue {
    struct fs_workers *workers;
    unsigned index;
    pthread_mutex_t lock;
    pthread_cond_t quiet;
    /* Under the lock: */
    bool open;
    bool polled;      /* a thread looks for requests, kicks are off */
    unsigned busy;    /* threads between taking a chain and finding the queue empty */
    unsigned threads; /* that serve it */
};

struct worker {
    struct fs_workers *workers;
    pthread_t thread;
    struct fs_context *context; /* made by the thread itself */
    int epoll_fd;
    unsigned first_queue, queues;
    uint64_t poll_ns; /* how long it looks for the next request */
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

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void wake_another(int kick_fd)
{
    uint64_t one = 1;
    while (write(kick_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* Looks for a request for worker->poll_ns. True when there is one (or the queue is closed or broken, which
 * the caller finds too). Called and left with the lock held. */
static bool poll_locked(struct served_queue *queue, struct worker *worker)
{
    struct virtqueue *ring = queue->workers->device->queue[queue->index];
    if (worker->poll_ns == 0 || queue->polled || !queue->open)
        return false;
    queue->polled = true;
    virtqueue_disable_kicks(ring);
    bool found = false;
    uint64_t now = now_ns(), end = now + worker->poll_ns;
    do {
        pthread_mutex_unlock(&queue->lock);
        now = now_ns();
        uint64_t next = now + POLL_STEP_NS; /* the lock stays free for others meanwhile */
        while (now < next)
            now = now_ns();
        pthread_mutex_lock(&queue->lock);
        found = !queue->open || virtqueue_available(ring) > 0;
    } while (!found && now < end);
    queue->polled = false;
    return found;
}

/* Takes the next chain. While a thread is idle the driver's kicks stay on, so that what comes during a
 * blocking request is served by that one, and what is here already is passed on to it. When all are busy
 * kicks are needless: each looks again when it has done. */
static int take_locked(struct served_queue *queue, struct worker *worker)
{
    struct virtqueue *ring = queue->workers->device->queue[queue->index];
    int got;
    do {
        got = virtqueue_pop(ring, &worker->context->chain);
        /* The thread that looks for requests turns kicks on when it gives up. */
    } while (got == 0 && !queue->polled && (poll_locked(queue, worker) || virtqueue_enable_kicks(ring)) &&
             queue->open);
    if (got <= 0)
        return got;
    if (queue->busy == queue->threads)
        virtqueue_disable_kicks(ring);
    else if (virtqueue_enable_kicks(ring))
        wake_another(queue->workers->device->kick_fd[queue->index]);
    return 1;
}

/* Serves until the queue is empty, closed or broken. The number of requests served. */
static unsigned serve(struct served_queue *queue, struct worker *worker)
{
    struct virtio_device *device = queue->workers->device;
    struct virtqueue *ring = device->queue[queue->index];
    bool forgets = queue->index == 0;
    unsigned served = 0;
    int got = 0;
    pthread_mutex_lock(&queue->lock);
    queue->busy++;
    while (queue->open && (got = take_locked(queue, worker)) > 0) {
        pthread_mutex_unlock(&queue->lock);
        fs_request_serve(worker->context);
        pthread_mutex_lock(&queue->lock);
        virtqueue_push(ring, &worker->context->chain);
        served++;
        if (!forgets)
            virtqueue_notify(ring);
    }
    if (forgets && queue->open)
        virtqueue_notify(ring); /* of all at once */
    /* While it counts as busy: a reset waits, and the next driver's queue is not called broken. */
    if (got < 0)
        virtio_device_broken(device, queue->index);
    queue->busy--;
    if (queue->busy == 0)
        pthread_cond_broadcast(&queue->quiet);
    pthread_mutex_unlock(&queue->lock);
    return served;
}

static void kicks_off(struct served_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    if (queue->open)
        virtqueue_disable_kicks(queue->workers->device->queue[queue->index]);
    pthread_mutex_unlock(&queue->lock);
}

/* Waits for kicks. The queues with one in `queues`; 0 when it is time to end. */
static int wait_for_kicks(struct worker *worker, struct served_queue *queues[8])
{
    struct epoll_event events[8];
    int count;
    do {
        count = epoll_wait(worker->epoll_fd, events, 8, -1);
    } while (count < 0 && errno == EINTR);
    if (count < 0)
        log_err("virtio-fs: epoll: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        queues[i] = events[i].data.ptr;
        if (!queues[i])
            return 0; /* stop_fd */
    }
    return count < 0 ? 0 : count;
}

/* The queue was empty for so long: was looking for requests worth it, or would it have been? */
static void poll_adapt(struct worker *worker, uint64_t empty_ns)
{
    if (empty_ns > POLL_LIMIT_NS)
        worker->poll_ns = worker->poll_ns > POLL_START_NS ? worker->poll_ns / 2 : 0;
    else if (worker->poll_ns < POLL_START_NS)
        worker->poll_ns = POLL_START_NS;
    else if (worker->poll_ns < POLL_LIMIT_NS)
        worker->poll_ns *= 2;
}

/* Requests: served as they come. */
static void request_loop(struct worker *worker)
{
    struct served_queue *queues[8];
    for (;;) {
        uint64_t asleep_at = now_ns();
        int count = wait_for_kicks(worker, queues);
        if (count == 0)
            return;
        uint64_t slept_ns = now_ns() - asleep_at;
        unsigned served = 0;
        for (int i = 0; i < count; i++)
            served += serve(queues[i], worker);
        if (served > 0)
            poll_adapt(worker, slept_ns + worker->poll_ns);
    }
}

/* Forgets: collected for a moment. */
static void forget_loop(struct worker *worker)
{
    struct served_queue *forgets[8];
    struct epoll_event event;
    while (wait_for_kicks(worker, forgets) > 0) {
        kicks_off(forgets[0]);
        /* Kicks are edges and off: what is heard here is the order to end, or a kick that was on its way. */
        if (epoll_wait(worker->epoll_fd, &event, 1, FORGET_DELAY_MS) > 0 && !event.data.ptr)
            return;
        serve(forgets[0], worker);
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
        worker->first_queue == 0 ? forget_loop(worker) : request_loop(worker);
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

/* Edges: each kick wakes one thread, and the eventfd need not be read. */
static int worker_watch(struct worker *worker)
{
    for (unsigned i = worker->first_queue; i < worker->first_queue + worker->queues; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE,
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
