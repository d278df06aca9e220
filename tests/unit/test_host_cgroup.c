/*
 * Unit tests of the host's cgroups: limits and the tree, over a directory that stands for the
 * cgroup file systems. mkdir and rmdir are wrapped: what is made below it gets the files that a kernel would
 * put there, and what holds a living process can't be removed.
 */
#include "common/fd.h"
#include "common/json.h"
#include "shim/cgroup_limits.h"
#include "shim/cgroup_mounts.h"
#include "shim/cgroup_path.h"
#include "shim/host_cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char top[64]; /* the directory of the running test */

static const char *const fake_files[] = {"cgroup.procs",
                                         "cgroup.controllers",
                                         "cgroup.subtree_control",
                                         "memory.max",
                                         "memory.low",
                                         "cpu.max",
                                         "cpu.weight",
                                         "cpuset.cpus",
                                         "cpuset.mems",
                                         "io.max",
                                         "io.weight",
                                         "memory.limit_in_bytes",
                                         "memory.memsw.limit_in_bytes",
                                         "cpu.shares",
                                         "cpu.cfs_period_us",
                                         "cpu.cfs_quota_us"};

int __real_mkdir(const char *path, mode_t mode);
int __real_rmdir(const char *path);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_rmdir(const char *path);

static void put(const char *dir, const char *file, const char *content)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, content, strlen(content)), 0);
}

/* What a file of the fake tree holds: static storage. */
static const char *get(const char *dir, const char *file)
{
    static char content[4096];
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, content, sizeof(content) - 1);
    content[length > 0 ? length : 0] = '\0';
    return content;
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    if (__real_mkdir(path, mode) < 0)
        return -1;
    for (size_t i = 0; i < sizeof(fake_files) / sizeof(fake_files[0]); i++)
        put(path, fake_files[i], "");
    put(path, "cgroup.controllers", "cpu memory\n");
    return 0;
}

int __wrap_rmdir(const char *path)
{
    pid_t pid = (pid_t)atoi(get(path, "cgroup.procs"));
    if (pid > 1 && pid != getpid() && kill(pid, 0) == 0) {
        errno = EBUSY;
        return -1;
    }
    struct stat status;
    if (stat(path, &status) == 0 && status.st_nlink > 2) {
        errno = EBUSY; /* cgroups below it */
        return -1;
    }
    for (size_t i = 0; i < sizeof(fake_files) / sizeof(fake_files[0]); i++) {
        char file[PATH_MAX];
        snprintf(file, sizeof(file), "%s/%s", path, fake_files[i]);
        unlink(file);
    }
    return __real_rmdir(path);
}

