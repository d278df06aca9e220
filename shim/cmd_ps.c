/*
 * husk ps: the processes of a container, with the pids that the guest's kernel gave them. As runc, words
 * after the ID are options of ps(1) (shim/ps_table.h), for the table only.
 */
#include "common/json.h"
#include "shim/container.h"
#include "shim/ps_table.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PS_TIMEOUT_MS    10000
#define PS_ARGUMENTS_MAX 64

struct ps_options {
    const char *format;
};

static const struct option_row option_rows[] = {{"format", 'f', "FORMAT", "table (default) or json",
                                                 option_set_string, offsetof(struct ps_options, format)},
                                                {0}};

static int ps_print_pids(const json_t *result, struct error *err)
{
    json_t *pids = NULL, *pid;
    size_t index;
    if (json_require(json_get_array(result, "", "pids", &pids, err), "", "pids", err) < 0)
        return -1;
    json_array_foreach(pids, index, pid)
    {
        if (!json_is_integer(pid))
            return error_set(err, EPROTO, "pids: expected integers");
    }
    if (json_dumpf(pids, stdout, JSON_COMPACT) < 0)
        return error_set(err, ENOMEM, "ps");
    putchar('\n');
    return 0;
}

static int ps_container(const struct context *context, const char *id, const struct ps_table *table,
                        struct error *err)
{
    struct container_state state;
    if (container_state_load(&context->store, id, &state, err) < 0)
        return -1;
    int result = -1;
    if (state.status != STATUS_CREATED && state.status != STATUS_RUNNING) {
        error_set(err, 0, "container %s: container not running", id);
    } else {
        json_t *params = json_pack("{s:s, s:b}", "container", id, "details", table != NULL);
        cleanup_json json_t *list =
            container_call(&context->store, &state, "container.processes", params, PS_TIMEOUT_MS, err);
        if (list)
            result = table ? ps_table_print(table, list, stdout, err) : ps_print_pids(list, err);
        if (result < 0)
            error_wrap(err, "container %s", id);
    }
    container_state_fini(&state);
    return result;
}

static int ps_run(const struct context *context, int argc, char **argv, struct error *err)
{
    struct ps_options options = {0};
    struct ps_table table;
    int count = command_parse(&cmd_ps, &options, argc, argv, err);
    if (count < 0)
        return count;
    bool json = options.format && strcmp(options.format, "json") == 0;
    if (options.format && !json && strcmp(options.format, "table") != 0)
        return error_set(err, 0, "ps: invalid format option \"%s\"", options.format);
    if (!json && ps_table_init(&table, count - 1, argv + 1, err) < 0)
        return -1;
    return ps_container(context, argv[0], json ? NULL : &table, err);
}

const struct command cmd_ps = {.name = "ps",
                               .arguments = "ID [PS OPTION...]",
                               .help = "list the processes of a container",
                               .options = option_rows,
                               .arguments_min = 1,
                               .arguments_max = PS_ARGUMENTS_MAX,
                               .options_first = true,
                               .run = ps_run};
