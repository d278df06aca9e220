/*
 * Tests of the agent's containers on this machine's own kernel: launch.c, rootfs.c, mounts.c, process.c,
 * container.c, cgroup.c. The shared tree holds this machine's root, read-only, in a mount namespace of the
 * test's own. Skipped (77) where that, or cgroup version 2, can't be had.
 */
#include "container_fixture.h"

#include "agent/cgroup.h"
#include "agent/rootfs.h"
#include "common/fd.h"
#include "common/json.h"
#include "protocol/frame.h"
#include "protocol/protocol.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

/* The outcome is too large for some stacks and every test needs one. */
static struct outcome outcome;

static void streams_and_exit_status_come_through(void **state)
{
    run_shell(*state, "cat; echo to-err >&2; exit 42", "through stdin\n", &outcome);
    assert_string_equal(outcome.out, "through stdin\n");
    assert_string_equal(outcome.err, "to-err\n");
    assert_int_equal(outcome.status, 42);
}

static void further_fds_are_streams_of_their_own(void **state)
{
    struct agent_fixture *fixture = *state;
    json_t *create =
        create_params("c", config_for_shell("cat <&4; echo answer >&5; readlink /proc/self/fd/3; "
                                            "ls /proc/self/fd | grep -vx '[0-5]'"));
    json_object_set_new(create, "fds",
                        json_pack("{s:s, s:s, s:s}", "3", "null", "4", "input", "5", "output"));
    json_decref(agent_call(fixture, "container.create", create));
    int in = agent_open_stream(fixture, "c", "init", "fd4");
    cleanup_fd int answer = agent_open_stream(fixture, "c", "init", "fd5");
    cleanup_fd int out = agent_open_stream(fixture, "c", "init", "stdout");
    json_decref(agent_call(fixture, "container.start", params("c")));
    assert_int_equal(send(in, "question\n", 9, 0), 9);
    close(in);
    agent_read_all(fixture, out, outcome.out, OUTPUT_MAX);
    agent_read_all(fixture, answer, outcome.err, OUTPUT_MAX);
    assert_string_equal(outcome.out, "question\n/dev/null\n6\n"); /* 6 is the directory that ls reads */
    assert_string_equal(outcome.err, "answer\n");
    take_status(agent_call(fixture, "process.wait", params("c")), &outcome);
    json_decref(agent_call(fixture, "container.delete", params("c")));
}

static void fds_out_of_range_are_refused(void **state)
{
    static const char *const bad[][2] = {{"2", "input"},  {"35", "null"}, {"3x", "null"},
                                         {"+4", "input"}, {"", "null"},   {"3", "terminal"}};
    char text[ERROR_TEXT_MAX];
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        json_t *create = create_params("c", config_for_shell("true"));
        json_object_set_new(create, "fds", json_pack("{s:s}", bad[i][0], bad[i][1]));
        agent_call_error(*state, "container.create", create, text, sizeof(text));
        assert_non_null(strstr(text, "fds."));
    }
}

/* Both halves of a connection that the process was given; and what says neither whose it is nor what. */
static void a_connection_is_a_further_fd(void **state)
{
    struct agent_fixture *fixture = *state;
    json_t *create =
        create_params("c", config_for_shell("cat <&4 > /tmp/got; echo \"answer to $(cat /tmp/got)\" >&4; "
                                            "echo $LISTEN_FDS $LISTEN_FDNAMES $((LISTEN_PID - $$))"));
    json_object_set_new(create, "fds",
                        json_pack("{s:{s:{s:s}, s:{s:s, s:i, s:i}}}", "4", "socket", "family", "unix", "peer",
                                  "family", "unix", "uid", 1, "gid", 1));
    json_object_set_new(create, "activation", json_pack("{s:i, s:s}", "fds", 2, "names", "a:b"));
    json_decref(agent_call(fixture, "container.create", create));
    cleanup_fd int connection = agent_open_stream(fixture, "c", "init", "fd4");
    cleanup_fd int out = agent_open_stream(fixture, "c", "init", "stdout");
    json_decref(agent_call(fixture, "container.start", params("c")));
    assert_int_equal(send(connection, "question", 8, 0), 8);
    assert_int_equal(shutdown(connection, SHUT_WR), 0);
    agent_read_all(fixture, connection, outcome.err, OUTPUT_MAX);
    agent_read_all(fixture, out, outcome.out, OUTPUT_MAX);
    assert_string_equal(outcome.err, "answer to question\n");
    assert_string_equal(outcome.out, "2 a:b 0\n");
    take_status(agent_call(fixture, "process.wait", params("c")), &outcome);
    json_decref(agent_call(fixture, "container.delete", params("c")));

    static const char *const bad[][2] = {
        {"{}", "fds.3: neither a listening socket nor a connection"},
        {"{\"socket\": {\"family\": \"unix\"}}", "fds.3: neither a listening socket nor a connection"},
        {"{\"listen\": {\"family\": \"unix\"}, \"socket\": {\"family\": \"unix\"}}",
         "fds.3: neither a listening socket nor a connection"},
        {"{\"listen\": {\"family\": \"ipv4\", \"port\": 1}}", "fds.3.address"},
    };
    char text[ERROR_TEXT_MAX];
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        create = create_params("c", config_for_shell("true"));
        json_object_set_new(create, "fds", json_pack("{s:o}", "3", json_loads(bad[i][0], 0, NULL)));
        agent_call_error(*state, "container.create", create, text, sizeof(text));
        if (!strstr(text, bad[i][1]))
            fail_msg("'%s' does not say '%s'", text, bad[i][1]);
    }
}

