/*
 * Loading a bundle: see bundle.h. config.json is foreign input: the caller's engine wrote it, from an image
 * that anyone may have made. Nothing in it is used before its type was checked.
 */
#include "shim/bundle.h"

#include "common/fd.h"
#include "common/json.h"
#include "shim/overlay_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SPEC_BYTES_MAX (4u << 20) /* what a frame to the agent holds with room to spare */
#define KEEP_GROUPS    "run.oci.keep_original_groups"

json_t *bundle_read_config(const char *bundle, const char *config, struct error *err)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s%s", config ? config : bundle, config ? "" : "/config.json");
    cleanup_free char *text = NULL;
    ssize_t length = fd_read_file_at(AT_FDCWD, path, SPEC_BYTES_MAX, &text);
    if (length < 0) {
        error_set(err, (int)-length, "%s", path);
        return NULL;
    }
    json_t *spec = json_parse_object(text, (size_t)length, err);
    if (!spec)
        error_wrap(err, "%s", path);
    return spec;
}

/* Every 1.x is understood: the specification only adds within a major version. */
static int bundle_check_version(struct bundle *bundle, struct error *err)
{
    if (json_require(json_get_string(bundle->spec, "", "ociVersion", &bundle->oci_version, err), "",
                     "ociVersion", err) < 0)
        return -1;
    if (strncmp(bundle->oci_version, "1.", 2) != 0)
        return error_set(err, 0, "ociVersion: \"%s\" is not supported, 1.x is", bundle->oci_version);
    return 0;
}

/* A path of config.json, made absolute: relative ones start at the bundle. */
static char *bundle_resolve(const struct bundle *bundle, const char *path)
{
    char *absolute = NULL;
    if (path[0] == '/')
        return strdup(path);
    return asprintf(&absolute, "%s/%s", bundle->path, path) < 0 ? NULL : absolute;
}

static int bundle_read_root(struct bundle *bundle, struct error *err)
{
    json_t *root = NULL;
    const char *path = NULL;
    if (json_require(json_get_object(bundle->spec, "", "root", &root, err), "", "root", err) < 0 ||
        json_require(json_get_string(root, "root", "path", &path, err), "root", "path", err) < 0)
        return -1;
    bundle->rootfs = bundle_resolve(bundle, path);
    if (!bundle->rootfs)
        return error_set(err, ENOMEM, "root.path");
    struct stat status;
    if (stat(bundle->rootfs, &status) < 0)
        return error_set(err, errno, "root.path: %s", bundle->rootfs);
    if (!S_ISDIR(status.st_mode))
        return error_set(err, ENOTDIR, "root.path: %s", bundle->rootfs);
    return 0;
}

static int bundle_read_process(struct bundle *bundle, struct error *err)
{
    json_t *process = NULL;
    json_t *size = NULL;
    int64_t oom_score_adj = 0, rows = 0, columns = 0;
    int got = json_get_object(bundle->spec, "", "process", &process, err);
    if (got <= 0)
        return got;
    bundle->has_process = true;
    if (json_get_bool(process, "process", "terminal", &bundle->terminal, err) < 0)
        return -1;
    if (json_get_object(process, "process", "consoleSize", &size, err) < 0 ||
        json_get_int(size, "process.consoleSize", "height", 0, UINT16_MAX, &rows, err) < 0 ||
        json_get_int(size, "process.consoleSize", "width", 0, UINT16_MAX, &columns, err) < 0)
        return -1;
    bundle->rows = (unsigned short)rows;
    bundle->columns = (unsigned short)columns;
    got = json_get_int(process, "process", "oomScoreAdj", -1000, 1000, &oom_score_adj, err);
    bundle->has_oom_score_adj = got > 0;
    bundle->oom_score_adj = (int)oom_score_adj;
    return got < 0 ? -1 : 0;
}

static int bundle_check_annotations(struct bundle *bundle, struct error *err)
{
    const char *key;
    json_t *value;
    if (json_get_object(bundle->spec, "", "annotations", &bundle->annotations, err) < 0)
        return -1;
    json_object_foreach(bundle->annotations, key, value)
    {
        if (!json_is_string(value))
            return error_set(err, 0, "annotations.%s: expected a string", key);
    }
    return json_get_object(bundle->spec, "", "hooks", &bundle->hooks, err) < 0 ? -1 : 0;
}

