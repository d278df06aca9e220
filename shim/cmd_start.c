/*
 * husk start: runs the program of a created container.
 */
#include "shim/container.h"

static const struct option_row option_rows[] = {{0}};

static int start_run(const struct context *context, int argc, char **argv, struct error *err)
{
    int count = command_parse(&cmd_start, NULL, argc, argv, err);
    if (count < 0)
        return count;
    return container_start(context, argv[0], err) < 0 ? -1 : 0;
}

const struct command cmd_start = {.name = "start",
                                  .arguments = "ID",
                                  .help = "run the program of a created container",
                                  .options = option_rows,
                                  .arguments_min = 1,
                                  .arguments_max = 1,
                                  .run = start_run};