/* Each opening is one more connection; nobody listens any more when the process has gone. */
static void a_listening_socket_has_a_stream_for_each_connection(void **state)
{
    struct agent_fixture *fixture = *state;
    json_t *create = create_params("c", config_for_shell("exec sleep 1000"));
    json_object_set_new(create, "fds", json_pack("{s:{s:{s:s}}}", "3", "listen", "family", "unix"));
    json_decref(agent_call(fixture, "container.create", create));
    for (int i = 0; i < 3; i++) {
        char byte;
        cleanup_fd int fd =
            agent_open_connection(fixture, "c", "init", "fd3",
                                  json_pack("{s:{s:s}, s:{s:s, s:i, s:i}}", "local", "family", "unix", "peer",
                                            "family", "unix", "uid", 0, "gid", 0));
        assert_int_equal(send(fd, "x", 1, 0), 1);
        assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1); /* it is in the backlog */
    }
    json_decref(
        agent_call(fixture, "container.delete", json_pack("{s:s, s:b}", "container", "c", "force", 1)));
}

static void a_container_is_boxed(void **state)
{
    run_shell(*state,
              "hostname; echo $$; ls /proc | grep -c '^[0-9]'; ls " SHARED_DIR
              " 2>&1; ls -l /proc/self/fd | wc -l",
              "", &outcome);
    char *line = strtok(outcome.out, "\n");
    assert_string_equal(line, "boxed");
    assert_string_equal(strtok(NULL, "\n"), "1");                /* its own pid namespace */
    assert_string_equal(strtok(NULL, "\n"), "3");                /* sh, ls and grep */
    assert_non_null(strstr(strtok(NULL, "\n"), "No such file")); /* nothing of the agent's mounts */
    assert_string_equal(strtok(NULL, "\n"), "5");                /* 0, 1, 2 and ls's own */
}

/* Limits are set by the agent for a process that is another user's by then. */
static bool may_limit_others(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return false;
    files.rlim_max++;
    return setrlimit(RLIMIT_NOFILE, &files) == 0;
}

static void credentials_are_as_given(void **state)
{
    if (!may_limit_others())
        skip();
    json_t *config = config_for_shell("id; umask; pwd; grep -E 'Cap(Prm|Bnd)|NoNewPrivs' /proc/self/status");
    json_t *process = json_object_get(config, "process");
    json_object_set_new(process, "cwd", json_string("/tmp"));
    json_object_set_new(
        process, "user",
        json_pack("{s:i, s:i, s:[i], s:i}", "uid", 1234, "gid", 1235, "additionalGids", 1236, "umask", 077));
    run_config(*state, config, "", &outcome);
    assert_non_null(strstr(outcome.out, "uid=1234 gid=1235 groups=1235,1236"));
    assert_non_null(strstr(outcome.out, "\n0077\n/tmp\n"));
    assert_non_null(strstr(outcome.out, "CapPrm:\t0000000000000000")); /* no ambient set: lost by exec */
    assert_non_null(strstr(outcome.out, "CapBnd:\t0000000000000020"));
    assert_non_null(strstr(outcome.out, "NoNewPrivs:\t1"));
}

