/* Unit tests of shim/event_json.c, ps_table.c and spec_default.c: what callers parse, and what a hostile
 * guest may put into it. */
#include "common/json.h"
#include "shim/event_json.h"
#include "shim/ps_table.h"
#include "shim/spec_default.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What event_write_stats makes of `stats` (stolen): a heap text, or NULL when it failed. */
static char *stats_text(json_t *stats, struct error *err)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    assert_non_null(out);
    int result = event_write_stats(out, "c1", stats, err);
    fclose(out);
    json_decref(stats);
    if (result == 0)
        return text;
    assert_int_equal(length, 0); /* nothing is written then */
    free(text);
    return NULL;
}

static const char zero_cpuset[] =
    "\"cpuset\":{\"cpu_exclusive\":0,\"mem_hardwall\":0,\"mem_exclusive\":0,\"memory_migrate\":0,"
    "\"memory_spread_page\":0,\"memory_spread_slab\":0,\"memory_pressure\":0,\"sched_load_balance\":0,"
    "\"sched_relax_domain_level\":0}";

static void stats_have_runcs_form(void **state)
{
    (void)state;
    char wanted[2048];
    struct error err = {0};
    const char given[] = JSON_TEXT({
        "cpu" : {"usage_usec" : 505767, "user_usec" : 114347, "system_usec" : 391419, "nr_periods" : 3},
        "memory" : {
            "current" : 266240,
            "max" : 1000000,
            "swap_current" : 10,
            "swap_max" : 500,
            "stat" : {"file" : 8192, "anon" : 1}
        },
        "pids" : {"current" : 1},
        "io" : [ {"major" : 254, "minor" : 0, "rbytes" : 8192, "wbytes" : 0, "rios" : 2, "wios" : 0} ],
        "hugetlb" : {"2MB" : {"current" : 0, "events" : {"max" : 7}}, "1GB" : {}}
    });
    snprintf(
        wanted, sizeof(wanted),
        "{\"type\":\"stats\",\"id\":\"c1\",\"data\":{\"cpu\":{\"usage\":{\"total\":505767000,\"kernel\":"
        "391419000,\"user\":114347000},\"throttling\":{\"periods\":3}},%s,\"memory\":{\"cache\":8192,"
        "\"usage\":{\"limit\":1000000,\"usage\":266240,\"failcnt\":0},\"swap\":{\"limit\":1000500,"
        "\"usage\":266250,\"failcnt\":0},\"kernel\":{\"limit\":0,\"failcnt\":0},\"kernelTCP\":{\"limit\":0,"
        "\"failcnt\":0},\"raw\":{\"anon\":1,\"file\":8192}},\"pids\":{\"current\":1},\"blkio\":{"
        "\"ioServiceBytesRecursive\":[{\"major\":254,\"op\":\"Read\",\"value\":8192},{\"major\":254,"
        "\"op\":\"Write\"}],\"ioServicedRecursive\":[{\"major\":254,\"op\":\"Read\",\"value\":2},{"
        "\"major\":254,\"op\":\"Write\"}]},\"hugetlb\":{\"1GB\":{\"failcnt\":0},\"2MB\":{\"failcnt\":7}},"
        "\"intel_rdt\":{},\"network_interfaces\":null}}\n",
        zero_cpuset);
    char *text = stats_text(json_loads(given, 0, NULL), &err);
    assert_non_null(text);
    assert_string_equal(text, wanted);
    free(text);
}

static void no_limit_is_gos_largest_number(void **state)
{
    (void)state;
    struct error err = {0};
    char *text = stats_text(json_pack("{s:{s:i}}", "memory", "current", 1), &err);
    assert_non_null(text);
    assert_non_null(strstr(text, "\"usage\":{\"limit\":18446744073709551615,\"usage\":1,"));
    assert_non_null(strstr(text, "\"swap\":{\"limit\":18446744073709551615,"));
    free(text);
}

static void figures_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        JSON_TEXT({"cpu" : {"usage_usec" : -1}}),
        JSON_TEXT({"cpu" : {"usage_usec" : "many"}}),
        JSON_TEXT({"cpu" : []}),
        JSON_TEXT({"memory" : {"current" : 1.5}}),
        JSON_TEXT({"memory" : {"stat" : {"file" : {}}}}),
        JSON_TEXT({"io" : {}}),
        JSON_TEXT({"io" : [ {"major" : "x"} ]}),
        JSON_TEXT({"hugetlb" : {"2MB" : 1}}),
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct error err = {0};
        json_t *stats = json_loads(wrong[i], 0, NULL);
        assert_non_null(stats);
        assert_null(stats_text(stats, &err));
        assert_true(err.code != 0);
    }
}

/* Names of the guest's choosing can't break out of the JSON. */
static void names_from_the_guest_are_filtered(void **state)
{
    (void)state;
    struct error err = {0};
    json_t *stats = json_pack("{s:{s:{s:i, s:i}}, s:{s:{}}}", "memory", "stat", "x\"}", 1, "good_1", 2,
                              "hugetlb", "2MB\":{},\"x");
    char *text = stats_text(stats, &err);
    assert_non_null(text);
    assert_non_null(strstr(text, "\"raw\":{\"good_1\":2}"));
    assert_non_null(strstr(text, "\"hugetlb\":{}"));
    free(text);
}

static json_t *sample_process(const char *args)
{
    return json_pack(
        "{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:s}", "pid",
        57, "own_pid", 1, "ppid", 1, "pgid", 57, "sid", 57, "tty", 0x8800, "uid", 4200000, "gid", 4200001,
        "state", "S", "threads", 3, "nice", 5, "priority", 25, "cpu_ms", 3723000, "age_ms", 90061000,
        "virtual_kib", 5000, "resident_kib", 1000, "comm", "sleep", "args", args);
}

