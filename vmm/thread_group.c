/* Threads that start together: see thread_group.h. */
#include "vmm/thread_group.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

#define STACK_BYTES (256u << 10)

struct member {
    struct thread_group *group;
    pthread_t thread;
};

struct thread_group {
    struct thread_group_config config;
    unsigned running; /* threads to join */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock: */
    unsigned begun;
    int error;    /* of the first that failed */
    bool decided; /* whether they go to work: if there is no error */
    struct member member[];
};

static void group_free(struct thread_group *group)
{
    pthread_mutex_destroy(&group->lock);
    pthread_cond_destroy(&group->changed);
    free(group);
}

/* Reports how this thread began and waits for the others. Whether all go to work. */
static bool meet(struct thread_group *group, int err)
{
    pthread_mutex_lock(&group->lock);
    group->begun++;
    if (err && !group->error)
        group->error = err;
    pthread_cond_broadcast(&group->changed);
    while (!group->decided)
        pthread_cond_wait(&group->changed, &group->lock);
    bool go = !group->error;
    pthread_mutex_unlock(&group->lock);
    return go;
}

static void *member_run(void *arg)
{
    struct member *member = arg;
    struct thread_group *group = member->group;
    const struct thread_group_config *config = &group->config;
    unsigned index = (unsigned)(member - group->member);
    char name[16];
    snprintf(name, sizeof(name), "%s-%u", config->name, index);
    prctl(PR_SET_NAME, name);
    if (meet(group, config->begin ? config->begin(config->arg, index) : 0))
        config->run(config->arg, index);
    return NULL;
}

/* The new threads inherit a full signal mask. */
static int threads_create(struct thread_group *group)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    int err = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    while (!err && group->running < group->config.count) {
        struct member *member = &group->member[group->running];
        member->group = group;
        err = -pthread_create(&member->thread, &attributes, member_run, member);
        if (!err)
            group->running++;
    }
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err;
}

int thread_group_start(struct thread_group **group, const struct thread_group_config *config)
{
    struct thread_group *made = calloc(1, sizeof(*made) + config->count * sizeof(made->member[0]));
    if (!made)
        return -ENOMEM;
    made->config = *config;
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->changed, NULL);
    int err = threads_create(made);
    pthread_mutex_lock(&made->lock);
    while (made->begun < made->running)
        pthread_cond_wait(&made->changed, &made->lock);
    if (err && !made->error)
        made->error = err;
    err = made->error;
    made->decided = true;
    pthread_cond_broadcast(&made->changed);
    pthread_mutex_unlock(&made->lock);
    if (err)
        thread_group_join(made);
    else
        *group = made;
    return err;
}

void thread_group_join(struct thread_group *group)
{
    if (!group)
        return;
    for (unsigned i = 0; i < group->running; i++)
        pthread_join(group->member[i].thread, NULL);
    group_free(group);
}
