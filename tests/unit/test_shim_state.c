/* Unit tests of shim/store.c, container_state.c and process_id.c: what survives commands and crashes. */
#include "common/fd.h"
#include "common/json.h"
#include "shim/container_state.h"
#include "shim/process_id.h"
#include "shim/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char dir[64];
    struct store store;
};

static int fixture_setup(void **state)
{
    static struct fixture fixture;
    char root[PATH_MAX];
    snprintf(fixture.dir, sizeof(fixture.dir), "/tmp/husk-test.XXXXXX");
    *state = &fixture;
    if (!mkdtemp(fixture.dir))
        return -1;
    snprintf(root, sizeof(root), "%s/a/root", fixture.dir);
    return store_init(&fixture.store, root, NULL);
}

static int fixture_teardown(void **state)
{
    static const char *const dirs[] = {"a/root/containers", "a/root/sandboxes", "a/root", "a", "."};
    struct fixture *fixture = *state;
    char path[PATH_MAX];
    int result = 0;
    store_fini(&fixture->store);
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", fixture->dir, dirs[i]);
        result |= i == 4 ? rmdir(fixture->dir) : rmdir(path);
    }
    return result;
}

static void ids_are_checked_as_runc_does(void **state)
{
    (void)state;
    static const char *const good[] = {"c1", "A_b+c.d-9", "...", "-"};
    static const char *const wrong[] = {"", ".", "..", "a/b", "../a", "a b", "a\nb", "\xc3\xa4"};
    char long_id[200];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(store_check_id(good[i], NULL), 0);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(store_check_id(wrong[i], NULL), -1);
    memset(long_id, 'x', sizeof(long_id) - 1);
    long_id[sizeof(long_id) - 1] = '\0';
    assert_int_equal(store_check_id(long_id, NULL), -1);
}

static struct container_state sample_state(void)
{
    struct container_state sample = {.status = STATUS_RUNNING, .has_process = true, .exit_status = -1};
    container_state_set_text(&sample.id, "c1", NULL);
    container_state_set_text(&sample.sandbox, "c1", NULL);
    container_state_set_text(&sample.bundle, "/b", NULL);
    container_state_set_text(&sample.rootfs, "/b/rootfs", NULL);
    container_state_set_text(&sample.oci_version, "1.0.2", NULL);
    container_state_set_text(&sample.owner, "root", NULL);
    container_state_set_text(&sample.created, "2026-01-01T00:00:00.000000000Z", NULL);
    sample.annotations = json_pack("{s:s}", "k", "v");
    assert_int_equal(process_id_get(getpid(), &sample.monitor), 0);
    return sample;
}

static void a_state_comes_back_as_it_was(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    struct container_state written = sample_state(), read;
    cleanup_fd int fd = store_create_container(&fixture->store, "c1", &err);
    assert_true(fd >= 0);
    assert_int_equal(container_state_write(fd, &written, &err), 0);
    assert_int_equal(container_state_load(&fixture->store, "c1", &read, &err), 0);
    assert_int_equal(read.status, STATUS_RUNNING);
    assert_int_equal(read.monitor.pid, getpid());
    assert_string_equal(json_string_value(json_object_get(read.annotations, "k")), "v");
    cleanup_json json_t *oci = container_state_to_oci(&read);
    assert_int_equal(json_integer_value(json_object_get(oci, "pid")), getpid());
    assert_string_equal(json_string_value(json_object_get(oci, "status")), "running");
    assert_null(json_object_get(oci, "reason"));
    container_state_fini(&written);
    container_state_fini(&read);
    assert_int_equal(store_remove_container(&fixture->store, "c1", &err), 0);
}

static void a_reused_pid_does_not_revive_a_container(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    struct container_state written = sample_state(), read;
    written.monitor.start_time--; /* the pid is ours, but the process that had it was another */
    cleanup_fd int fd = store_create_container(&fixture->store, "c1", &err);
    assert_int_equal(container_state_write(fd, &written, &err), 0);
    assert_int_equal(container_state_load(&fixture->store, "c1", &read, &err), 0);
    assert_int_equal(read.status, STATUS_STOPPED);
    assert_string_equal(read.reason, "the monitor was killed");
    cleanup_json json_t *oci = container_state_to_oci(&read);
    assert_int_equal(json_integer_value(json_object_get(oci, "pid")), 0);
    assert_int_equal(process_id_open(&written.monitor), -ESRCH);
    assert_int_equal(process_id_kill(&written.monitor, 0), 0); /* and we are still here */
    container_state_fini(&written);
    container_state_fini(&read);
    assert_int_equal(store_remove_container(&fixture->store, "c1", &err), 0);
}

