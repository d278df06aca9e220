/*
 * A container's monitor after its creation. Its main thread is what callers see by the pid: it is in the view
 * (monitor_view.h) and sleeps. The other threads have stayed in the host's file system: one has the
 * container's life, one answers for the view's /proc.
 */
#ifndef HUSK_SHIM_MONITOR_THREADS_H
#define HUSK_SHIM_MONITOR_THREADS_H

#include "common/error.h"

struct monitor_threads;

/* Starts both while the process has one thread and is in the host's file system. They wait there, apart from
 * what main does with its own; a process that ends takes them with it. NULL with err. */
struct monitor_threads *monitor_threads_start(struct error *err);

/* Lets them go, in the main thread, and sleeps: `live` ends the process. serve may be NULL. */
void __attribute__((noreturn)) monitor_threads_run(struct monitor_threads *threads, void (*live)(void *arg),
                                                   void (*serve)(void *arg), void *arg);

#endif
