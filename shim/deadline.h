/*
 * Deadlines on the monotonic clock, in milliseconds, for waits that are made of several steps.
 */
#ifndef HUSK_SHIM_DEADLINE_H
#define HUSK_SHIM_DEADLINE_H

#include <stdint.h>
#include <time.h>

#define DEADLINE_NEVER INT64_MAX

static inline int64_t deadline_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The moment timeout_ms from now; a negative timeout never comes. */
static inline int64_t deadline_in(int timeout_ms)
{
    return timeout_ms < 0 ? DEADLINE_NEVER : deadline_now_ms() + timeout_ms;
}

/* What is left, for poll(2): -1 for ever, 0 when the moment has passed. */
static inline int deadline_left_ms(int64_t deadline)
{
    if (deadline == DEADLINE_NEVER)
        return -1;
    int64_t left = deadline - deadline_now_ms();
    return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

#endif