static void damaged_state_is_an_error_that_names_the_file(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    struct container_state read;
    cleanup_fd int fd = store_create_container(&fixture->store, "c1", &err);
    static const char *const damaged[] = {"", "{", "{\"version\": 1}", "{\"version\": 99}"};
    for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
        assert_int_equal(fd_write_file_atomic(fd, STORE_STATE_FILE, damaged[i], strlen(damaged[i]), 0600), 0);
        assert_int_equal(container_state_load(&fixture->store, "c1", &read, &err), -1);
        assert_non_null(strstr(err.text, "container c1: " STORE_STATE_FILE));
    }
    assert_int_equal(store_remove_container(&fixture->store, "c1", &err), 0);
}

static void what_does_not_exist_is_said_so(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    struct container_state read;
    assert_int_equal(container_state_load(&fixture->store, "c1", &read, &err), -1);
    assert_string_equal(err.text, "container c1: container does not exist");
    assert_int_equal(err.code, ENOENT);
    assert_int_equal(store_lock_container(&fixture->store, "c1", &err), -1);
    assert_int_equal(store_remove_container(&fixture->store, "c1", &err), 0);
}

static void a_taken_id_is_refused_and_an_abandoned_one_is_not(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    struct container_state written = sample_state();
    int fd = store_create_container(&fixture->store, "c1", &err);
    assert_true(fd >= 0);
    fd_close(&fd); /* its creator died before it wrote a state */
    fd = store_create_container(&fixture->store, "c1", &err);
    assert_true(fd >= 0);
    assert_int_equal(container_state_write(fd, &written, &err), 0);
    assert_int_equal(store_create_container(&fixture->store, "c1", &err), -1);
    assert_string_equal(err.text, "container with given ID already exists");
    container_state_fini(&written);
    fd_close(&fd);
    assert_int_equal(store_remove_container(&fixture->store, "c1", &err), 0);
}

/* A child that waits for the lock must notice that the directory was removed while it waited. */
static void a_waiter_for_a_removed_container_gives_up(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    int ready[2];
    int fd = store_create_container(&fixture->store, "c1", &err);
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        close(fd); /* our copy of the lock */
        close(ready[0]);
        int own = openat(fixture->store.containers_fd, "c1", O_DIRECTORY | O_CLOEXEC);
        if (own < 0 || flock(own, LOCK_EX | LOCK_NB) == 0 || close(ready[1]) < 0)
            _exit(2);
        close(own);
        _exit(store_lock_container(&fixture->store, "c1", &err) == -1 && err.code == ENOENT ? 0 : 1);
    }
    close(ready[1]);
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 0); /* the child is about to wait */
    close(ready[0]);
    assert_int_equal(store_remove_container(&fixture->store, "c1", &err), 0);
    fd_close(&fd);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void a_killed_holder_keeps_no_lock(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    int ready[2];
    struct container_state written = sample_state();
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        int fd = store_create_container(&fixture->store, "c1", &err);
        if (container_state_write(fd, &written, &err) < 0)
            _exit(1);
        close(ready[0]);
        close(ready[1]);
        for (;;)
            pause();
    }
    close(ready[1]);
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 0);
    close(ready[0]);
    struct process_id id;
    assert_int_equal(process_id_get(child, &id), 0);
    assert_int_equal(process_id_kill(&id, 5000), 0);
    assert_false(process_id_alive(&id)); /* a zombie does not count */
    assert_int_equal(waitpid(child, NULL, 0), child);
    int fd = store_lock_container(&fixture->store, "c1", &err);
    assert_true(fd >= 0);
    fd_close(&fd);
    container_state_fini(&written);
    assert_int_equal(store_remove_container(&fixture->store, "c1", &err), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_checked_as_runc_does),
        TEST(a_state_comes_back_as_it_was),
        TEST(a_reused_pid_does_not_revive_a_container),
        TEST(damaged_state_is_an_error_that_names_the_file),
        TEST(what_does_not_exist_is_said_so),
        TEST(a_taken_id_is_refused_and_an_abandoned_one_is_not),
        TEST(a_waiter_for_a_removed_container_gives_up),
        TEST(a_killed_holder_keeps_no_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
