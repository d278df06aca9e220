/*
 * Threads that run an event loop each, for devices whose data path must not share the main thread's loop.
 *
 * All are made before the guest runs: afterwards no thread of the process may make another (seccomp). Devices
 * that come later find them waiting.
 */
#ifndef HUSK_VMM_IO_THREADS_H
#define HUSK_VMM_IO_THREADS_H

struct io_threads;
struct loop;

/* `count` loops (at least 1) and room for their threads. The loops may be used at once; until the threads are
 * started, work crosses into them in the caller's. NULL with errno. */
struct io_threads *io_threads_new(unsigned count);
/* Starts the threads, named NAME-0 .. ; each calls `start` (may be NULL) before its loop. 0, or -errno of the
 * first that failed: then none runs. `name` is the caller's. */
int io_threads_start(struct io_threads *threads, const char *name, int (*start)(void *arg), void *arg);
/* Ends threads and frees the loops: after the devices that use them. NULL is fine. */
void io_threads_free(struct io_threads *threads);

/* The loops, constant; *count of them. */
struct loop *const *io_threads_loops(const struct io_threads *threads, unsigned *count);

#endif
