/*
 * The commands' table and what each command gets from main. A new command is one file cmd_NAME.c that defines
 * a struct command, and one row in command.c.
 */
#ifndef HUSK_SHIM_COMMAND_H
#define HUSK_SHIM_COMMAND_H

#include "common/error.h"
#include "common/log.h"
#include "shim/options.h"
#include "shim/store.h"

#include <stdbool.h>

/* Options in front of the command. */
struct global_options {
    const char *root;
    const char *log;
    const char *log_format;
    const char *log_level;
    const char *cgroup_manager;
    const char *config_dir;
    const char *rootless;
    const char *criu;
    bool debug;
    bool systemd_cgroup;
    bool version;
};

struct context {
    struct global_options options;
    struct store store; /* open, unless the command says no_store */
    int log_fd;         /* --log's file, or -1 */
    enum log_format log_format;
};

#define COMMAND_HELP OPTIONS_HELP

struct command {
    const char *name;
    const char *arguments; /* for the usage line */
    const char *help;
    const struct option_row *options;
    int arguments_min, arguments_max;
    bool options_first; /* the first positional argument ends the options */
    bool no_store;      /* needs nothing below --root */
    /* Runs with the words after the command's name. The process's exit status, COMMAND_HELP when help was
     * asked for, or -1 with err filled. */
    int (*run)(const struct context *context, int argc, char **argv, struct error *err);
};

/* Parses a command's words into its options; checks the number of positional arguments. Their number, or
 * COMMAND_HELP, or -1 with err filled. */
int command_parse(const struct command *command, void *options, int argc, char **argv, struct error *err);

/* The command of that name, or NULL. */
const struct command *command_find(const char *name);

/* Tells the user of an error: one line on standard error, control characters escaped, and an entry in --log's
 * file. */
void command_report(const struct context *context, const char *text);

/* Lists all commands, or explains one. */
void command_print_all(FILE *out);
void command_print_help(const struct command *command, FILE *out);

extern const struct command cmd_check, cmd_checkpoint, cmd_create, cmd_delete, cmd_events, cmd_exec,
    cmd_features, cmd_kill, cmd_list, cmd_pause, cmd_ps, cmd_restore, cmd_resume, cmd_run, cmd_spec,
    cmd_start, cmd_state, cmd_update;

#endif
