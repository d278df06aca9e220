/* Unit tests of agent/resolve.c: a hostile image's links and dots stay inside its root. */
#include "agent/resolve.h"
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

struct fixture {
    char dir[64]; /* holds "root", the container's root, and "secret" beside it */
    int dir_fd, root_fd;
};

static int fixture_open(void **state)
{
    static struct fixture fixture;
    strcpy(fixture.dir, "/tmp/test-resolve-XXXXXX");
    if (!mkdtemp(fixture.dir))
        return -1;
    fixture.dir_fd = open(fixture.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mkdirat(fixture.dir_fd, "root", 0755);
    mkdirat(fixture.dir_fd, "secret", 0755);
    fixture.root_fd = openat(fixture.dir_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    *state = &fixture;
    return fixture.root_fd < 0 ? -1 : 0;
}

static int fixture_close(void **state)
{
    struct fixture *fixture = *state;
    char command[128];
    close(fixture->root_fd);
    close(fixture->dir_fd);
    snprintf(command, sizeof(command), "rm -rf %s", fixture->dir);
    return system(command);
}

static bool exists(int dir_fd, const char *path)
{
    struct stat status;
    return fstatat(dir_fd, path, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

static void missing_directories_are_made(void **state)
{
    struct fixture *fixture = *state;
    int fd = resolve_make_directory(fixture->root_fd, "/a/b//c/");
    assert_true(fd >= 0);
    close(fd);
    assert_true(exists(fixture->dir_fd, "root/a/b/c"));
    fd = resolve_make_directory(fixture->root_fd, "/a/b/c"); /* and found again */
    assert_true(fd >= 0);
    close(fd);
}

static void missing_files_are_made_in_missing_directories(void **state)
{
    struct fixture *fixture = *state;
    struct stat status;
    int fd = resolve_make_file(fixture->root_fd, "/etc/x/hosts");
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &status), 0);
    assert_true(S_ISREG(status.st_mode));
    close(fd);
}

static void dots_do_not_leave_the_root(void **state)
{
    struct fixture *fixture = *state;
    int fd = resolve_make_directory(fixture->root_fd, "/../../secret/x");
    assert_true(fd >= 0);
    close(fd);
    assert_true(exists(fixture->dir_fd, "root/secret/x"));
    assert_false(exists(fixture->dir_fd, "secret/x"));
}

static void absolute_links_mean_the_roots_own_tree(void **state)
{
    struct fixture *fixture = *state;
    char target[128];
    snprintf(target, sizeof(target), "%s/secret", fixture->dir);
    assert_int_equal(symlinkat(target, fixture->root_fd, "escape"), 0);
    assert_int_equal(resolve_open(fixture->root_fd, "/escape", O_PATH), -ENOENT);
    int fd = resolve_make_file(fixture->root_fd, "/escape/file");
    assert_true(fd >= 0);
    close(fd);
    assert_false(exists(fixture->dir_fd, "secret/file"));
    char inside[160];
    snprintf(inside, sizeof(inside), "root%s/file", target);
    assert_true(exists(fixture->dir_fd, inside));
}

static void relative_links_with_dots_stay_inside(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(mkdirat(fixture->root_fd, "d", 0755), 0);
    assert_int_equal(symlinkat("../../../secret/y", fixture->root_fd, "d/up"), 0);
    int fd = resolve_make_directory(fixture->root_fd, "/d/up");
    assert_true(fd >= 0);
    close(fd);
    assert_false(exists(fixture->dir_fd, "secret/y"));
    assert_true(exists(fixture->dir_fd, "root/secret/y"));
}

/* /etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf, whose directories an image does not have. */
static void what_a_dangling_link_points_to_is_made(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(mkdirat(fixture->root_fd, "etc", 0755), 0);
    assert_int_equal(symlinkat("../run/resolve/stub.conf", fixture->root_fd, "etc/resolv.conf"), 0);
    int fd = resolve_make_file(fixture->root_fd, "/etc/resolv.conf");
    assert_true(fd >= 0);
    close(fd);
    assert_true(exists(fixture->root_fd, "run/resolve/stub.conf"));
}

static void a_circle_of_links_is_an_error(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(symlinkat("b", fixture->root_fd, "a"), 0);
    assert_int_equal(symlinkat("a", fixture->root_fd, "b"), 0);
    assert_int_equal(resolve_make_directory(fixture->root_fd, "/a/x"), -ELOOP);
    assert_int_equal(resolve_make_file(fixture->root_fd, "/a"), -ELOOP);
}

static void a_file_in_the_way_of_a_directory_is_an_error(void **state)
{
    struct fixture *fixture = *state;
    int fd = resolve_make_file(fixture->root_fd, "/f");
    close(fd);
    assert_int_equal(resolve_make_directory(fixture->root_fd, "/f/g"), -ENOTDIR);
    assert_int_equal(resolve_make_directory(fixture->root_fd, "/f"), -ENOTDIR);
}

static void paths_of_the_host_follow_no_link_at_all(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(symlinkat("secret", fixture->dir_fd, "link"), 0);
    assert_int_equal(resolve_beneath(fixture->dir_fd, "link", O_PATH), -ELOOP);
    assert_int_equal(resolve_beneath(fixture->dir_fd, "../etc", O_PATH), -EXDEV);
    assert_int_equal(resolve_beneath(fixture->dir_fd, "/etc", O_PATH), -EXDEV);
    int fd = resolve_beneath(fixture->dir_fd, "root", O_PATH);
    assert_true(fd >= 0);
    close(fd);
}

static void the_parent_of_a_new_node_and_its_name(void **state)
{
    struct fixture *fixture = *state;
    const char *name;
    int fd = resolve_make_parent(fixture->root_fd, "/dev/net/tun", &name);
    assert_true(fd >= 0);
    close(fd);
    assert_string_equal(name, "tun");
    assert_true(exists(fixture->root_fd, "dev/net"));
    assert_int_equal(resolve_make_parent(fixture->root_fd, "/dev/..", &name), -EINVAL);
    assert_int_equal(resolve_make_parent(fixture->root_fd, "/", &name), -EINVAL);
    char longer[PATH_MAX + 10];
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(resolve_make_parent(fixture->root_fd, longer, &name), -ENAMETOOLONG);
}

int main(void)
{
#define RESOLVE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_open, fixture_close)
    const struct CMUnitTest tests[] = {
        RESOLVE_TEST(missing_directories_are_made),
        RESOLVE_TEST(missing_files_are_made_in_missing_directories),
        RESOLVE_TEST(dots_do_not_leave_the_root),
        RESOLVE_TEST(absolute_links_mean_the_roots_own_tree),
        RESOLVE_TEST(relative_links_with_dots_stay_inside),
        RESOLVE_TEST(what_a_dangling_link_points_to_is_made),
        RESOLVE_TEST(a_circle_of_links_is_an_error),
        RESOLVE_TEST(a_file_in_the_way_of_a_directory_is_an_error),
        RESOLVE_TEST(paths_of_the_host_follow_no_link_at_all),
        RESOLVE_TEST(the_parent_of_a_new_node_and_its_name),
    };
    return cmocka_run_group_tests_name("agent_resolve", tests, NULL, NULL);
}
