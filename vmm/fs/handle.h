/*
 * Open files and directories: what the guest calls fh.
 *
 * Trust boundary: fh values come from the guest. One is an index with a generation, so neither a made-up nor
 * a released one reaches a file; a release while another request uses the file closes it when that is done.
 */
#ifndef HUSK_VMM_FS_HANDLE_H
#define HUSK_VMM_FS_HANDLE_H

#include "vmm/fs/inode.h"

#include <sys/types.h>

/* Entries read ahead by getdents64: the guest asks for about 4 KiB of its own, larger records at a time. */
#define FS_DIR_BUFFER 8192

struct fs_dir {
    pthread_mutex_t lock;
    int64_t position; /* the directory offset (d_off) at which buffer[at] begins */
    size_t at, end;
    _Alignas(8) char buffer[FS_DIR_BUFFER];
};

struct fs_handle {
    uint64_t fh;
    int fd;
    int flags; /* it was opened with; for a snapshot */
    uint32_t refs;
    struct fs_inode *inode;
    struct fs_dir *dir; /* NULL for a file */
};

struct fs_handle_slot {
    struct fs_handle *handle;
    uint32_t generation;
    uint32_t next_free;
};

struct fs_handles {
    pthread_mutex_t lock;
    struct fs_table *table;
    struct fs_handle_slot *slot;
    uint32_t slots, slots_used, free_slot;
};

/* 0. The table must outlive the handles. */
int fs_handles_init(struct fs_handles *handles, struct fs_table *table);
/* Releases all; one in use by a request is closed when that is done. */
void fs_handles_clear(struct fs_handles *handles);
void fs_handles_fini(struct fs_handles *handles);

/* A handle for `fd`, an open file (or directory, if is_dir) of `inode`, of which a reference is taken. fd is
 * the handle's from here on, also on failure. 0 with *fh; -ENFILE when the guest has too many; -ENOMEM. */
int fs_handle_open(struct fs_handles *handles, struct fs_inode *inode, int fd, int flags, bool is_dir,
                   uint64_t *fh);
/* The same with a given fh, for restore. -EEXIST; -EPROTO for an impossible one. */
int fs_handle_restore(struct fs_handles *handles, struct fs_inode *inode, int fd, int flags, bool is_dir,
                      uint64_t fh);
/* The handle, referenced, or NULL when there is none or it is not of that kind. */
struct fs_handle *fs_handle_get(struct fs_handles *handles, uint64_t fh, bool is_dir);
void fs_handle_put(struct fs_handles *handles, struct fs_handle *handle);
/* The guest has done with it. Closed at the last put. -EBADF when there is none of that kind. */
int fs_handle_release(struct fs_handles *handles, uint64_t fh, bool is_dir);

#endif
