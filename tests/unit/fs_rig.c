/* A file server on a fresh directory, for tests: see fs_rig.h. */
#include "tests/unit/fs_rig.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void die_if(bool failed, const char *what)
{
    if (failed) {
        perror(what);
        abort();
    }
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void fs_rig_init(struct fs_rig *rig, enum fs_cache cache, bool writeback, unsigned fd_limit)
{
    strcpy(rig->path, "/tmp/husk-test-fs-XXXXXX");
    die_if(!mkdtemp(rig->path) || chmod(rig->path, 0755) < 0, "mkdtemp");
    rig->dir = open(rig->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int proc = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    die_if(rig->dir < 0 || proc < 0, "open");
    struct virtio_fs_options options = {
        .cache = cache, .writeback = writeback, .fd_limit = fd_limit, .proc_self_fd = proc};
    int root = fcntl(rig->dir, F_DUPFD_CLOEXEC, 0);
    die_if(fs_server_init(&rig->server, root, &options) != 0, "fs_server_init");
}

void fs_rig_fini(struct fs_rig *rig)
{
    fs_server_fini(&rig->server);
    close(rig->dir);
    nftw(rig->path, remove_one, 32, FTW_DEPTH | FTW_PHYS);
}

struct fs_caller *fs_caller_new(struct fs_server *server)
{
    struct fs_caller *caller = calloc(1, sizeof(*caller));
    die_if(!caller, "calloc");
    caller->context = fs_context_new(server);
    die_if(!caller->context, "fs_context_new");
    return caller;
}

void fs_caller_free(struct fs_caller *caller)
{
    fs_context_free(caller->context);
    free(caller);
}

int fs_caller_init(struct fs_caller *caller, uint64_t without)
{
    uint64_t flags = ~(1ULL << 31) /* FUSE_INIT_RESERVED */ & ~without;
    struct fuse_init_in in = {.major = FUSE_KERNEL_VERSION,
                              .minor = FUSE_KERNEL_MINOR_VERSION,
                              .max_readahead = 131072,
                              .flags = (uint32_t)flags,
                              .flags2 = (uint32_t)(flags >> 32)};
    struct fs_piece piece = FS_STRUCT(in);
    return fs_call(caller, FUSE_INIT, 0, &piece, 1, sizeof(struct fuse_init_out));
}

/* Cuts `length` bytes at `base` into elements. */
static unsigned cut(struct iovec *iov, void *base, size_t length, size_t piece)
{
    unsigned count = 0;
    for (size_t at = 0; at < length && count < VIRTIO_CHAIN_MAX / 2; count++) {
        size_t rest = length - at;
        /* the last element takes what is left */
        size_t take = rest < piece || count == VIRTIO_CHAIN_MAX / 2 - 1 ? rest : piece;
        iov[count] = (struct iovec){(uint8_t *)base + at, take};
        at += take;
    }
    return count;
}

size_t fs_call_raw(struct fs_caller *caller, size_t length, size_t piece, size_t room)
{
    struct virtio_chain *chain = &caller->context->chain;
    memset(chain, 0, offsetof(struct virtio_chain, iov));
    chain->out_count = cut(chain->iov, caller->request, length, piece);
    chain->in_count = cut(chain->iov + chain->out_count, caller->reply, room, piece);
    chain->out_left = length;
    chain->in_left = room;
    fs_request_serve(caller->context);
    return chain->in_written;
}

int fs_call(struct fs_caller *caller, uint32_t opcode, uint64_t nodeid, const struct fs_piece *pieces,
            unsigned count, size_t room)
{
    size_t length = sizeof(struct fuse_in_header);
    for (unsigned i = 0; i < count; i++) {
        die_if(length + pieces[i].length > sizeof(caller->request), "request too long");
        memcpy(caller->request + length, pieces[i].bytes, pieces[i].length);
        length += pieces[i].length;
    }
    struct fuse_in_header header = {.len = (uint32_t)length,
                                    .opcode = opcode,
                                    .unique = ++caller->unique,
                                    .nodeid = nodeid,
                                    .uid = caller->uid,
                                    .gid = caller->gid};
    memcpy(caller->request, &header, sizeof(header));
    size_t written = fs_call_raw(caller, length, 4096, room + sizeof(struct fuse_out_header));
    struct fuse_out_header out;
    memcpy(&out, caller->reply, sizeof(out));
    die_if(written < sizeof(out) || out.len != written || out.unique != header.unique, "malformed reply");
    die_if(out.error && written != sizeof(out), "an error with a payload");
    caller->reply_length = written - sizeof(out);
    memmove(caller->reply, caller->reply + sizeof(out), caller->reply_length);
    return out.error;
}

/* The first `length` bytes of the reply. */
static int reply_take(struct fs_caller *caller, int err, void *to, size_t length)
{
    if (err)
        return err;
    die_if(caller->reply_length < length, "short reply");
    memcpy(to, caller->reply, length);
    return 0;
}

int fs_lookup(struct fs_caller *caller, uint64_t parent, const char *name, struct fuse_entry_out *entry)
{
    struct fs_piece piece = FS_NAME(name);
    int err = fs_call(caller, FUSE_LOOKUP, parent, &piece, 1, sizeof(*entry));
    return reply_take(caller, err, entry, sizeof(*entry));
}

int fs_getattr(struct fs_caller *caller, uint64_t nodeid, struct fuse_attr *attr)
{
    struct fuse_getattr_in in = {0};
    struct fs_piece piece = FS_STRUCT(in);
    struct fuse_attr_out out;
    int err = fs_call(caller, FUSE_GETATTR, nodeid, &piece, 1, sizeof(out));
    err = reply_take(caller, err, &out, sizeof(out));
    if (!err)
        *attr = out.attr;
    return err;
}

int fs_setattr(struct fs_caller *caller, uint64_t nodeid, const struct fuse_setattr_in *in)
{
    struct fs_piece piece = FS_STRUCT(*in);
    return fs_call(caller, FUSE_SETATTR, nodeid, &piece, 1, sizeof(struct fuse_attr_out));
}

int fs_create(struct fs_caller *caller, uint64_t parent, const char *name, uint32_t flags, uint32_t mode,
              struct fuse_entry_out *entry, uint64_t *fh)
{
    struct fuse_create_in in = {.flags = flags | O_CREAT, .mode = S_IFREG | mode, .umask = 022};
    struct fs_piece pieces[] = {FS_STRUCT(in), FS_NAME(name)};
    struct {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
    } out;
    int err = fs_call(caller, FUSE_CREATE, parent, pieces, 2, sizeof(out));
    err = reply_take(caller, err, &out, sizeof(out));
    if (!err) {
        *entry = out.entry;
        *fh = out.open.fh;
    }
    return err;
}

int fs_mkdir(struct fs_caller *caller, uint64_t parent, const char *name, uint32_t mode,
             struct fuse_entry_out *entry)
{
    struct fuse_mkdir_in in = {.mode = mode, .umask = 022};
    struct fs_piece pieces[] = {FS_STRUCT(in), FS_NAME(name)};
    int err = fs_call(caller, FUSE_MKDIR, parent, pieces, 2, sizeof(*entry));
    return reply_take(caller, err, entry, sizeof(*entry));
}

int fs_remove(struct fs_caller *caller, uint32_t opcode, uint64_t parent, const char *name)
{
    struct fs_piece piece = FS_NAME(name);
    return fs_call(caller, opcode, parent, &piece, 1, 0);
}

int fs_rename(struct fs_caller *caller, uint64_t from, const char *from_name, uint64_t to,
              const char *to_name, uint32_t flags)
{
    struct fuse_rename2_in in = {.newdir = to, .flags = flags};
    struct fs_piece pieces[] = {FS_STRUCT(in), FS_NAME(from_name), FS_NAME(to_name)};
    return fs_call(caller, FUSE_RENAME2, from, pieces, 3, 0);
}

int fs_open(struct fs_caller *caller, uint32_t opcode, uint64_t nodeid, uint32_t flags,
            struct fuse_open_out *out)
{
    struct fuse_open_in in = {.flags = flags};
    struct fs_piece piece = FS_STRUCT(in);
    int err = fs_call(caller, opcode, nodeid, &piece, 1, sizeof(*out));
    return reply_take(caller, err, out, sizeof(*out));
}

int fs_release(struct fs_caller *caller, uint32_t opcode, uint64_t nodeid, uint64_t fh)
{
    struct fuse_release_in in = {.fh = fh};
    struct fs_piece piece = FS_STRUCT(in);
    return fs_call(caller, opcode, nodeid, &piece, 1, 0);
}

int fs_write(struct fs_caller *caller, uint64_t nodeid, uint64_t fh, uint64_t offset, const void *bytes,
             size_t length, uint32_t write_flags, uint32_t flags)
{
    struct fuse_write_in in = {
        .fh = fh, .offset = offset, .size = (uint32_t)length, .write_flags = write_flags, .flags = flags};
    struct fs_piece pieces[] = {FS_STRUCT(in), {bytes, length}};
    struct fuse_write_out out;
    int err = fs_call(caller, FUSE_WRITE, nodeid, pieces, 2, sizeof(out));
    err = reply_take(caller, err, &out, sizeof(out));
    return err ? err : (int)out.size;
}

int fs_read(struct fs_caller *caller, uint64_t nodeid, uint64_t fh, uint64_t offset, size_t length)
{
    struct fuse_read_in in = {.fh = fh, .offset = offset, .size = (uint32_t)length};
    struct fs_piece piece = FS_STRUCT(in);
    int err = fs_call(caller, FUSE_READ, nodeid, &piece, 1, length);
    return err ? err : (int)caller->reply_length;
}

void fs_forget(struct fs_caller *caller, uint64_t nodeid, uint64_t nlookup)
{
    struct {
        struct fuse_in_header header;
        struct fuse_forget_in in;
    } forget = {.header = {.len = sizeof(forget), .opcode = FUSE_FORGET, .nodeid = nodeid},
                .in = {.nlookup = nlookup}};
    memcpy(caller->request, &forget, sizeof(forget));
    die_if(fs_call_raw(caller, sizeof(forget), 4096, 0) != 0, "a reply to forget");
}

int fs_fixture_init(void **state, enum fs_cache cache, bool writeback, unsigned fd_limit)
{
    struct fs_fixture *f = calloc(1, sizeof(*f));
    die_if(!f, "calloc");
    *state = f;
    fs_rig_init(&f->rig, cache, writeback, fd_limit);
    f->caller = fs_caller_new(&f->rig.server);
    return fs_caller_init(f->caller, 0);
}

int fs_fixture_set_up(void **state)
{
    return fs_fixture_init(state, FS_CACHE_AUTO, false, 1000);
}

int fs_fixture_create_file(struct fs_fixture *f)
{
    return fs_create(f->caller, FUSE_ROOT_ID, "file", O_RDWR, 0644, &f->entry, &f->fh);
}

int fs_fixture_set_up_file(void **state)
{
    int err = fs_fixture_set_up(state);
    return err ? err : fs_fixture_create_file(*state);
}

int fs_fixture_tear_down(void **state)
{
    struct fs_fixture *f = *state;
    fs_caller_free(f->caller);
    fs_rig_fini(&f->rig);
    free(f);
    return 0;
}
