/*
 * The shim's whole way (create, start, kill, delete, the monitor, the relays) with a fake VMM and agent, so
 * it runs without KVM. Needs root for the pid and mount namespaces, and a /dev/kvm that opens; skipped
 * otherwise.
 */
#include "common/fd.h"
#include "common/json.h"
#include "shim/container.h"
#include "shim/process_id.h"
#include "shim/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS 20000

struct fixture {
    char dir[64];
    struct context context;
    pid_t monitor;
    int in, out, err_out; /* our ends of the monitor's standard streams */
};

static void write_file(const char *dir, const char *name, const char *content)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, content, strlen(content)), 0);
}

static int fixture_setup(void **state)
{
    static struct fixture fixture;
    char path[PATH_MAX], conf[4 * PATH_MAX], own[PATH_MAX];
    fixture = (struct fixture){.context = {.log_fd = -1}, .in = -1, .out = -1, .err_out = -1};
    *state = &fixture;
    snprintf(fixture.dir, sizeof(fixture.dir), "/tmp/husk-test.XXXXXX");
    if (!mkdtemp(fixture.dir))
        return -1;
    snprintf(path, sizeof(path), "%s/rootfs", fixture.dir);
    mkdir(path, 0755);
    snprintf(path, sizeof(path), "%s/root", fixture.dir);
    if (store_init(&fixture.context.store, path, NULL) < 0)
        return -1;
    fixture.context.options.config_dir = fixture.dir;
    fixture.context.options.cgroup_manager = "disabled"; /* host_cgroup has tests of its own */
    ssize_t length = readlink("/proc/self/exe", own, sizeof(own) - 1);
    own[length] = '\0';
    *strrchr(own, '/') = '\0';
    /* Any ELF file does for a kernel that nobody boots. */
    snprintf(conf, sizeof(conf), "vmm = %s/fake-vmm\nkernel = %s/fake-vmm\ninitramfs = %s/fake-vmm\n", own,
             own, own);
    write_file(fixture.dir, "husk.conf", conf);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    return 0;
}

static int fixture_teardown(void **state)
{
    static const char *const names[] = {"husk.conf",       "config.json",    "rootfs",
                                        "root/containers", "root/sandboxes", "root"};
    struct fixture *fixture = *state;
    char path[PATH_MAX];
    struct error err;
    int result = container_delete(&fixture->context, "c1", true, &err);
    store_fini(&fixture->context.store);
    fd_close(&fixture->in);
    fd_close(&fixture->out);
    fd_close(&fixture->err_out);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", fixture->dir, names[i]);
        if (remove(path) < 0 && errno != ENOENT)
            result = -1; /* something was left behind */
    }
    return result | rmdir(fixture->dir);
}

static void write_spec(struct fixture *fixture, const char *args)
{
    char spec[1024];
    snprintf(spec, sizeof(spec),
             "{\"ociVersion\": \"1.0.2\", \"root\": {\"path\": \"rootfs\"}, \"process\": {\"args\": [%s]},"
             " \"linux\": {\"namespaces\": [{\"type\": \"network\"}]},"
             " \"mounts\": [{\"destination\": \"/c\", \"type\": \"bind\", \"source\": \"config.json\"}]}",
             args);
    write_file(fixture->dir, "config.json", spec);
}

/* Creates c1 with pipes as its standard streams. */
static int create(struct fixture *fixture, const char *args, struct error *err)
{
    struct create_options options = {.bundle = fixture->dir};
    int ends[3][2], saved[3];
    write_spec(fixture, args);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pipe2(ends[i], O_CLOEXEC), 0);
        saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 3);
        dup2(ends[i][i == 0 ? 0 : 1], i);
    }
    struct created created;
    int result = container_create(&fixture->context, "c1", &options, &created, err);
    fixture->monitor = created.monitor;
    for (int i = 0; i < 3; i++) {
        dup2(saved[i], i);
        close(saved[i]);
        close(ends[i][i == 0 ? 0 : 1]);
    }
    fixture->in = ends[0][1];
    fixture->out = ends[1][0];
    fixture->err_out = ends[2][0];
    return result;
}

static void create_and_start(struct fixture *fixture, const char *args)
{
    struct error err = {0};
    if (create(fixture, args, &err) < 0 || container_start(&fixture->context, "c1", &err) < 0)
        fail_msg("%s", err.text);
}

/* The monitor's wait status. */
static int wait_monitor(struct fixture *fixture)
{
    struct process_id id;
    int status = -1;
    if (process_id_get(fixture->monitor, &id) == 0) {
        cleanup_fd int pidfd = process_id_open(&id);
        if (pidfd >= 0)
            assert_int_equal(process_wait_end(pidfd, WAIT_MS), 0);
    }
    assert_int_equal(waitpid(fixture->monitor, &status, 0), fixture->monitor);
    return status;
}

