/* Unit tests of agent/cpus.c over a directory that stands for /sys/devices/system/cpu. */
#include "agent/cpus.h"
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define CPUS 4 /* the first has no switch */

static char dir[64];

static int setup(void **state)
{
    (void)state;
    char path[128];
    snprintf(dir, sizeof(dir), "/tmp/husk-test.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    for (int cpu = 0; cpu < CPUS; cpu++) {
        snprintf(path, sizeof(path), "%s/cpu%d", dir, cpu);
        mkdir(path, 0755);
        snprintf(path, sizeof(path), "%s/cpu%d/online", dir, cpu);
        cleanup_fd int fd = cpu ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644) : -1;
        if (cpu && fd_write_full(fd, cpu == 1 ? "1\n" : "0\n", 2))
            return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char path[128];
    for (int cpu = 0; cpu < CPUS; cpu++) {
        snprintf(path, sizeof(path), "%s/cpu%d/online", dir, cpu);
        remove(path);
        snprintf(path, sizeof(path), "%s/cpu%d", dir, cpu);
        remove(path);
    }
    return remove(dir);
}

/* "01.." of the processors with a switch. */
static void expect_online(const char *wanted)
{
    char now[CPUS] = "", path[128];
    for (int cpu = 1; cpu < CPUS; cpu++) {
        snprintf(path, sizeof(path), "%s/cpu%d/online", dir, cpu);
        cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(read(fd, &now[cpu - 1], 1), 1);
    }
    assert_string_equal(now, wanted);
}

static void processors_go_on_and_off(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(cpus_set_online(dir, 3, &err), 3);
    expect_online("110");
    assert_int_equal(cpus_set_online(dir, 4, &err), 4);
    expect_online("111");
    assert_int_equal(cpus_set_online(dir, 1, &err), 1);
    expect_online("000");
}

static void there_are_only_so_many(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(cpus_set_online(dir, 5, &err), -1);
    assert_int_equal(err.code, ERANGE);
    assert_non_null(strstr(err.text, "5 processors: there are 4"));
    assert_int_equal(cpus_set_online(dir, 0, &err), -1);
    assert_int_equal(err.code, ERANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(processors_go_on_and_off, setup, teardown),
        cmocka_unit_test_setup_teardown(there_are_only_so_many, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
