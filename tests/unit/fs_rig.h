/*
 * A file server on a fresh directory, for tests: requests are composed as a guest's kernel composes them and
 * served in the calling thread, without a virtqueue. Shared by the fs tests and the FUSE fuzz target.
 */
#ifndef HUSK_TESTS_UNIT_FS_RIG_H
#define HUSK_TESTS_UNIT_FS_RIG_H

#include "vmm/fs/fuse_request.h"

#define FS_RIG_OUT_MAX (FS_MAX_WRITE + 65536)

struct fs_rig {
    char path[64]; /* the shared directory on the host */
    int dir;       /* the same, open */
    struct fs_server server;
    struct fs_context *context;
};

/* One thread's view of a rig: a context and room for requests. */
struct fs_caller {
    struct fs_context *context;
    uint32_t uid, gid; /* whose requests they are: 0 unless set */
    uint64_t unique;
    size_t request_length, reply_length; /* of the last call; reply without the header */
    _Alignas(8) uint8_t request[FS_RIG_OUT_MAX];
    _Alignas(8) uint8_t reply[FS_RIG_OUT_MAX];
};

/* A temporary directory, a server on it and FUSE_INIT done. Ends the process on failure: nothing works then.
 */
void fs_rig_init(struct fs_rig *rig, enum fs_cache cache, bool writeback, unsigned fd_limit);
/* Removes the directory too. */
void fs_rig_fini(struct fs_rig *rig);
/* The thread's own context; NULL without. */
struct fs_caller *fs_caller_new(struct fs_server *server);
void fs_caller_free(struct fs_caller *caller);
/* FUSE_INIT with all flags a 6.12 kernel offers, less `without`. 0 or -errno. */
int fs_caller_init(struct fs_caller *caller, uint64_t without);

/* A piece of a request. */
struct fs_piece {
    const void *bytes;
    size_t length;
};
#define FS_STRUCT(s)                                                                                         \
    {                                                                                                        \
        &(s), sizeof(s)                                                                                      \
    }
#define FS_NAME(s)                                                                                           \
    {                                                                                                        \
        (s), strlen(s) + 1                                                                                   \
    }

/* Sends header and pieces with room for `room` bytes of reply behind the reply's header. The reply's error,
 * with the rest of it in caller->reply. */
int fs_call(struct fs_caller *caller, uint32_t opcode, uint64_t nodeid, const struct fs_piece *pieces,
            unsigned count, size_t room);
/* As it is: `length` bytes of caller->request, cut into pieces of `piece` bytes each way, `room` bytes for
 * the whole reply. Bytes written. */
size_t fs_call_raw(struct fs_caller *caller, size_t length, size_t piece, size_t room);

/* Requests of which many tests are made. 0 or -errno. */
int fs_lookup(struct fs_caller *caller, uint64_t parent, const char *name, struct fuse_entry_out *entry);
int fs_getattr(struct fs_caller *caller, uint64_t nodeid, struct fuse_attr *attr);
int fs_setattr(struct fs_caller *caller, uint64_t nodeid, const struct fuse_setattr_in *in);
int fs_create(struct fs_caller *caller, uint64_t parent, const char *name, uint32_t flags, uint32_t mode,
              struct fuse_entry_out *entry, uint64_t *fh);
int fs_mkdir(struct fs_caller *caller, uint64_t parent, const char *name, uint32_t mode,
             struct fuse_entry_out *entry);
int fs_remove(struct fs_caller *caller, uint32_t opcode, uint64_t parent, const char *name);
int fs_rename(struct fs_caller *caller, uint64_t from, const char *from_name, uint64_t to,
              const char *to_name, uint32_t flags);
int fs_open(struct fs_caller *caller, uint32_t opcode, uint64_t nodeid, uint32_t flags,
            struct fuse_open_out *out);
int fs_release(struct fs_caller *caller, uint32_t opcode, uint64_t nodeid, uint64_t fh);
int fs_write(struct fs_caller *caller, uint64_t nodeid, uint64_t fh, uint64_t offset, const void *bytes,
             size_t length, uint32_t write_flags, uint32_t flags);
int fs_read(struct fs_caller *caller, uint64_t nodeid, uint64_t fh, uint64_t offset, size_t length);
void fs_forget(struct fs_caller *caller, uint64_t nodeid, uint64_t nlookup);

/* What most tests start from: a rig, one caller, and room for what a test gets back. For cmocka's set-up and
 * tear-down. */
struct fs_fixture {
    struct fs_rig rig;
    struct fs_caller *caller;
    struct fuse_entry_out entry; /* with a file: of "file", root's, mode 0644 */
    struct fuse_attr attr;
    uint64_t fh; /* with a file: open for reading and writing */
};

int fs_fixture_init(void **state, enum fs_cache cache, bool writeback, unsigned fd_limit);
/* The same, auto-cached and with room for 1000 fds; and with the file. */
int fs_fixture_set_up(void **state);
int fs_fixture_set_up_file(void **state);
int fs_fixture_create_file(struct fs_fixture *fixture);
int fs_fixture_tear_down(void **state);

#endif
