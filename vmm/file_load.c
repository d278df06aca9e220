/* Reading files into guest memory: see file_load.h. */
#include "vmm/file_load.h"

#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

int file_load(int fd, void *to, uint64_t bytes, uint64_t offset)
{
    for (uint8_t *at = to; bytes > 0;) {
        ssize_t got = pread(fd, at, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -ENODATA;
        at += got;
        bytes -= (uint64_t)got;
        offset += (uint64_t)got;
    }
    return 0;
}
