/*
 * A thread that makes threads after the jail has closed.
 *
 * A new thread inherits its maker's system call filter and can only narrow it, so a thread of one role cannot
 * make one of another. What must come later (a vCPU, a hot-plugged device's thread) is made here, by a thread
 * that serves no guest and whose filter holds what its children need, besides making them. It sleeps unless
 * called.
 */
#ifndef HUSK_VMM_NURSERY_H
#define HUSK_VMM_NURSERY_H

struct nursery;

/* Starts the thread, which first calls confine(). NULL with errno. */
struct nursery *nursery_new(int (*confine)(void));
/* Ends it. NULL is fine. */
void nursery_free(struct nursery *nursery);

/* Runs fn(arg) in the nursery's thread and returns what it returns; waits for it. From one thread at a time,
 * the loop's. fn may block for nothing that needs the caller. */
int nursery_call(struct nursery *nursery, int (*fn)(void *arg), void *arg);

#endif
