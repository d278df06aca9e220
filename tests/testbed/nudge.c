/* Each CPU of the testbed sends its neighbour an interrupt every few milliseconds: see nudge.h. */
#include "nudge.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_NS 20000000L

struct nudger {
    struct nudger *neighbour;
    int cpu;
    uint32_t nudges; /* the futex its thread sleeps on */
};

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        perror("testbed: sched_setaffinity");
    /* Only what preempts the CPU's present thread is worth an interrupt to the kernel. */
    if (sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1}) < 0)
        perror("testbed: sched_setscheduler");
}

static void *nudger_run(void *arg)
{
    struct nudger *self = arg;
    const struct timespec period = {.tv_nsec = PERIOD_NS};
    pin(self->cpu);
    for (;;) {
        uint32_t seen = __atomic_load_n(&self->nudges, __ATOMIC_ACQUIRE);
        if (syscall(SYS_futex, &self->nudges, FUTEX_WAIT_PRIVATE, seen, &period, NULL, 0) == 0)
            continue; /* woken by the neighbour, which has waited for a period */
        __atomic_add_fetch(&self->neighbour->nudges, 1, __ATOMIC_RELEASE);
        syscall(SYS_futex, &self->neighbour->nudges, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    return NULL;
}

void nudge_start(void)
{
    int cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (cpus < 2 || fork() != 0)
        return;
    prctl(PR_SET_NAME, "nudge");
    struct nudger *nudger = calloc((size_t)cpus, sizeof *nudger);
    for (int i = 0; nudger && i < cpus; i++) {
        pthread_t thread;
        nudger[i] = (struct nudger){.neighbour = &nudger[(i + 1) % cpus], .cpu = i};
        pthread_create(&thread, NULL, nudger_run, &nudger[i]);
    }
    for (;;)
        pause();
}
