/*
 * husk features: what husk can do (shim/features.h), as JSON.
 */
#include "common/json.h"
#include "shim/command.h"
#include "shim/features.h"

#include <errno.h>
#include <stdio.h>

static const struct option_row option_rows[] = {{0}};

static int features_run(const struct context *context, int argc, char **argv, struct error *err)
{
    (void)context;
    int count = command_parse(&cmd_features, NULL, argc, argv, err);
    if (count < 0)
        return count;
    cleanup_json json_t *features = features_get(err);
    if (!features)
        return -1;
    if (json_dumpf(features, stdout, JSON_INDENT(4) | JSON_PRESERVE_ORDER) < 0)
        return error_set(err, ENOMEM, "features");
    putchar('\n');
    return 0;
}

const struct command cmd_features = {.name = "features",
                                     .arguments = "",
                                     .help = "tell what this runtime can do, as JSON",
                                     .options = option_rows,
                                     .arguments_min = 0,
                                     .arguments_max = 0,
                                     .no_store = true,
                                     .run = features_run};
