/*
 * Open files that a caller wants to pass on to a process: --preserve-fds, and those of socket activation
 * (sd_listen_fds(3)). An open file is an object of the host's kernel; the process has another kernel, where
 * its calls could not reach it. So they are refused, each by what it is.
 */
#ifndef HUSK_SHIM_PRESERVED_FDS_H
#define HUSK_SHIM_PRESERVED_FDS_H

#include "common/error.h"

/* Whether a process can have what the caller passes on: `count` fds from 3 on, and those of LISTEN_FDS in
 * this process's environment. 0 when there are none, or -1 with err filled. */
int preserved_fds_check(unsigned count, struct error *err);

#endif
