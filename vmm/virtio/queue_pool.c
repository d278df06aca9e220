/* Threads that serve a device's queues: see queue_pool.h. */
#include "vmm/virtio/queue_pool.h"

#include "common/fd.h"
#include "vmm/thread_group.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#define EVENTS_MAX 8
#define SECOND_NS  1000000000ull
/* The rate's limits may change while a thread waits. */
#define RATE_WAIT_LIMIT_NS (SECOND_NS / 10)
/* How long a thread looks for the next request: nothing at first, twice as long when a sleep turns out to
 * have been shorter than the limit, half as long when nothing came (as KVM polls for a halted vCPU). */
#define POLL_START_NS 10000
#define POLL_STEP_NS  1000
#define POLL_LIMIT_NS 200000

struct served_queue {
    struct queue_pool *pool;
    struct virtqueue **ring; /* the device's */
    unsigned index;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* closed, or nobody busy any more */
    /* Under the lock: */
    bool open;
    bool polled;   /* a thread looks for requests, kicks are off */
    unsigned busy; /* threads between taking a chain and finding the queue empty */
};

struct worker {
    struct queue_pool *pool;
    struct queue_pool_seat seat;
    int epoll_fd;
    uint64_t poll_ns; /* how long it looks for the next request */
};

struct queue_pool {
    struct virtio_device *device;
    struct queue_pool_config config;
    int stop_fd; /* eventfd: stays readable once the threads must end */
    bool open;
    struct thread_group *threads; /* NULL unless started */
    struct worker *worker;        /* config.threads of them */
    struct served_queue *queue;   /* config.queues of them */
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static void wake_another(const struct served_queue *queue)
{
    uint64_t one = 1; /* EAGAIN: another is on its way already */
    while (write(queue->pool->device->kick_fd[queue->index], &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* Waits while the device is over its rate. Called and left with the lock held. */
static void wait_for_rate_locked(struct served_queue *queue)
{
    const struct queue_pool_config *config = &queue->pool->config;
    uint64_t wait;
    while (config->wait_ns && queue->open && (wait = config->wait_ns(config->owner)) > 0) {
        uint64_t until = now_ns() + (wait < RATE_WAIT_LIMIT_NS ? wait : RATE_WAIT_LIMIT_NS);
        struct timespec at = {.tv_sec = (time_t)(until / SECOND_NS), .tv_nsec = (long)(until % SECOND_NS)};
        pthread_cond_timedwait(&queue->changed, &queue->lock, &at);
    }
}

/* Looks for a request for worker->poll_ns. True when there is one (or the queue is closed or broken, which
 * the caller finds too). Called and left with the lock held. */
static bool poll_locked(struct served_queue *queue, struct worker *worker)
{
    struct virtqueue *ring = *queue->ring;
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

/* Takes the next chain: 1; 0 when there is none; -EPROTO. While a thread is idle the driver's kicks stay on,
 * so that what comes during a blocking request is served by that one, and what is here already is passed on
 * to it. */
static int take_locked(struct served_queue *queue, struct worker *worker)
{
    struct virtqueue *ring = *queue->ring;
    int got;
    do {
        wait_for_rate_locked(queue);
        got = queue->open ? virtqueue_pop(ring, worker->seat.chain) : 0;
        /* The thread that looks for requests turns kicks on when it gives up. */
    } while (got == 0 && queue->open && !queue->polled &&
             (poll_locked(queue, worker) || virtqueue_enable_kicks(ring)));
    if (got <= 0)
        return got;
    if (queue->busy == queue->pool->config.threads)
        virtqueue_disable_kicks(ring);
    else if (virtqueue_enable_kicks(ring))
        wake_another(queue);
    return 1;
}

/* Serves until the queue is empty, closed or broken. The number of requests served. */
static unsigned serve(struct served_queue *queue, struct worker *worker)
{
    const struct queue_pool_config *config = &queue->pool->config;
    struct virtqueue *ring = *queue->ring;
    unsigned served = 0;
    int got = 0;
    pthread_mutex_lock(&queue->lock);
    queue->busy++;
    while (queue->open && (got = take_locked(queue, worker)) > 0) {
        pthread_mutex_unlock(&queue->lock);
        config->serve(&worker->seat);
        pthread_mutex_lock(&queue->lock);
        virtqueue_push(ring, worker->seat.chain);
        served++;
        if (config->collect_ms == 0)
            virtqueue_notify(ring);
    }
    if (config->collect_ms > 0 && queue->open)
        virtqueue_notify(ring); /* of all at once */
    /* While it counts as busy: a reset waits, and the next driver's queue is not called broken. */
    if (got < 0)
        virtio_device_broken(queue->pool->device, queue->index);
    queue->busy--;
    if (queue->busy == 0)
        pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
    return served;
}

static void kicks_off(struct served_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    if (queue->open)
        virtqueue_disable_kicks(*queue->ring);
    pthread_mutex_unlock(&queue->lock);
}

/* Waits for kicks. The queues with one in `queues`; 0 when it is time to end. */
static int wait_for_kicks(struct worker *worker, struct served_queue *queues[EVENTS_MAX])
{
    struct epoll_event events[EVENTS_MAX];
    int count;
    do {
        count = epoll_wait(worker->epoll_fd, events, EVENTS_MAX, -1);
    } while (count < 0 && errno == EINTR);
    if (count < 0)
        log_err("%s: epoll: %s", worker->pool->config.name, strerror(errno));
    for (int i = 0; i < count; i++) {
        queues[i] = events[i].data.ptr;
        if (!queues[i])
            return 0; /* stop_fd */
    }
    return count < 0 ? 0 : count;
}

/* Lets more chains come. False when it is time to end. */
static bool collect(struct worker *worker, struct served_queue *queues[], int count)
{
    struct epoll_event event;
    for (int i = 0; i < count; i++)
        kicks_off(queues[i]);
    /* Kicks are edges and off: what is heard here is the order to end, or a kick that was on its way. */
    return epoll_wait(worker->epoll_fd, &event, 1, (int)worker->pool->config.collect_ms) <= 0 ||
           event.data.ptr;
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

static int worker_begin(void *arg, unsigned index)
{
    struct queue_pool *pool = arg;
    return pool->config.begin(pool->config.owner, &pool->worker[index].seat);
}

static void worker_run(void *arg, unsigned index)
{
    struct worker *worker = &((struct queue_pool *)arg)->worker[index];
    const struct queue_pool_config *config = &worker->pool->config;
    struct served_queue *queues[EVENTS_MAX];
    for (;;) {
        uint64_t asleep_at = now_ns();
        int count = wait_for_kicks(worker, queues);
        if (count == 0)
            return;
        uint64_t slept_ns = now_ns() - asleep_at;
        if (config->collect_ms > 0 && !collect(worker, queues, count))
            return;
        unsigned served = 0;
        for (int i = 0; i < count; i++)
            served += serve(queues[i], worker);
        if (config->poll && served > 0)
            poll_adapt(worker, slept_ns + worker->poll_ns);
    }
}

static int worker_init(struct queue_pool *pool, struct worker *worker)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (worker->epoll_fd < 0 || epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, pool->stop_fd, &event) < 0)
        return -errno;
    return 0;
}

static void queue_init(struct queue_pool *pool, struct served_queue *queue, unsigned index)
{
    pthread_condattr_t attributes;
    *queue = (struct served_queue){.pool = pool, .ring = &pool->device->queue[index], .index = index};
    pthread_mutex_init(&queue->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

struct queue_pool *queue_pool_new(struct virtio_device *device, const struct queue_pool_config *config)
{
    struct queue_pool *pool = calloc(1, sizeof(*pool));
    struct worker *worker = calloc(config->threads, sizeof(*worker));
    struct served_queue *queue = calloc(config->queues, sizeof(*queue));
    if (!pool || !worker || !queue) {
        free(pool);
        free(worker);
        free(queue);
        return NULL;
    }
    *pool = (struct queue_pool){.device = device, .config = *config, .worker = worker, .queue = queue};
    pool->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (unsigned i = 0; i < config->queues; i++)
        queue_init(pool, &queue[i], config->first_queue + i);
    for (unsigned i = 0; i < config->threads; i++)
        worker[i] = (struct worker){.pool = pool, .epoll_fd = -1};
    int err = pool->stop_fd < 0 ? -errno : 0;
    for (unsigned i = 0; !err && i < config->threads; i++)
        err = worker_init(pool, &worker[i]);
    if (!err)
        return pool;
    queue_pool_free(pool);
    errno = -err;
    return NULL;
}

static void seats_end(struct queue_pool *pool)
{
    for (unsigned i = 0; i < pool->config.threads; i++) {
        pool->config.end(&pool->worker[i].seat);
        pool->worker[i].seat = (struct queue_pool_seat){.context = NULL};
    }
}

void queue_pool_free(struct queue_pool *pool)
{
    uint64_t one = 1;
    if (!pool)
        return;
    if (pool->threads) {
        fd_write_full(pool->stop_fd, &one, sizeof(one));
        thread_group_join(pool->threads);
        seats_end(pool);
    }
    for (unsigned i = 0; i < pool->config.threads; i++)
        fd_close(&pool->worker[i].epoll_fd);
    for (unsigned i = 0; i < pool->config.queues; i++) {
        pthread_mutex_destroy(&pool->queue[i].lock);
        pthread_cond_destroy(&pool->queue[i].changed);
    }
    fd_close(&pool->stop_fd);
    free(pool->worker);
    free(pool->queue);
    free(pool);
}

int queue_pool_start(struct queue_pool *pool)
{
    struct thread_group_config config = {.name = pool->config.name,
                                         .count = pool->config.threads,
                                         .begin = worker_begin,
                                         .run = worker_run,
                                         .arg = pool};
    int err = thread_group_start(&pool->threads, &config);
    if (err)
        seats_end(pool);
    return err;
}

/* Edges: each kick wakes one thread, and the eventfd need not be read. */
static int worker_watch(struct worker *worker)
{
    struct queue_pool *pool = worker->pool;
    for (unsigned i = 0; i < pool->config.queues; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE,
                                    .data.ptr = &pool->queue[i]};
        int kick_fd = pool->device->kick_fd[pool->queue[i].index];
        if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, kick_fd, &event) < 0)
            return -errno;
    }
    return 0;
}

static void worker_unwatch(struct worker *worker)
{
    struct queue_pool *pool = worker->pool;
    for (unsigned i = 0; i < pool->config.queues; i++)
        epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, pool->device->kick_fd[pool->queue[i].index], NULL);
}

int queue_pool_open(struct queue_pool *pool)
{
    if (!pool->threads)
        return -EINVAL;
    pool->open = true;
    for (unsigned i = 0; i < pool->config.queues; i++) {
        struct served_queue *queue = &pool->queue[i];
        pthread_mutex_lock(&queue->lock);
        queue->open = virtqueue_started(*queue->ring);
        pthread_mutex_unlock(&queue->lock);
    }
    for (unsigned i = 0; i < pool->config.threads; i++) {
        int err = worker_watch(&pool->worker[i]);
        if (err) {
            queue_pool_close(pool);
            return err;
        }
    }
    return 0;
}

void queue_pool_close(struct queue_pool *pool)
{
    if (!pool->open)
        return;
    pool->open = false;
    for (unsigned i = 0; i < pool->config.threads; i++)
        worker_unwatch(&pool->worker[i]);
    for (unsigned i = 0; i < pool->config.queues; i++) {
        struct served_queue *queue = &pool->queue[i];
        pthread_mutex_lock(&queue->lock);
        queue->open = false;
        pthread_cond_broadcast(&queue->changed); /* those who wait for the rate */
        while (queue->busy > 0)
            pthread_cond_wait(&queue->changed, &queue->lock);
        pthread_mutex_unlock(&queue->lock);
    }
}
