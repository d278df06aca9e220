/*
 * ps(1)'s columns: see ps_table.h. Names, heads and forms are those of procps, which runc's `ps` shows.
 */
#include "shim/ps_table.h"

#include "common/json.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <linux/major.h>
#include <pwd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>

#define CELL_MAX   1024
#define MS_PER_S   1000
#define DAY_S      (24 * 3600)
#define PTS_MAJORS 8 /* UNIX98_PTY_SLAVE_MAJOR and the following */

/* One process, checked. Texts are borrowed. */
struct ps_process {
    int64_t pid, own_pid, ppid, pgid, sid, tty, uid, gid, threads, nice, priority;
    int64_t cpu_ms, age_ms, virtual_kib, resident_kib;
    int64_t memory_kib; /* of the guest */
    const char *state, *comm, *args;
};

struct ps_column {
    const char *names; /* comma-separated */
    const char *head;
    int width; /* at least; negative: to the left */
    void (*write)(const struct ps_process *process, char cell[CELL_MAX]);
};

#define NUMBER_CELL(member)                                                                                  \
    static void write_##member(const struct ps_process *process, char cell[CELL_MAX])                        \
    {                                                                                                        \
        snprintf(cell, CELL_MAX, "%lld", (long long)process->member);                                        \
    }
NUMBER_CELL(pid)
NUMBER_CELL(own_pid)
NUMBER_CELL(ppid)
NUMBER_CELL(pgid)
NUMBER_CELL(sid)
NUMBER_CELL(uid)
NUMBER_CELL(gid)
NUMBER_CELL(threads)
NUMBER_CELL(nice)
NUMBER_CELL(priority)
NUMBER_CELL(virtual_kib)
NUMBER_CELL(resident_kib)
#undef NUMBER_CELL

static void write_comm(const struct ps_process *process, char cell[CELL_MAX])
{
    snprintf(cell, CELL_MAX, "%s", process->comm);
}

static void write_args(const struct ps_process *process, char cell[CELL_MAX])
{
    snprintf(cell, CELL_MAX, "%s", process->args);
}

static void write_state(const struct ps_process *process, char cell[CELL_MAX])
{
    snprintf(cell, CELL_MAX, "%s", process->state);
}

/* BSD's: the state with what is known beside it. */
static void write_stat(const struct ps_process *process, char cell[CELL_MAX])
{
    snprintf(cell, CELL_MAX, "%s%s%s%s", process->state,
             process->nice < 0   ? "<"
             : process->nice > 0 ? "N"
                                 : "",
             process->sid == process->pid ? "s" : "", process->threads > 1 ? "l" : "");
}

/* As this machine knows the numbers; runc's ps does the same. */
static void write_user(const struct ps_process *process, char cell[CELL_MAX])
{
    const struct passwd *user = getpwuid((uid_t)process->uid);
    if (user)
        snprintf(cell, CELL_MAX, "%s", user->pw_name);
    else
        write_uid(process, cell);
}

static void write_group(const struct ps_process *process, char cell[CELL_MAX])
{
    const struct group *group = getgrgid((gid_t)process->gid);
    if (group)
        snprintf(cell, CELL_MAX, "%s", group->gr_name);
    else
        write_gid(process, cell);
}

/* proc(5), tty_nr: the kernel's encoding of a device number. */
static void write_tty(const struct ps_process *process, char cell[CELL_MAX])
{
    unsigned number = (unsigned)process->tty;
    unsigned tty_major = (number >> 8) & 0xfff, tty_minor = (number & 0xff) | ((number >> 12) & 0xfff00);
    if (number == 0)
        snprintf(cell, CELL_MAX, "?");
    else if (tty_major >= UNIX98_PTY_SLAVE_MAJOR && tty_major < UNIX98_PTY_SLAVE_MAJOR + PTS_MAJORS)
        snprintf(cell, CELL_MAX, "pts/%u", tty_minor + (tty_major - UNIX98_PTY_SLAVE_MAJOR) * 256);
    else if (tty_major == TTY_MAJOR)
        snprintf(cell, CELL_MAX, "tty%u", tty_minor);
    else
        snprintf(cell, CELL_MAX, "%u:%u", tty_major, tty_minor);
}