static enum container_status status_of(struct fixture *fixture, char *reason, size_t size)
{
    struct container_state state;
    struct error err;
    if (container_state_load(&fixture->context.store, "c1", &state, &err) < 0)
        fail_msg("%s", err.text);
    if (reason)
        snprintf(reason, size, "%s", state.reason ? state.reason : "");
    enum container_status status = state.status;
    container_state_fini(&state);
    return status;
}

static void assert_reads(int fd, const char *expected)
{
    char text[64] = "";
    size_t length = 0;
    ssize_t got;
    while (length < sizeof(text) - 1 && (got = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
        length += (size_t)got;
    assert_string_equal(text, expected);
}

static void a_program_runs_and_its_status_is_the_monitors(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    assert_int_equal(create(fixture, "\"exit\", \"42\"", &err), 0);
    assert_int_equal(status_of(fixture, NULL, 0), STATUS_CREATED);
    assert_int_equal(container_start(&fixture->context, "c1", &err), 0);
    assert_reads(fixture->out, "out\n");
    assert_reads(fixture->err_out, "err\n");
    int status = wait_monitor(fixture);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
    char reason[256];
    assert_int_equal(status_of(fixture, reason, sizeof(reason)), STATUS_STOPPED);
    assert_string_equal(reason, "");
    assert_int_equal(container_delete(&fixture->context, "c1", false, &err), 0);
}

static void *feed(void *arg)
{
    struct fixture *fixture = arg;
    char block[8192];
    for (unsigned i = 0; i < 2048; i++) {
        memset(block, (int)(i % 251), sizeof(block));
        fd_write_full(fixture->in, block, sizeof(block));
    }
    fd_close(&fixture->in);
    return NULL;
}

static void bytes_go_through_without_loss_and_ends_are_passed_on(void **state)
{
    struct fixture *fixture = *state;
    pthread_t feeder;
    char block[8192];
    create_and_start(fixture, "\"cat\"");
    pthread_create(&feeder, NULL, feed, fixture);
    for (unsigned i = 0; i < 2048; i++) {
        assert_int_equal(fd_read_full(fixture->out, block, sizeof(block)), 0);
        assert_int_equal((unsigned char)block[0], i % 251);
        assert_int_equal((unsigned char)block[sizeof(block) - 1], i % 251);
    }
    pthread_join(feeder, NULL);
    assert_int_equal(read(fixture->out, block, 1), 0);
    assert_int_equal(wait_monitor(fixture), 0);
}

/* What callers reach by the monitor's pid is the container's tree, never the host's. */
static void the_monitors_root_is_the_containers(void **state)
{
    static const char *const directories[] = {"rootfs/proc", "rootfs/dev"};
    struct fixture *fixture = *state;
    struct error err;
    struct stat own, seen;
    char path[PATH_MAX];
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/%s", fixture->dir, directories[i]);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    write_file(fixture->dir, "rootfs/c", "below the mount");
    assert_int_equal(create(fixture, "\"cat\"", &err), 0);
    snprintf(path, sizeof(path), "/proc/%d/root%s", (int)fixture->monitor, fixture->dir);
    assert_int_equal(stat(path, &seen), -1);
    snprintf(path, sizeof(path), "/proc/%d/root/c", (int)fixture->monitor);
    assert_int_equal(stat(path, &seen), 0);
    snprintf(path, sizeof(path), "%s/config.json", fixture->dir);
    assert_int_equal(stat(path, &own), 0);
    assert_true(seen.st_ino == own.st_ino && seen.st_dev == own.st_dev);
    assert_int_equal(container_delete(&fixture->context, "c1", true, &err), 0);
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/%s", fixture->dir, directories[i]);
        assert_int_equal(rmdir(path), 0);
    }
    snprintf(path, sizeof(path), "%s/rootfs/c", fixture->dir);
    assert_int_equal(unlink(path), 0);
}

static void a_signal_to_the_monitor_is_the_programs(void **state)
{
    struct fixture *fixture = *state;
    create_and_start(fixture, "\"sleep\"");
    assert_int_equal(status_of(fixture, NULL, 0), STATUS_RUNNING);
    assert_int_equal(kill(fixture->monitor, SIGRTMIN + 5), 0);
    int status = wait_monitor(fixture);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGRTMIN + 5);
    assert_false(WCOREDUMP(status));
}

static void illegal_transitions_are_errors_of_their_own(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    struct created created;
    struct create_options options = {.bundle = fixture->dir};
    create_and_start(fixture, "\"sleep\"");
    assert_int_equal(container_start(&fixture->context, "c1", &err), -1);
    assert_string_equal(err.text, "container c1: cannot start an already running container");
    assert_int_equal(container_delete(&fixture->context, "c1", false, &err), -1);
    assert_string_equal(err.text, "container c1: cannot delete container c1 that is not stopped: running");
    assert_int_equal(container_create(&fixture->context, "c1", &options, &created, &err), -1);
    assert_string_equal(err.text, "container c1: container with given ID already exists");
    assert_int_equal(kill(fixture->monitor, SIGTERM), 0);
    wait_monitor(fixture);
    assert_int_equal(container_start(&fixture->context, "c1", &err), -1);
    assert_string_equal(err.text, "container c1: cannot start a container that has stopped");
}

