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

/* The table's columns; runc's tabwriter pads each to its widest cell and three blanks, to 12 at least. */
static const struct {
    const char *head, *member;
} list_columns[] = {{"ID", "id"},         {"PID", "pid"},         {"STATUS", "status"},
                    {"BUNDLE", "bundle"}, {"CREATED", "created"}, {"OWNER", "owner"}};
#define LIST_COLUMNS (sizeof(list_columns) / sizeof(list_columns[0]))
#define CELL_PADDING 3
#define CELL_MIN     12

static const char *list_cell(const json_t *object, size_t column, char number[16])
{
    const json_t *member = json_object_get(object, list_columns[column].member);
    if (!json_is_integer(member))
        return json_string_value(member);
    snprintf(number, 16, "%d", (int)json_integer_value(member));
    return number;
}

static void list_print_table(const json_t *array)
{
    int widths[LIST_COLUMNS];
    size_t index;
    json_t *object;
    char number[16];
    for (size_t i = 0; i < LIST_COLUMNS; i++) {
        size_t widest = strlen(list_columns[i].head);
        json_array_foreach((json_t *)(uintptr_t)array, index, object)
        {
            size_t length = strlen(list_cell(object, i, number));
            widest = length > widest ? length : widest;
        }
        widths[i] = widest + CELL_PADDING > CELL_MIN ? (int)widest + CELL_PADDING : CELL_MIN;
        /* The last one needs no filling. */
        printf("%-*s%s", i + 1 < LIST_COLUMNS ? widths[i] : 0, list_columns[i].head,
               i + 1 < LIST_COLUMNS ? "" : "\n");
    }
    json_array_foreach((json_t *)(uintptr_t)array, index, object)
    {
        for (size_t i = 0; i < LIST_COLUMNS; i++)
            printf("%-*s%s", i + 1 < LIST_COLUMNS ? widths[i] : 0, list_cell(object, i, number),
                   i + 1 < LIST_COLUMNS ? "" : "\n");
    }
}

static int list_print(const json_t *array, const struct list_options *options, struct error *err)
{
    size_t index;
    json_t *object;
    if (options->quiet) {
        json_array_foreach((json_t *)(uintptr_t)array, index, object)
            puts(json_string_value(json_object_get(object, "id")));
    } else if (options->format && strcmp(options->format, "json") == 0) {
        if (json_dumpf(array, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER) < 0)
            return error_set(err, ENOMEM, "list");
        putchar('\n');
    } else {
        list_print_table(array);
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
        return error_set(err, 0, "list: invalid format option \"%s\"", options.format);
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
