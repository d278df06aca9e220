/*
 * What husk can do, as OCI runtime-spec 1.2 "Features Structure" has it told.
 */
#ifndef HUSK_SHIM_FEATURES_H
#define HUSK_SHIM_FEATURES_H

#include "common/error.h"

#include <jansson.h>

/* The structure: a new reference, or NULL with err filled. */
json_t *features_get(struct error *err);

#endif
