/* Overlay mounts: see overlay_mount.h. Documentation/filesystems/overlayfs.rst. */
#include "shim/overlay_mount.h"

#include "common/fd.h"
#include "common/json.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mount.h>

/* The options that are overlay's own: what all mounts have is the agent's. */
static const char *const overlay_options[] = {"lowerdir", "upperdir",  "workdir",    "redirect_dir",
                                              "index",    "uuid",      "nfs_export", "xino",
                                              "metacopy", "userxattr", "volatile"};

static bool is_overlay_option(const char *option)
{
    size_t length = strcspn(option, "=");
    for (size_t i = 0; i < sizeof(overlay_options) / sizeof(overlay_options[0]); i++) {
        if (strlen(overlay_options[i]) == length && strncmp(overlay_options[i], option, length) == 0)
            return true;
    }
    return false;
}

int overlay_mount_split(json_t *mount, const char *where, json_t **layers, struct error *err)
{
    cleanup_free const char **options = NULL;
    cleanup_json json_t *own = json_array(), *rest = json_pack("[s]", "bind");
    if (json_get_strings(mount, where, "options", &options, err) < 0)
        return -1;
    int failed = !own || !rest;
    for (const char **option = options; option && *option && !failed; option++)
        failed = json_array_append_new(is_overlay_option(*option) ? own : rest, json_string(*option));
    if (failed || json_object_set(mount, "options", rest) < 0 ||
        json_object_set_new(mount, "type", json_string("bind")) < 0)
        return error_set(err, ENOMEM, "%s", where);
    *layers = json_incref(own);
    return 0;
}

/* One option a layer, since the kernel takes 255 bytes of each; before 6.5 there is no such option, and they
 * have to fit together. A colon in a name is written as "\:". */
static int add_lower_layers(int context, const char *list)
{
    char layer[256];
    size_t length = 0;
    bool first = true;
    for (const char *at = list;; at++) {
        if (*at == '\\' && at[1] == ':') {
            at++;
        } else if (*at == ':' || *at == '\0') {
            layer[length] = '\0';
            int failed = fsconfig(context, FSCONFIG_SET_STRING, "lowerdir+", layer, 0) < 0 ? -errno : 0;
            if (failed == -EINVAL && first)
                return fsconfig(context, FSCONFIG_SET_STRING, "lowerdir", list, 0) < 0 ? -errno : 0;
            if (failed || *at == '\0')
                return failed;
            first = false;
            length = 0;
            continue;
        }
        if (length >= sizeof(layer) - 1)
            return -ENAMETOOLONG;
        layer[length++] = *at;
    }
}

static int add_option(int context, const char *option)
{
    char key[32];
    size_t length = strcspn(option, "=");
    const char *value = option[length] == '=' ? option + length + 1 : NULL;
    if (length >= sizeof(key))
        return -EINVAL;
    memcpy(key, option, length);
    key[length] = '\0';
    if (value && strcmp(key, "lowerdir") == 0)
        return add_lower_layers(context, value);
    return fsconfig(context, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value, 0) < 0 ? -errno : 0;
}

int overlay_mount_open(const json_t *layers, struct error *err)
{
    size_t i;
    json_t *option;
    cleanup_fd int context = fsopen("overlay", FSOPEN_CLOEXEC);
    if (context < 0)
        return error_set(err, errno, "overlay");
    json_array_foreach(layers, i, option)
    {
        int failed = add_option(context, json_string_value(option));
        if (failed)
            return error_set(err, -failed, "overlay: '%s'", json_string_value(option));
    }
    if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return error_set(err, errno, "overlay");
    int fd = fsmount(context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV);
    return fd < 0 ? error_set(err, errno, "overlay") : fd;
}