/* [DD-]HH:MM:SS. */
static void write_time(const struct ps_process *process, char cell[CELL_MAX])
{
    long long s = process->cpu_ms / MS_PER_S;
    char days[24] = "";
    if (s >= DAY_S)
        snprintf(days, sizeof(days), "%lld-", s / DAY_S);
    snprintf(cell, CELL_MAX, "%s%02lld:%02lld:%02lld", days, s / 3600 % 24, s / 60 % 60, s % 60);
}

static void write_bsd_time(const struct ps_process *process, char cell[CELL_MAX])
{
    long long s = process->cpu_ms / MS_PER_S;
    snprintf(cell, CELL_MAX, "%lld:%02lld", s / 60, s % 60);
}

/* [[DD-]HH:]MM:SS. */
static void write_elapsed(const struct ps_process *process, char cell[CELL_MAX])
{
    long long s = process->age_ms / MS_PER_S;
    if (s >= DAY_S)
        snprintf(cell, CELL_MAX, "%lld-%02lld:%02lld:%02lld", s / DAY_S, s / 3600 % 24, s / 60 % 60, s % 60);
    else if (s >= 3600)
        snprintf(cell, CELL_MAX, "%02lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(cell, CELL_MAX, "%02lld:%02lld", s / 60, s % 60);
}

static void write_elapsed_s(const struct ps_process *process, char cell[CELL_MAX])
{
    snprintf(cell, CELL_MAX, "%lld", (long long)(process->age_ms / MS_PER_S));
}

/* The hour of a start within the last day, else its date. */
static void write_start(const struct ps_process *process, char cell[CELL_MAX])
{
    time_t start = time(NULL) - (time_t)(process->age_ms / MS_PER_S);
    struct tm parts;
    localtime_r(&start, &parts);
    strftime(cell, CELL_MAX, process->age_ms < (int64_t)DAY_S * MS_PER_S ? "%H:%M" : "%b%d", &parts);
}

static double cpu_percent(const struct ps_process *process)
{
    return process->age_ms > 0 ? 100.0 * (double)process->cpu_ms / (double)process->age_ms : 0;
}

static void write_cpu(const struct ps_process *process, char cell[CELL_MAX])
{
    snprintf(cell, CELL_MAX, "%.1f", cpu_percent(process));
}

static void write_c(const struct ps_process *process, char cell[CELL_MAX])
{
    double percent = cpu_percent(process);
    snprintf(cell, CELL_MAX, "%d", percent > 99 ? 99 : (int)percent);
}

static void write_memory(const struct ps_process *process, char cell[CELL_MAX])
{
    snprintf(cell, CELL_MAX, "%.1f",
             process->memory_kib > 0 ? 100.0 * (double)process->resident_kib / (double)process->memory_kib
                                     : 0);
}

static const struct ps_column columns[] = {
    {"pid,tgid", "PID", 7, write_pid},
    {"ppid", "PPID", 7, write_ppid},
    {"nspid", "NSPID", 7, write_own_pid}, /* not procps's: the pid that the container itself sees */
    {"pgid,pgrp", "PGID", 7, write_pgid},
    {"sid,sess,session", "SID", 7, write_sid},
    {"uid,euid", "UID", 5, write_uid},
    {"gid,egid", "GID", 5, write_gid},
    {"user,euser,uname", "USER", -8, write_user},
    {"group,egroup", "GROUP", -8, write_group},
    {"c", "C", 2, write_c},
    {"pcpu,%cpu", "%CPU", 4, write_cpu},
    {"pmem,%mem", "%MEM", 4, write_memory},
    {"vsz,vsize", "VSZ", 6, write_virtual_kib},
    {"rss,rssize,rsz", "RSS", 5, write_resident_kib},
    {"tty,tt,tname", "TTY", -8, write_tty},
    {"stat", "STAT", -4, write_stat},
    {"state,s", "S", -1, write_state},
    {"stime,start_time", "STIME", 5, write_start},
    {"start", "START", 5, write_start},
    {"time,cputime", "TIME", 8, write_time},
    {"bsdtime", "TIME", 6, write_bsd_time},
    {"etime", "ELAPSED", 11, write_elapsed},
    {"etimes", "ELAPSED", 7, write_elapsed_s},
    {"nlwp,thcount", "NLWP", 4, write_threads},
    {"ni,nice", "NI", 3, write_nice},
    {"pri,priority", "PRI", 3, write_priority},
    {"comm,ucmd,ucomm", "COMMAND", -15, write_comm},
    {"args,command", "COMMAND", -27, write_args},
    {"cmd", "CMD", -27, write_args},
};

/* What the options stand for. */
static const char full_format[] = "user=UID,pid,ppid,c,stime,tty,time,cmd";
static const char user_format[] = "user,pid,%cpu,%mem,vsz,rss,tty,stat,start,bsdtime,command";
static const char short_format[] = "pid,tty,stat,bsdtime,command";

static const struct ps_column *column_find(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
        for (const char *at = columns[i].names; *at;) {
            size_t known = strcspn(at, ",");
            if (known == length && strncasecmp(at, name, length) == 0)
                return &columns[i];
            at += known + (at[known] == ',');
        }
    }
    return NULL;
}

