/* Unit tests of agent/spec*.c: what a config.json becomes, and that nothing in it is dropped silently. */
#include "agent/seccomp.h"
#include "agent/spec.h"
#include "common/json.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

static const char base[] =
    "{\"ociVersion\":\"1.0.2\",\"unheardOf\":{\"x\":1},\"root\":{\"path\":\"rootfs\"},\"hostname\":\"h\","
    "\"process\":{\"user\":{\"uid\":0,\"gid\":0},\"args\":[\"sh\"],\"cwd\":\"/\"},\"mounts\":[],"
    "\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"uts\"},{\"type\":\"ipc\"},{\"type\":\"pid\"}"
    "]}}";

/* The base with the member at a dotted path set to a JSON value. */
static json_t *config_with(const char *path, const char *value)
{
    json_t *config = json_loads(base, 0, NULL);
    json_t *at = config;
    char key[64];
    if (!path)
        return config;
    for (const char *dot; (dot = strchr(path, '.')) != NULL; path = dot + 1) {
        assert_true((size_t)(dot - path) < sizeof(key));
        memcpy(key, path, (size_t)(dot - path));
        key[dot - path] = '\0';
        if (!json_object_get(at, key))
            json_object_set_new(at, key, json_object());
        at = json_object_get(at, key);
    }
    json_t *parsed = json_loads(value, JSON_DECODE_ANY, NULL);
    assert_non_null(parsed);
    json_object_set_new(at, path, parsed);
    return config;
}

static struct spec *parse_with(const char *path, const char *value)
{
    struct error err = {0};
    cleanup_json json_t *config = config_with(path, value);
    struct spec *spec = spec_new(config, &err);
    if (!spec)
        print_message("%s=%s: %s\n", path, value, err.text);
    assert_non_null(spec);
    return spec;
}

static void the_least_config_has_defaults(void **state)
{
    (void)state;
    struct spec *spec = parse_with(NULL, NULL);
    assert_string_equal(spec->process.args[0], "sh");
    assert_null(spec->process.args[1]);
    assert_int_equal(spec->process.umask, 022);
    assert_int_equal(spec->process.io_priority, -1);
    assert_false(spec->process.oom_score_adj_given);
    assert_int_equal(spec->process.capabilities.effective, 0);
    assert_int_equal(spec->namespaces, CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID);
    assert_null(spec->seccomp);
    spec_free(spec);
}

static void a_process_keeps_all_its_members(void **state)
{
    (void)state;
    struct spec *spec = parse_with(
        "process",
        "{\"terminal\":true,\"consoleSize\":{\"height\":30,\"width\":100},\"cwd\":\"/"
        "tmp\",\"args\":[\"a\",\"b\"],"
        "\"env\":[\"A=1\",\"B=2\"],\"user\":{\"uid\":7,\"gid\":8,\"additionalGids\":[9,10],\"umask\":63},"
        "\"capabilities\":{\"bounding\":[\"CAP_CHOWN\",\"CAP_CHECKPOINT_RESTORE\"],\"ambient\":[\"CAP_KILL\"]"
        "},"
        "\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"soft\":5,\"hard\":6},"
        "{\"type\":\"RLIMIT_CORE\",\"soft\":0,\"hard\":9}],"
        "\"noNewPrivileges\":true,\"oomScoreAdj\":-5,\"ioPriority\":{\"class\":\"IOPRIO_CLASS_BE\","
        "\"priority\":3},"
        "\"scheduler\":{\"policy\":\"SCHED_BATCH\",\"nice\":4}}");
    const struct spec_process *process = &spec->process;
    assert_true(process->terminal && process->no_new_privileges);
    assert_int_equal(process->rows, 30);
    assert_int_equal(process->columns, 100);
    assert_string_equal(process->cwd, "/tmp");
    assert_string_equal(process->env[1], "B=2");
    assert_int_equal(process->uid, 7);
    assert_int_equal(process->gid, 8);
    assert_int_equal(process->group_count, 2);
    assert_int_equal(process->groups[1], 10);
    assert_int_equal(process->umask, 077);
    assert_true(process->capabilities.bounding == (1ull << CAP_CHOWN | 1ull << CAP_CHECKPOINT_RESTORE));
    assert_true(process->capabilities.ambient == 1ull << CAP_KILL);
    assert_true(process->rlimits[RLIMIT_NOFILE].given && !process->rlimits[RLIMIT_AS].given);
    assert_int_equal(process->rlimits[RLIMIT_NOFILE].limit.rlim_max, 6);
    assert_int_equal(process->oom_score_adj, -5);
    assert_int_equal(process->io_priority, 2 << 13 | 3);
    assert_int_equal(process->scheduler.policy, SCHED_BATCH);
    assert_int_equal(process->scheduler.nice, 4);
    spec_free(spec);
}

