/*
 * Tests of what the agent does with containers that live, on this machine's own kernel: freezer.c,
 * processes.c, cgroup_update.c, stats.c, oom.c. Needs root, mounts and cgroup version 2 (skipped otherwise,
 * 77); what needs a controller is left out where the hierarchy lacks it.
 */
#include "agent_fixture.h"

#include "agent/cgroup.h"
#include "agent/cgroup_update.h"
#include "agent/rootfs.h"
#include "common/fd.h"
#include "common/json.h"
#include "protocol/frame.h"
#include "protocol/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define EXIT_SKIP 77

static const char config_base[] = JSON_TEXT({
    "root" : {"path" : "rootfs", "readonly" : true},
    "process" : {
        "args" : [ "sh", "-c", "" ],
        "cwd" : "/",
        "user" : {"uid" : 0, "gid" : 0},
        "env" : ["PATH=/usr/bin:/bin"]
    },
    "mounts" : [ {"destination" : "/proc", "type" : "proc", "source" : "proc"} ],
    "linux" : {"namespaces" : [ {"type" : "mount"}, {"type" : "pid"} ]}
});

static json_t *params(const char *id)
{
    return json_pack("{s:s}", "container", id);
}

/* Creates "c" with a shell that runs the script, and starts it. The host's end of its standard input. */
static int start_container(struct agent_fixture *fixture, const char *script)
{
    json_t *config = json_loads(config_base, 0, NULL);
    assert_non_null(config);
    json_t *args = json_object_get(json_object_get(config, "process"), "args");
    json_array_set_new(args, 2, json_string(script));
    json_decref(agent_call(fixture, "container.create",
                           json_pack("{s:s, s:o, s:s}", "container", "c", "spec", config, "root", "rootfs")));
    int in = agent_open_stream(fixture, "c", "init", "stdin");
    json_decref(agent_call(fixture, "container.start", params("c")));
    return in;
}

static void delete_container(struct agent_fixture *fixture)
{
    json_decref(
        agent_call(fixture, "container.delete", json_pack("{s:s, s:b}", "container", "c", "force", 1)));
}

static bool frozen(void)
{
    cleanup_free char *events = NULL;
    return fd_read_file_at(AT_FDCWD, CGROUP_ROOT "/container-c/cgroup.events", 4096, &events) > 0 &&
           strstr(events, "frozen 1");
}

static void pause_stops_and_resume_goes_on(void **state)
{
    struct agent_fixture *fixture = *state;
    cleanup_fd int in = start_container(fixture, "read x; exit 3");
    assert_false(frozen());
    json_decref(agent_call(fixture, "container.pause", params("c")));
    assert_true(frozen());
    json_decref(agent_call(fixture, "container.pause", params("c"))); /* once more: it stands already */
    json_decref(agent_call(fixture, "container.resume", params("c")));
    assert_false(frozen());
    json_decref(agent_call(fixture, "container.resume", params("c")));
    assert_int_equal(send(in, "\n", 1, 0), 1);
    json_t *end = agent_call(fixture, "process.wait", params("c"));
    assert_int_equal(json_integer_value(json_object_get(end, "status")), 3);
    json_decref(end);
    assert_int_equal(agent_call_error(fixture, "container.pause", params("c"), NULL, 0), ESRCH);
    delete_container(fixture);
}

static void a_paused_container_can_be_killed_and_deleted(void **state)
{
    struct agent_fixture *fixture = *state;
    cleanup_fd int in = start_container(fixture, "sleep 1000");
    json_decref(agent_call(fixture, "container.pause", params("c")));
    delete_container(fixture);
    assert_true(LIST_EMPTY(&fixture->sandbox.containers));
}

