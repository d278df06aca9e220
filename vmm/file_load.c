/* Reading files into fresh memory: see file_load.h. */
#include "vmm/file_load.h"

#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

#define PAGE  4096u
#define CHUNK (2ull << 20) /* a huge page: what is zeroed by one fault is filled while it is in the cache */

/* Has the host give its pages now, by writes that change nothing. A fault of ours takes the mapping's own
 * lock, one that read(2) comes upon takes the process's: while 2 MiB are zeroed under that one, no other
 * thread can map anything or make its heap larger, and building the machine is little else. */
static void touch(uint8_t *at, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i += PAGE)
        __atomic_fetch_or(at + i, 0, __ATOMIC_RELAXED);
    __atomic_fetch_or(at + bytes - 1, 0, __ATOMIC_RELAXED);
}

int file_load(int fd, void *to, uint64_t bytes, uint64_t offset)
{
    uint8_t *at = to, *touched = at;
    while (bytes > 0) {
        uint64_t part = CHUNK - (uintptr_t)at % CHUNK;
        if (part > bytes)
            part = bytes;
        if (at >= touched) {
            touch(at, part);
            touched = at + part;
        }
        ssize_t got = pread(fd, at, part, (off_t)offset);
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
