/* Unit tests of shim/exec_process.c: what options and words make of the container's own process, as in runc.
 */
#include "common/fd.h"
#include "common/json.h"
#include "shim/exec_process.h"

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char config[] =
    "{\"ociVersion\": \"1.0.2\", \"process\": {\"args\": [\"sh\"], \"cwd\": \"/srv\","
    "\"env\": [\"A=1\"], \"user\": {\"uid\": 5, \"gid\": 6, \"additionalGids\": [7]},"
    "\"terminal\": true, \"consoleSize\": {\"height\": 1, \"width\": 2},"
    "\"capabilities\": {\"bounding\": [\"CAP_KILL\"]}, \"noNewPrivileges\": true}}";

struct fixture {
    char dir[64];
    struct container_state state;
    struct exec_options options;
};

static void write_file(const struct fixture *fixture, const char *name, const char *text)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", fixture->dir, name);
    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
}

static int setup(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){.dir = "/tmp/husk-test.XXXXXX"};
    *state = &fixture;
    if (!mkdtemp(fixture.dir))
        return -1;
    fixture.state.bundle = fixture.dir;
    write_file(&fixture, "config.json", config);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    static const char *const names[] = {"config.json", "process.json"};
    char path[PATH_MAX];
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/%s", fixture->dir, names[i]);
        unlink(path);
    }
    option_list_fini(&fixture->options.env);
    option_list_fini(&fixture->options.capabilities);
    option_list_fini(&fixture->options.additional_gids);
    return rmdir(fixture->dir);
}

/* The object for the words, as compact JSON with sorted keys; freed by the caller. */
static char *make(struct fixture *fixture, char *const *words)
{
    struct error err;
    json_t *process = exec_process_make(&fixture->options, &fixture->state, words, &err);
    if (!process)
        fail_msg("%s", err.text);
    char *text = json_dumps(process, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(process);
    return text;
}

static void expect_error(struct fixture *fixture, char *const *words, const char *text)
{
    struct error err = {0};
    assert_null(exec_process_make(&fixture->options, &fixture->state, words, &err));
    if (!strstr(err.text, text))
        fail_msg("\"%s\" lacks \"%s\"", err.text, text);
}

static char *const words[] = {"ls", "-l", NULL};

static void the_containers_own_process_is_the_default(void **state)
{
    char *text = make(*state, words);
    assert_string_equal(
        text, "{\"args\":[\"ls\",\"-l\"],\"capabilities\":{\"bounding\":[\"CAP_KILL\"]},\"cwd\":\"/srv\","
              "\"env\":[\"A=1\"],\"noNewPrivileges\":true,\"terminal\":false,"
              "\"user\":{\"additionalGids\":[7],\"gid\":6,\"uid\":5}}");
    free(text);
}

static void options_change_what_they_name(void **state)
{
    struct fixture *fixture = *state;
    struct exec_options *options = &fixture->options;
    options->cwd = "/tmp";
    options->user = "100:200";
    options->tty = true;
    options->apparmor = "unconfined";
    options->process_label = "label";
    options->no_new_privileges = EXEC_FLAG_FALSE;
    option_append(&options->env, "B=2", NULL);
    option_append(&options->env, "C=", NULL);
    option_append(&options->additional_gids, "300", NULL);
    option_append(&options->capabilities, "CAP_CHOWN", NULL);
    char *text = make(fixture, words);
    assert_string_equal(
        text, "{\"apparmorProfile\":\"unconfined\",\"args\":[\"ls\",\"-l\"],\"capabilities\":{\"ambient\":["
              "\"CAP_CHOWN\"],"
              "\"bounding\":[\"CAP_KILL\",\"CAP_CHOWN\"],\"effective\":[\"CAP_CHOWN\"],\"permitted\":[\"CAP_"
              "CHOWN\"]},"
              "\"cwd\":\"/"
              "tmp\",\"env\":[\"A=1\",\"B=2\",\"C=\"],\"noNewPrivileges\":false,\"selinuxLabel\":\"label\","
              "\"terminal\":true,\"user\":{\"additionalGids\":[7,300],\"gid\":200,\"uid\":100}}");
    free(text);
}

static void a_user_alone_keeps_the_group(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.user = "100";
    char *text = make(fixture, words);
    assert_non_null(strstr(text, "\"gid\":6,\"uid\":100"));
    free(text);
}

static void what_is_no_id_is_named(void **state)
{
    struct fixture *fixture = *state;
    static const char *const wrong[] = {"root",       "1:",  ":1", "-1",
                                        "4294967295", "1:x", "1 ", "99999999999999999999"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        fixture->options.user = wrong[i];
        expect_error(fixture, words, "as int for");
    }
}

static void a_file_is_taken_as_it_is(void **state)
{
    struct fixture *fixture = *state;
    char path[PATH_MAX];
    char *const none[] = {NULL};
    snprintf(path, sizeof(path), "%s/process.json", fixture->dir);
    fixture->options.process_file = path;
    fixture->options.cwd = "/ignored";
    fixture->options.tty = true;
    write_file(fixture, "process.json", "{\"args\":[\"x\"],\"cwd\":\"/y\"}");
    char *text = make(fixture, none);
    assert_string_equal(text, "{\"args\":[\"x\"],\"cwd\":\"/y\"}");
    free(text);
    write_file(fixture, "process.json", "{\"args\":[\"x\"]}");
    expect_error(fixture, none, "Cwd property must not be empty");
    write_file(fixture, "process.json", "{\"args\":[\"x\"],\"cwd\":\"y\"}");
    expect_error(fixture, none, "Cwd must be an absolute path");
    write_file(fixture, "process.json", "{\"args\":[],\"cwd\":\"/\"}");
    expect_error(fixture, none, "args must not be empty");
    write_file(fixture, "process.json", "{");
    expect_error(fixture, none, "process.json: ");
    unlink(path);
    expect_error(fixture, none, "process.json: No such file");
}

static void without_words_there_is_nothing_to_run(void **state)
{
    char *const none[] = {NULL};
    expect_error(*state, none, "process args cannot be empty");
}

int main(void)
{
#define EXEC_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        EXEC_TEST(the_containers_own_process_is_the_default),
        EXEC_TEST(options_change_what_they_name),
        EXEC_TEST(a_user_alone_keeps_the_group),
        EXEC_TEST(what_is_no_id_is_named),
        EXEC_TEST(a_file_is_taken_as_it_is),
        EXEC_TEST(without_words_there_is_nothing_to_run),
    };
    return cmocka_run_group_tests_name("shim_exec", tests, NULL, NULL);
}