static void a_program_that_is_missing_is_starts_error(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    assert_int_equal(create(fixture, "\"missing\"", &err), 0);
    assert_int_equal(container_start(&fixture->context, "c1", &err), -1);
    assert_string_equal(err.text, "container c1: missing: executable file not found in $PATH (agent)");
    assert_int_equal(container_delete(&fixture->context, "c1", false, &err), 0);
}

static void a_vmm_that_dies_stops_the_container_with_a_reason(void **state)
{
    struct fixture *fixture = *state;
    struct sandbox sandbox;
    char reason[256];
    create_and_start(fixture, "\"sleep\"");
    assert_int_equal(sandbox_open(&sandbox, &fixture->context.store, "c1", NULL), 0);
    assert_int_equal(kill(sandbox.vmm.pid, SIGKILL), 0);
    sandbox_fini(&sandbox);
    int status = wait_monitor(fixture);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
    assert_int_equal(status_of(fixture, reason, sizeof(reason)), STATUS_STOPPED);
    assert_string_equal(reason, "the VM ended while the container ran: the VMM was killed by signal 9");
}

static void a_vmm_that_dies_during_start_is_told(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    assert_int_equal(create(fixture, "\"vanish\"", &err), 0);
    assert_int_equal(container_start(&fixture->context, "c1", &err), -1);
    assert_non_null(strstr(err.text, "container c1: container.start"));
}

static void a_lying_agent_does_not_get_its_status_through(void **state)
{
    struct fixture *fixture = *state;
    create_and_start(fixture, "\"lie\"");
    int status = wait_monitor(fixture);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void a_killed_monitor_is_noticed_and_force_cleans_up(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    struct sandbox sandbox;
    char reason[256];
    create_and_start(fixture, "\"sleep\"");
    assert_int_equal(kill(fixture->monitor, SIGKILL), 0);
    wait_monitor(fixture);
    assert_int_equal(status_of(fixture, reason, sizeof(reason)), STATUS_STOPPED);
    assert_string_equal(reason, "the monitor was killed");
    assert_int_equal(sandbox_open(&sandbox, &fixture->context.store, "c1", NULL), 0);
    struct process_id vmm = sandbox.vmm;
    sandbox_fini(&sandbox);
    assert_int_equal(container_delete(&fixture->context, "c1", true, &err), 0);
    assert_false(process_id_alive(&vmm));
}

static void a_failing_hook_undoes_the_creation(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    struct create_options options = {.bundle = fixture->dir};
    struct container_state read;
    struct created created;
    write_file(
        fixture->dir, "config.json",
        "{\"ociVersion\": \"1.0.2\", \"root\": {\"path\": \"rootfs\"}, \"process\": {\"args\": [\"cat\"]},"
        " \"linux\": {\"namespaces\": [{\"type\": \"network\"}]},"
        " \"hooks\": {\"prestart\": [{\"path\": \"/bin/sh\", \"args\": [\"sh\", \"-c\","
        " \"read state; echo $HOOK_TEST >&2; exit 7\"]}]}}");
    setenv("HOOK_TEST", "no luck", 1); /* a hook without env has the caller's */
    assert_int_equal(container_create(&fixture->context, "c1", &options, &created, &err), -1);
    assert_string_equal(err.text, "container c1: hooks.prestart[0]: /bin/sh: exit status 7: no luck");
    assert_int_equal(container_state_load(&fixture->context.store, "c1", &read, &err), -1);
    assert_int_equal(err.code, ENOENT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_program_runs_and_its_status_is_the_monitors),
        TEST(bytes_go_through_without_loss_and_ends_are_passed_on),
        TEST(the_monitors_root_is_the_containers),
        TEST(a_signal_to_the_monitor_is_the_programs),
        TEST(illegal_transitions_are_errors_of_their_own),
        TEST(a_program_that_is_missing_is_starts_error),
        TEST(a_vmm_that_dies_stops_the_container_with_a_reason),
        TEST(a_vmm_that_dies_during_start_is_told),
        TEST(a_lying_agent_does_not_get_its_status_through),
        TEST(a_killed_monitor_is_noticed_and_force_cleans_up),
        TEST(a_failing_hook_undoes_the_creation),
    };
    if (geteuid() != 0 || access("/dev/kvm", R_OK | W_OK) < 0) {
        fprintf(stderr, "skipped: needs root and /dev/kvm\n");
        return 77;
    }
    log_init("husk", -1, LOG_FORMAT_TEXT, LOG_LEVEL_ERR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
