/* Unit tests of block devices on their way from config.json to the guest: the shim's half and the agent's. */
#include "agent/disks.h"
#include "common/device_rules.h"
#include "common/fd.h"
#include "shim/host_disks.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

static bool may_write(const char *rules)
{
    json_t *array = json_loads(rules, 0, NULL);
    assert_non_null(array);
    bool may = host_disks_may_write(array, 8, 16);
    json_decref(array);
    return may;
}

static void the_last_rule_that_fits_counts(void **state)
{
    (void)state;
    assert_true(host_disks_may_write(NULL, 8, 16));
    assert_true(may_write("[]"));
    assert_false(may_write("[{\"allow\": false, \"access\": \"rwm\"}]"));
    assert_true(
        may_write("[{\"allow\": false, \"access\": \"rwm\"},"
                  " {\"allow\": true, \"type\": \"b\", \"major\": 8, \"minor\": 16, \"access\": \"rw\"}]"));
    assert_false(
        may_write("[{\"allow\": false, \"access\": \"rwm\"},"
                  " {\"allow\": true, \"type\": \"b\", \"major\": 8, \"minor\": 16, \"access\": \"r\"}]"));
    assert_false(
        may_write("[{\"allow\": false}, {\"allow\": true, \"type\": \"b\", \"major\": 8, \"minor\": 17}]"));
    assert_false(
        may_write("[{\"allow\": false}, {\"allow\": true, \"type\": \"c\", \"major\": 8, \"minor\": 16}]"));
    assert_true(may_write(
        "[{\"allow\": false}, {\"allow\": true, \"type\": \"b\", \"major\": 8, \"access\": \"rwm\"}]"));
    assert_true(
        may_write("[{\"allow\": false}, {\"allow\": true, \"type\": \"a\", \"major\": -1, \"minor\": -1}]"));
    assert_false(may_write("[{\"allow\": true}, {\"allow\": false, \"type\": \"b\", \"access\": \"w\"}]"));
}

static bool privileged(const char *linux_section)
{
    json_t *object = json_loads(linux_section, JSON_DECODE_ANY, NULL);
    assert_non_null(object);
    bool is = device_rules_are_privileged(object);
    json_decref(object);
    return is;
}

static void one_rule_for_all_devices_is_privileged(void **state)
{
    (void)state;
    assert_true(privileged("{\"resources\": {\"devices\": [{\"allow\": true, \"access\": \"rwm\"}]}}"));
    assert_true(privileged("{\"resources\": {\"devices\": [{\"allow\": true, \"type\": \"a\", \"major\": -1,"
                           " \"minor\": null}]}}"));
    assert_false(privileged("{\"resources\": {\"devices\": [{\"allow\": false, \"access\": \"rwm\"}]}}"));
    assert_false(privileged("{\"resources\": {\"devices\": [{\"allow\": true, \"access\": \"rw\"}]}}"));
    assert_false(privileged("{\"resources\": {\"devices\": [{\"allow\": true, \"type\": \"c\"}]}}"));
    assert_false(privileged("{\"resources\": {\"devices\": [{\"allow\": true, \"major\": 10}]}}"));
    assert_false(privileged("{\"resources\": {\"devices\": [{\"allow\": true}, {\"allow\": true}]}}"));
    assert_false(privileged("{\"resources\": {\"devices\": []}}"));
    assert_false(privileged("{\"resources\": {\"devices\": [7]}}"));
    assert_false(privileged("{\"resources\": 7}"));
    assert_false(privileged("[]"));
    assert_false(device_rules_are_privileged(NULL));
}

/* Any block device of this machine would do; one that it has not shows nothing. */
static void a_privileged_container_gets_no_disk(void **state)
{
    static const char *const device =
        "{\"path\": \"/dev/loop0\", \"type\": \"b\", \"major\": 7, \"minor\": 0}";
    (void)state;
    for (int asked = 0; asked < 2; asked++) {
        char text[256];
        struct error err;
        struct host_disks disks = {.count = 0};
        snprintf(text, sizeof(text),
                 "{\"devices\": [%s], \"resources\": {\"devices\": [{\"allow\": true%s}]}}", device,
                 asked ? ", \"type\": \"b\"" : "");
        json_t *linux_section = json_loads(text, 0, NULL);
        assert_non_null(linux_section);
        assert_int_equal(host_disks_add_devices(&disks, linux_section, &err), 0);
        assert_int_equal(disks.count, asked && access("/sys/dev/block/7:0", F_OK) == 0 ? 1 : 0);
        host_disks_fini(&disks);
        json_decref(linux_section);
    }
}

/* A /sys/block with two disks. */
static char sysfs[] = "sysfs.XXXXXX";

static void put(const char *disk, const char *attribute, const char *value)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", sysfs, disk);
    mkdir(path, 0755);
    snprintf(path, sizeof(path), "%s/%s/%s", sysfs, disk, attribute);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, value, strlen(value)), 0);
    close(fd);
}

static int make_sysfs(void **state)
{
    (void)state;
    if (!mkdtemp(sysfs))
        return -1;
    put("vda", "serial", "8:16");
    put("vda", "dev", "254:0\n");
    put("vdb", "serial", "254:0\n");
    put("vdb", "dev", "254:16\n");
    put("loop0", "dev", "7:0\n");
    return 0;
}

