/*
 * Tests of hooks that run in the guest, and of namespaces that containers share: agent/hooks.c,
 * agent/joins.c. Skipped (77) where containers can't be had on this machine (container_fixture.h).
 */
#include "container_fixture.h"

#include "agent/rootfs.h"
#include "common/fd.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Too large for some stacks. */
static struct outcome outcome;

static json_t *hook_shell(const char *script)
{
    return json_pack("{s:s, s:[s, s, s], s:[s], s:i}", "path", "/bin/sh", "args", "sh", "-c", script, "env",
                     "PATH=/usr/bin:/bin", "timeout", 20);
}

static void hooks_run_in_the_containers_namespaces(void **state)
{
    json_t *config = config_for_shell("cat /tmp/created /tmp/started; echo; echo program");
    json_object_set_new(config, "annotations", json_pack("{s:s}", "a", "b"));
    json_object_set_new(
        config, "hooks",
        json_pack("{s:[o], s:[o, o]}", "createContainer",
                  hook_shell("hostname > " ROOTFS_ATTACH_DIR
                             "/tmp/created; grep -o '\"status\":\"[a-z]*\"' >> " ROOTFS_ATTACH_DIR
                             "/tmp/created"),
                  "startContainer", hook_shell("cat > /tmp/started"), hook_shell("echo hook 2 >&2")));
    json_t *create = create_params("c", config);
    json_object_set_new(create, "hooks", json_pack("{s:s}", "0", "rootfs/usr/bin/dash"));
    json_object_set_new(create, "bundle", json_string("/the/bundle"));
    struct agent_fixture *fixture = *state;
    json_decref(agent_call(fixture, "container.create", create));
    cleanup_fd int out = agent_open_stream(fixture, "c", "init", "stdout");
    json_decref(agent_call(fixture, "container.start", params("c")));
    agent_read_all(fixture, out, outcome.out, OUTPUT_MAX);
    assert_string_equal(outcome.out,
                        "boxed\n\"status\":\"creating\"\n"
                        "{\"id\":\"c\",\"status\":\"created\",\"pid\":1,\"bundle\":\"/the/bundle\","
                        "\"annotations\":{\"a\":\"b\"}}\nprogram\n");
    json_decref(agent_call(fixture, "process.wait", params("c")));
    json_decref(agent_call(fixture, "container.delete", params("c")));
}

static void a_failing_hook_is_an_error_of_its_request(void **state)
{
    struct agent_fixture *fixture = *state;
    char text[1024];
    json_t *config = config_for_shell("true");
    json_object_set_new(config, "hooks",
                        json_pack("{s:[o]}", "createContainer", hook_shell("echo no; exit 3")));
    json_t *create = create_params("c", config);
    json_object_set_new(create, "hooks", json_pack("{s:s}", "0", "rootfs/usr/bin/dash"));
    agent_call_error(fixture, "container.create", create, text, sizeof(text));
    assert_string_equal(text, "hooks.createContainer[0]: /bin/sh: exit status 3: no");
    assert_true(LIST_EMPTY(&fixture->sandbox.containers));

    config = config_for_shell("true");
    json_object_set_new(config, "hooks", json_pack("{s:[o]}", "startContainer", hook_shell("exit 4")));
    json_decref(agent_call(fixture, "container.create", create_params("c", config)));
    agent_call_error(fixture, "container.start", params("c"), text, sizeof(text));
    assert_string_equal(text, "hooks.startContainer[0]: /bin/sh: exit status 4");
    take_status(agent_call(fixture, "process.wait", params("c")), &outcome); /* it is stopped */
    json_decref(agent_call(fixture, "container.delete", params("c")));
}

static void namespaces_of_another_container_are_joined(void **state)
{
    struct agent_fixture *fixture = *state;
    json_t *config = config_for_shell("exec sleep 1000");
    json_decref(agent_call(fixture, "container.create", create_params("first", config)));
    json_decref(agent_call(fixture, "container.start", params("first")));
    config = config_for_shell("hostname; cat /proc/1/comm; echo $$ | grep -c '^1$'");
    json_object_del(config, "hostname");
    json_t *list = json_loads("[{\"type\":\"mount\"},{\"type\":\"pid\",\"path\":\"/proc/9/ns/pid\"},"
                              "{\"type\":\"uts\",\"path\":\"/proc/9/ns/uts\"},{\"type\":\"ipc\"}]",
                              0, NULL);
    json_object_set_new(json_object_get(config, "linux"), "namespaces", list);
    json_incref(config);
    char text[1024];
    agent_call_error(fixture, "container.create", create_params("c", config), text, sizeof(text));
    assert_non_null(strstr(text, "linux.namespaces[1].path: the pid namespace is of another kernel"));
    json_t *create = create_params("c", config);
    json_object_set_new(create, "namespaces", json_pack("{s:s, s:s}", "1", "first", "2", "first"));
    json_decref(agent_call(fixture, "container.create", create));
    cleanup_fd int out = agent_open_stream(fixture, "c", "init", "stdout");
    json_decref(agent_call(fixture, "container.start", params("c")));
    agent_read_all(fixture, out, outcome.out, OUTPUT_MAX);
    assert_string_equal(outcome.out, "boxed\nsleep\n0\n");
    json_decref(agent_call(fixture, "process.wait", params("c")));
    json_decref(agent_call(fixture, "container.delete", params("c")));
    json_decref(
        agent_call(fixture, "container.delete", json_pack("{s:s, s:b}", "container", "first", "force", 1)));
}

int main(void)
{
#define CONTAINER_TEST(name) cmocka_unit_test_setup_teardown(name, agent_fixture_open, agent_fixture_close)
    const struct CMUnitTest tests[] = {
        CONTAINER_TEST(hooks_run_in_the_containers_namespaces),
        CONTAINER_TEST(a_failing_hook_is_an_error_of_its_request),
        CONTAINER_TEST(namespaces_of_another_container_are_joined),
    };
    if (container_fixture_prepare()) {
        fprintf(stderr, "agent_hooks: skipped: needs root, mounts and cgroup version 2: %s\n",
                strerror(errno));
        return EXIT_SKIP;
    }
    return cmocka_run_group_tests_name("agent_hooks", tests, NULL, NULL);
}
