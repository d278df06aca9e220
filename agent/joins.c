/*
 * Joining namespaces: see joins.h.
 */
#include "agent/joins.h"

#include "common/json.h"

#include <errno.h>
#include <linux/sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int id_maps_copy(struct spec_id_map **to, size_t *to_count, const struct spec_id_map *from,
                        size_t count)
{
    struct spec_id_map *copy = calloc(count + 1, sizeof(*copy));
    if (!copy)
        return -1;
    if (count)
        memcpy(copy, from, count * sizeof(*copy));
    free(*to);
    *to = copy;
    *to_count = count;
    return 0;
}

/* The container that has the namespace of spec->joins[index], from {"<index in linux.namespaces>": container
 * ID}.
 */
static struct container *join_find(const struct container *container, const json_t *map,
                                   const struct spec_join *join, struct error *err)
{
    char key[24];
    snprintf(key, sizeof(key), "%zu", join->index);
    const char *id = json_string_value(json_object_get(map, key));
    struct container *other = id ? sandbox_find(container->sandbox, id) : NULL;
    if (!id)
        error_set(err, 0,
                  "linux.namespaces[%zu].path: the %s namespace is of another kernel: only containers of one "
                  "sandbox "
                  "can share it",
                  join->index, join->name);
    else if (!other || other == container || !other->init || other->init->pidfd < 0 ||
             (other->init->state != PROCESS_CREATED && other->init->state != PROCESS_RUNNING))
        error_set(err, ESRCH, "linux.namespaces[%zu].path: container %.*s", join->index, CONTAINER_ID_MAX,
                  id);
    else
        return other;
    return NULL;
}

int joins_resolve(struct container *container, int join_pidfds[SPEC_NAMESPACES], struct error *err)
{
    struct spec *spec = container->spec;
    json_t *map = NULL;
    if (json_get_object(container->params, "", "namespaces", &map, err) < 0)
        return -1;
    for (size_t i = 0; i < spec->join_count; i++) {
        const struct container *other = join_find(container, map, &spec->joins[i], err);
        if (!other)
            return -1;
        join_pidfds[i] = other->init->pidfd;
        const struct spec_id_maps *maps = &other->spec->id_maps;
        if (spec->joins[i].type == CLONE_NEWUSER &&
            (id_maps_copy(&spec->id_maps.uids, &spec->id_maps.uid_count, maps->uids, maps->uid_count) ||
             id_maps_copy(&spec->id_maps.gids, &spec->id_maps.gid_count, maps->gids, maps->gid_count)))
            return error_set(err, ENOMEM, "linux.namespaces");
        if (spec->joins[i].type == CLONE_NEWUSER && !maps->uid_count)
            return error_set(err, 0, "linux.namespaces[%zu].path: container %s has no user namespace",
                             spec->joins[i].index, other->id);
    }
    return 0;
}
