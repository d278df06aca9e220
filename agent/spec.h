/*
 * config.json as the agent uses it: parsed, checked, and free of what could not be honoured.
 *
 * The specification (OCI runtime-spec 1.2, config.md and config-linux.md) comes as JSON from the host and is
 * not trusted. Parsing has two outcomes: every member it knows is in `struct spec`, or an error names the
 * member's path. Members the specification does not know are ignored, as it demands ("Extensibility").
 * Members of the specification that make no sense in the guest, or are not supported, are refused by name
 * unless empty. Nothing here touches the system, so a fuzzer can call it.
 *
 * Strings are borrowed from the JSON, to which the spec keeps a reference.
 */
#ifndef HUSK_AGENT_SPEC_H
#define HUSK_AGENT_SPEC_H

#include "common/error.h"
#include "common/hook.h"

#include <jansson.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

struct seccomp_filter;

/* More than any caller sends, and few enough for a table of each. */
#define SPEC_DISK_MAX    40 /* "/dev/vda" */
#define SPEC_MOUNTS_MAX  4096
#define SPEC_GROUPS_MAX  65536 /* NGROUPS_MAX */
#define SPEC_RLIMITS     16    /* RLIM_NLIMITS */
#define SPEC_DEVICES_MAX 1024
#define SPEC_RULES_MAX   1024
#define SPEC_VALUES_MAX  256
#define SPEC_NAMESPACES  8

struct spec_capabilities {
    bool given; /* without the member, the process keeps what the agent has */
    uint64_t bounding, effective, inheritable, permitted, ambient;
};

struct spec_rlimit {
    bool given;
    struct rlimit limit;
};

struct spec_scheduler {
    bool given;
    unsigned policy; /* SCHED_* */
    int nice;
    unsigned priority;
    uint64_t flags; /* SCHED_FLAG_* */
    uint64_t runtime_ns, deadline_ns, period_ns;
};

struct spec_cpus {
    bool given;
    cpu_set_t set;
};

struct spec_process {
    json_t *json; /* what the strings are borrowed from; a reference of its own */
    bool terminal;
    unsigned short rows, columns; /* 0: not given */
    uid_t uid;
    gid_t gid;
    gid_t *groups;
    size_t group_count;
    mode_t umask;
    const char **args; /* NULL-terminated, at least one */
    const char **env;  /* NULL-terminated */
    const char *cwd;   /* absolute */
    struct spec_capabilities capabilities;
    struct spec_rlimit rlimits[SPEC_RLIMITS]; /* by RLIMIT_* */
    bool no_new_privileges;
    bool oom_score_adj_given;
    int oom_score_adj;
    int io_priority; /* for ioprio_set, -1: not given */
    struct spec_scheduler scheduler;
    struct spec_cpus cpus_initial, cpus_final; /* execCPUAffinity: of a further process only */
};

/* Ids of a user namespace, or of an id-mapped mount: `inside` of it and `outside` of it (containerID and
 * hostID), `count` of them in a row. */
struct spec_id_map {
    uint32_t inside, outside, count;
};

struct spec_id_maps {
    struct spec_id_map *uids, *gids;
    size_t uid_count, gid_count;
};

/* MOUNT_ATTR_* to set and to clear, for the mount itself and for the whole tree below it. */
struct spec_mount_attributes {
    uint64_t set, clear;
    uint64_t recursive_set, recursive_clear;
};

struct spec_mount {
    const char *destination; /* absolute */
    const char *type;        /* never NULL; "bind" for bind mounts */
    const char *source;      /* NULL when absent */
    bool bind, recursive;    /* recursive: rbind */
    struct spec_mount_attributes attributes;
    uint64_t propagation; /* MS_SHARED, MS_PRIVATE, MS_SLAVE, MS_UNBINDABLE, or 0 */
    bool propagation_recursive;
    bool copy_up;                /* tmpcopyup */
    bool idmap, idmap_recursive; /* "idmap", "ridmap", or mappings of its own */
    struct spec_id_maps id_maps; /* its own; empty: the container's */
    char disk[SPEC_DISK_MAX];    /* "/dev/vda": the disk that is its source (disks.h), or empty */
    const char **data;           /* filesystem options, NULL-terminated: "size=64k", "sync" */
    size_t data_count;
};

