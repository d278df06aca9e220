/* Unit tests of shim/overlay_mount.c: overlay mounts of config.json, made by the host. */
#include "shim/bundle.h"
#include "shim/overlay_mount.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "overlay.XXXXXX";

static void put(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
    close(fd);
}

static int make_layers(void **state)
{
    char path[128];
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    static const char *const names[] = {"low:er", "upper", "rootfs"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        if (mkdir(path, 0755) < 0)
            return -1;
    }
    put("low:er/both", "lower");
    put("low:er/lower", "lower");
    put("upper/both", "upper");
    return 0;
}

static int remove_layers(void **state)
{
    char command[64];
    (void)state;
    snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

static void layers_are_one_tree(void **state)
{
    struct error err;
    char *here = realpath(dir, NULL);
    (void)state;
    cleanup_free char *text = NULL;
    json_t *layers =
        json_pack("[o, s]", json_sprintf("lowerdir=%s/upper:%s/low\\:er", here, here), "index=off");
    cleanup_fd int tree = overlay_mount_open(layers, &err);
    json_decref(layers);
    free(here);
    if (tree < 0 && (err.code == ENODEV || err.code == EPERM))
        skip(); /* a machine without overlayfs, or not as root */
    if (tree < 0)
        fail_msg("%s", err.text);
    assert_int_equal(fd_read_file_at(tree, "both", 64, &text), 5);
    assert_string_equal(text, "upper");
    assert_int_equal(faccessat(tree, "lower", R_OK, 0), 0);
}

static void what_is_wrong_is_named(void **state)
{
    struct error err;
    (void)state;
    json_t *layers = json_pack("[s]", "lowerdir=/nowhere/at/all");
    assert_int_equal(overlay_mount_open(layers, &err), -1);
    json_decref(layers);
    if (err.code != ENODEV && err.code != EPERM)
        assert_non_null(strstr(err.text, "lowerdir=/nowhere/at/all"));
}

/* Its own options go to the filesystem, the others stay: the agent sees a bind mount. */
static void an_overlay_becomes_a_bind(void **state)
{
    struct bundle bundle;
    struct error err;
    (void)state;
    put("config.json",
        "{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"rootfs\"},\"mounts\":[{\"destination\":\"/"
        "m\",\"type\":"
        "\"overlay\",\"source\":\"overlay\",\"options\":[\"lowerdir=/a:/b\",\"ro\",\"volatile\",\"private\","
        "\"upperdir=/u\"]}]}");
    if (bundle_load(&bundle, dir, NULL, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(bundle.mount_count, 1);
    json_t *wanted = json_pack("[s, s, s]", "lowerdir=/a:/b", "volatile", "upperdir=/u");
    assert_true(json_equal(bundle.mounts[0].overlay, wanted));
    json_decref(wanted);
    wanted = json_pack("[{s:s, s:s, s:s, s:[s, s, s]}]", "destination", "/m", "type", "bind", "source",
                       "overlay", "options", "bind", "ro", "private");
    assert_true(json_equal(json_object_get(bundle.spec, "mounts"), wanted));
    json_decref(wanted);
    bundle_fini(&bundle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_are_one_tree),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(an_overlay_becomes_a_bind),
    };
    return cmocka_run_group_tests(tests, make_layers, remove_layers);
}
