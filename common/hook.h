/*
 * One hook of config.json (OCI runtime-spec "POSIX-platform Hooks"): a program that is given the container's
 * state and waited for. Run by the shim on the host and by the agent in the guest.
 */
#ifndef HUSK_COMMON_HOOK_H
#define HUSK_COMMON_HOOK_H

#include "common/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Strings are borrowed from the JSON. */
struct hook {
    const char *path;  /* absolute */
    const char **args; /* NULL-terminated heap array of borrowed strings, or NULL; so is env */
    const char **env;
    bool inherits; /* without env it has that of whoever runs it, else an empty one; set after hook_parse */
    int64_t timeout_s; /* 0: none */
    /* In the hook's process before its program, or NULL; set after hook_parse. Async-signal-safe calls only.
     */
    void (*enter)(void *arg);
    void *enter_arg;
};

/* Reads a hook's object, whose path for messages is `where`. 0, or -1 with err naming the member. hook_fini
 * frees whatever the outcome. */
int hook_parse(const json_t *object, const char *where, struct hook *hook, struct error *err);
void hook_fini(struct hook *hook);

/* Runs it with state_text (JSON) on its standard input and waits for its end, at most its timeout; then it is
 * killed. program_fd >= 0 is executed in place of the path. 0, or -1 with err filled (ETIMEDOUT, or the exit
 * status and the first line of its output). Forks; may be called while signals are blocked. */
int hook_run(const struct hook *hook, int program_fd, const char *state_text, struct error *err);

#endif
