/*
 * config.json as a whole (OCI runtime-spec config.md, config-linux.md): see spec.h. Here are the tables of
 * the top level, root and linux; larger sections have files of their own (spec_sections.h).
 */
#include "agent/spec.h"

#include "agent/seccomp.h"
#include "agent/spec_fields.h"
#include "agent/spec_sections.h"
#include "common/fd.h"
#include "common/json.h"

#include <errno.h>
#include <linux/sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/utsname.h>

#define UTS_NAME_MAX 64 /* __NEW_UTS_LEN */

static int paths_check(const char *const *paths, const char *where, const char *key, struct error *err)
{
    for (size_t i = 0; paths[i]; i++) {
        if (paths[i][0] != '/')
            return error_set(err, 0, "%s.%s[%zu]: '%s' is not an absolute path", where, key, i, paths[i]);
    }
    return 0;
}

static int linux_masked_paths(void *into, const json_t *object, const char *where, const char *key,
                              struct error *err)
{
    struct spec *spec = into;
    if (json_get_strings(object, where, key, &spec->masked_paths, err) < 0)
        return -1;
    return paths_check(spec->masked_paths, where, key, err);
}

static int linux_readonly_paths(void *into, const json_t *object, const char *where, const char *key,
                                struct error *err)
{
    struct spec *spec = into;
    if (json_get_strings(object, where, key, &spec->readonly_paths, err) < 0)
        return -1;
    return paths_check(spec->readonly_paths, where, key, err);
}

/* Only sysctls that a namespace keeps to itself: any other would change the whole guest, and with it the
 * pod's other containers. */
static bool sysctl_is_namespaced(const struct spec *spec, const char *name)
{
    uint64_t own = spec_own_namespaces(spec);
    static const char *const ipc[] = {"kernel.msgmax", "kernel.msgmnb",         "kernel.msgmni",
                                      "kernel.sem",    "kernel.shmall",         "kernel.shmmax",
                                      "kernel.shmmni", "kernel.shm_rmid_forced"};
    if (strncmp(name, "net.", 4) == 0)
        return spec->network_listed;
    if (strcmp(name, "kernel.domainname") == 0)
        return own & CLONE_NEWUTS;
    if (!(own & CLONE_NEWIPC))
        return false;
    if (strncmp(name, "fs.mqueue.", 10) == 0)
        return true;
    for (size_t i = 0; i < sizeof(ipc) / sizeof(ipc[0]); i++) {
        if (strcmp(name, ipc[i]) == 0)
            return true;
    }
    return false;
}

/* Sysctls are checked after the whole of `linux` was read, since namespaces decide about them. */
static int linux_sysctl(void *into, const json_t *object, const char *where, const char *key,
                        struct error *err)
{
    struct spec *spec = into;
    json_t *given = NULL;
    const char *name;
    json_t *value;
    if (json_get_object(object, where, key, &given, err) < 0)
        return -1;
    spec->sysctls = calloc(json_object_size(given) + 1, sizeof(*spec->sysctls));
    if (!spec->sysctls)
        return error_set(err, ENOMEM, "%s.%s", where, key);
    json_object_foreach(given, name, value)
    {
        if (!json_is_string(value))
            return error_set(err, 0, "%s.%s.%s: expected a string", where, key, name);
        if (strstr(name, "..") || name[0] == '/')
            return error_set(err, 0, "%s.%s: '%s' is no sysctl", where, key, name);
        spec->sysctls[spec->sysctl_count++] =
            (struct spec_sysctl){.name = name, .value = json_string_value(value)};
    }
    return 0;
}