static int setup(void **state)
{
    (void)state;
    snprintf(top, sizeof(top), "/tmp/husk-test.XXXXXX");
    if (!mkdtemp(top))
        return -1;
    put(top, "cgroup.controllers", "cpu memory\n");
    put(top, "cgroup.subtree_control", "");
    return 0;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    return nftw(top, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static struct cgroup_directory directory_at(const char *controllers, const char *below)
{
    struct cgroup_directory directory = {.controllers = strdup(controllers), .mount_point = strdup(top)};
    assert_true(asprintf(&directory.path, "%s%s", top, below) > 0);
    return directory;
}

static void directory_free(struct cgroup_directory *directory)
{
    free(directory->controllers);
    free(directory->mount_point);
    free(directory->path);
}

static bool exists(const char *below)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s%s", top, below);
    return access(path, F_OK) == 0;
}

/* --- The tree ---------------------------------------------------------------------- */

static void only_what_was_made_is_removed(void **state)
{
    (void)state;
    struct error err;
    struct cgroup_directory first = directory_at("", "/pod/a/c1"), second = directory_at("", "/pod/a/c2");
    cgroup_tree_count_missing(&first);
    assert_int_equal(first.made, 3);
    assert_int_equal(cgroup_tree_make(&first, &err), 0);
    assert_int_equal(first.made, 3);
    assert_string_equal(get(top, "cgroup.subtree_control"), "+cpu +memory");
    cgroup_tree_count_missing(&second);
    assert_int_equal(second.made, 1);
    assert_int_equal(cgroup_tree_make(&second, &err), 0);
    assert_int_equal(second.made, 1);
    /* the parents are shared: whoever made them finds them in use */
    assert_int_equal(cgroup_tree_remove(&first, &err), 0);
    assert_false(exists("/pod/a/c1"));
    assert_true(exists("/pod/a/c2"));
    assert_int_equal(cgroup_tree_remove(&second, &err), 0);
    assert_false(exists("/pod/a/c2"));
    assert_true(exists("/pod/a"));
    assert_int_equal(cgroup_tree_remove(&first, &err), 0); /* gone already: fine, and now the parents go */
    assert_false(exists("/pod"));
    directory_free(&first);
    directory_free(&second);
}

static void a_cgroup_of_others_stays(void **state)
{
    (void)state;
    struct error err;
    struct cgroup_directory directory = directory_at("", "/theirs");
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/theirs", top);
    assert_int_equal(__wrap_mkdir(path, 0755), 0);
    cgroup_tree_count_missing(&directory);
    assert_int_equal(cgroup_tree_make(&directory, &err), 0);
    assert_int_equal(directory.made, 0);
    assert_int_equal(cgroup_tree_remove(&directory, &err), 0);
    assert_true(exists("/theirs"));
    directory_free(&directory);
}

static void a_cgroup_in_use_is_refused(void **state)
{
    (void)state;
    struct error err;
    struct host_resources none = {.cpu_burst = -1, .cpu_idle = -1};
    char path[PATH_MAX], inner[PATH_MAX];
    struct host_cgroup cgroup = {.manager = CGROUP_MANAGER_CGROUPFS, .path_given = true, .count = 1};
    cgroup.directories[0] = directory_at("", "/theirs");
    snprintf(path, sizeof(path), "%s/theirs", top);
    snprintf(inner, sizeof(inner), "%s/theirs/inner", top);
    assert_int_equal(__wrap_mkdir(path, 0755), 0);
    assert_int_equal(__wrap_mkdir(inner, 0755), 0);
    put(inner, "cgroup.procs", "2\n3\n");
    assert_int_equal(host_cgroup_make(&cgroup, &none, &err), -1);
    assert_non_null(strstr(err.text, "container's cgroup is not empty: 2 process(es) found in "));
    assert_string_equal(get(path, "cgroup.procs"), ""); /* not joined */
    assert_true(exists("/theirs/inner"));
    put(inner, "cgroup.procs", "");
    assert_int_equal(host_cgroup_make(&cgroup, &none, &err), 0);
    assert_int_equal(atoi(get(path, "cgroup.procs")), getpid());
    assert_int_equal(host_cgroup_remove(&cgroup, &err), 0);
    assert_true(exists("/theirs/inner"));
    host_cgroup_fini(&cgroup);
}

static void a_failed_make_leaves_nothing(void **state)
{
    (void)state;
    struct error err;
    char name[NAME_MAX + 16];
    snprintf(name, sizeof(name), "/a/b/%0*d", NAME_MAX + 1, 1); /* a component too long for any file system */
    struct cgroup_directory directory = directory_at("", name);
    assert_int_equal(cgroup_tree_make(&directory, &err), -1);
    assert_int_equal(err.code, ENAMETOOLONG);
    assert_false(exists("/a"));
    directory_free(&directory);
}

static void a_new_cpuset_inherits(void **state)
{
    (void)state;
    struct error err;
    struct cgroup_directory directory = directory_at("cpuset", "/a/b");
    put(top, "cpuset.cpus", "0-3\n");
    put(top, "cpuset.mems", "0\n");
    assert_int_equal(cgroup_tree_make(&directory, &err), 0);
    assert_string_equal(get(directory.path, "cpuset.cpus"), "0-3");
    assert_string_equal(get(directory.path, "cpuset.mems"), "0");
    assert_int_equal(cgroup_tree_remove(&directory, &err), 0);
    directory_free(&directory);
}

static void leftovers_are_killed(void **state)
{
    (void)state;
    struct error err;
    struct cgroup_directory directory = directory_at("", "/c1/inner");
    assert_int_equal(cgroup_tree_make(&directory, &err), 0);
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    signal(SIGCHLD, SIG_IGN); /* no zombie, which kill(pid, 0) would take for alive */
    assert_int_equal(cgroup_tree_join(&directory, child, &err), 0);
    directory.made = 2;
    assert_int_equal(cgroup_tree_remove(&directory, &err), 0);
    assert_int_equal(kill(child, 0), -1);
    assert_false(exists("/c1"));
    signal(SIGCHLD, SIG_DFL);
    directory_free(&directory);
}

/* --- Limits -------------------------------------------------------------------------- */

static struct host_resources some_limits(void)
{
    return (struct host_resources){.memory_limit = 1 << 20,
                                   .memory_swap = 3 << 20,
                                   .cpu_shares = 1024,
                                   .cpu_quota = 50000,
                                   .cpu_period = 100000,
                                   .cpu_burst = -1,
                                   .cpu_idle = -1,
                                   .cpus = "0-1",
                                   .io_weight = 100};
}

static void limits_are_written_in_version_2(void **state)
{
    (void)state;
    struct error err;
    struct cgroup_directory directory = directory_at("", "/c1");
    struct host_device_limit device = {.kind = DEVICE_WRITE_IOPS, .major = 8, .minor = 1, .value = 7};
    struct host_resources limits = some_limits();
    limits.devices = &device;
    limits.device_count = 1;
    assert_int_equal(cgroup_tree_make(&directory, &err), 0);
    /* there is no memory.swap.max: swap can't be limited, and that is told */
    assert_int_equal(cgroup_limits_write(&limits, &directory, 1, &err), -1);
    assert_non_null(strstr(err.text, "linux.resources.memory.swap: write '2097152' to "));
    limits.memory_swap = limits.memory_limit; /* but "no swap" holds without the file */
    if (cgroup_limits_write(&limits, &directory, 1, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(get(directory.path, "memory.max"), "1048576");
    assert_string_equal(get(directory.path, "cpu.weight"), "39");
    assert_string_equal(get(directory.path, "cpu.max"), "50000 100000");
    assert_string_equal(get(directory.path, "cpuset.cpus"), "0-1");
    assert_string_equal(get(directory.path, "io.weight"), "default 910");
    assert_string_equal(get(directory.path, "io.max"), "8:1 wiops=7");
    put(directory.path, "memory.max", "");
    put(directory.path, "cpu.max", "");
    limits = (struct host_resources){.memory_limit = -1, .cpu_quota = -1, .cpu_burst = -1, .cpu_idle = -1};
    assert_int_equal(cgroup_limits_write(&limits, &directory, 1, &err), 0);
    assert_string_equal(get(directory.path, "memory.max"), "max");
    assert_string_equal(get(directory.path, "cpu.max"), "max 100000");
    limits.cpu_idle = 1; /* a file that this kernel has not */
    assert_int_equal(cgroup_limits_write(&limits, &directory, 1, &err), -1);
    assert_int_equal(err.code, ENOENT);
    assert_int_equal(cgroup_tree_remove(&directory, &err), 0);
    directory_free(&directory);
}

static void limits_are_written_in_version_1(void **state)
{
    (void)state;
    struct error err;
    struct cgroup_directory directories[] = {directory_at("cpu,cpuacct", "/cpu/c1"),
                                             directory_at("memory", "/memory/c1"), directory_at("", "/u/c1")};
    struct host_resources limits = some_limits();
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(cgroup_tree_make(&directories[i], &err), 0);
    assert_int_equal(cgroup_limits_write(&limits, directories, 3, &err), -1);
    assert_string_equal(err.text,
                        "linux.resources: the host has no cgroup hierarchy of the controller cpuset");
    limits.cpus = NULL;
    limits.io_weight = 0;
    if (cgroup_limits_write(&limits, directories, 3, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(get(directories[1].path, "memory.limit_in_bytes"), "1048576");
    assert_string_equal(get(directories[1].path, "memory.memsw.limit_in_bytes"), "3145728");
    assert_string_equal(get(directories[0].path, "cpu.shares"), "1024");
    assert_string_equal(get(directories[0].path, "cpu.cfs_quota_us"), "50000");
    assert_string_equal(get(directories[0].path, "cpu.cfs_period_us"), "100000");
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(cgroup_tree_remove(&directories[i], &err), 0);
        directory_free(&directories[i]);
    }
}

static void unified_keys_are_the_hosts_or_the_guests(void **state)
{
    (void)state;
    struct error err;
    struct cgroup_directory directory = directory_at("", "/c1");
    struct host_resources limits = {.cpu_burst = -1, .cpu_idle = -1};
    limits.unified = json_pack("{s:s, s:s, s:s}", "cpuset.mems", "0", "memory.high", "1000", "pids.max", "5");
    assert_int_equal(cgroup_tree_make(&directory, &err), 0);
    assert_int_equal(cgroup_limits_write(&limits, &directory, 1, &err), 0);
    assert_string_equal(get(directory.path, "cpuset.mems"), "0");
    assert_false(exists("/c1/memory.high"));
    json_object_set_new(limits.unified, "io.latency", json_string("8:0 target=1"));
    assert_int_equal(cgroup_limits_write(&limits, &directory, 1, &err), -1);
    assert_non_null(strstr(err.text, "linux.resources.unified: write '8:0 target=1' to "));
    json_decref(limits.unified);
    assert_int_equal(cgroup_tree_remove(&directory, &err), 0);
    directory_free(&directory);
}

/* --- The whole, as far as it is data ---------------------------------------------------- */

static void managers_are_chosen(void **state)
{
    (void)state;
    enum cgroup_manager manager;
    struct error err;
    assert_int_equal(host_cgroup_choose_manager(NULL, false, &manager, &err), 0);
    assert_int_equal(manager, CGROUP_MANAGER_CGROUPFS);
    assert_int_equal(host_cgroup_choose_manager(NULL, true, &manager, &err), 0);
    assert_int_equal(manager, CGROUP_MANAGER_SYSTEMD);
    assert_int_equal(host_cgroup_choose_manager("disabled", true, &manager, &err), 0);
    assert_int_equal(manager, CGROUP_MANAGER_DISABLED);
    assert_int_equal(host_cgroup_choose_manager("none", false, &manager, &err), -1);
}

static void without_cgroups_numbers_of_the_host_are_refused(void **state)
{
    (void)state;
    struct error err;
    struct host_cgroup cgroup;
    struct host_resources limits = {.memory_limit = 1 << 30, .cpu_burst = -1, .cpu_idle = -1};
    assert_int_equal(host_cgroup_plan(&cgroup, CGROUP_MANAGER_DISABLED, "/a/b", "c1", &err), 0);
    assert_int_equal(host_cgroup_make(&cgroup, &limits, &err), 0);
    limits.mems = "0";
    assert_int_equal(host_cgroup_make(&cgroup, &limits, &err), -1);
    assert_string_equal(err.text,
                        "linux.resources.cpu.mems: needs a cgroup on the host, and those are disabled");
    assert_int_equal(host_cgroup_update(&cgroup, &limits, &err), -1);
    host_cgroup_fini(&cgroup);
}

static void a_cgroup_survives_json(void **state)
{
    (void)state;
    struct error err;
    struct host_cgroup cgroup, back;
    assert_int_equal(host_cgroup_plan(&cgroup, CGROUP_MANAGER_SYSTEMD, "machine.slice:libpod:c1", "c1", &err),
                     0);
    assert_true(cgroup.unit_made); /* noted before it is made */
    cgroup.directories[0] = directory_at("memory", "/machine.slice/libpod-c1.scope");
    cgroup.directories[0].made = 1;
    cgroup.count = 1;
    json_t *object = host_cgroup_to_json(&cgroup);
    assert_non_null(object);
    if (host_cgroup_from_json(object, &back, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(back.manager, CGROUP_MANAGER_SYSTEMD);
    assert_string_equal(back.unit, "libpod-c1.scope");
    assert_string_equal(back.slice, "machine.slice");
    assert_string_equal(back.unit_marker, cgroup.unit_marker);
    assert_int_equal(back.count, 1);
    assert_int_equal(back.directories[0].made, 1);
    assert_string_equal(host_cgroup_path(&back, "memory"), cgroup.directories[0].path);
    assert_null(host_cgroup_path(&back, "cpu"));
    host_cgroup_fini(&back);
    /* a state that somebody wrote into must not have us remove what lies elsewhere */
    json_object_set_new(json_array_get(json_object_get(object, "directories"), 0), "path",
                        json_string("/etc"));
    assert_int_equal(host_cgroup_from_json(object, &back, &err), -1);
    host_cgroup_fini(&back);
    json_decref(object);
    host_cgroup_fini(&cgroup);
    assert_int_equal(host_cgroup_from_json(NULL, &back, &err), 0);
    assert_int_equal(host_cgroup_remove(&back, &err), 0);
    host_cgroup_fini(&back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_what_was_made_is_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cgroup_of_others_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cgroup_in_use_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_make_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_cpuset_inherits, setup, teardown),
        cmocka_unit_test_setup_teardown(leftovers_are_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(limits_are_written_in_version_2, setup, teardown),
        cmocka_unit_test_setup_teardown(limits_are_written_in_version_1, setup, teardown),
        cmocka_unit_test_setup_teardown(unified_keys_are_the_hosts_or_the_guests, setup, teardown),
        cmocka_unit_test(managers_are_chosen),
        cmocka_unit_test(without_cgroups_numbers_of_the_host_are_refused),
        cmocka_unit_test_setup_teardown(a_cgroup_survives_json, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
