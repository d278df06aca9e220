/* Installing the filters that the build compiled: see seccomp.h. */
#include "vmm/seccomp.h"

#include "common/log.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "seccomp_filters.h" /* generated */

#define PROGRAM(filter)                                                                                      \
    {                                                                                                        \
        sizeof(filter) / sizeof((filter)[0]), (struct sock_filter *)(uintptr_t)(filter)                      \
    }

/* In the order of enum seccomp_role. */
static const struct sock_fprog programs[] = {
    PROGRAM(filter_io),      PROGRAM(filter_vcpu), PROGRAM(filter_fs),  PROGRAM(filter_net),
    PROGRAM(filter_nursery), PROGRAM(filter_blk),  PROGRAM(filter_load)};

int seccomp_confine(enum seccomp_role role)
{
#ifdef __SANITIZE_ADDRESS__
    log_warn("seccomp: off, a sanitizer's runtime needs more calls than any role");
    (void)role;
    (void)programs;
    return 0;
#else
    /* Without SECCOMP_FILTER_FLAG_TSYNC: each thread has its own. */
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, &programs[role]) < 0
               ? -errno
               : 0;
#endif
}