static int sysctls_check(struct spec *spec, struct error *err)
{
    for (size_t i = 0; i < spec->sysctl_count; i++) {
        /* Both spellings are allowed: net.ipv4.conf and net/ipv4/conf. */
        char dotted[SPEC_PATH_MAX];
        size_t length = strnlen(spec->sysctls[i].name, sizeof(dotted));
        if (length == sizeof(dotted))
            return error_set(err, ENAMETOOLONG, "linux.sysctl");
        memcpy(dotted, spec->sysctls[i].name, length + 1);
        for (char *c = dotted; *c; c++)
            *c = *c == '/' ? '.' : *c;
        if (strcmp(dotted, "kernel.hostname") == 0) /* in the words of runc and crun */
            return error_set(
                err, 0, "linux.sysctl: '%s' is not allowed as it conflicts with the OCI 'hostname' field",
                dotted);
        if (!sysctl_is_namespaced(spec, dotted))
            return error_set(err, 0, "linux.sysctl: '%s' is not in a separate kernel namespace", dotted);
        spec->sysctls[i].network = strncmp(dotted, "net.", 4) == 0;
    }
    return 0;
}

static int linux_personality(void *into, const json_t *object, const char *where, const char *key,
                             struct error *err)
{
    static const struct spec_name domains[] = {{"LINUX", PER_LINUX}, {"LINUX32", PER_LINUX32}, {NULL, 0}};
    static const struct spec_field others[] = {
        {"flags", NULL, "the specification defines none", false},
        {NULL, NULL, NULL, false},
    };
    struct spec *spec = into;
    char path[SPEC_PATH_MAX];
    json_t *given = NULL;
    if (json_get_object(object, where, key, &given, err) < 0)
        return -1;
    spec_path_member(path, where, key);
    if (json_require(spec_get_name(given, path, "domain", domains, &spec->personality, err), path, "domain",
                     err) < 0 ||
        spec_fields_parse(others, spec, given, path, err))
        return -1;
    spec->personality_given = true;
    return 0;
}

/* As with process.selinuxLabel: the label that engines give to every container's files is passed over. */
static int linux_mount_label(void *into, const json_t *object, const char *where, const char *key,
                             struct error *err)
{
    (void)into;
    const char *label = "";
    if (json_get_string(object, where, key, &label, err) < 0)
        return -1;
    if (!*label || strstr(label, ":container_file_t:") || strstr(label, ":container_ro_file_t:"))
        return 0;
    return error_set(err, 0, "%s.%s is not supported: the guest kernel has no SELinux for '%s'", where, key,
                     label);
}

static const struct spec_field linux_fields[] = {
    {"namespaces", spec_parse_namespaces, NULL, false},
    {"devices", spec_parse_devices, NULL, false},
    {"resources", spec_parse_resources, NULL, false},
    {"seccomp", spec_parse_seccomp, NULL, false},
    {"rootfsPropagation", spec_parse_propagation, NULL, false},
    {"maskedPaths", linux_masked_paths, NULL, false},
    {"readonlyPaths", linux_readonly_paths, NULL, false},
    {"sysctl", linux_sysctl, NULL, false},
    {"personality", linux_personality, NULL, false},
    {"cgroupsPath", spec_field_elsewhere, NULL, false}, /* names the host's cgroup: the shim's */
    {"uidMappings", spec_parse_uid_maps, NULL, false},
    {"gidMappings", spec_parse_gid_maps, NULL, false},
    {"timeOffsets", spec_parse_time_offsets, NULL, false},
    {"mountLabel", linux_mount_label, NULL, false},
    {"intelRdt", NULL, "a guest can't control the host's cache", false},
    {"netDevices", NULL, "host interfaces are given to the sandbox by its network namespace", false},
    {"memoryPolicy", NULL, "the guest has one memory node", false},
    {NULL, NULL, NULL, false},
};

static int top_linux(void *into, const json_t *object, const char *where, const char *key, struct error *err)
{
    json_t *section = NULL;
    if (json_get_object(object, where, key, &section, err) < 0)
        return -1;
    if (spec_fields_parse(linux_fields, into, section, "linux", err))
        return -1;
    return spec_check_namespaces(into, err) || sysctls_check(into, err) ? -1 : 0;
}

static int root_readonly(void *into, const json_t *object, const char *where, const char *key,
                         struct error *err)
{
    struct spec *spec = into;
    return json_get_bool(object, where, key, &spec->root_readonly, err);
}

static const struct spec_field root_fields[] = {
    {"path", spec_field_elsewhere, NULL, false}, /* the shim has put that tree below SHARED_DIR */
    {"readonly", root_readonly, NULL, false},
    {NULL, NULL, NULL, false},
};

