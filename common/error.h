/*
 * Error values of the agent and the shim: an errno and the sentence a person reads.
 *
 * An error is filled where it happens ("mount proc on /proc"), wrapped on the way up ("container c1"), sent
 * in the reply, and printed once, by main. A function that takes a `struct error *` returns 0 or a positive
 * result when it succeeded and leaves the error alone; on failure it returns -1 and has filled it. The
 * pointer may be NULL for a caller who does not care. The VMM uses it only while a machine is built, where
 * each failure is a sentence for a person; its devices and libraries return -errno.
 */
#ifndef HUSK_COMMON_ERROR_H
#define HUSK_COMMON_ERROR_H

#define ERROR_TEXT_MAX 1024

struct error {
    int code; /* errno value, never 0 in a filled error */
    char text[ERROR_TEXT_MAX];
};

/* Fills err with the errno value `code` and the formatted text, to which ": " and the errno's description is
 * added. A code of 0 stands for an error that has no errno of its own: nothing is added and EINVAL is stored.
 * Returns -1, so that a caller can `return error_set(...)`. */
int error_set(struct error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As error_set, for a text that says it all: the errno value is stored (never 0) and nothing is added.
 * Returns -1. */
int error_say(struct error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts the formatted text and ": " in front of a filled error. What does not fit is cut at the end. Returns
 * -1. */
int error_wrap(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
