/*
 * husk checkpoint and husk restore: not yet. They fail whatever their words, --help too: podman asks
 * `checkpoint --help` whether a runtime can do it, and believes the exit status.
 */
#include "shim/command.h"

static const struct option_row option_rows[] = {{0}};

static int checkpoint_run(const struct context *context, int argc, char **argv, struct error *err)
{
    (void)context, (void)argc, (void)argv;
    return error_set(err, 0, "checkpoint: saving a running container is not supported yet");
}

static int restore_run(const struct context *context, int argc, char **argv, struct error *err)
{
    (void)context, (void)argc, (void)argv;
    return error_set(err, 0, "restore: starting a container from a checkpoint is not supported yet");
}

const struct command cmd_checkpoint = {.name = "checkpoint",
                                       .arguments = "ID",
                                       .help = "not supported yet",
                                       .options = option_rows,
                                       .arguments_min = 1,
                                       .arguments_max = 1,
                                       .no_store = true,
                                       .run = checkpoint_run};

const struct command cmd_restore = {.name = "restore",
                                    .arguments = "ID",
                                    .help = "not supported yet",
                                    .options = option_rows,
                                    .arguments_min = 1,
                                    .arguments_max = 1,
                                    .no_store = true,
                                    .run = restore_run};
