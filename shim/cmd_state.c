/*
 * husk state: prints a container's state (OCI runtime-spec "State"). Reads one file and one /proc entry; the
 * VM is not asked, because engines call this often.
 */
#include "common/json.h"
#include "shim/container.h"

#include <errno.h>
#include <stdio.h>

static const struct option_row option_rows[] = {{0}};

static int state_run(const struct context *context, int argc, char **argv, struct error *err)
{
    struct container_state state;
    int count = command_parse(&cmd_state, NULL, argc, argv, err);
    if (count < 0)
        return count;
    if (container_state_load(&context->store, argv[0], &state, err) < 0)
        return -1;
    cleanup_json json_t *object = container_state_to_oci(&state);
    container_state_fini(&state);
    if (!object || json_dumpf(object, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER) < 0)
        return error_set(err, ENOMEM, "container %s", argv[0]);
    putchar('\n');
    return 0;
}

const struct command cmd_state = {.name = "state",
                                  .arguments = "ID",
                                  .help = "print a container's state as JSON",
                                  .options = option_rows,
                                  .arguments_min = 1,
                                  .arguments_max = 1,
                                  .run = state_run};
