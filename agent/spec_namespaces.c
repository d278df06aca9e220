/*
 * Namespaces of config.json (OCI runtime-spec config-linux.md "Namespaces", "User namespace mappings",
 * "Offset for Time Namespace"): see spec.h. Which other container a path leads to is not known here: the host
 * says so in container.create.
 */
#include "agent/spec_sections.h"

#include "agent/spec_fields.h"
#include "common/json.h"

#include <errno.h>
#include <linux/sched.h>
#include <stdlib.h>
#include <string.h>

#define MAPS_MAX 340 /* UID_GID_MAP_MAX_EXTENTS */

static const struct spec_name namespace_names[] = {
    {"pid", CLONE_NEWPID},   {"network", CLONE_NEWNET}, {"mount", CLONE_NEWNS},
    {"ipc", CLONE_NEWIPC},   {"uts", CLONE_NEWUTS},     {"cgroup", CLONE_NEWCGROUP},
    {"user", CLONE_NEWUSER}, {"time", CLONE_NEWTIME},   {NULL, 0},
};

static int namespace_parse(struct spec *spec, const json_t *entry, size_t index, const char *where,
                           uint64_t *listed, struct error *err)
{
    unsigned long type = 0;
    const char *path = "";
    if (json_require(spec_get_name(entry, where, "type", namespace_names, &type, err), where, "type", err) <
            0 ||
        json_get_string(entry, where, "path", &path, err) < 0)
        return -1;
    const char *name = json_string_value(json_object_get(entry, "type"));
    if (*listed & type)
        return error_set(err, 0, "%s.type: '%s' was given before", where, name);
    *listed |= type;
    /* Its network namespace, new or by path, is the one whose interfaces the sandbox was given: in the guest
     * that is the sandbox's own. */
    if (type == CLONE_NEWNET)
        spec->network_listed = true;
    else if (!*path)
        spec->namespaces |= type;
    else if (type == CLONE_NEWNS)
        return error_set(err, 0, "%s.path is not supported: a container's root is mounted for it alone",
                         where);
    else
        spec->joins[spec->join_count++] = (struct spec_join){.type = type, .index = index, .name = name};
    return 0;
}

int spec_parse_namespaces(void *into, const json_t *object, const char *where, const char *key,
                          struct error *err)
{
    json_t *list = NULL;
    uint64_t listed = 0;
    int got = spec_get_objects(object, where, key, 64, &list, err);
    for (size_t i = 0; got == 1 && i < json_array_size(list); i++) {
        char path[SPEC_PATH_MAX];
        spec_path_element(path, where, key, i);
        if (namespace_parse(into, json_array_get(list, i), i, path, &listed, err))
            return -1;
    }
    return got;
}

uint64_t spec_own_namespaces(const struct spec *spec)
{
    uint64_t own = spec->namespaces;
    for (size_t i = 0; i < spec->join_count; i++)
        own |= spec->joins[i].type;
    return own;
}

int spec_id_maps_parse(struct spec_id_map **maps, size_t *count, const json_t *object, const char *where,
                       const char *key, struct error *err)
{
    json_t *list = NULL;
    int got = spec_get_objects(object, where, key, MAPS_MAX, &list, err);
    if (got <= 0)
        return got;
    *maps = calloc(json_array_size(list) + 1, sizeof(**maps));
    if (!*maps)
        return error_set(err, ENOMEM, "%s.%s", where, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        char path[SPEC_PATH_MAX];
        int64_t inside = 0, outside = 0, size = 0;
        spec_path_element(path, where, key, i);
        if (json_require(json_get_int(entry, path, "containerID", 0, UINT32_MAX - 1, &inside, err), path,
                         "containerID", err) < 0 ||
            json_require(json_get_int(entry, path, "hostID", 0, UINT32_MAX - 1, &outside, err), path,
                         "hostID", err) < 0 ||
            json_require(json_get_int(entry, path, "size", 1, UINT32_MAX, &size, err), path, "size", err) < 0)
            return -1;
        if (inside + size > UINT32_MAX || outside + size > UINT32_MAX)
            return error_set(err, 0, "%s.size: %lld reaches beyond the last id", path, (long long)size);
        (*maps)[i] = (struct spec_id_map){
            .inside = (uint32_t)inside, .outside = (uint32_t)outside, .count = (uint32_t)size};
        *count = i + 1;
    }
    return 0;
}

