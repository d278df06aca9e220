/*
 * tmpcopyup: what an image holds at a mount point, copied into the empty filesystem that is to cover it.
 */
#ifndef HUSK_AGENT_COPY_UP_H
#define HUSK_AGENT_COPY_UP_H

#include "common/error.h"

/* Copies what is in the directory from_fd into the directory to_fd (O_PATH will do for both): directories,
 * regular files, symbolic links, devices and pipes, with owner, mode, times and extended attributes. Mount
 * points below it are not entered. 0 or -1 with the file's name in err. */
int copy_up(int from_fd, int to_fd, struct error *err);

#endif
