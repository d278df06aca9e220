/* Fuzz target: what a guest may answer to `ps` and `events`. What is printed as an event must be one line of
 * JSON, and no control character may reach the user's terminal. */
#include "common/json.h"
#include "shim/event_json.h"
#include "shim/ps_table.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Go reads numbers above INT64_MAX, json_parse_object keeps them as strings: either is well-formed. */
static void check_event(const char *text, size_t length)
{
    if (length == 0 || text[length - 1] != '\n' || memchr(text, '\n', length - 1))
        abort();
    cleanup_json json_t *event = json_parse_object(text, length - 1, NULL);
    if (!event)
        abort();
}

static void check_table(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] != '\n' && iscntrl((unsigned char)text[i]))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char options[] = "-o",
                columns[] = "pid,ppid,nspid,pgid,sid,uid,gid,user,group,c,pcpu,pmem,vsz,rss,tty,stat,s,"
                            "stime,time,bsdtime,etime,etimes,nlwp,ni,pri,comm,args";
    static char *words[] = {options, columns};
    static struct ps_table table;
    struct error err;
    char *text = NULL;
    size_t length = 0;
    cleanup_json json_t *answer = json_parse_object((const char *)data, size, NULL);
    if (!answer || (table.count == 0 && ps_table_init(&table, 2, words, &err) < 0))
        return 0;
    FILE *out = open_memstream(&text, &length);
    int result = event_write_stats(out, "c1", answer, &err);
    fclose(out);
    if (result == 0)
        check_event(text, length);
    free(text);

    text = NULL;
    out = open_memstream(&text, &length);
    ps_table_print(&table, answer, out, &err);
    fclose(out);
    check_table(text, length);
    free(text);
    return 0;
}
