/*
 * The features structure against the agent's own parser of config.json: what husk says it can do is accepted,
 * and what the runtime-spec knows besides is refused or, where the specification wants that, ignored.
 */
#include "agent/spec.h"
#include "common/json.h"
#include "shim/features.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char base[] = JSON_TEXT({
    "root" : {"path" : "rootfs"},
    "process" : {"args" : ["true"], "cwd" : "/", "user" : {"uid" : 0, "gid" : 0}},
    "mounts" : [],
    "linux" : {"namespaces" : [ {"type" : "mount"}, {"type" : "network"} ]}
});

/* Whether the agent takes config.json; *config is stolen. */
static bool accepted(json_t *config, struct error *err)
{
    struct spec *spec = spec_new(config, err);
    json_decref(config);
    if (!spec)
        return false;
    spec_free(spec);
    return true;
}

static json_t *config_new(void)
{
    json_t *config = json_loads(base, 0, NULL);
    assert_non_null(config);
    return config;
}

static json_t *config_with_option(const char *option)
{
    json_t *config = config_new();
    /* A tmpfs, or a bind, or whatever the option makes of it. */
    json_t *mount = json_pack("{s:s, s:s, s:s, s:[s]}", "destination", "/m", "type", "tmpfs", "source",
                              "tmpfs", "options", option);
    if (strstr(option, "bind") == option || strstr(option, "rbind") == option)
        json_object_set_new(mount, "source", json_string("/src"));
    if (strstr(option, "idmap")) {
        json_object_set_new(mount, "type", json_string("bind"));
        json_object_set_new(mount, "source", json_string("/src"));
        json_array_append_new(json_object_get(mount, "options"), json_string("bind"));
        for (int i = 0; i < 2; i++)
            json_object_set_new(mount, i ? "gidMappings" : "uidMappings",
                                json_pack("[{s:i, s:i, s:i}]", "containerID", 0, "hostID", 1000, "size", 1));
    }
    json_array_append_new(json_object_get(config, "mounts"), mount);
    return config;
}

static json_t *config_with_namespace(const char *type)
{
    json_t *config = config_new();
    json_t *section = json_object_get(config, "linux");
    if (strcmp(type, "mount") != 0 && strcmp(type, "network") != 0)
        json_array_append_new(json_object_get(section, "namespaces"), json_pack("{s:s}", "type", type));
    if (strcmp(type, "user") == 0) {
        for (int i = 0; i < 2; i++)
            json_object_set_new(
                section, i ? "gidMappings" : "uidMappings",
                json_pack("[{s:i, s:i, s:i}]", "containerID", 0, "hostID", 1000, "size", 100));
    }
    return config;
}

static json_t *config_with_capability(const char *name)
{
    json_t *config = config_new();
    json_object_set_new(json_object_get(config, "process"), "capabilities",
                        json_pack("{s:[s]}", "bounding", name));
    return config;
}

/* A filter, changed by `key` and `value` (stolen). */
static json_t *config_with_seccomp(const char *key, json_t *value)
{
    json_t *config = config_new();
    json_t *filter =
        json_pack("{s:s, s:[s]}", "defaultAction", "SCMP_ACT_ALLOW", "architectures", "SCMP_ARCH_X86_64");
    json_object_set_new(filter, key, value);
    json_object_set_new(json_object_get(config, "linux"), "seccomp", filter);
    return config;
}

static json_t *config_with_action(const char *name)
{
    json_t *config =
        config_with_seccomp("syscalls", json_pack("[{s:[s], s:s}]", "names", "chdir", "action", name));
    if (strcmp(name, "SCMP_ACT_NOTIFY") == 0)
        json_object_set_new(json_object_get(json_object_get(config, "linux"), "seccomp"), "listenerPath",
                            json_string("/run/listener.sock"));
    return config;
}

static json_t *config_with_operator(const char *name)
{
    return config_with_seccomp("syscalls", json_pack("[{s:[s], s:s, s:[{s:i, s:i, s:i, s:s}]}]", "names",
                                                     "personality", "action", "SCMP_ACT_LOG", "args", "index",
                                                     0, "value", 1, "valueTwo", 1, "op", name));
}

static json_t *config_with_arch(const char *name)
{
    return config_with_seccomp("architectures", json_pack("[s]", name));
}

static json_t *config_with_flag(const char *name)
{
    return config_with_seccomp("flags", json_pack("[s]", name));
}