static void unlimited_rlimits_of_go_callers_are_taken(void **state)
{
    (void)state;
    struct error err = {0};
    const char *text = "{\"args\":[\"a\"],\"cwd\":\"/\",\"rlimits\":[{\"type\":\"RLIMIT_AS\","
                       "\"soft\":18446744073709551615,\"hard\":18446744073709551615}]}";
    cleanup_json json_t *object = json_parse_object(text, strlen(text), &err);
    struct spec_process process;
    assert_int_equal(spec_process_init(&process, object, "process", &err), 0);
    assert_true(process.rlimits[RLIMIT_AS].limit.rlim_cur == RLIM_INFINITY);
    spec_process_fini(&process);
}

static void mount_options_become_attributes(void **state)
{
    (void)state;
    struct spec *spec = parse_with(
        "mounts",
        "[{\"destination\":\"/"
        "a\",\"type\":\"tmpfs\",\"source\":\"t\",\"options\":[\"nosuid\",\"strictatime\","
        "\"mode=755\",\"ro\",\"rw\",\"tmpcopyup\",\"size=1k\"]},"
        "{\"destination\":\"/b\",\"source\":\"/x\",\"options\":[\"rbind\",\"rro\",\"rprivate\",\"noexec\"]},"
        "{\"destination\":\"/c\",\"type\":\"bind\",\"source\":\"/x\"}]");
    const struct spec_mount *tmpfs = &spec->mounts[0];
    assert_int_equal(spec->mount_count, 3);
    assert_int_equal(tmpfs->attributes.set, MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME);
    assert_int_equal(tmpfs->attributes.clear, MOUNT_ATTR__ATIME | MOUNT_ATTR_RDONLY);
    assert_true(tmpfs->copy_up && !tmpfs->bind);
    assert_int_equal(tmpfs->data_count, 2);
    assert_string_equal(tmpfs->data[0], "mode=755");
    assert_string_equal(tmpfs->data[1], "size=1k");
    const struct spec_mount *bind = &spec->mounts[1];
    assert_true(bind->bind && bind->recursive && bind->propagation_recursive);
    assert_string_equal(bind->type, "bind");
    assert_int_equal(bind->attributes.recursive_set, MOUNT_ATTR_RDONLY);
    assert_int_equal(bind->attributes.set, MOUNT_ATTR_NOEXEC);
    assert_int_equal(bind->propagation, MS_PRIVATE);
    assert_true(spec->mounts[2].bind && spec->mounts[2].recursive);
    spec_free(spec);
}

static void resources_become_cgroup_files(void **state)
{
    (void)state;
    static const struct {
        const char *resources, *file, *value;
    } cases[] = {
        {"{\"memory\":{\"limit\":1048576}}", "memory.max", "1048576"},
        {"{\"memory\":{\"limit\":-1}}", "memory.max", "max"},
        {"{\"memory\":{\"limit\":100,\"swap\":300}}", "memory.swap.max", "200"},
        {"{\"memory\":{\"limit\":100,\"swap\":-1}}", "memory.swap.max", "max"},
        {"{\"memory\":{\"reservation\":50}}", "memory.low", "50"},
        {"{\"cpu\":{\"shares\":1024}}", "cpu.weight", "39"},
        {"{\"cpu\":{\"shares\":262144}}", "cpu.weight", "10000"},
        {"{\"cpu\":{\"quota\":50000,\"period\":100000}}", "cpu.max", "50000 100000"},
        {"{\"cpu\":{\"quota\":50000}}", "cpu.max", "50000 100000"},
        {"{\"cpu\":{\"quota\":-1,\"period\":20000}}", "cpu.max", "max 20000"},
        {"{\"cpu\":{\"idle\":1,\"shares\":5}}", "cpu.idle", "1"},
        {"{\"pids\":{\"limit\":2048}}", "pids.max", "2048"},
        {"{\"pids\":{\"limit\":-1}}", "pids.max", "max"},
        {"{\"blockIO\":{\"weight\":500}}", "io.weight", "default 4950"},
        {"{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":9}]}", "hugetlb.2MB.max", "9"},
        {"{\"unified\":{\"memory.high\":\"7\"}}", "memory.high", "7"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct spec *spec = parse_with("linux.resources", cases[i].resources);
        const struct spec_resources *resources = &spec->resources;
        bool found = false;
        for (size_t n = 0; n < resources->value_count; n++) {
            if (strcmp(resources->values[n].file, cases[i].file) == 0) {
                assert_string_equal(resources->values[n].value, cases[i].value);
                found = true;
            }
        }
        assert_true(found);
        spec_free(spec);
    }
}

