/*
 * husk create: everything but the program is set up; start runs it.
 */
#include "shim/container.h"

static const struct option_row option_rows[] = {CREATE_OPTION_ROWS, {0}};

static int create_run(const struct context *context, int argc, char **argv, struct error *err)
{
    struct create_options options = {0};
    struct created created;
    int count = command_parse(&cmd_create, &options, argc, argv, err);
    if (count < 0)
        return count;
    return container_create(context, argv[0], &options, &created, err) < 0 ? -1 : 0;
}

const struct command cmd_create = {.name = "create",
                                   .arguments = "ID",
                                   .help = "create a container from a bundle",
                                   .options = option_rows,
                                   .arguments_min = 1,
                                   .arguments_max = 1,
                                   .run = create_run};