static void processes_are_listed_with_what_ps_shows(void **state)
{
    struct agent_fixture *fixture = *state;
    cleanup_fd int in = start_container(fixture, "sleep 1001 & echo; exec sleep 1000 2");
    json_t *list = NULL;
    for (int turn = 0; turn < 500; turn++) {
        cleanup_json json_t *result = agent_call(fixture, "container.processes",
                                                 json_pack("{s:s, s:b}", "container", "c", "details", 1));
        json_decref(list);
        list = json_incref(json_object_get(result, "processes"));
        /* The exec may come between the reads of the one and of the other, and the kernel adds up what each
         * CPU has counted of resident pages only now and then. */
        const char *args = json_string_value(json_object_get(json_array_get(list, 0), "args"));
        const char *comm = json_string_value(json_object_get(json_array_get(list, 0), "comm"));
        if (json_array_size(list) == 2 && args && strcmp(args, "sleep 1000 2") == 0 && comm &&
            strcmp(comm, "sleep") == 0 &&
            json_integer_value(json_object_get(json_array_get(list, 0), "resident_kib")) > 0)
            break;
        usleep(10000);
    }
    json_t *init = json_array_get(list, 0), *child = json_array_get(list, 1);
    assert_string_equal(json_string_value(json_object_get(init, "args")), "sleep 1000 2");
    assert_string_equal(json_string_value(json_object_get(init, "comm")), "sleep");
    assert_int_equal(json_integer_value(json_object_get(init, "own_pid")), 1);
    assert_int_equal(json_integer_value(json_object_get(child, "own_pid")), 2);
    assert_int_equal(json_integer_value(json_object_get(child, "ppid")),
                     json_integer_value(json_object_get(init, "pid")));
    assert_int_equal(json_integer_value(json_object_get(init, "uid")), 0);
    assert_int_equal(json_integer_value(json_object_get(init, "threads")), 1);
    assert_true(json_integer_value(json_object_get(init, "resident_kib")) > 0);
    cleanup_json json_t *brief = agent_call(fixture, "container.processes", params("c"));
    json_t *pids = json_object_get(brief, "pids");
    assert_int_equal(json_array_size(pids), 2);
    assert_true(json_equal(json_array_get(pids, 0), json_object_get(init, "pid")));
    json_decref(list);
    delete_container(fixture);
}

static void figures_come_from_the_cgroup(void **state)
{
    struct agent_fixture *fixture = *state;
    cleanup_fd int in = start_container(fixture, "read x");
    cleanup_json json_t *stats = agent_call(fixture, "container.stats", params("c"));
    json_t *cpu = json_object_get(stats, "cpu");
    assert_true(json_integer_value(json_object_get(cpu, "usage_usec")) > 0);
    assert_true(json_is_object(json_object_get(stats, "memory")));
    assert_true(json_is_object(json_object_get(stats, "pids")));
    delete_container(fixture);
}

/* cgroup.max.descendants and cgroup.max.depth are there without any controller. */
static void an_update_is_all_or_nothing(void **state)
{
    (void)state;
    char values[4][8] = {"7", "3", "9", "x"};
    struct cgroup cgroup;
    struct error err;
    struct spec_resources resources = {0};
    assert_int_equal(cgroup_init(&cgroup, "update", &err), 0);
    struct spec_cgroup_value *value = resources.values;
    value[0] = (struct spec_cgroup_value){
        .file = "cgroup.max.descendants", .value = values[0], .origin = "resources.one"};
    value[1] =
        (struct spec_cgroup_value){.file = "cgroup.max.depth", .value = values[1], .origin = "resources.two"};
    resources.value_count = 2;
    assert_int_equal(cgroup_update(&cgroup, &resources, &err), 0);

    value[0].value = values[2];
    value[1].value = values[3];
    assert_int_equal(cgroup_update(&cgroup, &resources, &err), -1);
    assert_non_null(strstr(err.text, "resources.two"));
    cleanup_free char *descendants = NULL, *depth = NULL;
    assert_true(fd_read_file_at(cgroup.fd, "cgroup.max.descendants", 64, &descendants) > 0);
    assert_string_equal(descendants, "7\n");
    assert_true(fd_read_file_at(cgroup.fd, "cgroup.max.depth", 64, &depth) > 0);
    assert_string_equal(depth, "3\n");
    value[1].file = "no.such.file";
    assert_int_equal(cgroup_update(&cgroup, &resources, &err), -1);
    assert_int_equal(cgroup_remove(&cgroup), 0);
    cgroup_fini(&cgroup);
}

