/*
 * A thread with the signal mask of its maker, all of it. The C library unblocks two real-time signals for its
 * own use, in the maker with the first thread and in each new one, and a monitor passes on every signal there
 * is.
 */
#ifndef HUSK_SHIM_THREAD_START_H
#define HUSK_SHIM_THREAD_START_H

#include <pthread.h>

/* As pthread_create without attributes: 0 or a positive errno. */
int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg);

#endif