static int top_root(void *into, const json_t *object, const char *where, const char *key, struct error *err)
{
    json_t *section = NULL;
    if (json_get_object(object, where, key, &section, err) < 0)
        return -1;
    return spec_fields_parse(root_fields, into, section, "root", err);
}

static int top_process(void *into, const json_t *object, const char *where, const char *key,
                       struct error *err)
{
    struct spec *spec = into;
    json_t *section = NULL;
    if (json_get_object(object, where, key, &section, err) < 0)
        return -1;
    return spec_process_init(&spec->process, section, "process", err);
}

static int uts_name(const char **name, const json_t *object, const char *where, const char *key,
                    struct error *err)
{
    if (json_get_string(object, where, key, name, err) < 0)
        return -1;
    if (strlen(*name) > UTS_NAME_MAX)
        return error_set(err, 0, "%s: more than %d characters", key, UTS_NAME_MAX);
    if (!**name)
        *name = NULL;
    return 0;
}

static int top_hostname(void *into, const json_t *object, const char *where, const char *key,
                        struct error *err)
{
    struct spec *spec = into;
    return uts_name(&spec->hostname, object, where, key, err);
}

static int top_domainname(void *into, const json_t *object, const char *where, const char *key,
                          struct error *err)
{
    struct spec *spec = into;
    return uts_name(&spec->domainname, object, where, key, err);
}

static const struct spec_field top_fields[] = {
    {"ociVersion", spec_field_elsewhere, NULL, false},
    {"annotations", spec_field_elsewhere, NULL, false},
    {"root", top_root, NULL, true},
    {"process", top_process, NULL, true},
    {"hostname", top_hostname, NULL, false},
    {"domainname", top_domainname, NULL, false},
    {"mounts", spec_parse_mounts, NULL, false},
    {"hooks", spec_parse_hooks, NULL, false},
    {"linux", top_linux, NULL, false},
    {"vm", NULL, "the sandbox's machine is husk's own", false},
    {"windows", NULL, "the guest is Linux", false},
    {"solaris", NULL, "the guest is Linux", false},
    {"zos", NULL, "the guest is Linux", false},
    {"freebsd", NULL, "the guest is Linux", false},
    {NULL, NULL, NULL, false},
};

struct spec *spec_new(json_t *config, struct error *err)
{
    struct spec *spec = calloc(1, sizeof(*spec));
    if (!spec) {
        error_set(err, ENOMEM, "config.json");
        return NULL;
    }
    spec->json = json_incref(config);
    int failed = spec_fields_parse(top_fields, spec, config, "", err);
    /* Names are a namespace's: without one they would be set for the whole sandbox. */
    if (!failed && (spec->hostname || spec->domainname) && !(spec_own_namespaces(spec) & CLONE_NEWUTS))
        failed = error_set(err, 0, "%s: needs a uts namespace", spec->hostname ? "hostname" : "domainname");
    if (!failed && !(spec->namespaces & CLONE_NEWNS))
        failed = error_set(err, 0, "linux.namespaces: a mount namespace is needed");
    if (!failed)
        failed = spec_check_mounts(spec, err);
    if (failed) {
        spec_free(spec);
        return NULL;
    }
    return spec;
}

void spec_free(struct spec *spec)
{
    if (!spec)
        return;
    for (size_t i = 0; i < spec->mount_count; i++) {
        free(spec->mounts[i].data);
        spec_id_maps_fini(&spec->mounts[i].id_maps);
    }
    free(spec->mounts);
    spec_id_maps_fini(&spec->id_maps);
    spec_hooks_fini(&spec->create_hooks);
    spec_hooks_fini(&spec->start_hooks);
    free(spec->masked_paths);
    free(spec->readonly_paths);
    free(spec->devices);
    free(spec->sysctls);
    spec_resources_fini(&spec->resources);
    seccomp_filter_free(spec->seccomp);
    spec_process_fini(&spec->process);
    json_decref(spec->json);
    free(spec);
}
