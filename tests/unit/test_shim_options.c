/* Unit tests of shim/options.c and shim/signal_name.c: what callers write on the command line. */
#include "shim/options.h"
#include "shim/signal_name.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct target {
    const char *root;
    bool force;
    unsigned count;
};

static const struct option_row rows[] = {
    {"root", 'r', "DIR", "a directory", option_set_string, offsetof(struct target, root)},
    {"force", 'f', NULL, "a flag", option_set_flag, offsetof(struct target, force)},
    {"count", 0, "N", "a number", option_set_number, offsetof(struct target, count)},
    {0}};

#define PARSE(permute, ...)                                                                                  \
    char *argv[] = {__VA_ARGS__, NULL};                                                                      \
    struct target target = {0};                                                                              \
    struct error err = {0};                                                                                  \
    int count = options_parse(rows, &target, (int)(sizeof(argv) / sizeof(argv[0])) - 1, argv, permute, &err)

static void both_forms_of_a_value_are_read(void **state)
{
    (void)state;
    PARSE(true, "--root=/a", "--count", "7", "c1");
    assert_int_equal(count, 1);
    assert_string_equal(target.root, "/a");
    assert_int_equal(target.count, 7);
    assert_string_equal(argv[0], "c1");
}

static void letters_take_values_joined_or_apart(void **state)
{
    (void)state;
    PARSE(true, "-r/a", "-f", "-r", "/b");
    assert_int_equal(count, 0);
    assert_string_equal(target.root, "/b");
    assert_true(target.force);
}

static void options_may_follow_positional_arguments(void **state)
{
    (void)state;
    PARSE(true, "c1", "--force", "KILL", "--", "--root");
    assert_int_equal(count, 3);
    assert_true(target.force);
    assert_string_equal(argv[1], "KILL");
    assert_string_equal(argv[2], "--root");
}

static void the_first_argument_may_end_the_options(void **state)
{
    (void)state;
    PARSE(false, "--force", "run", "--root", "/a");
    assert_int_equal(count, 3);
    assert_true(target.force);
    assert_null(target.root);
    assert_string_equal(argv[0], "run");
}

static void flags_take_go_style_values(void **state)
{
    (void)state;
    PARSE(true, "--force=true", "--force=false");
    assert_int_equal(count, 0);
    assert_false(target.force);
}

static void a_flag_with_another_value_is_refused(void **state)
{
    (void)state;
    PARSE(true, "--force=maybe");
    assert_int_equal(count, -1);
    assert_string_equal(err.text, "option --force: \"maybe\" is neither true nor false");
}

static void an_unknown_option_is_named(void **state)
{
    (void)state;
    PARSE(true, "--rooted", "/a");
    assert_int_equal(count, -1);
    assert_string_equal(err.text, "unknown option --rooted");
}

static void an_unknown_letter_is_named(void **state)
{
    (void)state;
    PARSE(true, "-x");
    assert_int_equal(count, -1);
    assert_string_equal(err.text, "unknown option -x");
}

static void a_missing_value_is_an_error(void **state)
{
    (void)state;
    PARSE(true, "--root");
    assert_int_equal(count, -1);
    assert_string_equal(err.text, "option --root needs a value");
}

static void a_number_must_be_one(void **state)
{
    (void)state;
    PARSE(true, "--count", "-1");
    assert_int_equal(count, -1);
    assert_string_equal(err.text, "option --count: \"-1\" is no number");
}

static void help_is_found(void **state)
{
    (void)state;
    PARSE(true, "c1", "--help");
    assert_int_equal(count, OPTIONS_HELP);
}

static void signals_have_names_and_numbers(void **state)
{
    (void)state;
    struct error err;
    const struct {
        const char *text;
        int number;
    } known[] = {{"9", 9},
                 {"KILL", SIGKILL},
                 {"SIGKILL", SIGKILL},
                 {"sigusr1", SIGUSR1},
                 {"0", 0},
                 {"RTMIN", SIGRTMIN},
                 {"RTMIN+3", SIGRTMIN + 3},
                 {"64", 64},
                 {"RTMAX", SIGRTMAX},
                 {"SIGRTMAX-1", SIGRTMAX - 1},
                 {"CLD", SIGCHLD}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        assert_int_equal(signal_parse(known[i].text, &err), known[i].number);
}

static void unknown_signals_are_named(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "65", "9x", "NOSUCH", "RTMIN-1", "RTMAX+1", "RTMIN+99", "SIG"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct error err = {0};
        assert_int_equal(signal_parse(wrong[i], &err), -1);
        assert_non_null(strstr(err.text, "unknown signal"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_forms_of_a_value_are_read),
        cmocka_unit_test(letters_take_values_joined_or_apart),
        cmocka_unit_test(options_may_follow_positional_arguments),
        cmocka_unit_test(the_first_argument_may_end_the_options),
        cmocka_unit_test(flags_take_go_style_values),
        cmocka_unit_test(a_flag_with_another_value_is_refused),
        cmocka_unit_test(an_unknown_option_is_named),
        cmocka_unit_test(an_unknown_letter_is_named),
        cmocka_unit_test(a_missing_value_is_an_error),
        cmocka_unit_test(a_number_must_be_one),
        cmocka_unit_test(help_is_found),
        cmocka_unit_test(signals_have_names_and_numbers),
        cmocka_unit_test(unknown_signals_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
