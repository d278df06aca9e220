/*
 * The event loop: see loop.h. Events come in batches; a watch deleted while its batch is being handled must
 * not be called any more, so the batch is kept in the loop and loop_del takes the watch out of it.
 */
#include "common/loop.h"

#include "common/fd.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#define EVENTS_PER_WAIT 64

struct work {
    struct work *next;
    void (*fn)(void *arg);
    void *arg;
};

struct loop {
    int epoll_fd;
    struct watch wake; /* an eventfd: posted work or a stop */
    struct epoll_event batch[EVENTS_PER_WAIT];
    int batch_count;
    atomic_bool stop;
    pthread_mutex_t lock; /* guards the queue, running and owner */
    struct work *first, **last;
    bool running;
    pthread_t owner;
};

static void loop_wake(struct loop *loop)
{
    uint64_t one = 1;
    while (write(loop->wake.fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* Runs what is queued now. Work posted meanwhile wakes the loop again, so that fds are not starved. */
static void loop_run_posted(struct watch *watch, uint32_t events)
{
    (void)events;
    struct loop *loop = watch->arg;
    uint64_t count;
    if (read(watch->fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
        return;
    pthread_mutex_lock(&loop->lock);
    struct work *work = loop->first;
    loop->first = NULL;
    loop->last = &loop->first;
    pthread_mutex_unlock(&loop->lock);
    while (work) {
        struct work *next = work->next;
        work->fn(work->arg);
        free(work);
        work = next;
    }
}

struct loop *loop_new(void)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    if (!loop)
        return NULL;
    loop->last = &loop->first;
    loop->wake =
        (struct watch){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .fn = loop_run_posted, .arg = loop};
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    pthread_mutex_init(&loop->lock, NULL);
    if (loop->wake.fd < 0 || loop->epoll_fd < 0 || loop_add(loop, &loop->wake, EPOLLIN)) {
        loop_free(loop);
        return NULL;
    }
    return loop;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    while (loop->first) {
        struct work *next = loop->first->next;
        free(loop->first);
        loop->first = next;
    }
    fd_close(&loop->wake.fd);
    fd_close(&loop->epoll_fd);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

static int loop_ctl(struct loop *loop, int op, struct watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (epoll_ctl(loop->epoll_fd, op, watch->fd, &event) < 0)
        return -errno;
    watch->events = events;
    return 0;
}

int loop_add(struct loop *loop, struct watch *watch, uint32_t events)
{
    return loop_ctl(loop, EPOLL_CTL_ADD, watch, events);
}

int loop_mod(struct loop *loop, struct watch *watch, uint32_t events)
{
    return watch->events == events ? 0 : loop_ctl(loop, EPOLL_CTL_MOD, watch, events);
}

void loop_del(struct loop *loop, struct watch *watch)
{
    if (watch->fd >= 0)
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    for (int i = 0; i < loop->batch_count; i++) {
        if (loop->batch[i].data.ptr == watch)
            loop->batch[i].data.ptr = NULL;
    }
}

int loop_once(struct loop *loop, int timeout_ms)
{
    int count = epoll_wait(loop->epoll_fd, loop->batch, EVENTS_PER_WAIT, timeout_ms);
    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    loop->batch_count = count;
    for (int i = 0; i < count; i++) {
        struct watch *watch = loop->batch[i].data.ptr;
        if (watch)
            watch->fn(watch, loop->batch[i].events);
    }
    loop->batch_count = 0;
    return count;
}

static void loop_set_running(struct loop *loop, bool running)
{
    pthread_mutex_lock(&loop->lock);
    loop->running = running;
    loop->owner = pthread_self();
    pthread_mutex_unlock(&loop->lock);
}

int loop_run(struct loop *loop)
{
    int err = 0;
    loop_set_running(loop, true);
    while (!atomic_exchange(&loop->stop, false)) {
        err = loop_once(loop, -1);
        if (err < 0)
            break;
    }
    loop_set_running(loop, false);
    return err < 0 ? err : 0;
}

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->stop, true);
    loop_wake(loop);
}

/* Queues the work and wakes the loop; the caller holds the lock. */
static int loop_queue_locked(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    struct work *work = malloc(sizeof(*work));
    if (!work)
        return -ENOMEM;
    *work = (struct work){.fn = fn, .arg = arg};
    *loop->last = work;
    loop->last = &work->next;
    loop_wake(loop);
    return 0;
}

int loop_post(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    pthread_mutex_lock(&loop->lock);
    int err = loop_queue_locked(loop, fn, arg);
    pthread_mutex_unlock(&loop->lock);
    return err;
}

struct call {
    void (*fn)(void *arg);
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t finished;
    bool done;
};

static void call_run(void *arg)
{
    struct call *call = arg;
    call->fn(call->arg);
    pthread_mutex_lock(&call->lock);
    call->done = true;
    pthread_cond_signal(&call->finished);
    pthread_mutex_unlock(&call->lock);
}

int loop_call(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    struct call call = {
        .fn = fn, .arg = arg, .lock = PTHREAD_MUTEX_INITIALIZER, .finished = PTHREAD_COND_INITIALIZER};
    pthread_mutex_lock(&loop->lock);
    bool direct = !loop->running || pthread_equal(loop->owner, pthread_self());
    int err = direct ? 0 : loop_queue_locked(loop, call_run, &call);
    pthread_mutex_unlock(&loop->lock);
    if (direct) {
        fn(arg);
        return 0;
    }
    if (err)
        return err;
    pthread_mutex_lock(&call.lock);
    while (!call.done)
        pthread_cond_wait(&call.finished, &call.lock);
    pthread_mutex_unlock(&call.lock);
    return 0;
}
