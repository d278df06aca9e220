/*
 * Whether the caller is an ordinary user of the machine. Used where husk chooses its directory of state and
 * its cgroups.
 */
#ifndef HUSK_SHIM_ROOTLESS_H
#define HUSK_SHIM_ROOTLESS_H

#include <stdbool.h>

/* Whether the uid gives no right to what is the host's root's: another user than root, or root of a user
 * namespace, as an engine makes one for each ordinary user. Any thread. */
bool rootless_caller(void);

#endif
