/*
 * System call filters, one a thread role. What a role may call, and why, is in seccomp_rules.h; the filters
 * are compiled by libseccomp when husk is built, so that starting a sandbox costs no time for it.
 */
#ifndef HUSK_VMM_SECCOMP_H
#define HUSK_VMM_SECCOMP_H

enum seccomp_role {
    SECCOMP_IO,      /* the main thread: event loop, devices */
    SECCOMP_VCPU,    /* KVM_RUN and register accesses */
    SECCOMP_FS,      /* virtio-fs workers */
    SECCOMP_NET,     /* network packets: io_threads.h */
    SECCOMP_NURSERY, /* the thread that makes later threads */
    SECCOMP_BLK,     /* disks' requests */
    SECCOMP_LOAD,    /* reading the kernel into guest memory: loader.h */
};

/* Confines the calling thread for good: any other system call kills the process and is logged by the kernel.
 * Needs no_new_privs. 0 or -errno. */
int seccomp_confine(enum seccomp_role role);

#endif
