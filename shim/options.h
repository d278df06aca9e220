/*
 * Command-line options by table: one row drives parsing and help.
 *
 * Used for husk's global options and each command's own. Long options take their value as `--name=value` or
 * `--name value`; flags may say `--name=true` or `--name=false`, as callers written in Go do. The argument
 * vector is the caller's and outlives what is parsed: strings are borrowed from it.
 */
#ifndef HUSK_SHIM_OPTIONS_H
#define HUSK_SHIM_OPTIONS_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct option_row {
    const char *name;     /* without the dashes; NULL ends the table */
    char letter;          /* of the short form, or 0 */
    const char *argument; /* what help calls the value; NULL: a flag */
    const char *help;
    /* Stores the value ("true" or "false" for a flag) in the field. 0, or -1 with err filled. */
    int (*set)(void *field, const char *value, struct error *err);
    size_t offset; /* of the field in the target */
};

/* Setters for `const char *`, `bool` and `unsigned` fields. */
int option_set_string(void *field, const char *value, struct error *err);
int option_set_flag(void *field, const char *value, struct error *err);
int option_set_number(void *field, const char *value, struct error *err);

/* The values of an option that may be given several times, in their order. */
struct option_list {
    const char **items;
    size_t count;
};

/* Setter for a `struct option_list` field. */
int option_append(void *field, const char *value, struct error *err);

/* Frees the list; its strings are the argument vector's. */
void option_list_fini(struct option_list *list);

#define OPTIONS_HELP (-2)

/* Parses argv[0..argc-1] into target. With `permute`, options may follow positional arguments; without, the
 * first positional argument ends them. "--" always does. Positional arguments are moved to the front of argv.
 * Returns their number, OPTIONS_HELP when --help, -h, or crun's --usage and -? is among the options, or -1
 * with err filled. */
int options_parse(const struct option_row *rows, void *target, int argc, char **argv, bool permute,
                  struct error *err);

/* Prints the table's rows, one a line. */
void options_print_help(const struct option_row *rows, FILE *out);

#endif
