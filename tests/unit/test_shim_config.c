/* Unit tests of shim/config.c and shim/bundle.c: files that people and engines write. */
#include "common/fd.h"
#include "common/json.h"
#include "shim/bundle.h"
#include "shim/config.h"

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* A directory of its own per test, removed behind it. */
struct fixture {
    char dir[64];
};

static int fixture_setup(void **state)
{
    static struct fixture fixture;
    snprintf(fixture.dir, sizeof(fixture.dir), "/tmp/husk-test.XXXXXX");
    *state = &fixture;
    return mkdtemp(fixture.dir) ? 0 : -1;
}

static void write_file(const struct fixture *fixture, const char *name, const char *content)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", fixture->dir, name);
    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, content, strlen(content)), 0);
}

static void make_dir(const struct fixture *fixture, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", fixture->dir, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

static int fixture_teardown(void **state)
{
    static const char *const files[] = {"husk.conf",
                                        "husk.conf.d/10-a.conf",
                                        "husk.conf.d/20-b.conf",
                                        "husk.conf.d/30-c.conf.off",
                                        "husk.conf.d",
                                        "config.json",
                                        "rootfs"};
    struct fixture *fixture = *state;
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", fixture->dir, files[i]);
        remove(path);
    }
    return remove(fixture->dir);
}

static void defaults_hold_without_files(void **state)
{
    struct fixture *fixture = *state;
    struct config config;
    struct error err;
    assert_int_equal(config_load(&config, fixture->dir, &err), 0);
    assert_int_equal(config.vcpus, 1);
    assert_string_equal(config.fs_cache, "auto");
    assert_non_null(config.kernel);
    assert_null(config.kernel_params);
    config_fini(&config);
}

static void later_files_win_and_parameters_add_up(void **state)
{
    struct fixture *fixture = *state;
    struct config config;
    struct error err;
    write_file(fixture, "husk.conf", "# a comment\n\n vcpus = 2\nkernel_params = a\nmemory_mib=256\n");
    make_dir(fixture, "husk.conf.d");
    write_file(fixture, "husk.conf.d/20-b.conf", "vcpus = 4\nkernel_params = c");
    write_file(fixture, "husk.conf.d/10-a.conf", "vcpus = 3\nkernel_params = b\nfs_writeback = true\r\n");
    write_file(fixture, "husk.conf.d/30-c.conf.off", "vcpus = 9\n");
    assert_int_equal(config_load(&config, fixture->dir, &err), 0);
    assert_int_equal(config.vcpus, 4);
    assert_int_equal(config.memory_mib, 256);
    assert_true(config.fs_writeback);
    assert_string_equal(config.kernel_params, "a b c");
    config_fini(&config);
}

static void refuse_config(struct fixture *fixture, const char *content, const char *message)
{
    char expected[PATH_MAX + 256];
    struct config config;
    struct error err = {0};
    write_file(fixture, "husk.conf", content);
    assert_int_equal(config_load(&config, fixture->dir, &err), -1);
    snprintf(expected, sizeof(expected), "%s/husk.conf:%s", fixture->dir, message);
    assert_string_equal(err.text, expected);
    config_fini(&config);
}

static void wrong_lines_are_named(void **state)
{
    struct fixture *fixture = *state;
    refuse_config(fixture, "vcpus = 1\nvcpu = 2\n", "2: unknown key \"vcpu\"");
    refuse_config(fixture, "vcpus = 33\n", "1: vcpus: 33 is not within 1 and 32");
    refuse_config(fixture, "memory_mib = 16\n", "1: memory_mib: 16 is not within 64 and 524288");
    refuse_config(fixture, "memory_mib = -1\n", "1: memory_mib: \"-1\" is no number");
    refuse_config(fixture, "prefault = yes\n", "1: prefault: \"yes\" is neither true nor false");
    refuse_config(fixture, "kernel = vmlinux\n", "1: kernel: \"vmlinux\" is no absolute path");
    refuse_config(fixture, "just words\n", "1: expected \"key = value\"");
}

static void annotations_set_what_they_may(void **state)
{
    struct fixture *fixture = *state;
    struct config config;
    struct error err = {0};
    assert_int_equal(config_load(&config, fixture->dir, &err), 0);
    cleanup_json json_t *good =
        json_pack("{s:s, s:s, s:s}", "io.husk.vcpus", "4",
                  "io.katacontainers.config.hypervisor.default_memory", "512", "org.example.other", "x");
    assert_int_equal(config_apply_annotations(&config, good, &err), 0);
    assert_int_equal(config.vcpus, 4);
    assert_int_equal(config.memory_mib, 512);
    cleanup_json json_t *path = json_pack("{s:s}", "io.husk.kernel", "/etc/passwd");
    assert_int_equal(config_apply_annotations(&config, path, &err), -1);
    assert_string_equal(err.text, "annotation io.husk.kernel is unknown or not allowed");
    cleanup_json json_t *range = json_pack("{s:s}", "io.husk.vcpus", "0");
    assert_int_equal(config_apply_annotations(&config, range, &err), -1);
    assert_string_equal(err.text, "annotation io.husk.vcpus: 0 is not within 1 and 32");
    assert_int_equal(config_apply_annotations(&config, NULL, &err), 0);
    config_fini(&config);
}

