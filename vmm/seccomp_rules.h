/*
 * What each thread role may ask of the kernel, with the reason beside each call. Included only by
 * seccomp_compile.c, which turns it into filters when husk is built.
 *
 * A row with a mask allows the call only when (argument & mask) == value; several rows of one call allow any
 * of them.
 */
#ifndef HUSK_VMM_SECCOMP_RULES_H
#define HUSK_VMM_SECCOMP_RULES_H

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/vhost.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>

struct seccomp_rule {
    int call;
    unsigned argument; /* looked at when mask is not 0 */
    uint64_t mask, value;
    const char *why;
};

#define CALL(name, why)                                                                                      \
    {                                                                                                        \
        SCMP_SYS(name), 0, 0, 0, why                                                                         \
    }
#define CALL_IF(name, n, m, v, why)                                                                          \
    {                                                                                                        \
        SCMP_SYS(name), n, m, v, why                                                                         \
    }
#define IOCTL(command, why) CALL_IF(ioctl, 1, 0xffffffff, command, why)

/* Every thread: the C library's heap, locks and clock; logs; the end. */
static const struct seccomp_rule rules_common[] = {
    CALL(write, "log lines, eventfds, the console"),
    CALL(futex, "locks and conditions"),
    CALL(brk, "heap"),
    CALL_IF(mmap, 2, PROT_EXEC, 0, "heap; never code"),
    CALL_IF(mprotect, 2, PROT_EXEC, 0, "heap; never code"),
    CALL(munmap, "heap"),
    CALL(mremap, "heap"),
    CALL(madvise, "heap, and a thread's stack when it ends"),
    CALL(clock_gettime, "times in logs, where the vDSO has none"),
    CALL(poll, "waiting on a full console or log"),
    CALL(restart_syscall, "waits that a signal interrupted"),
    CALL(rt_sigreturn, "end of the kick signal's handler"),
    CALL(rt_sigprocmask, "pthread_kill and the end of a thread"),
    CALL(gettid, "C library"),
    CALL(sched_yield, "C library"),
    CALL(exit, "end of a thread"),
    CALL(exit_group, "end of the process"),
};

