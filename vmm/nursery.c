/* A thread that makes threads: see nursery.h. */
#include "vmm/nursery.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>

#define STACK_BYTES (128u << 10)

struct nursery {
    pthread_t thread;
    int (*confine)(void);
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    int (*fn)(void *arg); /* to be called; NULL when done */
    void *arg;
    int result;
    bool ready, stop;
};

static void nursery_loop(struct nursery *nursery)
{
    while (!nursery->stop) {
        if (!nursery->fn) {
            pthread_cond_wait(&nursery->changed, &nursery->lock);
            continue;
        }
        pthread_mutex_unlock(&nursery->lock);
        int result = nursery->fn(nursery->arg);
        pthread_mutex_lock(&nursery->lock);
        nursery->result = result;
        nursery->fn = NULL;
        pthread_cond_broadcast(&nursery->changed);
    }
}

static void *nursery_thread(void *arg)
{
    struct nursery *nursery = arg;
    prctl(PR_SET_NAME, "nursery");
    int rc = nursery->confine();
    pthread_mutex_lock(&nursery->lock);
    nursery->result = rc;
    nursery->ready = true;
    pthread_cond_broadcast(&nursery->changed);
    if (rc == 0)
        nursery_loop(nursery);
    pthread_mutex_unlock(&nursery->lock);
    return NULL;
}

struct nursery *nursery_new(int (*confine)(void))
{
    struct nursery *nursery = calloc(1, sizeof(*nursery));
    if (!nursery)
        return NULL;
    nursery->confine = confine;
    pthread_mutex_init(&nursery->lock, NULL);
    pthread_cond_init(&nursery->changed, NULL);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    int rc = pthread_create(&nursery->thread, &attributes, nursery_thread, nursery);
    pthread_attr_destroy(&attributes);
    if (rc == 0) {
        pthread_mutex_lock(&nursery->lock);
        while (!nursery->ready)
            pthread_cond_wait(&nursery->changed, &nursery->lock);
        rc = -nursery->result;
        pthread_mutex_unlock(&nursery->lock);
        if (rc == 0)
            return nursery;
        pthread_join(nursery->thread, NULL);
    }
    free(nursery);
    errno = rc;
    return NULL;
}

void nursery_free(struct nursery *nursery)
{
    if (!nursery)
        return;
    pthread_mutex_lock(&nursery->lock);
    nursery->stop = true;
    pthread_cond_broadcast(&nursery->changed);
    pthread_mutex_unlock(&nursery->lock);
    pthread_join(nursery->thread, NULL);
    pthread_mutex_destroy(&nursery->lock);
    pthread_cond_destroy(&nursery->changed);
    free(nursery);
}

int nursery_call(struct nursery *nursery, int (*fn)(void *arg), void *arg)
{
    pthread_mutex_lock(&nursery->lock);
    nursery->fn = fn;
    nursery->arg = arg;
    pthread_cond_broadcast(&nursery->changed);
    while (nursery->fn)
        pthread_cond_wait(&nursery->changed, &nursery->lock);
    int result = nursery->result;
    pthread_mutex_unlock(&nursery->lock);
    return result;
}