static int remove_sysfs(void **state)
{
    char command[64];
    (void)state;
    snprintf(command, sizeof(command), "rm -r %s", sysfs);
    return system(command);
}

static int apply(struct spec *spec, const char *params, struct error *err)
{
    json_t *object = json_loads(params, 0, NULL);
    assert_non_null(object);
    int rc = disks_apply(spec, object, sysfs, err);
    json_decref(object);
    return rc;
}

static void numbers_become_the_guests(void **state)
{
    struct spec_device devices[] = {{.mode = S_IFBLK, .rdev = makedev(8, 16)},
                                    {.mode = S_IFBLK, .rdev = makedev(254, 0)},
                                    {.mode = S_IFCHR, .rdev = makedev(8, 16)},
                                    {.mode = S_IFBLK, .rdev = makedev(7, 3)}};
    struct spec_device_rule rules[] = {{.type = 'b', .major = 8, .minor = 16},
                                       {.type = 'b', .major = 254, .minor = 0},
                                       {.type = 'b', .major = 8, .minor = -1},
                                       {.type = 'c', .major = 8, .minor = 16},
                                       {.type = 'a', .major = -1, .minor = -1}};
    struct spec_mount mounts[] = {{.destination = "/a", .source = "/dev/host"},
                                  {.destination = "/b",
                                   .source = "/dev/host",
                                   .attributes.set = MOUNT_ATTR_RDONLY,
                                   .data = calloc(1, sizeof(char *))}};
    struct spec spec = {.devices = devices,
                        .device_count = 4,
                        .mounts = mounts,
                        .mount_count = 2,
                        .resources = {.device_rules = rules, .device_rule_count = 5}};
    struct error err;
    (void)state;
    /* One disk's number on the host is the other's in the guest. */
    if (apply(&spec,
              "{\"disks\": [{\"serial\": \"8:16\", \"major\": 8, \"minor\": 16, \"mounts\": [1]},"
              " {\"serial\": \"254:0\", \"major\": 254, \"minor\": 0}]}",
              &err) < 0)
        fail_msg("%s", err.text);
    assert_true(devices[0].rdev == makedev(254, 0));
    assert_true(devices[1].rdev == makedev(254, 16));
    assert_true(devices[2].rdev == makedev(8, 16));
    assert_true(devices[3].rdev == makedev(7, 3));
    assert_true(rules[0].major == 254 && rules[0].minor == 0);
    assert_true(rules[1].major == 254 && rules[1].minor == 16);
    assert_true(rules[2].major == 8 && rules[2].minor == -1);
    assert_true(rules[3].major == 8 && rules[3].minor == 16);
    assert_string_equal(mounts[0].source, "/dev/host");
    assert_string_equal(mounts[1].source, "/dev/vda");
    assert_string_equal(mounts[1].disk, "/dev/vda");
    assert_string_equal(mounts[1].data[0], "ro");
    assert_null(mounts[1].data[1]);
    free(mounts[1].data);
}

static void nonsense_is_named(void **state)
{
    static const struct {
        const char *params, *why;
    } bad[] = {
        {"{\"disks\": [{\"serial\": \"1:1\", \"major\": 1, \"minor\": 1}]}", "disk '1:1'"},
        {"{\"disks\": [{\"serial\": \"1:1\", \"major\": 1, \"minor\": 1, \"device\": \"../x\"}]}",
         "disks[0].device"},
        {"{\"disks\": [{\"serial\": \"1:1\", \"major\": 1, \"minor\": 1, \"device\": \"no-such.0\"}]}",
         "bind no-such.0"},
        {"{\"disks\": [{\"major\": 1, \"minor\": 1}]}", "disks[0].serial"},
        {"{\"disks\": [{\"serial\": \"8:16\", \"minor\": 1}]}", "disks[0].major"},
        {"{\"disks\": [{\"serial\": \"\", \"major\": 1, \"minor\": 1}]}", "disks[0].serial"},
        {"{\"disks\": [7]}", "disks[0]"},
        {"{\"disks\": [{\"serial\": \"8:16\", \"major\": 8, \"minor\": 16, \"mounts\": [0]}]}", "mounts[0]"},
        {"{\"disks\": [{\"serial\": \"8:16\", \"major\": 8, \"minor\": 16, \"mounts\": [-1]}]}", "mounts[0]"},
    };
    struct spec spec = {.mount_count = 0};
    struct error err;
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(apply(&spec, bad[i].params, &err), -1);
        if (!strstr(err.text, bad[i].why))
            fail_msg("'%s' does not say '%s'", err.text, bad[i].why);
    }
    assert_int_equal(apply(&spec, "{}", &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_rule_that_fits_counts),
        cmocka_unit_test(one_rule_for_all_devices_is_privileged),
        cmocka_unit_test(a_privileged_container_gets_no_disk),
        cmocka_unit_test(numbers_become_the_guests),
        cmocka_unit_test(nonsense_is_named),
    };
    return cmocka_run_group_tests(tests, make_sysfs, remove_sysfs);
}