static void paths_are_masked_and_the_root_is_read_only(void **state)
{
    run_shell(*state,
              "wc -c < /proc/keys; touch /x 2>&1; echo 1 > /proc/sys/kernel/shmmni; echo w > /tmp/f && "
              "cat /tmp/f",
              "", &outcome);
    assert_int_equal(strncmp(outcome.out, "0\n", 2), 0);
    assert_non_null(strstr(outcome.out, "Read-only file system"));
    assert_non_null(strstr(outcome.err, "Read-only file system"));
    assert_non_null(strstr(outcome.out, "w\n"));
}

static void bind_mounts_come_from_the_shared_tree(void **state)
{
    json_t *config = config_for_shell("cat /tmp/v/note; touch /tmp/v/x 2>&1");
    json_array_append_new(json_object_get(config, "mounts"),
                          json_pack("{s:s, s:s, s:s, s:[s, s]}", "destination", "/tmp/v", "type", "bind",
                                    "source", "/on/the/host", "options", "bind", "ro"));
    run_config(*state, config, "", &outcome);
    assert_int_equal(strncmp(outcome.out, "noted\n", 6), 0);
    assert_non_null(strstr(outcome.out, "Read-only file system"));
}

static void a_relative_destination_is_below_the_root(void **state)
{
    json_t *config = config_for_shell("grep -c '^relative /tmp/a/b tmpfs' /proc/mounts");
    json_t *mounts = json_object_get(config, "mounts");
    json_array_insert_new(
        mounts, 4,
        json_pack("{s:s, s:s, s:s}", "destination", "tmp/a//b", "type", "tmpfs", "source", "relative"));
    assert_int_equal(json_array_size(mounts), 5);
    json_t *create = create_params("c", config);
    json_object_del(create, "mounts");
    json_decref(agent_call(*state, "container.create", create));
    cleanup_fd int out = agent_open_stream(*state, "c", "init", "stdout");
    json_decref(agent_call(*state, "container.start", params("c")));
    agent_read_all(*state, out, outcome.out, OUTPUT_MAX);
    assert_string_equal(outcome.out, "1\n");
    take_status(agent_call(*state, "process.wait", params("c")), &outcome);
    json_decref(agent_call(*state, "container.delete", params("c")));
}

static void default_devices_work(void **state)
{
    run_shell(*state,
              "head -c 4 /dev/zero | wc -c; echo x > /dev/null; test -c /dev/tty -a -L /dev/fd && echo ok",
              "", &outcome);
    assert_string_equal(outcome.out, "4\nok\n");
}

/* A container that may make device files, with these device rules (stolen). */
static json_t *config_with_device_rules(const char *script, json_t *rules)
{
    json_t *config = config_for_shell(script);
    json_t *process = json_object_get(config, "process");
    json_t *sets = json_object_get(process, "capabilities");
    json_object_set_new(sets, "bounding", json_pack("[s]", "CAP_MKNOD"));
    json_object_set_new(sets, "permitted", json_pack("[s]", "CAP_MKNOD"));
    json_object_set_new(sets, "effective", json_pack("[s]", "CAP_MKNOD"));
    json_object_set_new(json_object_get(config, "linux"), "resources", json_pack("{s:o}", "devices", rules));
    return config;
}

/* A device that is in no list of defaults and asks for no capability when opened. */
static bool find_device(struct stat *status)
{
    static const char *const paths[] = {"/dev/fuse", "/dev/loop-control", "/dev/net/tun", "/dev/kvm"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (stat(paths[i], status) == 0 && S_ISCHR(status->st_mode))
            return true;
    }
    return false;
}

static void device_rules_decide_over_what_mknod_made(void **state)
{
    struct stat device;
    char script[256];
    if (!find_device(&device))
        skip();
    snprintf(script, sizeof(script),
             "mknod /tmp/d c %u %u && mknod /tmp/zero c 1 5 && head -c 1 /tmp/zero | wc -c;"
             "head -c 0 /tmp/d && echo read; : >> /tmp/d && echo written",
             major(device.st_rdev), minor(device.st_rdev));
    json_t *rules = json_pack("[{s:b}]", "allow", 0);
    run_config(*state, config_with_device_rules(script, rules), "", &outcome);
    assert_string_equal(outcome.out, "1\n"); /* making any is allowed, and the default devices work */
    assert_non_null(strstr(outcome.err, "Operation not permitted"));

    /* The later rule counts, for the access it names. */
    rules = json_pack("[{s:b}, {s:b, s:s, s:i, s:i, s:s}]", "allow", 0, "allow", 1, "type", "c", "major",
                      (int)major(device.st_rdev), "minor", (int)minor(device.st_rdev), "access", "r");
    run_config(*state, config_with_device_rules(script, rules), "", &outcome);
    assert_string_equal(outcome.out, "1\nread\n");
}