/* "pid,args" or "pid=,args=WHAT RUNS": a head given by "=" reaches to the next comma, as in procps's own
 * personality. */
static int table_add(struct ps_table *table, const char *list, struct error *err)
{
    while (*list) {
        size_t length = strcspn(list, "=, ");
        const struct ps_column *column = column_find(list, length);
        if (!column)
            return error_set(err, 0, "ps: column \"%.*s\" is not supported", (int)length, list);
        if (table->count == PS_COLUMNS_MAX)
            return error_set(err, 0, "ps: more than %d columns", PS_COLUMNS_MAX);
        struct ps_choice *choice = &table->choices[table->count++];
        choice->column = column;
        snprintf(choice->head, sizeof(choice->head), "%s", column->head);
        list += length;
        if (*list == '=') {
            length = strcspn(++list, ",");
            snprintf(choice->head, sizeof(choice->head), "%.*s", (int)length, list);
            list += length;
        }
        list += strspn(list, ", ");
    }
    return 0;
}

/* One word of options; *at moves past a list that follows in the next word. */
static int table_take_option(struct ps_table *table, const char **format, int argc, char **argv, int *at,
                             struct error *err)
{
    const char *word = argv[*at];
    bool dashed = *word == '-';
    if (strcmp(word, "-aux") == 0 || (!dashed && strchr(word, 'u') && !strchr(word, 'o'))) {
        *format = user_format;
        return strspn(word, "-aux") == strlen(word) ? 0
                                                    : error_set(err, 0, "ps: \"%s\" is not supported", word);
    }
    for (const char *letter = word + dashed; *letter; letter++) {
        if (*letter == 'o') {
            const char *list = letter[1] ? letter + 1 : *at + 1 < argc ? argv[++*at] : NULL;
            if (!list || !*list)
                return error_set(err, 0, "ps: -o needs a list of columns");
            return table_add(table, list, err);
        }
        if (dashed && *letter == 'f')
            *format = full_format;
        else if (!dashed && !*format && (*letter == 'a' || *letter == 'x'))
            *format = short_format;
        else if (!strchr(dashed ? "eAax" : "ax", *letter))
            return error_set(err, 0, "ps: option \"%s%c\" is not supported", dashed ? "-" : "", *letter);
    }
    return 0;
}

int ps_table_init(struct ps_table *table, int argc, char **argv, struct error *err)
{
    const char *format = NULL;
    table->count = 0;
    for (int at = 0; at < argc; at++) {
        if (table_take_option(table, &format, argc, argv, &at, err) < 0)
            return -1;
    }
    return table->count > 0 ? 0 : table_add(table, format ? format : full_format, err);
}

