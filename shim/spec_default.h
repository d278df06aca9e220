/*
 * The config.json that `husk spec` writes: runc's own start file, so that what people have learned holds.
 */
#ifndef HUSK_SHIM_SPEC_DEFAULT_H
#define HUSK_SHIM_SPEC_DEFAULT_H

#include "common/error.h"

#include <jansson.h>
#include <stdbool.h>

/* The document: a new reference, or NULL with err filled. Rootless: as runc's --rootless, with a user
 * namespace that maps the caller's ids to root. */
json_t *spec_default(bool rootless, struct error *err);

#endif