static const struct seccomp_rule rules_io[] = {
    CALL(epoll_wait, "the event loop"),
    CALL(epoll_pwait, "the event loop"),
    CALL(epoll_ctl, "watching connections as they come and go"),
    CALL(read, "eventfds, signals, vsock connections"),
    CALL(recvfrom, "vsock connections"),
    CALL(recvmsg, "vsock connections; control requests with their descriptors"),
    CALL(sendmsg, "vsock connections"),
    CALL(sendto, "answers on the control socket"),
    CALL(accept4, "vsock and control connections from the host; no socket is ever made here"),
    CALL(shutdown, "half-closed vsock connections"),
    IOCTL(KVM_GET_REGS, "saving vCPUs"),
    IOCTL(KVM_GET_SREGS, "saving vCPUs"),
    IOCTL(KVM_GET_XSAVE, "saving vCPUs"),
    IOCTL(KVM_GET_XSAVE2, "saving vCPUs"),
    IOCTL(KVM_GET_XCRS, "saving vCPUs"),
    IOCTL(KVM_GET_DEBUGREGS, "saving vCPUs"),
    IOCTL(KVM_GET_LAPIC, "saving vCPUs"),
    IOCTL(KVM_GET_MSRS, "saving vCPUs"),
    IOCTL(KVM_GET_VCPU_EVENTS, "saving vCPUs"),
    IOCTL(KVM_GET_MP_STATE, "saving vCPUs"),
    IOCTL(KVM_GET_TSC_KHZ, "saving vCPUs"),
    IOCTL(KVM_GET_MSR_INDEX_LIST, "saving vCPUs"),
    IOCTL(KVM_GET_CLOCK, "saving the machine"),
    IOCTL(KVM_KVMCLOCK_CTRL, "telling the guest that it was paused"),
    CALL(eventfd2, "the queues of a device that comes while the guest runs"),
    IOCTL(KVM_IOEVENTFD, "kicks of a device that comes or goes while the guest runs"),
    IOCTL(KVM_IRQFD, "interrupts of a PCI device that comes or goes while the guest runs"),
    IOCTL(KVM_SET_GSI_ROUTING, "a PCI device that goes takes its messages away"),
    CALL_IF(fcntl, 1, 0xffffffff, F_GETFL, "a tap that comes while the guest runs"),
    CALL_IF(fcntl, 1, 0xffffffff, F_SETFL, "a tap that comes while the guest runs"),
    IOCTL(TUNGETIFF, "what a tap is"),
    IOCTL(TUNSETVNETHDRSZ, "the header before each packet of a tap"),
    IOCTL(TUNSETVNETLE, "the header's byte order"),
    IOCTL(TUNSETOFFLOAD, "what the guest's driver negotiated"),
    IOCTL(TUNSETQUEUE, "queue pairs that the guest's driver uses or does not"),
    IOCTL(TUNSETTXFILTER, "addresses the guest's driver listens to"),
    CALL(readv, "emptying a tap at reset"),
    IOCTL(VHOST_SET_OWNER, "vhost-net for a device that comes while the guest runs"),
    IOCTL(VHOST_GET_FEATURES, "vhost-net"),
    IOCTL(VHOST_SET_FEATURES, "vhost-net: what the guest's driver negotiated"),
    IOCTL(VHOST_SET_MEM_TABLE, "vhost-net: guest memory"),
    IOCTL(VHOST_SET_VRING_NUM, "vhost-net: a queue's size"),
    IOCTL(VHOST_SET_VRING_ADDR, "vhost-net: a queue's addresses"),
    IOCTL(VHOST_SET_VRING_BASE, "vhost-net: a queue's position"),
    IOCTL(VHOST_GET_VRING_BASE, "vhost-net: a queue's position"),
    IOCTL(VHOST_SET_VRING_KICK, "vhost-net: the queue's ioeventfd"),
    IOCTL(VHOST_SET_VRING_CALL, "vhost-net: the device's irqfd"),
    IOCTL(VHOST_SET_VRING_ERR, "vhost-net: how a broken queue is told of"),
    IOCTL(VHOST_NET_SET_BACKEND, "vhost-net: starting and stopping a queue"),
    CALL(close, "vsock connections, and files when the file server is reset"),
    CALL_IF(fcntl, 1, 0xffffffff, F_DUPFD_CLOEXEC, "a descriptor in reserve for when there are none left"),
    CALL(getrandom, "virtio-rng"),
    CALL(timerfd_settime, "deadlines"),
    CALL(getpid, "pthread_kill"),
    CALL(tgkill, "pthread_kill: kicking vCPU threads"),
};

/* Kernel and initrd, by descriptors that were opened before. */
static const struct seccomp_rule rules_load[] = {
    CALL(newfstatat, "size and type of a file"),
    CALL(fstat, "size and type of a file"),
    CALL(pread64, "reading a file"),
};

static const struct seccomp_rule rules_vcpu[] = {
    IOCTL(KVM_RUN, "the guest"),
    IOCTL(KVM_SET_GSI_ROUTING, "the IOAPIC's redirection entries; messages of PCI devices"),
    IOCTL(KVM_SIGNAL_MSI, "level-triggered lines"),
    IOCTL(KVM_GET_REGS, "the register dump of an abnormal end"),
    IOCTL(KVM_GET_SREGS, "the register dump of an abnormal end"),
    CALL(timerfd_settime, "the panic deadline"),
};

/* A file server's calls, all below descriptors of the shared tree. Not among them: anything that makes a
 * socket, a process, a mount or a namespace (but the thread's own working directory), executes, or touches
 * another process. */
static const struct seccomp_rule rules_fs[] = {
    CALL(epoll_wait, "waiting for kicks"),
    CALL(read, "kicks"),
    CALL(umask, "the guest's umask for a new file"),
    CALL(capset, "acting as the guest's user: dropping and taking back"),
    CALL(setfsuid, "acting as the guest's user"),
    CALL(setfsgid, "acting as the guest's user"),
    CALL(setgroups, "acting as the guest's user"),
    CALL(openat2, "lookup: RESOLVE_BENEATH and no magic links"),
    CALL(openat, "open of a known inode, through /proc/self/fd"),
    CALL(close, "forget, release"),
    CALL(statx, "getattr, lookup"),
    CALL(fstatfs, "statfs"),
    CALL(preadv, "read into guest memory"),
    CALL(pwritev2, "write from guest memory"),
    CALL(fchmodat, "setattr"),
    CALL(fchownat, "setattr"),
    CALL(ftruncate, "setattr"),
    CALL(utimensat, "setattr"),
    CALL(readlinkat, "readlink"),
    CALL(symlinkat, "symlink"),
    CALL(mknodat, "mknod"),
    CALL(mkdirat, "mkdir"),
    CALL(unlinkat, "unlink, rmdir"),
    CALL(renameat2, "rename, rename2"),
    CALL(linkat, "link"),
    CALL(getdents64, "readdir, readdirplus"),
    CALL(lseek, "lseek, and the position in a directory"),
    CALL(fsync, "fsync"),
    CALL(fdatasync, "fsync"),
    CALL(syncfs, "syncfs"),
    CALL(fallocate, "fallocate"),
    CALL(copy_file_range, "copy_file_range"),
    CALL_IF(fcntl, 1, 0xffffffff, F_DUPFD_CLOEXEC, "flush: closing a duplicate"),
    CALL(faccessat2, "access"),
    CALL(getxattr, "getxattr"),
    CALL(setxattr, "setxattr"),
    CALL(listxattr, "listxattr"),
    CALL(removexattr, "removexattr"),
};