static void a_filter_is_loaded(void **state)
{
    json_t *config = config_for_shell("mkdir /tmp/d 2>&1");
    json_t *filter =
        json_loads("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\",\"mkdirat\"],"
                   "\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":28}]}",
                   0, NULL);
    json_object_set_new(json_object_get(config, "linux"), "seccomp", filter);
    run_config(*state, config, "", &outcome);
    assert_non_null(strstr(outcome.out, "No space left on device"));
}

static void expect_create_error(struct agent_fixture *fixture, json_t *config, const char *words)
{
    char text[1024];
    agent_call_error(fixture, "container.create", create_params("c", config), text, sizeof(text));
    if (!strstr(text, words))
        fail_msg("'%s' lacks '%s'", text, words);
    assert_true(LIST_EMPTY(&fixture->sandbox.containers)); /* and nothing is left */
}

static void what_fails_before_the_program_is_an_error_of_create(void **state)
{
    json_t *config = config_for_shell("true");
    json_object_set_new(json_object_get(config, "process"), "args", json_pack("[s]", "no-such-program"));
    expect_create_error(*state, config, "exec: \"no-such-program\": executable file not found in $PATH");
    config = config_for_shell("true");
    json_object_set_new(json_object_get(config, "process"), "args", json_pack("[s]", "/no/such"));
    expect_create_error(*state, config, "no such file or directory");
    config = config_for_shell("true");
    json_object_set_new(json_object_get(config, "process"), "args", json_pack("[s]", "/etc/passwd"));
    expect_create_error(*state, config, "permission denied");
    config = config_for_shell("true");
    json_object_set_new(json_object_get(config, "process"), "cwd", json_string("/etc/passwd"));
    expect_create_error(*state, config, "process.cwd");
    config = config_for_shell("true");
    json_array_append_new(json_object_get(config, "mounts"),
                          json_pack("{s:s, s:s}", "destination", "/tmp", "type", "nofs"));
    expect_create_error(*state, config, "mounts[4]: nofs on /tmp");
}

static void signals_end_a_container(void **state)
{
    struct agent_fixture *fixture = *state;
    json_decref(
        agent_call(fixture, "container.create", create_params("c", config_for_shell("exec sleep 1000"))));
    assert_int_equal(agent_call_error(fixture, "container.delete", params("c"), NULL, 0), EBUSY);
    json_decref(agent_call(fixture, "container.start", params("c")));
    assert_int_equal(agent_call_error(fixture, "container.start", params("c"), NULL, 0), EBUSY);
    json_decref(
        agent_call(fixture, "container.kill", json_pack("{s:s, s:i}", "container", "c", "signal", SIGKILL)));
    take_status(agent_call(fixture, "process.wait", params("c")), &outcome);
    assert_int_equal(outcome.signal, SIGKILL);
    assert_int_equal(agent_call_error(fixture, "container.kill",
                                      json_pack("{s:s, s:i}", "container", "c", "signal", SIGTERM), NULL, 0),
                     ESRCH);
    cleanup_json json_t *stopped = agent_call(fixture, "container.state", params("c"));
    assert_string_equal(json_string_value(json_object_get(stopped, "status")), "stopped");
    json_decref(agent_call(fixture, "container.delete", params("c")));
}

static void without_a_pid_namespace_orphans_end_with_the_init(void **state)
{
    json_t *config = config_for_shell("sleep 1000 & sleep 1000 & exit 5");
    json_array_remove(json_object_get(json_object_get(config, "linux"), "namespaces"), 1);
    run_config(*state, config, "", &outcome); /* delete would wait for ever for a cgroup that is not empty */
    assert_int_equal(outcome.status, 5);
}

