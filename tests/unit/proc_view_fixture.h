/* A view of /proc (shim/proc_view.h), mounted on a directory of its own and served by a thread, whose guest
 * says what the test has set. */
#ifndef HUSK_TESTS_PROC_VIEW_FIXTURE_H
#define HUSK_TESTS_PROC_VIEW_FIXTURE_H

#include <jansson.h>
#include <stddef.h>

struct proc_view_fixture;

/* For cmocka_run_group_tests: a mount namespace for this program. */
int proc_view_fixture_group(void **state);
/* For each test: *state is the fixture. A request that nobody answers is given up after a while. */
int proc_view_fixture_setup(void **state);
int proc_view_fixture_teardown(void **state);

/* Whether this machine has what the tests need. */
int proc_view_fixture_can_run(void);

/* What the guest says of a path from now on: the answer is taken over, or NULL with the error's code. All
 * other paths: ESRCH. */
void guest_says(struct proc_view_fixture *view, const char *path, json_t *answer, int code);
/* As guest_says with {"hex"}. */
void guest_has_file(struct proc_view_fixture *view, const char *path, const void *bytes, size_t length);
json_t *hex_of(const void *bytes, size_t length);

/* The paths that the guest has been asked for since the last call, each in brackets. */
const char *guest_asked(struct proc_view_fixture *view);

/* A path in the view. Valid for four calls. */
const char *in_view(const struct proc_view_fixture *view, const char *path);

/* 0, or the errno of a system call's result. */
int code_of(long result);
/* stat's or open's (and close's) code for a path in the view. */
int stat_code(const struct proc_view_fixture *view, const char *path);
int open_code(const struct proc_view_fixture *view, const char *path);

/* A directory's sorted names with a blank between them, and "/" after those of directories, "@" of links.
 * The caller's. */
char *names_in(const char *directory);
void expect_names(const struct proc_view_fixture *view, const char *path, const char *names);
void expect_file(const struct proc_view_fixture *view, const char *path, const void *bytes, size_t length);

/* Attaches a mount to a new directory, whose name is written to `directory`. */
void attach(int tree, char directory[32]);

/* Takes the view off its directory, which has to be unused; the server ends within some seconds. */
void detach(struct proc_view_fixture *view);
/* Whether the server has ended. Waits for at most that long. */
int has_ended(struct proc_view_fixture *view, int seconds);

#endif
