/*
 * husk pause and husk resume: every process of a container stands still, and goes on.
 */
#include "shim/container.h"

static const struct option_row option_rows[] = {{0}};

static int pause_run(const struct context *context, int argc, char **argv, struct error *err)
{
    int count = command_parse(&cmd_pause, NULL, argc, argv, err);
    if (count < 0)
        return count;
    return container_pause(context, argv[0], err) < 0 ? -1 : 0;
}

static int resume_run(const struct context *context, int argc, char **argv, struct error *err)
{
    int count = command_parse(&cmd_resume, NULL, argc, argv, err);
    if (count < 0)
        return count;
    return container_resume(context, argv[0], err) < 0 ? -1 : 0;
}

const struct command cmd_pause = {.name = "pause",
                                  .arguments = "ID",
                                  .help = "suspend all processes of a container",
                                  .options = option_rows,
                                  .arguments_min = 1,
                                  .arguments_max = 1,
                                  .run = pause_run};

const struct command cmd_resume = {.name = "resume",
                                   .arguments = "ID",
                                   .help = "resume all processes of a paused container",
                                   .options = option_rows,
                                   .arguments_min = 1,
                                   .arguments_max = 1,
                                   .run = resume_run};