static void a_variable_named_twice_has_its_later_value(void **state)
{
    json_t *config = config_for_shell("");
    json_t *process = json_object_get(config, "process");
    json_object_set_new(process, "args", json_pack("[s, s, s]", "printenv", "TWICE", "HOME"));
    json_object_set_new(
        process, "env",
        json_pack("[s, s, s, s, s]", "TWICE=", "HOME=", "PATH=/none", "TWICE=later", "PATH=/usr/bin:/bin"));
    run_config(*state, config, "", &outcome);
    assert_string_equal(outcome.out, "later\n/root\n");
}

static void a_further_process_joins_and_has_its_own_streams(void **state)
{
    struct agent_fixture *fixture = *state;
    json_decref(
        agent_call(fixture, "container.create", create_params("c", config_for_shell("exec sleep 1000"))));
    json_decref(agent_call(fixture, "container.start", params("c")));
    for (int round = 0; round < 2; round++) { /* the name is free again */
        json_t *process = json_pack("{s:[s, s, s], s:s, s:[s]}", "args", "sh", "-c",
                                    "hostname; cat; grep CapEff /proc/self/status; while grep -qx sh "
                                    "/proc/1/comm; do :; done; cat /proc/1/comm; exit 6",
                                    "cwd", "/", "env", "PATH=/usr/bin:/bin");
        json_decref(
            agent_call(fixture, "process.create",
                       json_pack("{s:s, s:s, s:o}", "container", "c", "process", "e", "spec", process)));
        int in = agent_open_stream(fixture, "c", "e", "stdin");
        cleanup_fd int out = agent_open_stream(fixture, "c", "e", "stdout");
        json_decref(agent_call(fixture, "container.start",
                               json_pack("{s:s, s:s}", "container", "c", "process", "e")));
        assert_int_equal(send(in, "hello\n", 6, 0), 6);
        close(in);
        agent_read_all(fixture, out, outcome.out, OUTPUT_MAX);
        assert_string_equal(outcome.out, "boxed\nhello\nCapEff:\t0000000000000000\nsleep\n");
        take_status(
            agent_call(fixture, "process.wait", json_pack("{s:s, s:s}", "container", "c", "process", "e")),
            &outcome);
        assert_int_equal(outcome.status, 6);
        int left = agent_open_stream(fixture, "c", "e", "stderr"); /* late, and only for its end */
        agent_read_all(fixture, left, outcome.err, OUTPUT_MAX);
        close(left);
    }
    json_decref(
        agent_call(fixture, "container.delete", json_pack("{s:s, s:b}", "container", "c", "force", 1)));
}

static json_t *exec_params(const char *name, const char *script)
{
    return json_pack("{s:s, s:s, s:b, s:b, s:{s:s, s:s}, s:{s:[s, s, s], s:s, s:[s]}}", "container", "c",
                     "process", name, "start", 1, "owner", 1, "stdio", "stdin", "null", "stderr", "stdout",
                     "spec", "args", "sh", "-c", script, "cwd", "/", "env", "PATH=/usr/bin:/bin");
}

/* Sends a first frame for a stream of a process that is still to be made. */
static int await_stream(struct agent_fixture *fixture, const char *process, const char *stream)
{
    int fd = agent_connect(fixture);
    cleanup_json json_t *hello =
        json_pack("{s:i, s:s, s:s, s:s, s:s, s:b}", "husk", PROTOCOL_VERSION, "open", "stream", "container",
                  "c", "process", process, "stream", stream, "await", 1);
    assert_int_equal(frame_send(fd, hello, NULL), 0);
    for (int turn = 0; turn < 10; turn++)
        loop_once(fixture->sandbox.loop, 1);
    return fd;
}