/* crun's annotation, which podman gives for --group-add keep-groups: the process has the supplementary groups
 * of who creates it, and none of config.json's. Files of the host are judged by them in the guest as on the
 * host. */
static int bundle_keep_groups(struct bundle *bundle, struct error *err)
{
    const char *keep = NULL;
    json_t *process = NULL, *user = NULL;
    if (json_get_string(bundle->annotations, "annotations", KEEP_GROUPS, &keep, err) < 0 ||
        json_get_object(bundle->spec, "", "process", &process, err) < 0 ||
        json_get_object(process, "process", "user", &user, err) < 0)
        return -1;
    if (!keep || strcmp(keep, "0") == 0 || !user)
        return 0;
    int count = getgroups(0, NULL);
    cleanup_free gid_t *groups = count < 0 ? NULL : calloc((size_t)count + 1, sizeof(*groups));
    if (!groups || (count = getgroups(count, groups)) < 0)
        return error_set(err, errno, "annotations." KEEP_GROUPS);
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, json_integer(groups[i]));
    return json_object_set_new(user, "additionalGids", list) < 0
               ? error_set(err, ENOMEM, "annotations." KEEP_GROUPS)
               : 0;
}

static int bundle_read_resources(struct bundle *bundle, struct error *err)
{
    json_t *linux_section = NULL;
    if (json_get_object(bundle->spec, "", "linux", &linux_section, err) < 0)
        return -1;
    if (json_get_object(linux_section, "linux", "resources", &bundle->resources, err) < 0 ||
        json_get_string(linux_section, "linux", "cgroupsPath", &bundle->cgroups_path, err) < 0)
        return -1;
    return host_disks_add_devices(&bundle->disks, linux_section, err);
}

/* Whether a mount takes a tree of the host: a bind by its type, as runc reads it, or by its options. */
static int bundle_mount_is_bind(const json_t *mount, const char *where, bool *bind,
                                struct bundle_mount *entry, struct error *err)
{
    const char *type = NULL;
    cleanup_free const char **options = NULL;
    if (json_get_string(mount, where, "type", &type, err) < 0 ||
        json_get_strings(mount, where, "options", &options, err) < 0)
        return -1;
    *bind = type && (strcmp(type, "bind") == 0 || strcmp(type, "rbind") == 0);
    entry->recursive = type && strcmp(type, "rbind") == 0;
    entry->idmap = json_array_size(json_object_get(mount, "uidMappings")) > 0;
    for (const char **option = options; option && *option; option++) {
        bool rbind = strcmp(*option, "rbind") == 0;
        *bind |= rbind || strcmp(*option, "bind") == 0;
        entry->recursive |= rbind;
        entry->idmap |= strcmp(*option, "idmap") == 0 || strcmp(*option, "ridmap") == 0;
    }
    return 0;
}

/* Whether a mount's source is a block device of the host: then it is taken here, for a bind of the device
 * file as for a filesystem on it. 1 or 0, or -1 with err. */
static int bundle_take_disk(struct bundle *bundle, size_t index, const json_t *mount, const char *where,
                            const char *source, struct error *err)
{
    struct stat status;
    cleanup_free const char **options = NULL;
    if (stat(source, &status) < 0 || !S_ISBLK(status.st_mode))
        return 0;
    bool writable = true;
    if (json_get_strings(mount, where, "options", &options, err) < 0)
        return -1;
    for (const char **option = options; option && *option; option++) {
        if (strcmp(*option, "ro") == 0 || strcmp(*option, "rw") == 0)
            writable = (*option)[1] == 'w';
    }
    return host_disks_add_mount(&bundle->disks, index, source, writable, err) < 0 ? -1 : 1;
}

