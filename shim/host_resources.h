/*
 * What linux.resources of a config.json (or the sandbox's sizing in a CRI engine's annotations) asks of the
 * host: the numbers that size the VM and limit its VMM.
 *
 * The same object goes to the agent, which applies it to the container inside the guest. What is applied
 * where:
 *
 *   memory   guest: the container's limit. Host: the VMM's limit, with room for the guest's kernel and the
 * VMM. cpu      guest: weight and quota. Host: both again, the quota with room for the VMM's own threads.
 *   cpuset   host only: the numbers are the host's processors and nodes; they hold for the VM as a whole.
 *   blockIO  weights: both. Per device: host only, since the numbers are those of the host's devices, and it
 * is the VMM that reads and writes them. pids     guest only: the container's tasks are no tasks of the host.
 * The VMM's number of threads is fixed by its options and its seccomp filters let no thread start a process.
 *   devices  guest only: the VMM needs /dev/kvm, which no container's rules allow, and opens nothing after
 * its start but what its jail holds, where there is no device node and no capability to make one.
 *   hugepageLimits, network, rdma: guest only, as far as the agent knows them.
 *   unified  "cpuset.*" and "io.*" host only; memory.max and cpu.max also size and limit the VM; all others
 * guest only.
 *
 * config.json is foreign input: every type and range is checked.
 */
#ifndef HUSK_SHIM_HOST_RESOURCES_H
#define HUSK_SHIM_HOST_RESOURCES_H

#include "common/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOST_DEVICE_LIMITS_MAX 128

enum host_device_limit_kind {
    DEVICE_WEIGHT,
    DEVICE_READ_BPS,
    DEVICE_WRITE_BPS,
    DEVICE_READ_IOPS,
    DEVICE_WRITE_IOPS,
    DEVICE_LIMIT_KINDS
};

struct host_device_limit {
    enum host_device_limit_kind kind;
    unsigned major, minor;
    uint64_t value; /* weight 10..1000, or bytes or operations a second */
};

/* Absent members are 0, NULL or, where 0 has a meaning, -1. */
struct host_resources {
    int64_t memory_limit;       /* bytes; -1: unlimited */
    int64_t memory_swap;        /* memory and swap together, bytes; -1: unlimited */
    int64_t memory_reservation; /* bytes; -1: unlimited */
    uint64_t cpu_shares;        /* 2..262144 */
    int64_t cpu_quota;          /* microseconds a period; -1: unlimited */
    uint64_t cpu_period;        /* microseconds */
    int64_t cpu_burst;          /* microseconds, or -1 */
    int cpu_idle;               /* 0, 1, or -1 */
    const char *cpus, *mems;    /* lists of numbers; borrowed */
    unsigned io_weight;         /* 10..1000 */
    struct host_device_limit *devices;
    size_t device_count;
    json_t *unified; /* borrowed */
};

#define CPU_PERIOD_DEFAULT_US 100000

/* Reads linux.resources (NULL: nothing is asked). `where` is its path for messages. The struct borrows from
 * the object. 0, or -1 with err naming the member; undone by host_resources_fini in both cases. */
int host_resources_read(struct host_resources *resources, const json_t *object, const char *where,
                        struct error *err);

/* The same from the annotations of a pod's sandbox, where containerd ("io.kubernetes.cri.sandbox-cpu-quota"
 * and its like) or CRI-O ("io.kubernetes.cri-o.PodLinuxResources") states the sum over its containers. What
 * they state replaces what is in `resources`; without them, or for a container that is no sandbox, nothing
 * changes. 0, or -1 with err naming the annotation. */
int host_resources_read_sandbox(struct host_resources *resources, const json_t *annotations,
                                struct error *err);

void host_resources_fini(struct host_resources *resources);

/* Whether anything of a host's cgroup would be limited. */
bool host_resources_are_set(const struct host_resources *resources);

/* Parses a list of numbers as cpuset(7) writes it ("0-3,8"): how many it names, or -1 when it is none. When
 * `bits` is not NULL, sets those below `bit_count` in it (bit n of byte n / 8). */
int host_resources_count_list(const char *list, uint8_t *bits, size_t bit_count);

#endif
