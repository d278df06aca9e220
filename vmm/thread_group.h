/*
 * A group of threads that start together or not at all, and are joined together.
 *
 * Each thread has a name, no signals (they are the main thread's) and a small stack, and takes its first
 * steps (its system call filter, say) before any of them does its work. How the work is made to end is the
 * caller's business. Used for loops (io_threads.h) and for queues (virtio/queue_pool.h).
 */
#ifndef HUSK_VMM_THREAD_GROUP_H
#define HUSK_VMM_THREAD_GROUP_H

struct thread_group;

struct thread_group_config {
    const char *name; /* of the threads: NAME-0 ..; the caller's while they run */
    unsigned count;   /* at least 1 */
    /* Each thread's first steps; 0 or -errno. May be NULL. */
    int (*begin)(void *arg, unsigned index);
    /* Its work, once all have begun well. */
    void (*run)(void *arg, unsigned index);
    void *arg;
};

/* 0 with *group when all threads are at work; -errno when one could not be made or of the first whose begin
 * failed: then none has run and none is left. */
int thread_group_start(struct thread_group **group, const struct thread_group_config *config);
/* Waits until all have returned from their work, and frees the group. NULL is fine. */
void thread_group_join(struct thread_group *group);

#endif