static void a_further_process_is_made_in_one_go(void **state)
{
    struct agent_fixture *fixture = *state;
    json_decref(
        agent_call(fixture, "container.create", create_params("c", config_for_shell("exec sleep 1000"))));
    cleanup_fd int out = await_stream(fixture, "e", "stdout");
    cleanup_fd int never = await_stream(fixture, "f", "stdout");
    json_decref(agent_call(fixture, "process.create",
                           exec_params("e", "echo a; echo b >&2; readlink /proc/self/fd/0; wc -c; echo d")));
    json_t *greeting = agent_next_frame(fixture, out);
    assert_true(json_is_true(json_object_get(greeting, "ok")));
    json_decref(greeting);
    agent_read_all(fixture, out, outcome.out, OUTPUT_MAX);
    assert_string_equal(outcome.out, "a\nb\n/dev/null\n0\nd\n");
    take_status(
        agent_call(fixture, "process.wait", json_pack("{s:s, s:s}", "container", "c", "process", "e")),
        &outcome);
    assert_int_equal(outcome.status, 0);
    char text[256];
    json_t *missing = exec_params("f", "");
    json_object_set_new(json_object_get(missing, "spec"), "args", json_pack("[s]", "no-such-program"));
    assert_int_equal(agent_call_error(fixture, "process.create", missing, text, sizeof(text)), ENOENT);
    assert_string_equal(text, "exec: \"no-such-program\": executable file not found in $PATH");
    json_decref(
        agent_call(fixture, "container.delete", json_pack("{s:s, s:b}", "container", "c", "force", 1)));
}

static void who_gave_up_waiting_does_not_get_the_stream(void **state)
{
    struct agent_fixture *fixture = *state;
    json_decref(
        agent_call(fixture, "container.create", create_params("c", config_for_shell("exec sleep 1000"))));
    cleanup_fd int gone = await_stream(fixture, "e", "stdout");
    assert_int_equal(shutdown(gone, SHUT_WR), 0); /* all that a vsock tells of a peer that has closed */
    json_decref(agent_call(fixture, "process.create", exec_params("e", "echo a")));
    cleanup_fd int out = agent_open_stream(fixture, "c", "e", "stdout");
    agent_read_all(fixture, out, outcome.out, OUTPUT_MAX);
    assert_string_equal(outcome.out, "a\n");
    json_decref(
        agent_call(fixture, "container.delete", json_pack("{s:s, s:b}", "container", "c", "force", 1)));
}

static void the_loss_of_its_owner_kills_a_further_process(void **state)
{
    struct agent_fixture *fixture = *state;
    char byte;
    json_decref(
        agent_call(fixture, "container.create", create_params("c", config_for_shell("exec sleep 1000"))));
    int watched = agent_open_stream(fixture, "c", "init", "stdout");
    int own = fixture->control;
    fixture->control = agent_connect(fixture);
    json_decref(agent_exchange(fixture, fixture->control,
                               json_pack("{s:i, s:s}", "husk", PROTOCOL_VERSION, "open", "control")));
    json_decref(agent_call(fixture, "process.create", exec_params("e", "sleep 1000")));
    int out = agent_open_stream(fixture, "c", "e", "stdout");
    close(fixture->control);
    fixture->control = own;
    agent_read_all(fixture, out, outcome.out, OUTPUT_MAX);
    close(out);
    /* The container lives on. */
    json_t *status = agent_call(fixture, "container.state", params("c"));
    assert_string_equal(json_string_value(json_object_get(status, "status")), "created");
    json_decref(status);
    assert_int_equal(fixture->power_offs, 0);
    assert_int_equal(recv(watched, &byte, 1, MSG_DONTWAIT), -1);
    close(watched);
    json_decref(
        agent_call(fixture, "container.delete", json_pack("{s:s, s:b}", "container", "c", "force", 1)));
}

static void a_terminal_is_the_controlling_one(void **state)
{
    struct agent_fixture *fixture = *state;
    json_t *config = config_for_shell("tty; stty size < /dev/tty; test -c /dev/console && echo console");
    json_object_set_new(json_object_get(config, "process"), "terminal", json_true());
    json_object_set_new(json_object_get(config, "process"), "consoleSize",
                        json_pack("{s:i, s:i}", "height", 33, "width", 99));
    json_decref(agent_call(fixture, "container.create", create_params("c", config)));
    cleanup_fd int terminal = agent_open_stream(fixture, "c", "init", "terminal");
    json_decref(agent_call(fixture, "container.start", params("c")));
    agent_read_all(fixture, terminal, outcome.out, OUTPUT_MAX);
    assert_string_equal(outcome.out, "/dev/pts/0\r\n33 99\r\nconsole\r\n");
    take_status(agent_call(fixture, "process.wait", params("c")), &outcome);
    assert_int_equal(outcome.status, 0);
    json_decref(agent_call(fixture, "container.delete", params("c")));
}

