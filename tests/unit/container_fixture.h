/*
 * Containers of the agent on this machine's own kernel, for tests: the shared tree holds this machine's root,
 * read-only, in a mount namespace of the test's own.
 */
#ifndef HUSK_TESTS_CONTAINER_FIXTURE_H
#define HUSK_TESTS_CONTAINER_FIXTURE_H

#include "agent_fixture.h"

#define OUTPUT_MAX 65536
#define EXIT_SKIP  77

struct outcome {
    char out[OUTPUT_MAX], err[OUTPUT_MAX];
    int status, signal;
};

/* 0, or -1 when this machine can't hold the test. */
int container_fixture_prepare(void);

/* What `runc spec` writes, in short, with a shell's script for its program. */
json_t *config_for_shell(const char *script);

/* Params of container.create with this config.json (stolen), and of what asks for nothing but the ID. */
json_t *create_params(const char *id, json_t *config);
json_t *params(const char *id);

/* The answer (stolen) of a process.wait. */
void take_status(json_t *result, struct outcome *outcome);

/* Runs a container to its end and deletes it. */
void run_config(struct agent_fixture *fixture, json_t *config, const char *input, struct outcome *outcome);
void run_shell(struct agent_fixture *fixture, const char *script, const char *input, struct outcome *outcome);

#endif