static void what_asks_for_nothing_writes_nothing(void **state)
{
    (void)state;
    struct spec *spec = parse_with("linux.resources", "{\"memory\":{\"limit\":0,\"swap\":0,\"swappiness\":0,"
                                                      "\"disableOOMKiller\":false},\"cpu\":{\"shares\":0,"
                                                      "\"quota\":0,\"period\":0},\"pids\":{\"limit\":0},"
                                                      "\"network\":{},\"rdma\":null}");
    assert_int_equal(spec->resources.value_count, 0);
    spec_free(spec);
}

static void device_rules_and_devices_are_kept_in_order(void **state)
{
    (void)state;
    struct spec *spec = parse_with("linux.resources.devices",
                                   "[{\"allow\":false,\"access\":\"rwm\"},{\"allow\":true,\"type\":\"c\","
                                   "\"major\":10,\"minor\":229,\"access\":\"rw\"}]");
    const struct spec_device_rule *rules = spec->resources.device_rules;
    assert_int_equal(spec->resources.device_rule_count, 2);
    assert_true(!rules[0].allow && rules[0].type == 'a' && rules[0].major == -1);
    assert_true(rules[1].allow && rules[1].type == 'c' && rules[1].major == 10 && rules[1].minor == 229);
    assert_int_equal(rules[1].access, BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE);
    spec_free(spec);

    spec = parse_with("linux.devices", "[{\"path\":\"/dev/fuse\",\"type\":\"c\",\"major\":10,\"minor\":229,"
                                       "\"fileMode\":8630,\"uid\":1,\"gid\":2}]");
    assert_int_equal(spec->devices[0].mode, S_IFCHR | 0666);
    assert_int_equal(spec->devices[0].rdev, makedev(10, 229));
    assert_int_equal(spec->devices[0].gid, 2);
    spec_free(spec);

    spec = parse_with(
        "linux",
        "{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"uts\"}],\"devices\":[{\"path\":\"/dev/kvm\","
        "\"type\":\"c\",\"major\":10,\"minor\":232}],\"resources\":{\"devices\":[{\"allow\":true,"
        "\"access\":\"rwm\"}]}}");
    assert_int_equal(spec->devices[0].rdev, makedev(10, 232));
    spec_free(spec);
}

static void a_seccomp_profile_is_compiled(void **state)
{
    (void)state;
    struct spec *spec = parse_with(
        "linux.seccomp",
        "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38,\"architectures\":"
        "[\"SCMP_ARCH_X86_64\",\"SCMP_ARCH_X86\",\"SCMP_ARCH_X32\"],\"flags\":"
        "[\"SECCOMP_FILTER_FLAG_LOG\"],\"syscalls\":[{\"names\":[\"read\",\"nosuchcall\"],\"action\":"
        "\"SCMP_ACT_ALLOW\"},{\"names\":[\"personality\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":"
        "[{\"index\":0,\"value\":8,\"op\":\"SCMP_CMP_EQ\"},{\"index\":0,\"value\":0,\"op\":"
        "\"SCMP_CMP_EQ\"}]},{\"names\":[\"clone\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,"
        "\"value\":2114060288,\"valueTwo\":0,\"op\":\"SCMP_CMP_MASKED_EQ\"}]}]}");
    assert_non_null(spec->seccomp);
    assert_true(spec->seccomp->program.len > 10);
    assert_int_equal(spec->seccomp->flags, 2);
    spec_free(spec);
}

