/* Unit tests of where a container's cgroup lies: paths of config.json, and the hierarchies that are mounted.
 */
#include "common/fd.h"
#include "shim/cgroup_mounts.h"
#include "shim/cgroup_path.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* --- Paths ---------------------------------------------------------------------- */

static void paths_are_cleaned(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"/a/b", "/a/b"},       {"//a/./b/", "/a/b"}, {"/a/../b", "/b"},
                                           {"/../../a", "/a"},     {"../a", "a"},        {"a/..", ""},
                                           {"a/../../b/c", "b/c"}, {"/", "/"},           {"/..", "/"},
                                           {"a/b/../..//c", "c"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cleanup_free char *clean = cgroup_path_clean(cases[i][0]);
        assert_string_equal(clean, cases[i][1]);
    }
}

static void paths_are_resolved_as_by_runc(void **state)
{
    (void)state;
    static const struct {
        const char *path, *own;
        bool version2;
        const char *wanted;
    } cases[] = {
        {"/a/b", "/x/y", true, "/a/b"}, {"a", "/x/y", true, "/x/a"},    {"a", "/x", true, "/a"},
        {"a", "/", true, "/a"},         {"a", "/x/y", false, "/x/y/a"}, {"a", "/", false, "/a"},
        {NULL, "/x/y", true, "/x/id"},  {"", "/x/y", false, "/x/y/id"}, {"../../a", "/x/y", false, "/x/y/a"},
    };
    struct error err;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cleanup_free char *path =
            cgroup_path_resolve(cases[i].path, "id", cases[i].own, cases[i].version2, &err);
        assert_non_null(path);
        assert_string_equal(path, cases[i].wanted);
    }
    assert_null(cgroup_path_resolve("/", "id", "/", true, &err));
    assert_null(cgroup_path_resolve("a/..", "id", "/", true, &err));
    assert_string_equal(err.text, "linux.cgroupsPath: \"a/..\" is the root of the hierarchy");
}

static void systemd_names_are_taken_apart(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        bool user;
        const char *slice, *unit; /* NULL: an error */
    } cases[] = {
        {"machine.slice:libpod:c1", false, "machine.slice", "libpod-c1.scope"},
        {"a-b.slice:crio:c1", false, "a-b.slice", "crio-c1.scope"},
        {":crio:c1", false, "system.slice", "crio-c1.scope"},
        {"::c1", false, "system.slice", "c1.scope"},
        {NULL, false, "system.slice", "husk-id.scope"},
        {"", true, "user.slice", "husk-id.scope"},
        {"/foo/bar", false, NULL, NULL},
        {"a.slice:b", false, NULL, NULL},
        {"a.slice:b:c:d", false, NULL, NULL},
        {"a.slice:b:", false, NULL, NULL},
        {"system:b:c", false, NULL, NULL},
        {"a/b.slice:b:c", false, NULL, NULL},
        {"a.slice:b:../c", false, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cleanup_free char *slice = NULL, *unit = NULL;
        struct error err;
        int result = cgroup_path_parse_systemd(cases[i].path, "id", cases[i].user, &slice, &unit, &err);
        assert_int_equal(result, cases[i].slice ? 0 : -1);
        if (cases[i].slice) {
            assert_string_equal(slice, cases[i].slice);
            assert_string_equal(unit, cases[i].unit);
        }
    }
}

static void slices_lie_in_slices(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"a.slice", "/a.slice"},
                                           {"a-b.slice", "/a.slice/a-b.slice"},
                                           {"a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"},
                                           {"-.slice", "/"}};
    static const char *const wrong[] = {"-a.slice", "a-.slice", "a--b.slice", ".slice"};
    struct error err;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cleanup_free char *path = cgroup_path_expand_slice(cases[i][0], &err);
        assert_string_equal(path, cases[i][1]);
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_null(cgroup_path_expand_slice(wrong[i], &err));
}

/* --- Mounts ---------------------------------------------------------------------- */

static bool all_visible(const char *mount_point, unsigned major, unsigned minor)
{
    (void)major;
    return minor != 99 && strcmp(mount_point, "/hidden") != 0;
}

static struct cgroup_mounts parse(const char *mountinfo, const char *cgroups)
{
    struct cgroup_mounts mounts;
    struct error err;
    cleanup_free char *a = strdup(mountinfo), *b = strdup(cgroups);
    if (cgroup_mounts_parse(&mounts, a, b, all_visible, &err) < 0)
        fail_msg("%s", err.text);
    return mounts;
}

static void the_unified_hierarchy_is_found(void **state)
{
    (void)state;
    struct cgroup_mounts mounts =
        parse("30 23 0:26 / /hidden rw - cgroup2 cgroup2 rw\n"
              "31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
              "32 23 0:27 / /proc rw - proc proc rw\n",
              "0::/user.slice/x\n");
    assert_true(mounts.unified);
    assert_int_equal(mounts.count, 1);
    assert_string_equal(mounts.hierarchies[0].controllers, "");
    assert_string_equal(mounts.hierarchies[0].mount_point, "/sys/fs/cgroup");
    assert_string_equal(mounts.hierarchies[0].own, "/user.slice/x");
    cgroup_mounts_fini(&mounts);
}

static void hybrid_hierarchies_are_found(void **state)
{
    (void)state;
    struct cgroup_mounts mounts =
        parse("31 23 0:30 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n"
              "32 23 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
              "33 23 0:32 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
              "34 23 0:33 /docker/1 /sys/fs/cgroup/mem\\040ory rw - cgroup cgroup rw,memory\n"
              "35 23 0:33 / /mnt/memory rw - cgroup cgroup rw,memory\n"
              "36 23 0:99 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
              "garbage\n37 x\n",
              "4:memory:/docker/1/a\n3:cpu,cpuacct:/b\n2:pids:/\n1:name=systemd:/c\n0::/d\n");
    assert_false(mounts.unified);
    assert_int_equal(mounts.count, 4);
    assert_string_equal(mounts.hierarchies[0].own, "/d");
    assert_string_equal(mounts.hierarchies[1].controllers, "name=systemd");
    assert_string_equal(mounts.hierarchies[2].controllers, "cpu,cpuacct");
    assert_string_equal(mounts.hierarchies[3].mount_point, "/sys/fs/cgroup/mem ory");
    assert_string_equal(mounts.hierarchies[3].own, "/a"); /* the mount starts at /docker/1 */
    assert_true(cgroup_list_has("cpu,cpuacct", "cpuacct"));
    assert_false(cgroup_list_has("cpu,cpuacct", "cpua"));
    assert_false(cgroup_list_has("cpuset", "cpu"));
    cgroup_mounts_fini(&mounts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_cleaned),
        cmocka_unit_test(paths_are_resolved_as_by_runc),
        cmocka_unit_test(systemd_names_are_taken_apart),
        cmocka_unit_test(slices_lie_in_slices),
        cmocka_unit_test(the_unified_hierarchy_is_found),
        cmocka_unit_test(hybrid_hierarchies_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
