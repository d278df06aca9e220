/*
 * File descriptors and heap pointers that free themselves, and input and output that finishes.
 *
 * An fd variable starts at -1 and is declared `cleanup_fd`; `take_fd` hands its value on and disarms it. The
 * same pair exists for heap pointers. All functions retry on EINTR.
 */
#ifndef HUSK_COMMON_FD_H
#define HUSK_COMMON_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static inline void fd_close_cleanup(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void ptr_free_cleanup(void *ptr)
{
    free(*(void **)ptr);
}

/* unused: some are held for nothing but their closing (a lock), which clang does not take for a use. */
#define cleanup_fd   __attribute__((cleanup(fd_close_cleanup), unused))
#define cleanup_free __attribute__((cleanup(ptr_free_cleanup)))

/* Returns *fd and sets it to -1: the caller owns it now. */
static inline int take_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

/* Returns *(ptr) and sets it to NULL: the caller owns it now. */
#define take_ptr(ptr)                                                                                        \
    ({                                                                                                       \
        __typeof__(*(ptr)) taken_ = *(ptr);                                                                  \
        *(ptr) = NULL;                                                                                       \
        taken_;                                                                                              \
    })

/* Closes *fd if it is open and sets it to -1. */
void fd_close(int *fd);

/* Reads exactly `length` bytes, waiting as needed. 0, or -errno; -EPIPE when the input ended before. */
int fd_read_full(int fd, void *buffer, size_t length);

/* Writes exactly `length` bytes, waiting as needed (also on a non-blocking fd). 0 or -errno. */
int fd_write_full(int fd, const void *buffer, size_t length);

/* Sets or clears O_NONBLOCK. 0 or -errno. */
int fd_set_nonblock(int fd, int on);

/* Sets or clears FD_CLOEXEC. 0 or -errno. */
int fd_set_cloexec(int fd, int on);

/* Whether fd is the null device. */
bool fd_is_dev_null(int fd);

/* Reads a whole file of at most `max_bytes` into a NUL-terminated heap buffer that the caller frees.
 * Length without the NUL, or -errno; -EFBIG when the file is longer. `path` is relative to `dir_fd` (or
 * AT_FDCWD). */
ssize_t fd_read_file_at(int dir_fd, const char *path, size_t max_bytes, char **content);

/* Writes a file so that a reader sees the old or the new content and never half of it: temporary file in the
 * same directory, fsync, rename. 0 or -errno. */
int fd_write_file_atomic(int dir_fd, const char *name, const void *content, size_t length, mode_t mode);

/* Sends `count` fds (at most 16) with one byte of data over a Unix socket. 0 or -errno. */
int fd_send(int socket_fd, const int *fds, size_t count);

/* Receives up to `max` fds, CLOEXEC, sent by fd_send. Number of fds, or -errno; -EPIPE on end of file. */
int fd_receive(int socket_fd, int *fds, size_t max);

#endif
