/* Containers on this machine's own kernel, for tests: see container_fixture.h. */
#include "container_fixture.h"

#include "agent/cgroup.h"
#include "agent/rootfs.h"
#include "common/fd.h"
#include "protocol/protocol.h"

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

/* What `runc spec` writes, in short. */
static const char config_base[] =
    "{\"root\":{\"path\":\"rootfs\",\"readonly\":true},\"hostname\":\"boxed\",\"process\":{\"args\":["
    "\"true\"],"
    "\"cwd\":\"/\",\"user\":{\"uid\":0,\"gid\":0},\"env\":[\"PATH=/usr/bin:/bin\"],\"capabilities\":"
    "{\"bounding\":[\"CAP_KILL\"],\"effective\":[\"CAP_KILL\"],\"permitted\":[\"CAP_KILL\"]},"
    "\"noNewPrivileges\":true},\"mounts\":["
    "{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\",\"options\":[\"nosuid\",\"noexec\"]},"
    "{\"destination\":\"/"
    "dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\",\"options\":[\"nosuid\",\"mode=755\"]},"
    "{\"destination\":\"/dev/"
    "pts\",\"type\":\"devpts\",\"source\":\"devpts\",\"options\":[\"ptmxmode=0666\"]},"
    "{\"destination\":\"/tmp\",\"type\":\"tmpfs\",\"source\":\"t\",\"options\":[\"size=1m\"]}],"
    "\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"pid\"},{\"type\":\"ipc\"},{\"type\":\"uts\"}"
    "],"
    "\"maskedPaths\":[\"/proc/keys\",\"/proc/acpi\",\"/nowhere\"],\"readonlyPaths\":[\"/proc/sys\"]}}";

json_t *config_for_shell(const char *script)
{
    json_t *config = json_loads(config_base, 0, NULL);
    json_t *args = json_pack("[s, s, s]", "sh", "-c", script);
    json_object_set_new(json_object_get(config, "process"), "args", args);
    return config;
}

json_t *create_params(const char *id, json_t *config)
{
    json_t *create = json_pack("{s:s, s:O, s:s}", "container", id, "spec", config, "root", "rootfs");
    if (json_array_size(json_object_get(config, "mounts")) > 4)
        json_object_set_new(create, "mounts", json_pack("{s:s}", "4", "volume"));
    json_decref(config);
    return create;
}

json_t *params(const char *id)
{
    return json_pack("{s:s}", "container", id);
}

void take_status(json_t *result, struct outcome *outcome)
{
    json_t *status = json_object_get(result, "status");
    outcome->status = status ? (int)json_integer_value(status) : -1;
    outcome->signal = (int)json_integer_value(json_object_get(result, "signal"));
    json_decref(result);
}

void run_config(struct agent_fixture *fixture, json_t *config, const char *input, struct outcome *outcome)
{
    json_decref(agent_call(fixture, "container.create", create_params("c", config)));
    int in = agent_open_stream(fixture, "c", "init", "stdin");
    cleanup_fd int out = agent_open_stream(fixture, "c", "init", "stdout");
    cleanup_fd int err = agent_open_stream(fixture, "c", "init", "stderr");
    json_decref(agent_call(fixture, "container.start", params("c")));
    assert_int_equal(send(in, input, strlen(input), 0), (int)strlen(input));
    close(in);
    agent_read_all(fixture, out, outcome->out, OUTPUT_MAX);
    agent_read_all(fixture, err, outcome->err, OUTPUT_MAX);
    take_status(agent_call(fixture, "process.wait", params("c")), outcome);
    json_decref(agent_call(fixture, "container.delete", params("c")));
}

void run_shell(struct agent_fixture *fixture, const char *script, const char *input, struct outcome *outcome)
{
    run_config(fixture, config_for_shell(script), input, outcome);
}

static int write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    if (!file)
        return -1;
    fputs(text, file);
    return fclose(file);
}

int container_fixture_prepare(void)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -1;
    if (mount("tmpfs", "/run", "tmpfs", 0, NULL) < 0 || mkdir("/run/husk", 0755) < 0 ||
        mkdir(SHARED_DIR, 0755) < 0 || mkdir(ROOTFS_ATTACH_DIR, 0755) < 0 ||
        mkdir(SHARED_DIR "/rootfs", 0755) < 0 || mkdir(SHARED_DIR "/volume", 0755) < 0 ||
        write_file(SHARED_DIR "/volume/note", "noted\n") < 0 ||
        mount("/", SHARED_DIR "/rootfs", NULL, MS_BIND, NULL) < 0)
        return -1;
    umount2(CGROUP_ROOT, MNT_DETACH);
    return mount("cgroup2", CGROUP_ROOT, "cgroup2", 0, NULL);
}