/* The table of one process, with the options in `words`. */
static char *table_text(char **words, int count, json_t *process, struct error *err)
{
    static struct ps_table table;
    if (ps_table_init(&table, count, words, err) < 0) {
        json_decref(process);
        return NULL;
    }
    json_t *result = json_pack("{s:[o], s:i}", "processes", process, "memory_kib", 10000);
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    int printed = ps_table_print(&table, result, out, err);
    fclose(out);
    json_decref(result);
    if (printed == 0)
        return text;
    free(text);
    return NULL;
}

static void expect_table(const char *options, const char *wanted)
{
    char copy[128], *words[8], *rest = copy;
    int count = 0;
    struct error err = {0};
    snprintf(copy, sizeof(copy), "%s", options);
    for (char *word; (word = strsep(&rest, " ")) != NULL;)
        words[count++] = word;
    if (!*options)
        count = 0;
    char *text = table_text(words, count, sample_process("sleep 1000"), &err);
    if (!text)
        fail_msg("%s: %s", options, err.text);
    assert_string_equal(text, wanted);
    free(text);
}

static void columns_are_pss(void **state)
{
    (void)state;
    expect_table("-o pid,ppid,nspid,comm",
                 "    PID    PPID   NSPID COMMAND\n     57       1       1 sleep\n");
    expect_table("-eo pid=,args=", "     57 sleep 1000\n");
    expect_table("-o pid=Number -o args", " Number COMMAND\n     57 sleep 1000\n");
    expect_table("-o time,etime,bsdtime", "    TIME     ELAPSED   TIME\n01:02:03  1-01:01:01  62:03\n");
    expect_table("-o user,group,tty,stat",
                 "USER     GROUP    TTY      STAT\n4200000  4200001  pts/0    SNsl\n");
    expect_table("-o %cpu,%mem,vsz,rss,nlwp,ni",
                 "%CPU %MEM    VSZ   RSS NLWP  NI\n 4.1 10.0   5000  1000    3   5\n");
    expect_table("-o cmd,c", "CMD                          C\nsleep 1000                   4\n");
}

static void options_choose_the_format(void **state)
{
    (void)state;
    char *full[] = {"-ef"}, *bsd[] = {"aux"}, *brief[] = {"ax"};
    struct error err = {0};
    static const char uid_head[] = "UID          PID    PPID  C STIME TTY          TIME CMD\n";
    char *text = table_text(NULL, 0, sample_process("x"), &err);
    assert_memory_equal(text, uid_head, sizeof(uid_head) - 1);
    free(text);
    text = table_text(full, 1, sample_process("x"), &err);
    assert_memory_equal(text, uid_head, sizeof(uid_head) - 1);
    free(text);
    text = table_text(bsd, 1, sample_process("x"), &err);
    assert_int_equal(strncmp(text, "USER         PID %CPU %MEM", 26), 0);
    free(text);
    text = table_text(brief, 1, sample_process("x"), &err);
    assert_int_equal(strncmp(text, "    PID TTY      STAT", 21), 0);
    free(text);
}

static void what_ps_can_not_do_is_named(void **state)
{
    (void)state;
    static const char *const wrong[] = {"-L", "-o", "-p", "--forest", "-o pid,nosuch", "auxf"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char copy[32];
        struct error err = {0};
        snprintf(copy, sizeof(copy), "%s", wrong[i]);
        char *words[2] = {copy, strchr(copy, ' ')};
        if (words[1])
            *words[1]++ = '\0';
        assert_null(table_text(words, words[1] ? 2 : 1, sample_process("x"), &err));
        assert_non_null(strstr(err.text, "ps: "));
    }
}

static void a_hostile_list_of_processes_does_no_harm(void **state)
{
    (void)state;
    char *words[] = {"-o", "args"};
    struct error err = {0};
    char *text = table_text(words, 2, sample_process("a\x1b[2Jb\nc"), &err);
    assert_string_equal(text, "COMMAND\na?[2Jb?c\n");
    free(text);
    assert_null(table_text(words, 2, json_pack("{s:i}", "pid", 1), &err));
    assert_null(table_text(words, 2, json_integer(1), &err));
    json_t *negative = sample_process("x");
    json_object_set_new(negative, "pid", json_integer(-5));
    assert_null(table_text(words, 2, negative, &err));
}

static void the_start_file_is_whole(void **state)
{
    (void)state;
    struct error err = {0};
    cleanup_json json_t *spec = spec_default(false, &err);
    assert_non_null(spec);
    assert_int_equal(json_array_size(json_object_get(spec, "mounts")), 7);
    cleanup_json json_t *rootless = spec_default(true, &err);
    json_t *section = json_object_get(rootless, "linux");
    assert_null(json_object_get(section, "resources"));
    assert_int_equal(json_array_size(json_object_get(section, "uidMappings")), 1);
    char *text = json_dumps(rootless, 0);
    assert_null(strstr(text, "gid=5"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stats_have_runcs_form),
        cmocka_unit_test(no_limit_is_gos_largest_number),
        cmocka_unit_test(figures_that_are_none_are_refused),
        cmocka_unit_test(names_from_the_guest_are_filtered),
        cmocka_unit_test(columns_are_pss),
        cmocka_unit_test(options_choose_the_format),
        cmocka_unit_test(what_ps_can_not_do_is_named),
        cmocka_unit_test(a_hostile_list_of_processes_does_no_harm),
        cmocka_unit_test(the_start_file_is_whole),
    };
    return cmocka_run_group_tests_name("shim_output", tests, NULL, NULL);
}