void spec_id_maps_fini(struct spec_id_maps *maps)
{
    free(maps->uids);
    free(maps->gids);
    *maps = (struct spec_id_maps){0};
}

int64_t spec_id_outside(const struct spec_id_map *maps, size_t count, uint32_t inside)
{
    if (count == 0)
        return inside;
    for (size_t i = 0; i < count; i++) {
        if (inside >= maps[i].inside && inside - maps[i].inside < maps[i].count)
            return (int64_t)maps[i].outside + (inside - maps[i].inside);
    }
    return -1;
}

bool spec_id_is_mapped(const struct spec_id_map *maps, size_t count, uint32_t outside)
{
    for (size_t i = 0; i < count; i++) {
        if (outside >= maps[i].outside && outside - maps[i].outside < maps[i].count)
            return true;
    }
    return count == 0;
}

int spec_parse_uid_maps(void *into, const json_t *object, const char *where, const char *key,
                        struct error *err)
{
    struct spec_id_maps *maps = &((struct spec *)into)->id_maps;
    return spec_id_maps_parse(&maps->uids, &maps->uid_count, object, where, key, err);
}

int spec_parse_gid_maps(void *into, const json_t *object, const char *where, const char *key,
                        struct error *err)
{
    struct spec_id_maps *maps = &((struct spec *)into)->id_maps;
    return spec_id_maps_parse(&maps->gids, &maps->gid_count, object, where, key, err);
}

int spec_parse_time_offsets(void *into, const json_t *object, const char *where, const char *key,
                            struct error *err)
{
    static const char *const clocks[] = {"monotonic", "boottime"};
    struct spec *spec = into;
    json_t *given = NULL;
    const char *name;
    json_t *value;
    char path[SPEC_PATH_MAX];
    if (json_get_object(object, where, key, &given, err) < 0)
        return -1;
    spec_path_member(path, where, key);
    json_object_foreach(given, name, value)
    {
        if (strcmp(name, clocks[0]) != 0 && strcmp(name, clocks[1]) != 0)
            return error_set(err, 0, "%s: '%s' is no clock of a time namespace", path, name);
    }
    for (size_t i = 0; i < 2; i++) {
        struct spec_time_offset *offset = &spec->time_offsets[i];
        char clock_path[SPEC_PATH_MAX];
        json_t *entry = NULL;
        int got = json_get_object(given, path, clocks[i], &entry, err);
        spec_path_member(clock_path, path, clocks[i]);
        if (got < 0 ||
            (got > 0 &&
             (json_get_int(entry, clock_path, "secs", INT64_MIN, INT64_MAX, &offset->seconds, err) < 0 ||
              json_get_int(entry, clock_path, "nanosecs", 0, 999999999, &offset->nanoseconds, err) < 0)))
            return -1;
        offset->clock = got > 0 ? clocks[i] : NULL;
    }
    return 0;
}

int spec_check_namespaces(const struct spec *spec, struct error *err)
{
    uint64_t own = spec_own_namespaces(spec);
    bool mapped = spec->id_maps.uid_count || spec->id_maps.gid_count;
    if (mapped && !(own & CLONE_NEWUSER))
        return error_set(err, 0, "linux.uidMappings: mappings are given, but no user namespace");
    if ((spec->namespaces & CLONE_NEWUSER) && !(spec->id_maps.uid_count && spec->id_maps.gid_count))
        return error_set(err, 0, "linux.namespaces: a new user namespace needs uidMappings and gidMappings");
    if ((spec->time_offsets[0].clock || spec->time_offsets[1].clock) && !(spec->namespaces & CLONE_NEWTIME))
        return error_set(err, 0, "linux.timeOffsets: offsets are given, but no new time namespace");
    return 0;
}