static void a_wrong_update_is_named(void **state)
{
    struct agent_fixture *fixture = *state;
    char text[256];
    cleanup_fd int in = start_container(fixture, "read x");
    assert_int_equal(agent_call_error(fixture, "container.update", params("c"), text, sizeof(text)), EINVAL);
    assert_non_null(strstr(text, "resources"));
    assert_int_equal(agent_call_error(fixture, "container.update",
                                      json_pack("{s:s, s:{s:{s:s}}}", "container", "c", "resources", "pids",
                                                "limit", "many"),
                                      text, sizeof(text)),
                     EINVAL);
    assert_non_null(strstr(text, "resources.pids.limit"));
    delete_container(fixture);
}

/* Who waits for events hears of the end, and one whose connection has gone is forgotten. */
static void events_end_with_the_container(void **state)
{
    struct agent_fixture *fixture = *state;
    char *controllers = NULL;
    bool has_memory = fd_read_file_at(AT_FDCWD, CGROUP_ROOT "/cgroup.controllers", 4096, &controllers) > 0 &&
                      strstr(controllers, "memory");
    free(controllers); /* skip() does not return */
    if (!has_memory)
        skip(); /* tests/e2e/verbs-figures.sh has one */
    assert_int_equal(cgroup_enable_controllers(NULL), 0);
    cleanup_fd int in = start_container(fixture, "read x");
    cleanup_fd int other = agent_connect(fixture);
    json_decref(
        agent_exchange(fixture, other, json_pack("{s:i, s:s}", "husk", PROTOCOL_VERSION, "open", "control")));
    int gone = agent_connect(fixture);
    json_decref(
        agent_exchange(fixture, gone, json_pack("{s:i, s:s}", "husk", PROTOCOL_VERSION, "open", "control")));
    cleanup_json json_t *request =
        json_pack("{s:i, s:s, s:{s:s}}", "id", 9, "method", "container.events", "params", "container", "c");
    assert_int_equal(frame_send(gone, request, NULL), 0);
    assert_int_equal(frame_send(other, request, NULL), 0);
    json_decref(agent_call(fixture, "agent.info", json_object()));
    close(gone);
    assert_int_equal(send(in, "\n", 1, 0), 1);
    cleanup_json json_t *answer = agent_next_frame(fixture, other);
    assert_int_equal(json_integer_value(json_object_get(answer, "id")), 9);
    assert_non_null(json_object_get(answer, "result"));
    delete_container(fixture);
}

/* 0, or -1 when this machine can't hold the test. */
static int prepare_machine(void)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -1;
    if (mount("tmpfs", "/run", "tmpfs", 0, NULL) < 0 || mkdir("/run/husk", 0755) < 0 ||
        mkdir(SHARED_DIR, 0755) < 0 || mkdir(ROOTFS_ATTACH_DIR, 0755) < 0 ||
        mkdir(SHARED_DIR "/rootfs", 0755) < 0 || mount("/", SHARED_DIR "/rootfs", NULL, MS_BIND, NULL) < 0)
        return -1;
    umount2(CGROUP_ROOT, MNT_DETACH);
    return mount("cgroup2", CGROUP_ROOT, "cgroup2", 0, NULL);
}

int main(void)
{
#define VERB_TEST(name) cmocka_unit_test_setup_teardown(name, agent_fixture_open, agent_fixture_close)
    const struct CMUnitTest tests[] = {
        VERB_TEST(pause_stops_and_resume_goes_on),
        VERB_TEST(a_paused_container_can_be_killed_and_deleted),
        VERB_TEST(processes_are_listed_with_what_ps_shows),
        VERB_TEST(figures_come_from_the_cgroup),
        VERB_TEST(an_update_is_all_or_nothing),
        VERB_TEST(a_wrong_update_is_named),
        VERB_TEST(events_end_with_the_container),
    };
    if (prepare_machine()) {
        fprintf(stderr, "agent_verbs: skipped: needs root, mounts and cgroup version 2: %s\n",
                strerror(errno));
        return EXIT_SKIP;
    }
    return cmocka_run_group_tests_name("agent_verbs", tests, NULL, NULL);
}