static void a_bundle_tells_what_the_host_needs(void **state)
{
    struct fixture *fixture = *state;
    struct bundle bundle;
    struct error err;
    char rootfs[PATH_MAX];
    make_dir(fixture, "rootfs");
    write_file(
        fixture, "config.json",
        "{\"ociVersion\": \"1.2.0\", \"root\": {\"path\": \"rootfs\"}, \"process\": {\"terminal\": true,"
        " \"oomScoreAdj\": 100}, \"mounts\": [{\"destination\": \"/proc\", \"type\": \"proc\"},"
        " {\"destination\": \"/a\", \"type\": \"bind\", \"source\": \"/etc\"},"
        " {\"destination\": \"/b\", \"source\": \"rootfs\", \"options\": [\"ro\", \"rbind\"]}]}");
    assert_int_equal(bundle_load(&bundle, fixture->dir, NULL, &err), 0);
    snprintf(rootfs, sizeof(rootfs), "%s/rootfs", fixture->dir);
    assert_string_equal(bundle.rootfs, rootfs);
    assert_true(bundle.has_process);
    assert_true(bundle.terminal);
    assert_int_equal(bundle.oom_score_adj, 100);
    assert_int_equal(bundle.mount_count, 2);
    assert_int_equal(bundle.mounts[0].index, 1);
    assert_string_equal(bundle.mounts[0].source, "/etc");
    assert_false(bundle.mounts[0].recursive);
    assert_int_equal(bundle.mounts[1].index, 2);
    assert_string_equal(bundle.mounts[1].source, rootfs);
    assert_true(bundle.mounts[1].recursive);
    bundle_fini(&bundle);
}

/* The groups of config.json, with and without the annotation. */
static json_t *load_groups(struct fixture *fixture, const char *annotations)
{
    struct bundle bundle;
    struct error err;
    char content[512];
    snprintf(content, sizeof(content),
             "{\"ociVersion\": \"1.2.0\", \"root\": {\"path\": \"rootfs\"}, \"annotations\": %s,"
             " \"process\": {\"user\": {\"uid\": 1, \"gid\": 1, \"additionalGids\": [123456]}}}",
             annotations);
    write_file(fixture, "config.json", content);
    assert_int_equal(bundle_load(&bundle, fixture->dir, NULL, &err), 0);
    json_t *groups = json_incref(
        json_object_get(json_object_get(json_object_get(bundle.spec, "process"), "user"), "additionalGids"));
    bundle_fini(&bundle);
    return groups;
}

static void the_callers_groups_can_be_kept(void **state)
{
    gid_t own[NGROUPS_MAX];
    make_dir(*state, "rootfs");
    cleanup_json json_t *kept = load_groups(*state, "{\"run.oci.keep_original_groups\": \"1\"}");
    int count = getgroups(NGROUPS_MAX, own);
    assert_int_equal(json_array_size(kept), count);
    for (int i = 0; i < count; i++)
        assert_int_equal(json_integer_value(json_array_get(kept, (size_t)i)), own[i]);
    cleanup_json json_t *not_kept = load_groups(*state, "{\"run.oci.keep_original_groups\": \"0\"}");
    assert_int_equal(json_array_size(not_kept), 1);
    assert_int_equal(json_integer_value(json_array_get(not_kept, 0)), 123456);
}

static void refuse_bundle(struct fixture *fixture, const char *content, const char *message)
{
    struct bundle bundle;
    struct error err = {0};
    if (content)
        write_file(fixture, "config.json", content);
    assert_int_equal(bundle_load(&bundle, fixture->dir, NULL, &err), -1);
    if (!strstr(err.text, message))
        fail_msg("\"%s\" does not say \"%s\"", err.text, message);
    bundle_fini(&bundle);
}

static void wrong_bundles_are_refused_by_name(void **state)
{
    struct fixture *fixture = *state;
    make_dir(fixture, "rootfs");
    refuse_bundle(fixture, NULL, "config.json: No such file or directory");
    refuse_bundle(fixture, "{", "broken JSON at line 1");
    refuse_bundle(fixture, "[]", "not an object");
    refuse_bundle(fixture, "{}", "ociVersion is missing");
    refuse_bundle(fixture, "{\"ociVersion\": 1}", "ociVersion: expected a string");
    refuse_bundle(fixture, "{\"ociVersion\": \"2.0.0\"}", "\"2.0.0\" is not supported");
    refuse_bundle(fixture, "{\"ociVersion\": \"1.0.2\"}", "root is missing");
    refuse_bundle(fixture, "{\"ociVersion\": \"1.0.2\", \"root\": {}}", "root.path is missing");
    refuse_bundle(fixture, "{\"ociVersion\": \"1.0.2\", \"root\": {\"path\": \"nowhere\"}}",
                  "root.path: /tmp/");
    refuse_bundle(fixture, "{\"ociVersion\": \"1.0.2\", \"root\": {\"path\": \"config.json\"}}",
                  "Not a directory");
#define GOOD "{\"ociVersion\": \"1.0.2\", \"root\": {\"path\": \"rootfs\"}, "
    refuse_bundle(fixture, GOOD "\"annotations\": {\"a\": 1}}", "annotations.a: expected a string");
    refuse_bundle(fixture, GOOD "\"mounts\": [7]}", "mounts[0]: expected an object");
    refuse_bundle(fixture, GOOD "\"mounts\": [{\"type\": \"bind\"}]}", "mounts[0].source is missing");
    refuse_bundle(fixture, GOOD "\"mounts\": [{\"type\": \"bind\", \"source\": \"/no/such\"}]}",
                  "mounts[0].source: /no/such: No such file or directory");
    refuse_bundle(fixture, GOOD "\"process\": {\"oomScoreAdj\": 2000}}", "process.oomScoreAdj");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(defaults_hold_without_files),
        TEST(later_files_win_and_parameters_add_up),
        TEST(wrong_lines_are_named),
        TEST(annotations_set_what_they_may),
        TEST(a_bundle_tells_what_the_host_needs),
        TEST(the_callers_groups_can_be_kept),
        TEST(wrong_bundles_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
