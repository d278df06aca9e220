/*
 * The table that `husk ps` prints: ps(1)'s options and columns over the processes that the agent lists.
 *
 * Called by cmd_ps.c. The options are the user's; the processes are the guest's word and checked here.
 */
#ifndef HUSK_SHIM_PS_TABLE_H
#define HUSK_SHIM_PS_TABLE_H

#include "common/error.h"

#include <jansson.h>
#include <stdio.h>

struct ps_column;

#define PS_COLUMNS_MAX 64

/* A column as asked for, with the head it is to have. */
struct ps_choice {
    const struct ps_column *column;
    char head[64];
};

struct ps_table {
    struct ps_choice choices[PS_COLUMNS_MAX];
    size_t count;
};

/* Chooses the columns by ps(1)'s options: -e, -A, -a and -x (all are shown anyway), -f, BSD's "aux" and "ax",
 * and -o LIST, where a column may be given another head (-o pid=,args=CMD). None: as for -ef. 0, or -1 with
 * err naming the option or column that is not supported. */
int ps_table_init(struct ps_table *table, int argc, char **argv, struct error *err);

/* Prints head and rows: `result` is the answer to container.processes with details. 0, or -1 with err filled
 * when it is not as protocol.h says. */
int ps_table_print(const struct ps_table *table, const json_t *result, FILE *out, struct error *err);

#endif
