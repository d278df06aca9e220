/* Unit tests of shim/rootless.c: who is taken for the machine's root. */
#include "shim/rootless.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NOBODY 65534

enum answer { ROOT, ROOTLESS, NOT_ASKED };

static enum answer ask(void)
{
    return rootless_caller() ? ROOTLESS : ROOT;
}

static enum answer ask_as_nobody(void)
{
    return setresuid(NOBODY, NOBODY, NOBODY) < 0 ? NOT_ASKED : ask();
}

/* As root of a namespace in which 0 is the caller's own id and all that there is. */
static enum answer ask_as_root_of_a_namespace(void)
{
    char map[32];
    snprintf(map, sizeof(map), "0 %u 1", geteuid());
    if (unshare(CLONE_NEWUSER) < 0)
        return NOT_ASKED;
    int fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, map, strlen(map)) < 0)
        return NOT_ASKED;
    close(fd);
    return ask();
}

/* As an engine does for an ordinary user. */
static enum answer ask_as_users_root(void)
{
    if (setresuid(NOBODY, NOBODY, NOBODY) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
        return NOT_ASKED;
    return ask_as_root_of_a_namespace();
}

/* What it says in a process of its own. */
static enum answer in_child(enum answer (*fn)(void))
{
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        _exit((int)fn());
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return (enum answer)WEXITSTATUS(status);
}

static void the_machines_root_is_told_from_others(void **state)
{
    (void)state;
    if (geteuid() != 0 || in_child(ask_as_root_of_a_namespace) == NOT_ASKED)
        skip(); /* not root, or no user namespaces */
    assert_int_equal(in_child(ask_as_nobody), ROOTLESS);
    assert_int_equal(in_child(ask_as_root_of_a_namespace), ROOTLESS);
    enum answer users_root = in_child(ask_as_users_root);
    assert_true(users_root == ROOTLESS || users_root == NOT_ASKED); /* some machines keep users from it */
}

static void root_of_all_ids_is_the_machines(void **state)
{
    (void)state;
    char map[64] = "";
    int fd = open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(read(fd, map, sizeof(map) - 1) > 0);
    close(fd);
    if (geteuid() != 0 || !strstr(map, "4294967295"))
        skip(); /* the test itself is not run by the machine's root */
    assert_int_equal(in_child(ask), ROOT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_machines_root_is_told_from_others),
        cmocka_unit_test(root_of_all_ids_is_the_machines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
