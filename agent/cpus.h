/*
 * The guest's processors: those that exist but were not booted are brought online when the sandbox grows, and
 * taken offline when it shrinks (the kernel's Documentation/core-api/cpu_hotplug.rst).
 */
#ifndef HUSK_AGENT_CPUS_H
#define HUSK_AGENT_CPUS_H

#include "common/error.h"

#define CPUS_DIR "/sys/devices/system/cpu"

/* Has processors 0 to count - 1 online and no others; `dir` is CPUS_DIR, or stands for it in a test. Waits
 * for each. How many are online, or -1 with err filled: ERANGE when there are not that many. */
int cpus_set_online(const char *dir, unsigned count, struct error *err);

#endif
