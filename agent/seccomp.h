/*
 * A process's system call filter, compiled when the specification is parsed and loaded as the last step
 * before the program.
 */
#ifndef HUSK_AGENT_SECCOMP_H
#define HUSK_AGENT_SECCOMP_H

#include "common/error.h"

#include <linux/filter.h>

struct seccomp_filter {
    struct sock_fprog program;
    unsigned long flags; /* SECCOMP_FILTER_FLAG_* */
};

/* Loads the filter for the calling thread, which needs no_new_privs or CAP_SYS_ADMIN. 0 or -1. */
int seccomp_filter_load(const struct seccomp_filter *filter, struct error *err);

/* NULL is fine. */
void seccomp_filter_free(struct seccomp_filter *filter);

#endif