static void the_rest_of_linux_is_kept(void **state)
{
    (void)state;
    struct spec *spec = parse_with("linux.maskedPaths", "[\"/proc/kcore\"]");
    assert_string_equal(spec->masked_paths[0], "/proc/kcore");
    spec_free(spec);
    spec = parse_with("linux.rootfsPropagation", "\"rslave\"");
    assert_true(spec->propagation == (MS_SLAVE | MS_REC));
    spec_free(spec);
    spec = parse_with("linux.sysctl", "{\"kernel.shmmax\":\"1\",\"fs/mqueue/msg_max\":\"5\"}");
    assert_int_equal(spec->sysctl_count, 2);
    spec_free(spec);
    spec = parse_with("linux.personality", "{\"domain\":\"LINUX32\"}");
    assert_true(spec->personality_given && spec->personality == PER_LINUX32);
    spec_free(spec);
    spec = parse_with("linux.namespaces", "[{\"type\":\"mount\"},{\"type\":\"uts\"},"
                                          "{\"type\":\"network\",\"path\":\"/run/netns/x\"}]");
    assert_true(spec->network_listed && !(spec->namespaces & CLONE_NEWNET));
    spec_free(spec);
}

static void members_with_an_empty_value_ask_for_nothing(void **state)
{
    (void)state;
    spec_free(parse_with("linux.mountLabel", "\"\""));
    spec_free(parse_with("linux.mountLabel", "\"system_u:object_r:container_file_t:s0:c7,c8\""));
    spec_free(parse_with("process.selinuxLabel", "\"\""));
    spec_free(parse_with("process.apparmorProfile", "\"containers-default-0.50.1\""));
    spec_free(parse_with("linux.intelRdt", "{}"));
    spec_free(parse_with("linux.uidMappings", "[]"));
    spec_free(parse_with("hooks", "{\"prestart\":[{\"path\":\"/x\"}],\"createContainer\":[]}"));
}

