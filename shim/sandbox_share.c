/*
 * Finding the sandbox that a container belongs to: see sandbox_share.h. config.json is foreign; the states
 * are our own.
 */
#include "shim/sandbox_share.h"

#include "common/fd.h"
#include "common/json.h"
#include "shim/container_state.h"
#include "shim/network_namespace.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Calls `look` for each live container until it returns true. 0, or -1 with err filled. */
static int share_walk(const struct store *store, bool (*look)(const struct container_state *state, void *arg),
                      void *arg, struct error *err)
{
    struct dirent **entries;
    bool found = false;
    int count = scandirat(store->containers_fd, ".", &entries, NULL, alphasort);
    if (count < 0)
        return error_set(err, errno, "read %s/containers", store->root);
    for (int i = 0; i < count; i++) {
        struct container_state state;
        if (!found && entries[i]->d_name[0] != '.' &&
            container_state_load(store, entries[i]->d_name, &state, NULL) == 0) {
            if (state.status == STATUS_CREATED || state.status == STATUS_RUNNING)
                found = look(&state, arg);
            container_state_fini(&state);
        }
        free(entries[i]);
    }
    free(entries);
    return 0;
}

struct by_network {
    struct stat wanted;
    char *sandbox;
};

/* The monitor of a container lives in its pod's network namespace. */
static bool share_has_network(const struct container_state *state, void *arg)
{
    struct by_network *search = arg;
    char path[64];
    struct stat status;
    snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)state->monitor.pid);
    if (stat(path, &status) < 0 || status.st_ino != search->wanted.st_ino ||
        status.st_dev != search->wanted.st_dev)
        return false;
    search->sandbox = strdup(state->sandbox);
    return true;
}

int sandbox_share_find(const struct store *store, const json_t *spec, char **sandbox, struct error *err)
{
    const char *path = NULL;
    struct by_network search = {.sandbox = NULL};
    *sandbox = NULL;
    if (network_namespace_find(spec, &path, err) < 0)
        return -1;
    /* A path that leads nowhere is told of by who enters it. */
    if (!path || stat(path, &search.wanted) < 0)
        return 0;
    if (share_walk(store, share_has_network, &search, err) < 0)
        return -1;
    *sandbox = search.sandbox;
    return 0;
}

struct by_pid {
    const char *sandbox;
    pid_t pid;
    char *id;
};

static bool share_has_pid(const struct container_state *state, void *arg)
{
    struct by_pid *search = arg;
    if (state->monitor.pid != search->pid || strcmp(state->sandbox, search->sandbox) != 0)
        return false;
    search->id = strdup(state->id);
    return true;
}

json_t *sandbox_share_namespaces(const struct store *store, const json_t *spec, const char *sandbox,
                                 struct error *err)
{
    json_t *map = json_object(), *entry;
    const json_t *list = json_object_get(json_object_get(spec, "linux"), "namespaces");
    size_t i;
    json_array_foreach(list, i, entry)
    {
        const char *path = json_string_value(json_object_get(entry, "path"));
        struct by_pid search = {.sandbox = sandbox};
        char index[24];
        if (!path || sscanf(path, "/proc/%d/ns/", &search.pid) != 1)
            continue;
        if (share_walk(store, share_has_pid, &search, err) < 0) {
            json_decref(map);
            return NULL;
        }
        snprintf(index, sizeof(index), "%zu", i);
        if (search.id)
            json_object_set_new(map, index, json_string(search.id));
        free(search.id);
    }
    if (!map)
        error_set(err, ENOMEM, "linux.namespaces");
    return map;
}
