/* Unit tests of shim/monitor_threads.c: threads that stay where the process was. Each case is a process of
 * its own, which writes down what its threads see. */
#include "shim/monitor_threads.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* What a thread sees, and who it is. */
struct sight {
    bool ran;
    pid_t thread;
    char cwd[128], root[128], mounts[128];
    bool has_mark; /* /tmp/.../mark is there */
};

struct seen {
    char directory[64]; /* to go to, and to mount on */
    struct sight before, main_thread, live, serve;
    bool is_serving;
    void *arg[2];
    sem_t served;
};

static struct seen *seen; /* shared with the processes */

static void look_at(const char *link, char target[128])
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/task/%d/%s", (int)gettid(), link);
    ssize_t length = readlink(path, target, 127);
    target[length < 0 ? 0 : length] = '\0';
}

static void look(struct sight *sight)
{
    char mark[96];
    snprintf(mark, sizeof(mark), "%s/mark", seen->directory);
    sight->thread = gettid();
    look_at("cwd", sight->cwd);
    look_at("root", sight->root);
    look_at("ns/mnt", sight->mounts);
    sight->has_mark = access(mark, F_OK) == 0;
    sight->ran = true;
}

static void live(void *arg)
{
    seen->arg[0] = arg;
    look(&seen->live);
    if (seen->is_serving)
        while (sem_wait(&seen->served) < 0)
            ;
    _exit(7);
}

static void serve(void *arg)
{
    seen->arg[1] = arg;
    look(&seen->serve);
    sem_post(&seen->served);
}

/* Returns at once, and before live goes on. */
static void serve_nothing(void *arg)
{
    (void)arg;
    sem_post(&seen->served);
}

static int start(void **state)
{
    (void)state;
    seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(seen != MAP_FAILED);
    sem_init(&seen->served, 1, 0);
    seen->is_serving = true;
    snprintf(seen->directory, sizeof(seen->directory), "/tmp/monitor-threads-XXXXXX");
    return mkdtemp(seen->directory) ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    rmdir(seen->directory);
    return munmap(seen, sizeof(*seen));
}

/* Runs `process` in a process that has a minute. Its status as of waitpid. */
static int status_of(void (*process)(void))
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(60);
        process();
        _exit(99);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void expect_exit(int status, int code)
{
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), code);
}

static struct monitor_threads *started(void)
{
    struct error err = {0};
    look(&seen->before);
    struct monitor_threads *threads = monitor_threads_start(&err);
    if (!threads)
        _exit(90);
    return threads;
}

static void expect_as_before(const struct sight *sight)
{
    assert_true(sight->ran);
    assert_int_not_equal(sight->thread, seen->before.thread);
    assert_string_equal(sight->cwd, seen->before.cwd);
    assert_string_equal(sight->root, seen->before.root);
    assert_string_equal(sight->mounts, seen->before.mounts);
    assert_false(sight->has_mark);
}

static void changes_directory(void)
{
    struct monitor_threads *threads = started();
    if (chdir(seen->directory) < 0)
        _exit(91);
    look(&seen->main_thread);
    monitor_threads_run(threads, live, serve, seen);
}

static void the_working_directory_stays(void **state)
{
    (void)state;
    expect_exit(status_of(changes_directory), 7);
    assert_string_equal(seen->main_thread.cwd, seen->directory);
    assert_string_not_equal(seen->before.cwd, seen->directory);
    expect_as_before(&seen->live);
    expect_as_before(&seen->serve);
    assert_int_not_equal(seen->live.thread, seen->serve.thread);
    assert_ptr_equal(seen->arg[0], seen);
    assert_ptr_equal(seen->arg[1], seen);
}

static void changes_root(void)
{
    struct monitor_threads *threads = started();
    if (chroot(seen->directory) < 0 || chdir("/") < 0)
        _exit(91);
    monitor_threads_run(threads, live, serve, seen);
}

static void the_root_stays(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    expect_exit(status_of(changes_root), 7);
    assert_string_equal(seen->live.root, "/");
    expect_as_before(&seen->live);
    expect_as_before(&seen->serve);
}

static void changes_mounts(void)
{
    char mark[96];
    struct monitor_threads *threads = started();
    snprintf(mark, sizeof(mark), "%s/mark", seen->directory);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("mark", seen->directory, "tmpfs", 0, NULL) < 0 || mkdir(mark, 0700) < 0)
        _exit(91);
    look(&seen->main_thread);
    monitor_threads_run(threads, live, serve, NULL);
}