static json_t *config_with_hook(const char *kind)
{
    json_t *config = config_new();
    json_object_set_new(config, "hooks", json_pack("{s:[{s:s}]}", kind, "path", "/bin/true"));
    return config;
}

static bool list_has(const json_t *list, const char *name)
{
    size_t index;
    json_t *entry;
    json_array_foreach((json_t *)(uintptr_t)list, index, entry)
    {
        if (strcmp(json_string_value(entry), name) == 0)
            return true;
    }
    return false;
}

/* The member of the features at a dotted path. */
static const json_t *feature(const json_t *features, const char *path)
{
    char copy[128], *rest = copy;
    snprintf(copy, sizeof(copy), "%s", path);
    for (char *key; (key = strsep(&rest, ".")) != NULL;)
        features = json_object_get(features, key);
    assert_non_null(features);
    return features;
}

struct claim {
    const char *path;
    json_t *(*config)(const char *name);
    const char *others[24]; /* names that the specification knows besides */
};

static const struct claim claims[] = {
    {"hooks", config_with_hook, {"createContainer", "startContainer", NULL}},
    /* Options in no table are the file system's data, so only those husk refuses itself can be told apart. */
    {"mountOptions", config_with_option, {"remount", NULL}},
    {"linux.namespaces", config_with_namespace, {"spacetime", NULL}},
    {"linux.capabilities", config_with_capability, {NULL}},
    {"linux.seccomp.actions", config_with_action, {"SCMP_ACT_NOTIFY", "SCMP_ACT_DANCE", NULL}},
    {"linux.seccomp.operators", config_with_operator, {"SCMP_CMP_XOR", NULL}},
    {"linux.seccomp.archs", config_with_arch, {"SCMP_ARCH_AARCH64",     "SCMP_ARCH_ARM",
                                               "SCMP_ARCH_MIPS",        "SCMP_ARCH_MIPS64",
                                               "SCMP_ARCH_MIPS64N32",   "SCMP_ARCH_MIPSEL",
                                               "SCMP_ARCH_MIPSEL64",    "SCMP_ARCH_MIPSEL64N32",
                                               "SCMP_ARCH_PPC",         "SCMP_ARCH_PPC64",
                                               "SCMP_ARCH_PPC64LE",     "SCMP_ARCH_S390",
                                               "SCMP_ARCH_S390X",       "SCMP_ARCH_PARISC",
                                               "SCMP_ARCH_PARISC64",    "SCMP_ARCH_RISCV64",
                                               "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K",
                                               "SCMP_ARCH_SH",          "SCMP_ARCH_SHEB",
                                               "SCMP_ARCH_VAX",         NULL}},
    {"linux.seccomp.supportedFlags", config_with_flag, {"SECCOMP_FILTER_FLAG_NEW_LISTENER", NULL}},
};

static void what_is_claimed_is_accepted_and_nothing_else(void **state)
{
    (void)state;
    unsigned differences = 0;
    cleanup_json json_t *features = features_get(NULL);
    assert_non_null(features);
    for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
        const json_t *list = feature(features, claims[i].path);
        size_t index;
        json_t *entry;
        struct error err;
        assert_true(json_array_size(list) > 0);
        json_array_foreach((json_t *)(uintptr_t)list, index, entry)
        {
            const char *name = json_string_value(entry);
            if (!accepted(claims[i].config(name), &err)) {
                print_error("%s tells of %s, the agent says: %s\n", claims[i].path, name, err.text);
                differences++;
            }
        }
        for (const char *const *other = claims[i].others; *other; other++) {
            if (accepted(claims[i].config(*other), &err) != list_has(list, *other)) {
                print_error("%s and the agent differ about %s\n", claims[i].path, *other);
                differences++;
            }
        }
    }
    assert_int_equal(differences, 0);
}

static void idmap_is_told_as_it_is(void **state)
{
    (void)state;
    struct error err;
    cleanup_json json_t *features = features_get(NULL);
    bool enabled = json_is_true(feature(features, "linux.mountExtensions.idmap.enabled"));
    assert_int_equal(enabled, accepted(config_with_option("idmap"), &err));
    assert_int_equal(enabled, list_has(feature(features, "mountOptions"), "idmap"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_claimed_is_accepted_and_nothing_else),
        cmocka_unit_test(idmap_is_told_as_it_is),
    };
    return cmocka_run_group_tests_name("features", tests, NULL, NULL);
}
