/*
 * husk list: the containers below --root.
 */
#include "common/fd.h"
#include "common/json.h"
#include "shim/container.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct list_options {
    const char *format;
    bool quiet;
};

static const struct option_row option_rows[] = {
    {"format", 'f', "FORMAT", "table (default) or json", option_set_string,
     offsetof(struct list_options, format)},
    {"quiet", 'q', NULL, "print only the IDs", option_set_flag, offsetof(struct list_options, quiet)},
    {0}};

static void list_print_row(const json_t *object)
{
    printf("%-24s %-8d %-10s %-40s %-32s %s\n", json_string_value(json_object_get(object, "id")),
           (int)json_integer_value(json_object_get(object, "pid")),
           json_string_value(json_object_get(object, "status")),
           json_string_value(json_object_get(object, "bundle")),
           json_string_value(json_object_get(object, "created")),
           json_string_value(json_object_get(object, "owner")));
}

static int list_print(const json_t *array, const struct list_options *options, struct error *err)
{
    size_t index;
    json_t *object;
    if (!options->quiet && options->format && strcmp(options->format, "json") == 0) {
        if (json_dumpf(array, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER) < 0)
            return error_set(err, ENOMEM, "list");
        putchar('\n');
        return 0;
    }
    if (!options->quiet)
        printf("%-24s %-8s %-10s %-40s %-32s %s\n", "ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER");
    json_array_foreach((json_t *)(uintptr_t)array, index, object)
    {
        if (options->quiet)
            puts(json_string_value(json_object_get(object, "id")));
        else
            list_print_row(object);
    }
    return 0;
}

static int list_compare(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* A container that is deleted or not yet written while the list is made is simply not in it. */
static int list_collect(const struct store *store, json_t *array, struct error *err)
{
    struct dirent **entries;
    int count = scandirat(store->containers_fd, ".", &entries, NULL, list_compare);
    if (count < 0)
        return error_set(err, errno, "read %s/containers", store->root);
    int result = 0;
    for (int i = 0; i < count; i++) {
        struct container_state state;
        struct error ignored;
        if (container_state_load(store, entries[i]->d_name, &state, &ignored) == 0) {
            if (json_array_append_new(array, container_state_to_oci(&state)) < 0)
                result = error_set(err, ENOMEM, "list");
            container_state_fini(&state);
        } else if (ignored.code != ENOENT && entries[i]->d_name[0] != '.') {
            log_warn("%s", ignored.text);
        }
        free(entries[i]);
    }
    free(entries);
    return result;
}

static int list_run(const struct context *context, int argc, char **argv, struct error *err)
{
    struct list_options options = {0};
    int count = command_parse(&cmd_list, &options, argc, argv, err);
    if (count < 0)
        return count;
    if (options.format && strcmp(options.format, "json") != 0 && strcmp(options.format, "table") != 0)
        return error_set(err, 0, "list: unknown format \"%s\"", options.format);
    cleanup_json json_t *array = json_array();
    if (list_collect(&context->store, array, err) < 0)
        return -1;
    return list_print(array, &options, err);
}

const struct command cmd_list = {.name = "list",
                                 .arguments = "",
                                 .help = "list containers",
                                 .options = option_rows,
                                 .arguments_min = 0,
                                 .arguments_max = 0,
                                 .run = list_run};
