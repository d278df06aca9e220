/*
 * The process object of config.json and of an exec (OCI runtime-spec config.md "Process"): see spec.h.
 */
#include "agent/spec.h"

#include "agent/spec_fields.h"
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"

#include <ctype.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/ioprio.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* The kernel's names, in the order of their numbers (linux/capability.h). */
static const char *const capability_names[CAP_LAST_CAP + 1] = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};

static const struct spec_name rlimit_names[] = {
    {"RLIMIT_AS", RLIMIT_AS},
    {"RLIMIT_CORE", RLIMIT_CORE},
    {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},
    {"RLIMIT_FSIZE", RLIMIT_FSIZE},
    {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
    {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},
    {"RLIMIT_NPROC", RLIMIT_NPROC},
    {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
    {"RLIMIT_RTTIME", RLIMIT_RTTIME},
    {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK},
    {NULL, 0},
};

const char *spec_rlimit_name(int resource)
{
    for (const struct spec_name *row = rlimit_names; row->name; row++) {
        if (row->value == (unsigned long)resource)
            return row->name;
    }
    return "unknown";
}

static int process_terminal(void *into, const json_t *object, const char *where, const char *key,
                            struct error *err)
{
    struct spec_process *process = into;
    return json_get_bool(object, where, key, &process->terminal, err);
}

static int process_console_size(void *into, const json_t *object, const char *where, const char *key,
                                struct error *err)
{
    struct spec_process *process = into;
    char path[SPEC_PATH_MAX];
    json_t *size = NULL;
    int64_t height = 0, width = 0;
    if (json_get_object(object, where, key, &size, err) < 0)
        return -1;
    spec_path_member(path, where, key);
    if (json_get_int(size, path, "height", 0, UINT16_MAX, &height, err) < 0 ||
        json_get_int(size, path, "width", 0, UINT16_MAX, &width, err) < 0)
        return -1;
    process->rows = (unsigned short)height;
    process->columns = (unsigned short)width;
    return 0;
}

static int user_groups(struct spec_process *process, const json_t *user, const char *where, struct error *err)
{
    json_t *groups = NULL;
    int got = json_get_array(user, where, "additionalGids", &groups, err);
    if (got <= 0)
        return got;
    size_t count = json_array_size(groups);
    if (count > SPEC_GROUPS_MAX)
        return error_set(err, 0, "%s.additionalGids: more than %d", where, SPEC_GROUPS_MAX);
    process->groups = calloc(count + 1, sizeof(gid_t));
    if (!process->groups)
        return error_set(err, ENOMEM, "%s.additionalGids", where);
    for (size_t i = 0; i < count; i++) {
        const json_t *group = json_array_get(groups, i);
        if (!json_is_integer(group) || json_integer_value(group) < 0 ||
            json_integer_value(group) >= UINT32_MAX)
            return error_set(err, 0, "%s.additionalGids[%zu]: expected a group id", where, i);
        process->groups[i] = (gid_t)json_integer_value(group);
    }
    process->group_count = count;
    return 0;
}

static int process_user(void *into, const json_t *object, const char *where, const char *key,
                        struct error *err)
{
    struct spec_process *process = into;
    char path[SPEC_PATH_MAX];
    json_t *user = NULL;
    int64_t uid = 0, gid = 0, mask = 022;
    if (json_get_object(object, where, key, &user, err) < 0)
        return -1;
    spec_path_member(path, where, key);
    /* (uid_t)-1 means "unchanged" to the kernel, so it is no id. */
    if (json_get_int(user, path, "uid", 0, UINT32_MAX - 1, &uid, err) < 0 ||
        json_get_int(user, path, "gid", 0, UINT32_MAX - 1, &gid, err) < 0 ||
        json_get_int(user, path, "umask", 0, 0777, &mask, err) < 0)
        return -1;
    process->uid = (uid_t)uid;
    process->gid = (gid_t)gid;
    process->umask = (mode_t)mask;
    return user_groups(process, user, path, err);
}

static int process_args(void *into, const json_t *object, const char *where, const char *key,
                        struct error *err)
{
    struct spec_process *process = into;
    int got = json_get_strings(object, where, key, &process->args, err);
    if (got == 1 && !process->args[0])
        return error_set(err, 0, "%s.%s: at least one string is needed", where, key);
    return got;
}

static int process_env(void *into, const json_t *object, const char *where, const char *key,
                       struct error *err)
{
    struct spec_process *process = into;
    return json_get_strings(object, where, key, &process->env, err);
}

static int process_cwd(void *into, const json_t *object, const char *where, const char *key,
                       struct error *err)
{
    struct spec_process *process = into;
    return spec_get_path(object, where, key, &process->cwd, err);
}

static int capability_set(uint64_t *set, const json_t *object, const char *where, const char *key,
                          struct error *err)
{
    cleanup_free const char **names = NULL;
    if (json_get_strings(object, where, key, &names, err) < 0)
        return -1;
    for (size_t i = 0; names && names[i]; i++) {
        size_t number = 0;
        while (number <= CAP_LAST_CAP && strcmp(capability_names[number], names[i]) != 0)
            number++;
        /* One that can't be granted is worth a warning, and no failure (config.md, "Linux Process"). */
        if (number > CAP_LAST_CAP)
            log_warn("%s.%s[%zu]: '%.64s' is no capability of Linux", where, key, i, names[i]);
        else
            *set |= (uint64_t)1 << number;
    }
    return 0;
}

static int process_capabilities(void *into, const json_t *object, const char *where, const char *key,
                                struct error *err)
{
    struct spec_process *process = into;
    struct spec_capabilities *sets = &process->capabilities;
    char path[SPEC_PATH_MAX];
    json_t *given = NULL;
    if (json_get_object(object, where, key, &given, err) < 0)
        return -1;
    spec_path_member(path, where, key);
    sets->given = true;
    if (capability_set(&sets->bounding, given, path, "bounding", err) ||
        capability_set(&sets->effective, given, path, "effective", err) ||
        capability_set(&sets->inheritable, given, path, "inheritable", err) ||
        capability_set(&sets->permitted, given, path, "permitted", err) ||
        capability_set(&sets->ambient, given, path, "ambient", err))
        return -1;
    return 0;
}

static int process_rlimits(void *into, const json_t *object, const char *where, const char *key,
                           struct error *err)
{
    struct spec_process *process = into;
    json_t *list = NULL;
    int got = spec_get_objects(object, where, key, SPEC_RLIMITS, &list, err);
    for (size_t i = 0; got == 1 && i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        char path[SPEC_PATH_MAX];
        unsigned long type = 0;
        uint64_t soft = 0, hard = 0;
        spec_path_element(path, where, key, i);
        if (json_require(spec_get_name(entry, path, "type", rlimit_names, &type, err), path, "type", err) <
                0 ||
            json_require(json_get_u64(entry, path, "soft", UINT64_MAX, &soft, err), path, "soft", err) < 0 ||
            json_require(json_get_u64(entry, path, "hard", UINT64_MAX, &hard, err), path, "hard", err) < 0)
            return -1;
        struct spec_rlimit *rlimit = &process->rlimits[type];
        if (rlimit->given)
            return error_set(err, 0, "%s.type: %s was given before", path,
                             json_string_value(json_object_get(entry, "type")));
        if (soft > hard)
            return error_set(err, 0, "%s.soft: %llu is over the hard limit", path, (unsigned long long)soft);
        *rlimit = (struct spec_rlimit){.given = true, .limit = {.rlim_cur = soft, .rlim_max = hard}};
    }
    return got;
}

static int process_no_new_privileges(void *into, const json_t *object, const char *where, const char *key,
                                     struct error *err)
{
    struct spec_process *process = into;
    return json_get_bool(object, where, key, &process->no_new_privileges, err);
}

static int process_oom_score_adj(void *into, const json_t *object, const char *where, const char *key,
                                 struct error *err)
{
    struct spec_process *process = into;
    int64_t value = 0;
    if (json_get_int(object, where, key, -1000, 1000, &value, err) < 0)
        return -1;
    process->oom_score_adj = (int)value;
    process->oom_score_adj_given = true;
    return 0;
}

static int process_io_priority(void *into, const json_t *object, const char *where, const char *key,
                               struct error *err)
{
    static const struct spec_name classes[] = {
        {"IOPRIO_CLASS_RT", IOPRIO_CLASS_RT},
        {"IOPRIO_CLASS_BE", IOPRIO_CLASS_BE},
        {"IOPRIO_CLASS_IDLE", IOPRIO_CLASS_IDLE},
        {NULL, 0},
    };
    struct spec_process *process = into;
    char path[SPEC_PATH_MAX];
    json_t *given = NULL;
    unsigned long class = 0;
    int64_t priority = 0;
    if (json_get_object(object, where, key, &given, err) < 0)
        return -1;
    spec_path_member(path, where, key);
    if (json_require(spec_get_name(given, path, "class", classes, &class, err), path, "class", err) < 0 ||
        json_get_int(given, path, "priority", 0, IOPRIO_NR_LEVELS - 1, &priority, err) < 0)
        return -1;
    process->io_priority = (int)IOPRIO_PRIO_VALUE((int)class, (int)priority);
    return 0;
}

static int scheduler_flags(struct spec_scheduler *scheduler, const json_t *object, const char *where,
                           struct error *err)
{
    static const struct spec_name known[] = {
        {"SCHED_FLAG_RESET_ON_FORK", SCHED_FLAG_RESET_ON_FORK},
        {"SCHED_FLAG_RECLAIM", SCHED_FLAG_RECLAIM},
        {"SCHED_FLAG_DL_OVERRUN", SCHED_FLAG_DL_OVERRUN},
        {"SCHED_FLAG_KEEP_POLICY", SCHED_FLAG_KEEP_POLICY},
        {"SCHED_FLAG_KEEP_PARAMS", SCHED_FLAG_KEEP_PARAMS},
        {"SCHED_FLAG_UTIL_CLAMP_MIN", SCHED_FLAG_UTIL_CLAMP_MIN},
        {"SCHED_FLAG_UTIL_CLAMP_MAX", SCHED_FLAG_UTIL_CLAMP_MAX},
        {NULL, 0},
    };
    unsigned long flags = 0;
    int got = spec_get_flags(object, where, "flags", known, &flags, err);
    scheduler->flags |= flags;
    return got < 0 ? -1 : 0;
}

static int process_scheduler(void *into, const json_t *object, const char *where, const char *key,
                             struct error *err)
{
    static const struct spec_name policies[] = {
        {"SCHED_OTHER", SCHED_OTHER},
        {"SCHED_BATCH", SCHED_BATCH},
        {"SCHED_IDLE", SCHED_IDLE},
        {"SCHED_FIFO", SCHED_FIFO},
        {"SCHED_RR", SCHED_RR},
        {"SCHED_DEADLINE", SCHED_DEADLINE},
        {NULL, 0},
    };
    struct spec_scheduler *scheduler = &((struct spec_process *)into)->scheduler;
    char path[SPEC_PATH_MAX];
    json_t *given = NULL;
    unsigned long policy = 0;
    int64_t nice = 0, priority = 0;
    if (json_get_object(object, where, key, &given, err) < 0)
        return -1;
    spec_path_member(path, where, key);
    if (json_require(spec_get_name(given, path, "policy", policies, &policy, err), path, "policy", err) < 0 ||
        json_get_int(given, path, "nice", -20, 19, &nice, err) < 0 ||
        json_get_int(given, path, "priority", 0, 99, &priority, err) < 0 ||
        json_get_u64(given, path, "runtime", UINT64_MAX, &scheduler->runtime_ns, err) < 0 ||
        json_get_u64(given, path, "deadline", UINT64_MAX, &scheduler->deadline_ns, err) < 0 ||
        json_get_u64(given, path, "period", UINT64_MAX, &scheduler->period_ns, err) < 0 ||
        scheduler_flags(scheduler, given, path, err))
        return -1;
    scheduler->given = true;
    scheduler->policy = (unsigned)policy;
    scheduler->nice = (int)nice;
    scheduler->priority = (unsigned)priority;
    return 0;
}

/* A list of processors as the kernel writes them ("0-3,7"). 0 or -1. */
static int cpu_list_parse(cpu_set_t *set, const char *text)
{
    CPU_ZERO(set);
    do {
        char *end;
        if (!isdigit((unsigned char)*text))
            return -1;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (*end == '-' && isdigit((unsigned char)end[1]))
            last = strtoul(end + 1, &end, 10);
        if (first > last || last >= CPU_SETSIZE || (*end != '\0' && *end != ','))
            return -1;
        for (; first <= last; first++)
            CPU_SET(first, set);
        text = *end ? end + 1 : NULL;
    } while (text);
    return 0;
}

static int process_cpu_affinity(void *into, const json_t *object, const char *where, const char *key,
                                struct error *err)
{
    static const char *const when[] = {"initial", "final"};
    struct spec_process *process = into;
    struct spec_cpus *const cpus[] = {&process->cpus_initial, &process->cpus_final};
    char path[SPEC_PATH_MAX];
    json_t *given = NULL;
    if (json_get_object(object, where, key, &given, err) < 0)
        return -1;
    spec_path_member(path, where, key);
    for (size_t i = 0; i < 2; i++) {
        const char *list = "";
        if (json_get_string(given, path, when[i], &list, err) < 0)
            return -1;
        if (*list && cpu_list_parse(&cpus[i]->set, list))
            return error_set(err, 0, "%s.%s: '%s' is no list of processors", path, when[i], list);
        cpus[i]->given = *list;
    }
    return 0;
}

/* The guest kernel has no AppArmor and no SELinux. The profile that a caller gives every container is what it
 * would apply on its own host; here the virtual machine is the boundary and it is passed over. A profile that
 * somebody chose is a wish that can't be met. */
static int process_apparmor_profile(void *into, const json_t *object, const char *where, const char *key,
                                    struct error *err)
{
    static const char *const defaults[] = {"unconfined", "containers-default-", "crio-default",
                                           "cri-containerd.apparmor.d", "docker-default"};
    (void)into;
    const char *profile = "";
    if (json_get_string(object, where, key, &profile, err) < 0)
        return -1;
    for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++) {
        if (strncmp(profile, defaults[i], strlen(defaults[i])) == 0)
            return 0;
    }
    if (!*profile)
        return 0;
    return error_set(err, 0, "%s.%s is not supported: the guest kernel has no AppArmor for '%s'", where, key,
                     profile);
}

static int process_selinux_label(void *into, const json_t *object, const char *where, const char *key,
                                 struct error *err)
{
    (void)into;
    const char *label = "";
    if (json_get_string(object, where, key, &label, err) < 0)
        return -1;
    if (!*label || strstr(label, ":container_t:") || strstr(label, ":container_init_t:"))
        return 0;
    return error_set(err, 0, "%s.%s is not supported: the guest kernel has no SELinux for '%s'", where, key,
                     label);
}

static const struct spec_field process_fields[] = {
    {"terminal", process_terminal, NULL, false},
    {"consoleSize", process_console_size, NULL, false},
    {"user", process_user, NULL, false},
    {"args", process_args, NULL, true},
    {"env", process_env, NULL, false},
    {"cwd", process_cwd, NULL, true},
    {"capabilities", process_capabilities, NULL, false},
    {"rlimits", process_rlimits, NULL, false},
    {"noNewPrivileges", process_no_new_privileges, NULL, false},
    {"oomScoreAdj", process_oom_score_adj, NULL, false},
    {"ioPriority", process_io_priority, NULL, false},
    {"scheduler", process_scheduler, NULL, false},
    {"apparmorProfile", process_apparmor_profile, NULL, false},
    {"selinuxLabel", process_selinux_label, NULL, false},
    {"execCPUAffinity", process_cpu_affinity, NULL, false},
    {"commandLine", NULL, "it belongs to Windows", false},
    {NULL, NULL, NULL, false},
};

int spec_process_init(struct spec_process *process, json_t *object, const char *where, struct error *err)
{
    *process = (struct spec_process){.json = json_incref(object), .umask = 022, .io_priority = -1};
    return spec_fields_parse(process_fields, process, object, where, err);
}

void spec_process_fini(struct spec_process *process)
{
    free(process->groups);
    free(process->args);
    free(process->env);
    json_decref(process->json);
    *process = (struct spec_process){0};
}