/* An overlay of directories of the host: to be made here. */
static int bundle_read_overlay(struct bundle *bundle, const struct bundle_mount *read, json_t *mount,
                               const char *where, struct error *err)
{
    struct bundle_mount *entry = &bundle->mounts[bundle->mount_count];
    *entry = *read;
    if (overlay_mount_split(mount, where, &entry->overlay, err) < 0)
        return -1;
    bundle->mount_count++;
    entry->source = strdup("overlay");
    return entry->source ? 0 : error_set(err, ENOMEM, "%s", where);
}

static int bundle_read_mount(struct bundle *bundle, size_t index, json_t *mount, struct error *err)
{
    char where[32];
    const char *source = NULL;
    bool bind = false;
    struct bundle_mount read = {.index = index};
    snprintf(where, sizeof(where), "mounts[%zu]", index);
    if (!json_is_object(mount))
        return error_set(err, 0, "%s: expected an object", where);
    if (bundle_mount_is_bind(mount, where, &bind, &read, err) < 0)
        return -1;
    const char *type = json_string_value(json_object_get(mount, "type"));
    if (!bind && type && strcmp(type, "overlay") == 0)
        return bundle_read_overlay(bundle, &read, mount, where, err);
    int got = json_get_string(mount, where, "source", &source, err);
    if (got < 0)
        return -1;
    if (!bind)
        return source && source[0] == '/' && bundle_take_disk(bundle, index, mount, where, source, err) < 0
                   ? -1
                   : 0;
    if (json_require(got, where, "source", err) < 0)
        return -1;
    struct bundle_mount *entry = &bundle->mounts[bundle->mount_count];
    *entry = read;
    entry->source = bundle_resolve(bundle, source);
    if (!entry->source)
        return error_set(err, ENOMEM, "%s", where);
    int taken = bundle_take_disk(bundle, index, mount, where, entry->source, err);
    if (taken != 0) {
        free(take_ptr(&entry->source));
        return taken < 0 ? -1 : 0;
    }
    bundle->mount_count++;
    struct stat status;
    if (stat(entry->source, &status) < 0)
        return error_set(err, errno, "%s.source: %s", where, entry->source);
    return 0;
}

static int bundle_read_mounts(struct bundle *bundle, struct error *err)
{
    json_t *mounts = NULL;
    if (json_get_array(bundle->spec, "", "mounts", &mounts, err) < 0)
        return -1;
    size_t count = json_array_size(mounts);
    bundle->mounts = calloc(count + 1, sizeof(*bundle->mounts));
    if (!bundle->mounts)
        return error_set(err, ENOMEM, "mounts");
    for (size_t i = 0; i < count; i++) {
        if (bundle_read_mount(bundle, i, json_array_get(mounts, i), err) < 0)
            return -1;
    }
    return 0;
}

int bundle_load(struct bundle *bundle, const char *path, const char *config, struct error *err)
{
    *bundle = (struct bundle){0};
    bundle->path = realpath(path, NULL);
    if (!bundle->path)
        return error_set(err, errno, "bundle %s", path);
    if (config && !(bundle->config = realpath(config, NULL)))
        return error_set(err, errno, "%s", config);
    bundle->spec = bundle_read_config(bundle->path, bundle->config, err);
    if (!bundle->spec)
        return -1;
    if (bundle_check_version(bundle, err) < 0 || bundle_read_root(bundle, err) < 0 ||
        bundle_read_process(bundle, err) < 0 || bundle_check_annotations(bundle, err) < 0 ||
        bundle_keep_groups(bundle, err) < 0 || bundle_read_resources(bundle, err) < 0 ||
        bundle_read_mounts(bundle, err) < 0)
        return error_wrap(err, "%s%s", config ? bundle->config : bundle->path, config ? "" : "/config.json");
    return 0;
}

void bundle_fini(struct bundle *bundle)
{
    for (size_t i = 0; i < bundle->mount_count; i++) {
        free(bundle->mounts[i].source);
        json_decref(bundle->mounts[i].overlay);
    }
    host_disks_fini(&bundle->disks);
    free(take_ptr(&bundle->mounts));
    bundle->mount_count = 0;
    free(take_ptr(&bundle->rootfs));
    free(take_ptr(&bundle->path));
    free(take_ptr(&bundle->config));
    json_decref(take_ptr(&bundle->spec));
}
