/*
 * husk delete: removes a stopped or created container, with --force any.
 */
#include "shim/container.h"

struct delete_options {
    bool force;
    bool regex;
};

static const struct option_row option_rows[] = {
    {"force", 'f', NULL, "kill the container if it runs; no error if there is none", option_set_flag,
     offsetof(struct delete_options, force)},
    {"regex", 'r', NULL, "delete every container whose ID matches the regular expression", option_set_flag,
     offsetof(struct delete_options, regex)},
    {0}};

static int delete_one(const struct context *context, const char *id, void *arg, struct error *err)
{
    const struct delete_options *options = arg;
    return container_delete(context, id, options->force, err);
}

static int delete_run(const struct context *context, int argc, char **argv, struct error *err)
{
    struct delete_options options = {0};
    int count = command_parse(&cmd_delete, &options, argc, argv, err);
    if (count < 0)
        return count;
    return options.regex ? container_for_each_match(context, argv[0], delete_one, &options, err)
                         : delete_one(context, argv[0], &options, err);
}

const struct command cmd_delete = {.name = "delete",
                                   .arguments = "ID",
                                   .help = "delete a container and all that is left of it",
                                   .options = option_rows,
                                   .arguments_min = 1,
                                   .arguments_max = 1,
                                   .run = delete_run};
