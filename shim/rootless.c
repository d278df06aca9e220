/* See rootless.h. /proc/self/uid_map is the kernel's word (user_namespaces(7)). */
#include "shim/rootless.h"

#include "common/fd.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

bool rootless_caller(void)
{
    cleanup_free char *map = NULL;
    unsigned inside, outside, count;
    if (geteuid() != 0)
        return true;
    if (fd_read_file_at(AT_FDCWD, "/proc/self/uid_map", 4096, &map) < 0)
        return false;
    return sscanf(map, "%u %u %u", &inside, &outside, &count) == 3 &&
           !(inside == 0 && outside == 0 && count == UINT_MAX);
}
