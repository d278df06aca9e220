/*
 * Processors on and off: see cpus.h. Called for the host's request sandbox.resize.
 */
#include "agent/cpus.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* Writes what it is to be unless it is so. 1: done, 0: there is no such processor, or -errno. */
static int cpu_switch(int dir_fd, unsigned cpu, char wanted)
{
    char path[32], now = 0;
    snprintf(path, sizeof(path), "cpu%u/online", cpu);
    cleanup_fd int fd = openat(dir_fd, path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (pread(fd, &now, 1, 0) == 1 && now == wanted)
        return 1;
    return pwrite(fd, &wanted, 1, 0) == 1 ? 1 : -errno;
}

int cpus_set_online(const char *dir, unsigned count, struct error *err)
{
    cleanup_fd int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return error_set(err, errno, "%s", dir);
    if (count == 0)
        return error_set(err, ERANGE, "no processor at all");
    /* Processor 0 always runs, and has no switch. */
    int result = 1;
    for (unsigned cpu = 1; result > 0; cpu++) {
        result = cpu_switch(dir_fd, cpu, cpu < count ? '1' : '0');
        if (result < 0)
            return error_set(err, -result, "switch processor %u %s", cpu, cpu < count ? "on" : "off");
        if (result == 0 && cpu < count)
            return error_set(err, ERANGE, "%u processors: there are %u", count, cpu);
    }
    return (int)count;
}