/* Takes one process out of the answer. The texts are the container's own: made printable when printed. */
static int process_read(const json_t *object, struct ps_process *process, struct error *err)
{
    static const struct {
        const char *key;
        size_t offset;
        int64_t min, max;
    } numbers[] = {
        {"pid", offsetof(struct ps_process, pid), 1, INT32_MAX},
        {"own_pid", offsetof(struct ps_process, own_pid), 0, INT32_MAX},
        {"ppid", offsetof(struct ps_process, ppid), 0, INT32_MAX},
        {"pgid", offsetof(struct ps_process, pgid), 0, INT32_MAX},
        {"sid", offsetof(struct ps_process, sid), 0, INT32_MAX},
        {"tty", offsetof(struct ps_process, tty), INT32_MIN, UINT32_MAX},
        {"uid", offsetof(struct ps_process, uid), 0, UINT32_MAX},
        {"gid", offsetof(struct ps_process, gid), 0, UINT32_MAX},
        {"threads", offsetof(struct ps_process, threads), 0, INT32_MAX},
        {"nice", offsetof(struct ps_process, nice), INT8_MIN, INT8_MAX},
        {"priority", offsetof(struct ps_process, priority), INT16_MIN, INT16_MAX},
        {"cpu_ms", offsetof(struct ps_process, cpu_ms), 0, INT64_MAX},
        {"age_ms", offsetof(struct ps_process, age_ms), 0, INT64_MAX},
        {"virtual_kib", offsetof(struct ps_process, virtual_kib), 0, INT64_MAX},
        {"resident_kib", offsetof(struct ps_process, resident_kib), 0, INT64_MAX},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        int64_t *field = (int64_t *)(void *)((char *)process + numbers[i].offset);
        if (json_require(
                json_get_int(object, "processes", numbers[i].key, numbers[i].min, numbers[i].max, field, err),
                "processes", numbers[i].key, err) < 0)
            return -1;
    }
    if (json_require(json_get_string(object, "processes", "state", &process->state, err), "processes",
                     "state", err) < 0 ||
        json_require(json_get_string(object, "processes", "comm", &process->comm, err), "processes", "comm",
                     err) < 0 ||
        json_require(json_get_string(object, "processes", "args", &process->args, err), "processes", "args",
                     err) < 0)
        return -1;
    return 0;
}

/* The last cell is not filled up; control characters (of a hostile guest) do not reach the terminal. */
static void print_cell(const struct ps_table *table, size_t index, char *cell, FILE *out)
{
    int width = table->choices[index].column->width;
    bool last = index + 1 == table->count;
    for (char *c = cell; *c; c++) {
        if (iscntrl((unsigned char)*c))
            *c = '?';
    }
    if (last && width < 0)
        width = 0;
    fprintf(out, "%*s%c", width, cell, last ? '\n' : ' ');
}

static void print_head(const struct ps_table *table, FILE *out)
{
    bool wanted = false;
    for (size_t i = 0; i < table->count; i++)
        wanted |= table->choices[i].head[0] != '\0';
    for (size_t i = 0; wanted && i < table->count; i++) {
        char cell[CELL_MAX];
        snprintf(cell, sizeof(cell), "%s", table->choices[i].head);
        print_cell(table, i, cell, out);
    }
}

int ps_table_print(const struct ps_table *table, const json_t *result, FILE *out, struct error *err)
{
    json_t *list = NULL, *object;
    size_t index;
    struct ps_process process = {0};
    if (json_require(json_get_array(result, "", "processes", &list, err), "", "processes", err) < 0 ||
        json_get_int(result, "", "memory_kib", 0, INT64_MAX, &process.memory_kib, err) < 0)
        return -1;
    print_head(table, out);
    json_array_foreach(list, index, object)
    {
        if (!json_is_object(object))
            return error_set(err, EPROTO, "processes: expected objects");
        if (process_read(object, &process, err) < 0)
            return -1;
        for (size_t i = 0; i < table->count; i++) {
            char cell[CELL_MAX];
            table->choices[i].column->write(&process, cell);
            print_cell(table, i, cell, out);
        }
    }
    return 0;
}