static void the_mount_namespace_stays(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    expect_exit(status_of(changes_mounts), 7);
    assert_true(seen->main_thread.has_mark);
    assert_string_not_equal(seen->main_thread.mounts, seen->before.mounts);
    expect_as_before(&seen->live);
    expect_as_before(&seen->serve);
}

/* What a thread does with its own is not main's either. */

static void live_elsewhere(void *arg)
{
    (void)arg;
    if (chdir("/proc") < 0)
        _exit(92);
    look_at("cwd", seen->live.cwd);
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/cwd", getpid());
    ssize_t length = readlink(path, seen->main_thread.cwd, 127);
    seen->main_thread.cwd[length < 0 ? 0 : length] = '\0';
    _exit(7);
}

static void lets_live_move(void)
{
    monitor_threads_run(started(), live_elsewhere, NULL, NULL);
}

static void mains_directory_stays(void **state)
{
    (void)state;
    expect_exit(status_of(lets_live_move), 7);
    assert_string_equal(seen->live.cwd, "/proc");
    assert_string_equal(seen->main_thread.cwd, seen->before.cwd);
}

static void runs_without_serve(void)
{
    seen->is_serving = false;
    monitor_threads_run(started(), live, NULL, NULL);
}

static void there_may_be_nothing_to_serve(void **state)
{
    (void)state;
    expect_exit(status_of(runs_without_serve), 7);
    assert_false(seen->serve.ran);
}

static void *wait_a_while(void *arg)
{
    const struct timespec while_ = {.tv_nsec = 200000000};
    nanosleep(&while_, NULL);
    seen->serve.ran = true; /* still there */
    (void)arg;
    _exit(8);
}

static void live_that_waits(void *arg)
{
    while (sem_wait(&seen->served) < 0)
        ;
    wait_a_while(arg);
}

static void serve_returns(void)
{
    monitor_threads_run(started(), live_that_waits, serve_nothing, NULL);
}

static void the_end_of_serve_ends_nothing(void **state)
{
    (void)state;
    expect_exit(status_of(serve_returns), 8);
    assert_true(seen->serve.ran);
}

static void starts_and_leaves(void)
{
    const struct timespec while_ = {.tv_nsec = 200000000};
    started();
    nanosleep(&while_, NULL);
    _exit(seen->live.ran || seen->serve.ran ? 93 : 3);
}

static void a_process_can_end_before_they_run(void **state)
{
    (void)state;
    expect_exit(status_of(starts_and_leaves), 3);
}

/* A signal to a thread that waits is not its start. */
static void ignore(int signal_number)
{
    (void)signal_number;
}

static void is_interrupted(void)
{
    const struct timespec while_ = {.tv_nsec = 100000000};
    struct sigaction action = {.sa_handler = ignore};
    sigset_t mask;
    sigaction(SIGUSR1, &action, NULL);
    started();
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &mask, NULL); /* one of the others gets it */
    for (int i = 0; i < 3; i++) {
        kill(getpid(), SIGUSR1);
        nanosleep(&while_, NULL);
    }
    sigset_t pending;
    sigpending(&pending);
    _exit(sigismember(&pending, SIGUSR1) ? 94 : 3);
}

static void a_signal_does_not_let_them_go(void **state)
{
    (void)state;
    expect_exit(status_of(is_interrupted), 3);
}

/* main sleeps on, whatever wakes it. */
static void live_wakes_main(void *arg)
{
    const struct timespec while_ = {.tv_nsec = 50000000};
    (void)arg;
    for (int i = 0; i < 3; i++) {
        nanosleep(&while_, NULL);
        syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1);
    }
    nanosleep(&while_, NULL);
    _exit(7);
}

static void is_woken(void)
{
    struct sigaction action = {.sa_handler = ignore};
    sigaction(SIGUSR1, &action, NULL);
    monitor_threads_run(started(), live_wakes_main, NULL, NULL);
}

static void main_sleeps_on(void **state)
{
    (void)state;
    expect_exit(status_of(is_woken), 7);
}

#define THREADS_TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        THREADS_TEST(the_working_directory_stays),
        THREADS_TEST(the_root_stays),
        THREADS_TEST(the_mount_namespace_stays),
        THREADS_TEST(mains_directory_stays),
        THREADS_TEST(there_may_be_nothing_to_serve),
        THREADS_TEST(the_end_of_serve_ends_nothing),
        THREADS_TEST(a_process_can_end_before_they_run),
        THREADS_TEST(a_signal_does_not_let_them_go),
        THREADS_TEST(main_sleeps_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