static void an_idle_container_costs_nothing(void **state)
{
    struct agent_fixture *fixture = *state;
    json_decref(
        agent_call(fixture, "container.create", create_params("c", config_for_shell("exec sleep 1000"))));
    json_decref(agent_call(fixture, "container.start", params("c")));
    for (int i = 0; i < 50; i++)
        loop_once(fixture->sandbox.loop, 10);
    assert_int_equal(loop_once(fixture->sandbox.loop, 100), 0); /* no event: nothing spins */
    json_decref(
        agent_call(fixture, "container.delete", json_pack("{s:s, s:b}", "container", "c", "force", 1)));
}

static bool powered_off(struct agent_fixture *fixture)
{
    return fixture->power_offs > 0;
}

static void the_loss_of_the_owner_ends_container_and_guest(void **state)
{
    struct agent_fixture *fixture = *state;
    int owner = agent_connect(fixture);
    json_decref(
        agent_exchange(fixture, owner, json_pack("{s:i, s:s}", "husk", PROTOCOL_VERSION, "open", "control")));
    json_t *create = create_params("c", config_for_shell("sleep 1000 & exec sleep 1000"));
    json_object_set_new(create, "owner", json_true());
    json_decref(agent_exchange(
        fixture, owner,
        json_pack("{s:i, s:s, s:o}", "id", 1, "method", "container.create", "params", create)));
    json_decref(agent_call(fixture, "container.start", params("c")));
    close(owner);
    agent_run_until(fixture, powered_off);
    assert_true(LIST_EMPTY(&fixture->sandbox.containers));
}

static void a_created_container_can_be_deleted_by_force(void **state)
{
    struct agent_fixture *fixture = *state;

    json_decref(agent_call(fixture, "container.create", create_params("c", config_for_shell("true"))));
    json_decref(
        agent_call(fixture, "container.delete", json_pack("{s:s, s:b}", "container", "c", "force", 1)));
    assert_true(LIST_EMPTY(&fixture->sandbox.containers));
    assert_int_equal(agent_call_error(fixture, "container.start", params("c"), NULL, 0), ENOENT);
}

int main(void)
{
#define CONTAINER_TEST(name) cmocka_unit_test_setup_teardown(name, agent_fixture_open, agent_fixture_close)
    const struct CMUnitTest tests[] = {
        CONTAINER_TEST(streams_and_exit_status_come_through),
        CONTAINER_TEST(further_fds_are_streams_of_their_own),
        CONTAINER_TEST(fds_out_of_range_are_refused),
        CONTAINER_TEST(a_connection_is_a_further_fd),
        CONTAINER_TEST(a_listening_socket_has_a_stream_for_each_connection),
        CONTAINER_TEST(a_container_is_boxed),
        CONTAINER_TEST(credentials_are_as_given),
        CONTAINER_TEST(paths_are_masked_and_the_root_is_read_only),
        CONTAINER_TEST(bind_mounts_come_from_the_shared_tree),
        CONTAINER_TEST(a_relative_destination_is_below_the_root),
        CONTAINER_TEST(default_devices_work),
        CONTAINER_TEST(device_rules_decide_over_what_mknod_made),
        CONTAINER_TEST(a_filter_is_loaded),
        CONTAINER_TEST(what_fails_before_the_program_is_an_error_of_create),
        CONTAINER_TEST(signals_end_a_container),
        CONTAINER_TEST(without_a_pid_namespace_orphans_end_with_the_init),
        CONTAINER_TEST(a_variable_named_twice_has_its_later_value),
        CONTAINER_TEST(a_further_process_joins_and_has_its_own_streams),
        CONTAINER_TEST(a_further_process_is_made_in_one_go),
        CONTAINER_TEST(who_gave_up_waiting_does_not_get_the_stream),
        CONTAINER_TEST(the_loss_of_its_owner_kills_a_further_process),
        CONTAINER_TEST(a_terminal_is_the_controlling_one),
        CONTAINER_TEST(an_idle_container_costs_nothing),
        CONTAINER_TEST(the_loss_of_the_owner_ends_container_and_guest),
        CONTAINER_TEST(a_created_container_can_be_deleted_by_force),
    };
    if (container_fixture_prepare()) {
        fprintf(stderr, "agent_container: skipped: needs root, mounts and cgroup version 2: %s\n",
                strerror(errno));
        return EXIT_SKIP;
    }
    return cmocka_run_group_tests_name("agent_container", tests, NULL, NULL);
}