/* Each is refused, and the message begins with the member's name. */
static void wrong_and_unsupported_values_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *path, *value, *named;
    } cases[] = {
        {"process", "7", "process"},
        {"process.args", "[]", "process.args"},
        {"process.args", "[\"a\",1]", "process.args"},
        {"process.args", "null", "process.args is missing"},
        {"process.cwd", "\"tmp\"", "process.cwd"},
        {"process.cwd", "null", "process.cwd is missing"},
        {"process.env", "{}", "process.env"},
        {"process.terminal", "\"yes\"", "process.terminal"},
        {"process.user.uid", "-1", "process.user.uid"},
        {"process.user.gid", "4294967295", "process.user.gid"},
        {"process.user.additionalGids", "[\"x\"]", "process.user.additionalGids[0]"},
        {"process.user.umask", "4096", "process.user.umask"},
        {"process.capabilities", "{\"bounding\":[1]}", "process.capabilities.bounding"},
        {"process.rlimits", "[{\"type\":\"RLIMIT_FLY\",\"soft\":1,\"hard\":1}]", "process.rlimits[0].type"},
        {"process.rlimits", "[{\"type\":\"RLIMIT_AS\",\"soft\":2,\"hard\":1}]", "process.rlimits[0].soft"},
        {"process.rlimits", "[{\"type\":\"RLIMIT_AS\",\"soft\":1}]", "process.rlimits[0].hard is missing"},
        {"process.rlimits",
         "[{\"type\":\"RLIMIT_AS\",\"soft\":1,\"hard\":1},{\"type\":\"RLIMIT_AS\",\"soft\":1,\"hard\":1}]",
         "process.rlimits[1].type"},
        {"process.oomScoreAdj", "1001", "process.oomScoreAdj"},
        {"process.apparmorProfile", "\"mine\"", "process.apparmorProfile"},
        {"process.selinuxLabel", "\"u:r:mine_t:s0\"", "process.selinuxLabel"},
        {"process.ioPriority", "{\"class\":\"IOPRIO_CLASS_X\"}", "process.ioPriority.class"},
        {"process.scheduler", "{\"policy\":\"SCHED_X\"}", "process.scheduler.policy"},
        {"process.scheduler", "{\"policy\":\"SCHED_RR\",\"flags\":[\"X\"]}", "process.scheduler.flags[0]"},
        {"process.execCPUAffinity", "{\"initial\":\"0-\"}", "process.execCPUAffinity.initial"},
        {"process.execCPUAffinity", "{\"final\":\"3-1\"}", "process.execCPUAffinity.final"},
        {"process.execCPUAffinity", "{\"final\":\"0,5000\"}", "process.execCPUAffinity.final"},
        {"root", "null", "root is missing"},
        {"root.readonly", "1", "root.readonly"},
        {"hostname", "\"0123456789012345678901234567890123456789012345678901234567890123456\"", "hostname"},
        {"mounts", "[{\"type\":\"tmpfs\"}]", "mounts[0].destination is missing"},
        {"mounts", "[{\"destination\":\"\",\"type\":\"tmpfs\"}]", "mounts[0].destination is empty"},
        {"mounts", "[{\"destination\":\"/a\"}]", "mounts[0].type is missing"},
        {"mounts", "[{\"destination\":\"/a\",\"type\":\"bind\",\"options\":[\"size=1\"]}]",
         "mounts[0].options"},
        {"mounts", "[{\"destination\":\"/a\",\"type\":\"tmpfs\",\"options\":[\"idmap\"]}]",
         "mounts[0]: id mappings are for bind mounts only"},
        {"mounts", "[{\"destination\":\"/a\",\"type\":\"bind\",\"options\":[\"idmap\"]}]",
         "mounts[0].options: 'idmap' without"},
        {"mounts",
         "[{\"destination\":\"/a\",\"type\":\"bind\",\"uidMappings\":[{\"containerID\":0,\"hostID\":1,"
         "\"size\":1}]}]",
         "mounts[0].gidMappings is missing"},
        {"mounts", "[{\"destination\":\"/a\",\"type\":\"proc\",\"options\":[\"tmpcopyup\"]}]",
         "mounts[0].options"},
        {"mounts", "[{\"destination\":\"/a\",\"type\":\"tmpfs\",\"uidMappings\":[{\"size\":1}]}]",
         "mounts[0].uidMappings[0].containerID is missing"},
        {"linux.namespaces", "[{\"type\":\"mount\"},{\"type\":\"mount\"}]", "linux.namespaces[1].type"},
        {"linux.namespaces", "[{\"type\":\"dream\"}]", "linux.namespaces[0].type"},
        {"linux.namespaces", "[{\"type\":\"user\"}]",
         "linux.namespaces: a new user namespace needs uidMappings"},
        {"linux.namespaces", "[{\"type\":\"mount\",\"path\":\"/proc/1/ns/mnt\"}]",
         "linux.namespaces[0].path"},
        {"linux.namespaces", "[{\"type\":\"uts\"}]", "linux.namespaces"},
        {"linux.namespaces", "[{\"type\":\"mount\"}]", "hostname"},
        {"linux.sysctl", "{\"kernel.panic\":\"1\"}", "linux.sysctl"},
        {"linux.sysctl", "{\"net.ipv4.ip_forward\":\"1\"}", "linux.sysctl"},
        {"linux.sysctl", "{\"kernel.hostname\":\"a\"}", "linux.sysctl: 'kernel.hostname' is not allowed"},
        {"linux.sysctl", "{\"kernel/hostname\":\"a\"}", "linux.sysctl: 'kernel.hostname' is not allowed"},
        {"linux.resources.unified", "{\"NOT-A-KEY\":\"1\"}",
         "linux.resources.unified: the specified key has not the form"},
        {"linux.sysctl", "{\"kernel.shmmax\":1}", "linux.sysctl.kernel.shmmax"},
        {"linux.sysctl", "{\"net.../../../etc\":\"1\"}", "linux.sysctl"},
        {"linux.maskedPaths", "[\"proc\"]", "linux.maskedPaths[0]"},
        {"linux.readonlyPaths", "[7]", "linux.readonlyPaths"},
        {"linux.rootfsPropagation", "\"sideways\"", "linux.rootfsPropagation"},
        {"linux.uidMappings", "[{\"containerID\":0,\"hostID\":1,\"size\":1}]", "linux.uidMappings"},
        {"linux.uidMappings", "[{\"containerID\":0,\"hostID\":1,\"size\":0}]", "linux.uidMappings[0].size"},
        {"linux.gidMappings", "[{\"containerID\":0,\"hostID\":4294967294,\"size\":2}]",
         "linux.gidMappings[0].size"},
        {"linux.timeOffsets", "{\"monotonic\":{\"secs\":1}}", "linux.timeOffsets"},
        {"linux.timeOffsets", "{\"realtime\":{\"secs\":1}}", "linux.timeOffsets: 'realtime'"},
        {"linux.timeOffsets", "{\"boottime\":{\"nanosecs\":1000000000}}",
         "linux.timeOffsets.boottime.nanosecs"},
        {"linux.mountLabel", "\"x\"", "linux.mountLabel"},
        {"linux.intelRdt", "{\"closID\":\"x\"}", "linux.intelRdt"},
        {"linux.personality", "{\"domain\":\"BSD\"}", "linux.personality.domain"},
        {"linux.devices", "[{\"path\":\"/dev/x\",\"type\":\"q\"}]", "linux.devices[0].type"},
        {"linux.devices", "[{\"path\":\"/dev/x\",\"type\":\"c\",\"major\":1}]",
         "linux.devices[0].minor is missing"},
        {"linux.devices", "[{\"path\":\"/dev/kvm\",\"type\":\"c\",\"major\":10,\"minor\":232}]",
         "linux.devices[0] is not supported: there is no KVM"},
        {"linux.resources.memory", "{\"limit\":100,\"swap\":50}", "linux.resources.memory.swap"},
        {"linux.resources.memory", "{\"swappiness\":60}", "linux.resources.memory.swappiness"},
        {"linux.resources.memory", "{\"disableOOMKiller\":true}", "linux.resources.memory.disableOOMKiller"},
        {"linux.resources.cpu", "{\"realtimeRuntime\":1}", "linux.resources.cpu.realtimeRuntime"},
        {"linux.resources.blockIO", "{\"weight\":5}", "linux.resources.blockIO.weight"},
        {"linux.resources.unified", "{\"../x\":\"1\"}", "linux.resources.unified"},
        {"linux.resources.unified", "{\"cgroup.procs\":\"1\"}", "linux.resources.unified"},
        {"linux.resources.rdma", "{\"mlx\":{}}", "linux.resources.rdma"},
        {"linux.resources.devices", "[{\"allow\":true,\"access\":\"rx\"}]",
         "linux.resources.devices[0].access"},
        {"linux.seccomp", "{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}", "linux.seccomp.defaultAction"},
        {"linux.seccomp", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"X\"]}",
         "linux.seccomp.flags[0]"},
        {"linux.seccomp", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_Z\"]}",
         "linux.seccomp.architectures[0]"},
        {"linux.seccomp",
         "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"X\"}]}",
         "linux.seccomp.syscalls[0].action"},
        {"linux.seccomp", "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerPath\":\"/x\"}",
         "linux.seccomp.listenerPath"},
        {"hooks", "{\"createContainer\":[{\"path\":\"x\"}]}", "hooks.createContainer[0].path"},
        {"vm", "{\"kernel\":{\"path\":\"/x\"}}", "vm"},
        {"windows", "{\"layerFolders\":[\"x\"]}", "windows"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};
        cleanup_json json_t *config = config_with(cases[i].path, cases[i].value);
        struct spec *spec = spec_new(config, &err);
        if (spec || strncmp(err.text, cases[i].named, strlen(cases[i].named)) != 0)
            fail_msg("%s=%s: '%s'", cases[i].path, cases[i].value, spec ? "accepted" : err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_config_has_defaults),
        cmocka_unit_test(a_process_keeps_all_its_members),
        cmocka_unit_test(unlimited_rlimits_of_go_callers_are_taken),
        cmocka_unit_test(mount_options_become_attributes),
        cmocka_unit_test(resources_become_cgroup_files),
        cmocka_unit_test(what_asks_for_nothing_writes_nothing),
        cmocka_unit_test(device_rules_and_devices_are_kept_in_order),
        cmocka_unit_test(a_seccomp_profile_is_compiled),
        cmocka_unit_test(the_rest_of_linux_is_kept),
        cmocka_unit_test(members_with_an_empty_value_ask_for_nothing),
        cmocka_unit_test(wrong_and_unsupported_values_are_refused_by_name),
    };
    return cmocka_run_group_tests_name("agent_spec", tests, NULL, NULL);
}