struct spec_device {
    const char *path; /* absolute */
    mode_t mode;      /* type (S_IFCHR, S_IFBLK, S_IFIFO) and permissions */
    dev_t rdev;
    uid_t uid;
    gid_t gid;
};

struct spec_sysctl {
    const char *name; /* as given: dots or slashes */
    const char *value;
    bool network; /* of the network namespace */
};

/* A namespace that exists already: linux.namespaces[index] has a path. */
struct spec_join {
    uint64_t type; /* CLONE_NEW* */
    size_t index;
    const char *name; /* "pid" */
};

struct spec_time_offset {
    const char *clock; /* "monotonic" or "boottime": NULL when not given */
    int64_t seconds, nanoseconds;
};

/* What one file of the container's cgroup is to hold. All three are the resources' own. */
struct spec_cgroup_value {
    char *file;   /* "memory.max" */
    char *value;  /* as written to the file */
    char *origin; /* the member it came from, for messages: "linux.resources.memory.limit" */
};

struct spec_device_rule {
    int64_t major, minor; /* -1: any */
    unsigned access;      /* BPF_DEVCG_ACC_* */
    char type;            /* 'a', 'b' or 'c' */
    bool allow;
};

struct spec_resources {
    struct spec_cgroup_value values[SPEC_VALUES_MAX]; /* in the order to write them */
    size_t value_count;
    bool check_memory; /* checkBeforeUpdate: refuse a memory limit below what is used */
    struct spec_device_rule *device_rules;
    size_t device_rule_count;
};

struct spec_hooks {
    struct hook *list;
    size_t count;
};

struct spec {
    json_t *json;                      /* config.json */
    const char *hostname, *domainname; /* NULL when absent */
    bool root_readonly;
    struct spec_process process;
    struct spec_mount *mounts;
    size_t mount_count;
    uint64_t namespaces; /* CLONE_NEW* of the namespaces that are to be new */
    struct spec_join joins[SPEC_NAMESPACES];
    size_t join_count;
    bool network_listed; /* a network namespace, new or by path: net.* sysctls are the container's own */
    struct spec_id_maps id_maps; /* of the user namespace, when that is new */
    struct spec_time_offset time_offsets[2];
    uint64_t propagation;                        /* rootfsPropagation: MS_*, or 0 */
    const char **masked_paths, **readonly_paths; /* NULL-terminated, or NULL */
    struct spec_device *devices;
    size_t device_count;
    struct spec_sysctl *sysctls;
    size_t sysctl_count;
    struct spec_resources resources;
    unsigned long personality; /* PER_*, with personality_given */
    bool personality_given;
    struct seccomp_filter *seccomp;              /* NULL: none */
    struct spec_hooks create_hooks, start_hooks; /* createContainer, startContainer */
};

/* Parses config.json's object. New spec, or NULL with err filled. */
struct spec *spec_new(json_t *config, struct error *err);

/* NULL is fine. */
void spec_free(struct spec *spec);

/* Parses a process object (of config.json, or of an exec) into *process, which spec_process_fini frees
 * whatever the outcome. `where` is its path for messages. 0 or -1. */
int spec_process_init(struct spec_process *process, json_t *object, const char *where, struct error *err);
void spec_process_fini(struct spec_process *process);

/* CLONE_NEW* of all namespaces that are not the sandbox's: new ones, and those of another container. */
uint64_t spec_own_namespaces(const struct spec *spec);

/* The id outside of the maps' namespace for one inside, or -1 when it has none. Without maps ids are the
 * same.
 */
int64_t spec_id_outside(const struct spec_id_map *maps, size_t count, uint32_t inside);

/* Whether the maps lead to that id outside. */
bool spec_id_is_mapped(const struct spec_id_map *maps, size_t count, uint32_t outside);

/* "RLIMIT_NOFILE" and the like, for messages. */
const char *spec_rlimit_name(int resource);

/* Parses linux.resources, from config.json or from an update. spec_resources_fini frees whatever the outcome.
 * 0 or -1. */
int spec_resources_init(struct spec_resources *resources, const json_t *object, const char *where,
                        struct error *err);
void spec_resources_fini(struct spec_resources *resources);

#endif
