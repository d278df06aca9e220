/*
 * The mounts of config.json (OCI runtime-spec config.md "Mounts", "Linux mount options"): see spec.h.
 *
 * Each option is one row of a table, or a filesystem's own option that goes to fsconfig as it is. Options
 * that the specification names and that can't be honoured are refused in the table.
 */
#include "agent/spec_sections.h"

#include "agent/spec_fields.h"
#include "common/json.h"

#include <errno.h>
#include <linux/sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

enum option_kind {
    OPTION_ATTRIBUTE,   /* value: MOUNT_ATTR_* to set */
    OPTION_CLEAR,       /* value: MOUNT_ATTR_* to clear */
    OPTION_PROPAGATION, /* value: MS_* */
    OPTION_BIND,
    OPTION_COPY_UP,
    OPTION_IDMAP,
    OPTION_NOTHING, /* the kernel's default, or only meant for user space */
    OPTION_REFUSED,
};

struct mount_option {
    const char *name;
    uint64_t value;
    enum option_kind kind;
    bool recursive;
};

#define ATIME MOUNT_ATTR__ATIME

static const struct mount_option mount_options[] = {
    {"ro", MOUNT_ATTR_RDONLY, OPTION_ATTRIBUTE, false},
    {"rw", MOUNT_ATTR_RDONLY, OPTION_CLEAR, false},
    {"nosuid", MOUNT_ATTR_NOSUID, OPTION_ATTRIBUTE, false},
    {"suid", MOUNT_ATTR_NOSUID, OPTION_CLEAR, false},
    {"nodev", MOUNT_ATTR_NODEV, OPTION_ATTRIBUTE, false},
    {"dev", MOUNT_ATTR_NODEV, OPTION_CLEAR, false},
    {"noexec", MOUNT_ATTR_NOEXEC, OPTION_ATTRIBUTE, false},
    {"exec", MOUNT_ATTR_NOEXEC, OPTION_CLEAR, false},
    {"nodiratime", MOUNT_ATTR_NODIRATIME, OPTION_ATTRIBUTE, false},
    {"diratime", MOUNT_ATTR_NODIRATIME, OPTION_CLEAR, false},
    {"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, OPTION_ATTRIBUTE, false},
    {"symfollow", MOUNT_ATTR_NOSYMFOLLOW, OPTION_CLEAR, false},
    {"noatime", MOUNT_ATTR_NOATIME, OPTION_ATTRIBUTE, false},
    {"relatime", MOUNT_ATTR_RELATIME, OPTION_ATTRIBUTE, false},
    {"strictatime", MOUNT_ATTR_STRICTATIME, OPTION_ATTRIBUTE, false},
    {"atime", MOUNT_ATTR_NOATIME, OPTION_CLEAR, false},
    {"norelatime", MOUNT_ATTR_NOATIME, OPTION_CLEAR, false},
    {"nostrictatime", MOUNT_ATTR_NOATIME, OPTION_CLEAR, false},
    {"rro", MOUNT_ATTR_RDONLY, OPTION_ATTRIBUTE, true},
    {"rrw", MOUNT_ATTR_RDONLY, OPTION_CLEAR, true},
    {"rnosuid", MOUNT_ATTR_NOSUID, OPTION_ATTRIBUTE, true},
    {"rsuid", MOUNT_ATTR_NOSUID, OPTION_CLEAR, true},
    {"rnodev", MOUNT_ATTR_NODEV, OPTION_ATTRIBUTE, true},
    {"rdev", MOUNT_ATTR_NODEV, OPTION_CLEAR, true},
    {"rnoexec", MOUNT_ATTR_NOEXEC, OPTION_ATTRIBUTE, true},
    {"rexec", MOUNT_ATTR_NOEXEC, OPTION_CLEAR, true},
    {"rnodiratime", MOUNT_ATTR_NODIRATIME, OPTION_ATTRIBUTE, true},
    {"rdiratime", MOUNT_ATTR_NODIRATIME, OPTION_CLEAR, true},
    {"rnosymfollow", MOUNT_ATTR_NOSYMFOLLOW, OPTION_ATTRIBUTE, true},
    {"rsymfollow", MOUNT_ATTR_NOSYMFOLLOW, OPTION_CLEAR, true},
    {"rnoatime", MOUNT_ATTR_NOATIME, OPTION_ATTRIBUTE, true},
    {"rrelatime", MOUNT_ATTR_RELATIME, OPTION_ATTRIBUTE, true},
    {"rstrictatime", MOUNT_ATTR_STRICTATIME, OPTION_ATTRIBUTE, true},
    {"ratime", MOUNT_ATTR_NOATIME, OPTION_CLEAR, true},
    {"rnorelatime", MOUNT_ATTR_NOATIME, OPTION_CLEAR, true},
    {"rnostrictatime", MOUNT_ATTR_NOATIME, OPTION_CLEAR, true},
    {"bind", 0, OPTION_BIND, false},
    {"rbind", 0, OPTION_BIND, true},
    {"shared", MS_SHARED, OPTION_PROPAGATION, false},
    {"rshared", MS_SHARED, OPTION_PROPAGATION, true},
    {"private", MS_PRIVATE, OPTION_PROPAGATION, false},
    {"rprivate", MS_PRIVATE, OPTION_PROPAGATION, true},
    {"slave", MS_SLAVE, OPTION_PROPAGATION, false},
    {"rslave", MS_SLAVE, OPTION_PROPAGATION, true},
    {"unbindable", MS_UNBINDABLE, OPTION_PROPAGATION, false},
    {"runbindable", MS_UNBINDABLE, OPTION_PROPAGATION, true},
    {"tmpcopyup", 0, OPTION_COPY_UP, false},
    {"defaults", 0, OPTION_NOTHING, false},
    {"async", 0, OPTION_NOTHING, false},
    {"loud", 0, OPTION_NOTHING, false},
    {"silent", 0, OPTION_NOTHING, false},
    {"nomand", 0, OPTION_NOTHING, false},
    {"noiversion", 0, OPTION_NOTHING, false},
    {"nolazytime", 0, OPTION_NOTHING, false},
    {"_netdev", 0, OPTION_NOTHING, false},
    {"nofail", 0, OPTION_NOTHING, false},
    {"remount", 0, OPTION_REFUSED, false},
    {"idmap", 0, OPTION_IDMAP, false},
    {"ridmap", 0, OPTION_IDMAP, true},
};

static void mount_attribute(struct spec_mount *mount, const struct mount_option *option)
{
    struct spec_mount_attributes *to = &mount->attributes;
    uint64_t *set = option->recursive ? &to->recursive_set : &to->set;
    uint64_t *clear = option->recursive ? &to->recursive_clear : &to->clear;
    /* The access-time modes are one field of mount_setattr, to be cleared as a whole before it is set; every
     * other flag is a bit, and the last option given for it holds. "atime" and the like ask for what the
     * kernel does of itself, which is relatime. */
    bool is_atime = (option->value & ATIME) || option->value == MOUNT_ATTR_RELATIME;
    uint64_t bits = is_atime ? ATIME : option->value;
    *set &= ~bits;
    *clear &= ~bits;
    if (is_atime)
        *clear |= ATIME;
    else if (option->kind == OPTION_CLEAR)
        *clear |= bits;
    if (option->kind == OPTION_ATTRIBUTE)
        *set |= option->value;
}

static const struct mount_option *mount_option_find(const char *name)
{
    for (size_t i = 0; i < sizeof(mount_options) / sizeof(mount_options[0]); i++) {
        if (strcmp(mount_options[i].name, name) == 0)
            return &mount_options[i];
    }
    return NULL;
}

static int mount_options_parse(struct spec_mount *mount, const json_t *object, const char *where,
                               struct error *err)
{
    if (json_get_strings(object, where, "options", &mount->data, err) < 0)
        return -1;
    /* The same array keeps what is left for the filesystem. */
    for (size_t i = 0; mount->data && mount->data[i]; i++) {
        const char *given = mount->data[i];
        const struct mount_option *option = mount_option_find(given);
        if (!option) {
            mount->data[mount->data_count++] = given;
            continue;
        }
        switch (option->kind) {
        case OPTION_ATTRIBUTE:
        case OPTION_CLEAR:
            mount_attribute(mount, option);
            break;
        case OPTION_PROPAGATION:
            mount->propagation = option->value;
            mount->propagation_recursive = option->recursive;
            break;
        case OPTION_BIND:
            mount->bind = true;
            mount->recursive = option->recursive;
            break;
        case OPTION_COPY_UP:
            mount->copy_up = true;
            break;
        case OPTION_IDMAP:
            mount->idmap = true;
            mount->idmap_recursive = option->recursive;
            break;
        case OPTION_NOTHING:
            break;
        case OPTION_REFUSED:
            return error_set(err, 0, "%s.options[%zu]: '%s' is not supported", where, i, given);
        }
    }
    if (mount->data)
        mount->data[mount->data_count] = NULL;
    return 0;
}

/* A relative one is meant from the root (runtime-spec config.md "Mounts"), which is how it is resolved. */
static int destination_parse(struct spec_mount *mount, const json_t *object, const char *where,
                             struct error *err)
{
    if (json_require(json_get_string(object, where, "destination", &mount->destination, err), where,
                     "destination", err) < 0)
        return -1;
    return *mount->destination ? 0 : error_set(err, 0, "%s.destination is empty", where);
}

static int mount_parse(struct spec_mount *mount, const json_t *object, const char *where, struct error *err)
{
    struct spec_id_maps *maps = &mount->id_maps;
    if (destination_parse(mount, object, where, err) ||
        json_get_string(object, where, "type", &mount->type, err) < 0 ||
        json_get_string(object, where, "source", &mount->source, err) < 0 ||
        mount_options_parse(mount, object, where, err) ||
        spec_id_maps_parse(&maps->uids, &maps->uid_count, object, where, "uidMappings", err) ||
        spec_id_maps_parse(&maps->gids, &maps->gid_count, object, where, "gidMappings", err))
        return -1;
    if (!maps->uid_count != !maps->gid_count)
        return error_set(err, 0, "%s.%s is missing: a mount has both mappings or none", where,
                         maps->uid_count ? "gidMappings" : "uidMappings");
    if (maps->uid_count)
        mount->idmap = true; /* the specification's default for a mount with mappings */
    if (mount->type && strcmp(mount->type, "bind") == 0 && !mount->bind) {
        mount->bind = true;
        mount->recursive = true; /* as runc does for a bind mount whose options do not say */
    }
    if (mount->bind)
        mount->type = "bind";
    if (!mount->type || !*mount->type)
        return error_set(err, 0, "%s.type is missing", where);
    if (mount->bind && mount->data_count > 0)
        return error_set(err, 0, "%s.options: '%s' is no option of a bind mount", where, mount->data[0]);
    if (mount->idmap && !mount->bind)
        return error_set(err, 0, "%s: id mappings are for bind mounts only", where);
    if (mount->copy_up && strcmp(mount->type, "tmpfs") != 0)
        return error_set(err, 0, "%s.options: tmpcopyup is for tmpfs only", where);
    return 0;
}

int spec_parse_mounts(void *into, const json_t *object, const char *where, const char *key, struct error *err)
{
    struct spec *spec = into;
    json_t *list = NULL;
    int got = spec_get_objects(object, where, key, SPEC_MOUNTS_MAX, &list, err);
    if (got <= 0)
        return got;
    spec->mounts = calloc(json_array_size(list) + 1, sizeof(*spec->mounts));
    if (!spec->mounts)
        return error_set(err, ENOMEM, "%s", key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        char path[SPEC_PATH_MAX];
        spec_path_element(path, where, key, i);
        spec->mount_count = i + 1;
        if (mount_parse(&spec->mounts[i], json_array_get(list, i), path, err))
            return -1;
    }
    return 0;
}

/* A mount that has no mappings of its own takes the container's (config.md, "idmap"). */
int spec_check_mounts(const struct spec *spec, struct error *err)
{
    bool user = spec_own_namespaces(spec) & CLONE_NEWUSER;
    for (size_t i = 0; i < spec->mount_count; i++) {
        if (spec->mounts[i].idmap && !spec->mounts[i].id_maps.uid_count && !user)
            return error_set(err, 0,
                             "mounts[%zu].options: 'idmap' without uidMappings and gidMappings needs a user "
                             "namespace",
                             i);
    }
    return 0;
}

int spec_parse_propagation(void *into, const json_t *object, const char *where, const char *key,
                           struct error *err)
{
    struct spec *spec = into;
    const char *name = NULL;
    if (json_get_string(object, where, key, &name, err) < 0)
        return -1;
    if (!*name)
        return 0;
    const struct mount_option *option = mount_option_find(name);
    if (!option || option->kind != OPTION_PROPAGATION)
        return error_set(err, 0, "%s.%s: '%s' is no propagation", where, key, name);
    spec->propagation = option->value | (option->recursive ? MS_REC : 0);
    return 0;
}
