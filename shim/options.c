/*
 * The parser behind the option tables: see options.h. Its input is the command line of whoever calls husk;
 * an option that is in no table is an error that names it.
 */
#include "shim/options.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

int option_set_string(void *field, const char *value, struct error *err)
{
    (void)err;
    *(const char **)field = value;
    return 0;
}

int option_set_flag(void *field, const char *value, struct error *err)
{
    if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
        return error_set(err, 0, "\"%s\" is neither true nor false", value);
    *(bool *)field = strcmp(value, "true") == 0;
    return 0;
}

int option_set_number(void *field, const char *value, struct error *err)
{
    char *end;
    errno = 0;
    unsigned long number = strtoul(value, &end, 10);
    if (*value < '0' || *value > '9' || *end || errno || number > UINT_MAX)
        return error_set(err, 0, "\"%s\" is no number", value);
    *(unsigned *)field = (unsigned)number;
    return 0;
}

int option_append(void *field, const char *value, struct error *err)
{
    struct option_list *list = field;
    const char **grown = reallocarray(list->items, list->count + 1, sizeof(*grown));
    if (!grown)
        return error_set(err, ENOMEM, "\"%s\"", value);
    list->items = grown;
    list->items[list->count++] = value;
    return 0;
}

void option_list_fini(struct option_list *list)
{
    free(list->items);
    *list = (struct option_list){0};
}

static const struct option_row *option_find_long(const struct option_row *rows, const char *name,
                                                 size_t length)
{
    for (; rows->name; rows++) {
        if (strlen(rows->name) == length && strncmp(rows->name, name, length) == 0)
            return rows;
    }
    return NULL;
}

static const struct option_row *option_find_letter(const struct option_row *rows, char letter)
{
    for (; rows->name; rows++) {
        if (rows->letter == letter)
            return rows;
    }
    return NULL;
}

static int option_store(const struct option_row *row, void *target, const char *value, struct error *err)
{
    if (row->set((char *)target + row->offset, value, err) < 0)
        return error_wrap(err, "option --%s", row->name);
    return 0;
}

/* One option at argv[at]. Returns how many elements of argv it took, or OPTIONS_HELP, or -1. */
static int option_parse_one(const struct option_row *rows, void *target, int argc, char **argv, int at,
                            struct error *err)
{
    const char *word = argv[at];
    const struct option_row *row;
    const char *value = NULL;
    /* The last two are crun's. */
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "--usage") == 0 ||
        strcmp(word, "-?") == 0)
        return OPTIONS_HELP;
    if (word[1] == '-') {
        size_t length = strcspn(word + 2, "=");
        row = option_find_long(rows, word + 2, length);
        if (word[2 + length] == '=')
            value = word + 2 + length + 1;
    } else {
        row = option_find_letter(rows, word[1]);
        if (row && word[2])
            value = word + (word[2] == '=' ? 3 : 2);
    }
    if (!row)
        return error_set(err, 0, "unknown option %s", word);
    if (!row->argument)
        return option_store(row, target, value ? value : "true", err) < 0 ? -1 : 1;
    if (value)
        return option_store(row, target, value, err) < 0 ? -1 : 1;
    if (at + 1 >= argc)
        return error_set(err, 0, "option %s needs a value", word);
    return option_store(row, target, argv[at + 1], err) < 0 ? -1 : 2;
}

int options_parse(const struct option_row *rows, void *target, int argc, char **argv, bool permute,
                  struct error *err)
{
    int positionals = 0, at = 0;
    while (at < argc) {
        char *word = argv[at];
        if (strcmp(word, "--") == 0) {
            at++;
            break;
        }
        if (word[0] == '-' && word[1]) {
            int taken = option_parse_one(rows, target, argc, argv, at, err);
            if (taken < 0)
                return taken;
            at += taken;
            continue;
        }
        if (!permute)
            break;
        argv[positionals++] = word;
        at++;
    }
    while (at < argc)
        argv[positionals++] = argv[at++];
    return positionals;
}

void options_print_help(const struct option_row *rows, FILE *out)
{
    for (; rows->name; rows++) {
        char left[64], letter[8] = "";
        if (rows->letter)
            snprintf(letter, sizeof(letter), ", -%c", rows->letter);
        snprintf(left, sizeof(left), "--%s%s%s%s", rows->name, rows->argument ? " " : "",
                 rows->argument ? rows->argument : "", letter);
        fprintf(out, "   %-33s %s\n", left, rows->help);
    }
}
