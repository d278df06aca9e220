/*
 * linux.seccomp (OCI runtime-spec config-linux.md "Seccomp"): parsed and compiled by libseccomp. See spec.h
 * and seccomp.h.
 */
#include "agent/seccomp.h"
#include "agent/spec_fields.h"
#include "agent/spec_sections.h"
#include "common/fd.h"
#include "common/json.h"

#include <ctype.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARGS_MAX         6    /* of a system call */
#define SYSCALL_SETS_MAX 4096 /* elements of linux.seccomp.syscalls */

struct seccomp_arguments {
    struct scmp_arg_cmp list[ARGS_MAX * 4];
    unsigned count;
    bool repeated; /* an argument is compared more than once */
};

/* An action by its name; those with a return value take it from `errnoRet`. 0 or -1. */
static int action_parse(const json_t *object, const char *where, const char *key, const char *errno_key,
                        uint32_t *action, struct error *err)
{
    static const struct spec_name actions[] = {
        {"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD},
        {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
        {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
        {"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
        {"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0)},
        {"SCMP_ACT_TRACE", SCMP_ACT_TRACE(0)},
        {"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
        {"SCMP_ACT_LOG", SCMP_ACT_LOG},
        {NULL, 0},
    };
    const char *name = "";
    unsigned long value = 0;
    int64_t number = EPERM;
    if (json_get_string(object, where, key, &name, err) < 0)
        return -1;
    if (strcmp(name, "SCMP_ACT_NOTIFY") == 0)
        return error_set(err, 0, "%s.%s: SCMP_ACT_NOTIFY is not supported: its listener is in another kernel",
                         where, key);
    if (json_require(spec_get_name(object, where, key, actions, &value, err), where, key, err) < 0)
        return -1;
    int given = json_get_int(object, where, errno_key, 0, 4095, &number, err);
    if (given < 0)
        return -1;
    if (value == SCMP_ACT_ERRNO(0) || value == SCMP_ACT_TRACE(0))
        value |= (unsigned long)number;
    else if (given && number != 0)
        return error_set(err, 0, "%s.%s: %s returns no errno", where, errno_key, name);
    *action = (uint32_t)value;
    return 0;
}

static int arguments_parse(struct seccomp_arguments *arguments, const json_t *object, const char *where,
                           struct error *err)
{
    static const struct spec_name operators[] = {
        {"SCMP_CMP_NE", SCMP_CMP_NE},
        {"SCMP_CMP_LT", SCMP_CMP_LT},
        {"SCMP_CMP_LE", SCMP_CMP_LE},
        {"SCMP_CMP_EQ", SCMP_CMP_EQ},
        {"SCMP_CMP_GE", SCMP_CMP_GE},
        {"SCMP_CMP_GT", SCMP_CMP_GT},
        {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
        {NULL, 0},
    };
    json_t *list = NULL;
    unsigned seen = 0;
    int got = spec_get_objects(object, where, "args", ARGS_MAX * 4, &list, err);
    *arguments = (struct seccomp_arguments){0};
    for (size_t i = 0; got == 1 && i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        char path[SPEC_PATH_MAX];
        int64_t index = 0;
        uint64_t value = 0, second = 0;
        unsigned long op = 0;
        spec_path_element(path, where, "args", i);
        if (json_require(json_get_int(entry, path, "index", 0, ARGS_MAX - 1, &index, err), path, "index",
                         err) < 0 ||
            json_require(json_get_u64(entry, path, "value", UINT64_MAX, &value, err), path, "value", err) <
                0 ||
            json_get_u64(entry, path, "valueTwo", UINT64_MAX, &second, err) < 0 ||
            json_require(spec_get_name(entry, path, "op", operators, &op, err), path, "op", err) < 0)
            return -1;
        arguments->repeated |= seen >> index & 1;
        seen |= 1u << index;
        /* For a masked comparison libseccomp wants mask and value, the specification value and valueTwo. */
        arguments->list[arguments->count++] = (struct scmp_arg_cmp){
            .arg = (unsigned)index, .op = (enum scmp_compare)op, .datum_a = value, .datum_b = second};
    }
    return got < 0 ? -1 : 0;
}

static int rule_add(scmp_filter_ctx context, uint32_t action, const char *name,
                    const struct seccomp_arguments *arguments)
{
    int number = seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR)
        return 0; /* profiles name system calls of every kernel and architecture */
    if (!arguments->repeated)
        return seccomp_rule_add_array(context, action, number, arguments->count, arguments->list);
    /* Comparisons of one argument are alternatives then, as in runc: libseccomp has no other place for them.
     */
    int failed = 0;
    for (unsigned i = 0; !failed && i < arguments->count; i++)
        failed = seccomp_rule_add_array(context, action, number, 1, &arguments->list[i]);
    return failed;
}

static int syscalls_parse(scmp_filter_ctx context, const json_t *object, const char *where,
                          uint32_t default_action, struct error *err)
{
    json_t *list = NULL;
    int got = spec_get_objects(object, where, "syscalls", SYSCALL_SETS_MAX, &list, err);
    for (size_t i = 0; got == 1 && i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        cleanup_free const char **names = NULL;
        struct seccomp_arguments arguments;
        char path[SPEC_PATH_MAX];
        uint32_t action = 0;
        spec_path_element(path, where, "syscalls", i);
        if (json_require(json_get_strings(entry, path, "names", &names, err), path, "names", err) < 0 ||
            action_parse(entry, path, "action", "errnoRet", &action, err) ||
            arguments_parse(&arguments, entry, path, err))
            return -1;
        if (action == default_action)
            continue; /* nothing to add, and libseccomp refuses it */
        for (size_t n = 0; names[n]; n++) {
            int failed = rule_add(context, action, names[n], &arguments);
            if (failed)
                return error_set(err, -failed, "%s.names[%zu]: '%s'", path, n, names[n]);
        }
    }
    return got < 0 ? -1 : 0;
}

static int architectures_parse(scmp_filter_ctx context, const json_t *object, const char *where,
                               struct error *err)
{
    static const char prefix[] = "SCMP_ARCH_";
    cleanup_free const char **names = NULL;
    if (json_get_strings(object, where, "architectures", &names, err) < 0)
        return -1;
    for (size_t i = 0; names && names[i]; i++) {
        char lower[32] = "";
        if (strncmp(names[i], prefix, strlen(prefix)) == 0) {
            snprintf(lower, sizeof(lower), "%s", names[i] + strlen(prefix));
            for (char *c = lower; *c; c++)
                *c = (char)tolower((unsigned char)*c);
        }
        uint32_t token = seccomp_arch_resolve_name(lower);
        if (!token)
            return error_set(err, 0, "%s.architectures[%zu]: '%s' is not known", where, i, names[i]);
        int failed = seccomp_arch_add(context, token);
        if (failed && failed != -EEXIST)
            return error_set(err, -failed, "%s.architectures[%zu]: '%s'", where, i, names[i]);
    }
    return 0;
}

static int flags_parse(unsigned long *flags, const json_t *object, const char *where, struct error *err)
{
    static const struct spec_name known[] = {
        {"SECCOMP_FILTER_FLAG_TSYNC", 0}, /* one thread has nothing to synchronise */
        {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
        {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
        {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 0}, /* concerns SCMP_ACT_NOTIFY alone */
        {NULL, 0},
    };
    return spec_get_flags(object, where, "flags", known, flags, err) < 0 ? -1 : 0;
}

/* libseccomp writes its program to an fd only. */
static int program_export(scmp_filter_ctx context, struct sock_fprog *program, struct error *err)
{
    struct stat status;
    cleanup_fd int fd = memfd_create("seccomp", MFD_CLOEXEC);
    int failed = fd < 0 ? -errno : seccomp_export_bpf(context, fd);
    if (!failed && fstat(fd, &status) < 0)
        failed = -errno;
    if (failed)
        return error_set(err, -failed, "linux.seccomp: compile");
    size_t count = (size_t)status.st_size / sizeof(struct sock_filter);
    program->filter = calloc(count + 1, sizeof(struct sock_filter));
    if (count == 0 || count > BPF_MAXINSNS || !program->filter)
        return error_set(err, count > BPF_MAXINSNS ? E2BIG : ENOMEM, "linux.seccomp: %zu instructions",
                         count);
    program->len = (unsigned short)count;
    ssize_t got = pread(fd, program->filter, count * sizeof(struct sock_filter), 0);
    return got == status.st_size ? 0 : error_set(err, EIO, "linux.seccomp");
}

int spec_parse_seccomp(void *into, const json_t *object, const char *where, const char *key,
                       struct error *err)
{
    static const struct spec_field others[] = {
        {"listenerPath", NULL, "a listener needs SCMP_ACT_NOTIFY", false},
        {"listenerMetadata", NULL, "a listener needs SCMP_ACT_NOTIFY", false},
        {NULL, NULL, NULL, false},
    };
    struct spec *spec = into;
    char path[SPEC_PATH_MAX];
    json_t *section = NULL;
    uint32_t action = 0;
    if (json_get_object(object, where, key, &section, err) < 0)
        return -1;
    if (json_object_size(section) == 0)
        return 0;
    spec_path_member(path, where, key);
    if (action_parse(section, path, "defaultAction", "defaultErrnoRet", &action, err) ||
        spec_fields_parse(others, spec, section, path, err))
        return -1;
    scmp_filter_ctx context = seccomp_init(action);
    spec->seccomp = calloc(1, sizeof(*spec->seccomp));
    int failed = -1;
    if (!context || !spec->seccomp)
        error_set(err, ENOMEM, "%s", path);
    else if (flags_parse(&spec->seccomp->flags, section, path, err) == 0 &&
             architectures_parse(context, section, path, err) == 0 &&
             syscalls_parse(context, section, path, action, err) == 0) {
        /* A binary tree over the numbers; where libseccomp can't, a list does as well. */
        seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
        failed = program_export(context, &spec->seccomp->program, err);
    }
    seccomp_release(context);
    return failed;
}

int seccomp_filter_load(const struct seccomp_filter *filter, struct error *err)
{
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, filter->flags, &filter->program) < 0)
        return error_set(err, errno, "linux.seccomp: load");
    return 0;
}

void seccomp_filter_free(struct seccomp_filter *filter)
{
    if (!filter)
        return;
    free(filter->program.filter);
    free(filter);
}
