/*
 * Signals by name or number, as kill commands take them.
 */
#ifndef HUSK_SHIM_SIGNAL_NAME_H
#define HUSK_SHIM_SIGNAL_NAME_H

#include "common/error.h"

/* "9", "KILL", "SIGKILL", "sigkill", "RTMIN+3", "RTMAX-1": the number (0..64), or -1 with err filled. */
int signal_parse(const char *text, struct error *err);

#endif