/* Packets between taps and guest memory. What is set up for them is the main thread's. */
static const struct seccomp_rule rules_net[] = {
    CALL(epoll_wait, "the event loop"),
    CALL(epoll_pwait, "the event loop"),
    CALL(epoll_ctl, "watching queues while they are in use"),
    CALL(read, "kicks"),
    CALL(readv, "packets from a tap"),
    CALL(writev, "packets to a tap"),
};

/* Sectors between disks' files and guest memory. */
static const struct seccomp_rule rules_blk[] = {
    CALL(epoll_wait, "waiting for kicks"),       CALL(preadv2, "reading into guest memory"),
    CALL(pwritev2, "writing from guest memory"), CALL(fdatasync, "flush"),
    CALL(fallocate, "discard and write zeroes"), IOCTL(BLKDISCARD, "discard on a block device"),
};

/* Making threads of other roles: what these may do is allowed here too, since they inherit the filter. */
static const struct seccomp_rule rules_nursery[] = {
    CALL(clone3, "a thread"),
    CALL(clone, "a thread, where the C library uses the older call"),
    CALL(set_robust_list, "C library, in the new thread"),
    CALL(rseq, "C library, in the new thread"),
    CALL_IF(prctl, 0, 0xffffffff, PR_SET_NAME, "the new thread's name"),
    CALL(seccomp, "the new thread's own filter"),
    IOCTL(KVM_CREATE_VCPU, "a further vCPU"),
    IOCTL(KVM_SET_CPUID2, "a further vCPU"),
    IOCTL(KVM_SET_MSRS, "a further vCPU"),
    IOCTL(KVM_GET_LAPIC, "a further vCPU"),
    IOCTL(KVM_SET_LAPIC, "a further vCPU"),
    CALL(eventfd2, "the end of a further disk's threads"),
    CALL(epoll_create1, "a further disk's threads"),
    CALL(epoll_ctl, "a further disk's threads"),
    CALL_IF(newfstatat, 3, 0xffffffff, AT_EMPTY_PATH, "what a disk is, and how large"),
    CALL_IF(fcntl, 1, 0xffffffff, F_GETFL, "what a disk's descriptor may do"),
    CALL_IF(fcntl, 1, 0xffffffff, F_SETFL, "a disk around the page cache"),
    IOCTL(BLKGETSIZE64, "a disk's size"),
    IOCTL(BLKSSZGET, "a disk's blocks"),
    IOCTL(BLKPBSZGET, "a disk's blocks"),
    IOCTL(BLKIOMIN, "a disk's blocks"),
    IOCTL(BLKIOOPT, "a disk's blocks"),
    CALL(close, "what could not be made whole"),
};

struct seccomp_role_rules {
    const char *name;
    const struct seccomp_rule *rules;
    size_t count;
    const char *const *children; /* roles whose calls it has too; NULL-terminated, or NULL */
};

#define ROLE(name, children)                                                                                 \
    {                                                                                                        \
#name, rules_##name, sizeof(rules_##name) / sizeof(rules_##name[0]), children                        \
    }

/* In the order of enum seccomp_role. */
static const char *const nursery_children[] = {"vcpu", "blk", NULL};
static const struct seccomp_role_rules seccomp_roles[] = {
    ROLE(io, NULL),  ROLE(vcpu, NULL), ROLE(fs, NULL), ROLE(net, NULL), ROLE(nursery, nursery_children),
    ROLE(blk, NULL), ROLE(load, NULL)};

#endif
