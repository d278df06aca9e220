/*
 * Process objects for exec: see exec_process.h. The file and the words are the caller's; what is checked here
 * is what must be right for the object to be made at all, all else is the agent's to judge.
 */
#include "shim/exec_process.h"

#include "common/fd.h"
#include "common/json.h"
#include "shim/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROCESS_BYTES_MAX (4u << 20)

static json_t *process_read_file(const char *path, struct error *err)
{
    cleanup_free char *text = NULL;
    ssize_t length = fd_read_file_at(AT_FDCWD, path, PROCESS_BYTES_MAX, &text);
    if (length < 0) {
        error_set(err, (int)-length, "open %s", path);
        return NULL;
    }
    json_t *process = json_parse_object(text, (size_t)length, err);
    if (!process)
        error_wrap(err, "%s", path);
    return process;
}

/* The process of the container's config.json, which later changes are the caller's own. */
static json_t *process_of_container(const struct container_state *state, struct error *err)
{
    json_t *process = NULL;
    cleanup_json json_t *spec = bundle_read_config(state->bundle, state->config, err);
    if (!spec)
        return NULL;
    if (json_require(json_get_object(spec, "", "process", &process, err), "", "process", err) < 0) {
        error_wrap(err, "%s/config.json", state->bundle);
        return NULL;
    }
    return json_incref(process);
}

/* 0..2^32-2, or -1 with err filled. */
static int64_t id_parse(const char *text, size_t length, const char *what, struct error *err)
{
    char digits[16];
    char *end;
    if (length < sizeof(digits) && length > 0 && *text >= '0' && *text <= '9') {
        memcpy(digits, text, length);
        digits[length] = '\0';
        unsigned long value = strtoul(digits, &end, 10);
        if (!*end && value < UINT32_MAX)
            return (int64_t)value;
    }
    return error_set(err, 0, "parsing %.*s as int for %s failed", (int)length, text, what);
}

/* The member, made if it is not there; a reference of the object's. NULL with err filled. */
static json_t *member(json_t *object, const char *key, json_t *(*make)(void), struct error *err)
{
    json_t *value = json_object_get(object, key);
    if (value && !json_is_null(value))
        return value;
    value = make();
    if (json_object_set_new(object, key, value) == 0)
        return value;
    error_set(err, ENOMEM, "process.%s", key);
    return NULL;
}

static int append_text(json_t *array, const char *text, struct error *err)
{
    if (!json_is_array(array))
        return error_set(err, 0, "process: expected an array of strings");
    return json_array_append_new(array, json_string(text)) < 0 ? error_set(err, 0, "\"%s\" is no UTF-8", text)
                                                               : 0;
}

static int set_text(json_t *process, const char *key, const char *text, struct error *err)
{
    if (!text || !*text)
        return 0;
    return json_object_set_new(process, key, json_string(text)) < 0
               ? error_set(err, 0, "%s: \"%s\" is no UTF-8", key, text)
               : 0;
}

static int set_user(json_t *process, const struct exec_options *options, struct error *err)
{
    json_t *user = member(process, "user", json_object, err);
    if (!user)
        return -1;
    if (options->user && *options->user) {
        size_t length = strcspn(options->user, ":");
        const char *group = options->user[length] ? options->user + length + 1 : NULL;
        int64_t gid = group ? id_parse(group, strlen(group), "gid", err) : 0;
        int64_t uid = gid < 0 ? -1 : id_parse(options->user, length, "uid", err);
        if (uid < 0)
            return -1;
        json_object_set_new(user, "uid", json_integer(uid));
        if (group)
            json_object_set_new(user, "gid", json_integer(gid));
    }
    for (size_t i = 0; i < options->additional_gids.count; i++) {
        const char *text = options->additional_gids.items[i];
        json_t *groups = member(user, "additionalGids", json_array, err);
        int64_t gid = groups ? id_parse(text, strlen(text), "additional gid", err) : -1;
        if (gid < 0)
            return -1;
        if (json_array_append_new(groups, json_integer(gid)) < 0)
            return error_set(err, 0, "process.user.additionalGids: expected an array");
    }
    return 0;
}

/* As runc, into all sets but the inheritable one. */
static int add_capabilities(json_t *process, const struct option_list *capabilities, struct error *err)
{
    static const char *const sets[] = {"bounding", "effective", "permitted", "ambient"};
    if (capabilities->count == 0)
        return 0;
    json_t *object = member(process, "capabilities", json_object, err);
    for (size_t i = 0; object && i < sizeof(sets) / sizeof(sets[0]); i++) {
        json_t *set = member(object, sets[i], json_array, err);
        for (size_t j = 0; j < capabilities->count; j++) {
            if (!set || append_text(set, capabilities->items[j], err) < 0)
                return -1;
        }
    }
    return object ? 0 : -1;
}

static int add_args_and_env(json_t *process, const struct exec_options *options, char *const *args,
                            struct error *err)
{
    json_t *words = json_array();
    if (json_object_set_new(process, "args", words) < 0)
        return error_set(err, ENOMEM, "process.args");
    for (; *args; args++) {
        if (append_text(words, *args, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < options->env.count; i++) {
        json_t *env = member(process, "env", json_array, err);
        if (!env || append_text(env, options->env.items[i], err) < 0)
            return -1;
    }
    return 0;
}

static int apply_options(json_t *process, const struct exec_options *options, char *const *args,
                         struct error *err)
{
    if (add_args_and_env(process, options, args, err) < 0 || set_user(process, options, err) < 0 ||
        add_capabilities(process, &options->capabilities, err) < 0 ||
        set_text(process, "cwd", options->cwd, err) < 0 ||
        set_text(process, "apparmorProfile", options->apparmor, err) < 0 ||
        set_text(process, "selinuxLabel", options->process_label, err) < 0)
        return -1;
    json_object_set_new(process, "terminal", json_boolean(options->tty));
    json_object_del(process, "consoleSize"); /* of the container's terminal, not of this one */
    if (options->no_new_privileges != EXEC_FLAG_UNSET)
        json_object_set_new(process, "noNewPrivileges",
                            json_boolean(options->no_new_privileges == EXEC_FLAG_TRUE));
    return 0;
}

/* What runc demands of the object, in its words. */
static int check_process(const json_t *process, struct error *err)
{
    const char *cwd = NULL;
    json_t *args = NULL;
    if (json_get_string(process, "process", "cwd", &cwd, err) < 0 ||
        json_get_array(process, "process", "args", &args, err) < 0)
        return -1;
    if (!cwd || !*cwd)
        return error_set(err, 0, "Cwd property must not be empty");
    if (*cwd != '/')
        return error_set(err, 0, "Cwd must be an absolute path");
    if (json_array_size(args) == 0)
        return error_set(err, 0, "args must not be empty");
    return 0;
}

json_t *exec_process_make(const struct exec_options *options, const struct container_state *state,
                          char *const *args, struct error *err)
{
    if (!options->process_file && !*args) {
        error_set(err, 0, "process args cannot be empty");
        return NULL;
    }
    cleanup_json json_t *process = options->process_file ? process_read_file(options->process_file, err)
                                                         : process_of_container(state, err);
    if (!process || (!options->process_file && apply_options(process, options, args, err) < 0) ||
        check_process(process, err) < 0)
        return NULL;
    return json_incref(process);
}
