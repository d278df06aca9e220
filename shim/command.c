/*
 * The table of commands: see command.h.
 */
#include "shim/command.h"

#include <ctype.h>
#include <string.h>
#include <unistd.h>

static const struct command *const commands[] = {
    &cmd_check,    &cmd_checkpoint, &cmd_create, &cmd_delete, &cmd_events, &cmd_exec,
    &cmd_features, &cmd_kill,       &cmd_list,   &cmd_pause,  &cmd_ps,     &cmd_restore,
    &cmd_resume,   &cmd_run,        &cmd_spec,   &cmd_start,  &cmd_state,  &cmd_update,
};
#define COMMANDS_COUNT (sizeof(commands) / sizeof(commands[0]))

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < COMMANDS_COUNT; i++) {
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    }
    return NULL;
}

int command_parse(const struct command *command, void *options, int argc, char **argv, struct error *err)
{
    int count = options_parse(command->options, options, argc, argv, !command->options_first, err);
    if (count == OPTIONS_HELP)
        return COMMAND_HELP;
    if (count < 0)
        return error_wrap(err, "%s", command->name);
    if (count < command->arguments_min)
        return error_set(err, 0, "%s: missing argument (usage: husk %s %s)", command->name, command->name,
                         command->arguments);
    if (count > command->arguments_max)
        return error_set(err, 0, "%s: unexpected argument \"%s\"", command->name,
                         argv[command->arguments_max]);
    return count;
}

void command_report(const struct context *context, const char *text)
{
    char line[ERROR_TEXT_MAX];
    size_t length = 0;
    for (; text[length] && length < sizeof(line) - 1; length++)
        line[length] = iscntrl((unsigned char)text[length]) ? '?' : text[length];
    line[length] = '\0';
    if (context->log_fd >= 0)
        log_err("%s", text);
    dprintf(STDERR_FILENO, "husk: %s\n", line);
}

void command_print_all(FILE *out)
{
    for (size_t i = 0; i < COMMANDS_COUNT; i++)
        fprintf(out, "   %-11s %s\n", commands[i]->name, commands[i]->help);
    fprintf(out, "   %-11s %s\n", "help, h", "show this list, or explain one command");
}

void command_print_help(const struct command *command, FILE *out)
{
    bool options = command->options->name != NULL;
    fprintf(out, "NAME:\n   husk %s - %s\n\nUSAGE:\n   husk [global options] %s %s%s\n", command->name,
            command->help, command->name, options ? "[command options] " : "", command->arguments);
    fprintf(out, "\nOPTIONS:\n");
    options_print_help(command->options, out);
    fprintf(out, "   %-33s %s\n", "--help, -h", "show help");
}
