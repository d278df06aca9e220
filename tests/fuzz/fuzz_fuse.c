/*
 * Fuzz target: FUSE requests of a guest that keeps to no protocol, in any order, to a server on a small tree.
 *
 * Input: records of {opcode, nodeid, bytes per element of the chain, room for the reply in 64 bytes, length
 * (2)}, each followed by `length` bytes that stand behind the request's header. Nodeids and file handles are
 * small numbers at first, so that records can hit them. Whatever comes, no byte outside the chain is touched,
 * the number of fds stays bounded, and the server is as new after FUSE_DESTROY.
 */
#include "tests/unit/fs_rig.h"

#undef NDEBUG /* an assertion is the test */
#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define FD_LIMIT    32
#define REQUESTS    64
#define FILES_BYTES (1 << 20) /* what one file may grow to */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct record {
    uint8_t opcode, nodeid, piece, room;
    uint16_t length;
};

static void limit_files(void)
{
    struct rlimit limit = {FILES_BYTES, FILES_BYTES};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    log_init("fuzz", -1, LOG_FORMAT_TEXT, LOG_LEVEL_ERR);
}

static void make_tree(const struct fs_rig *rig)
{
    int fd = openat(rig->dir, "file", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    assert(fd >= 0 && write(fd, "content", 7) == 7);
    close(fd);
    assert(mkdirat(rig->dir, "dir", 0755) == 0 && symlinkat("file", rig->dir, "link") == 0 &&
           mkfifoat(rig->dir, "fifo", 0600) == 0);
}

/* Nodeids 2 to 5 and file handles 1 and 2, so that a first record can use them. */
static void make_known(struct fs_caller *caller)
{
    static const char *const names[] = {"file", "dir", "link", "fifo"};
    struct fuse_entry_out entry;
    struct fuse_open_out out;
    assert(fs_caller_init(caller, 0) == 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert(fs_lookup(caller, FUSE_ROOT_ID, names[i], &entry) == 0);
    assert(fs_open(caller, FUSE_OPEN, 2, O_RDWR, &out) == 0 && out.fh == 1);
    assert(fs_open(caller, FUSE_OPENDIR, 3, O_RDONLY, &out) == 0 && out.fh == 2);
}

static void send_record(struct fs_caller *caller, const struct record *record, const uint8_t *bytes)
{
    struct fuse_in_header header = {.len = (uint32_t)(sizeof(header) + record->length),
                                    .opcode = record->opcode,
                                    .nodeid = record->nodeid,
                                    .uid = record->nodeid & 8 ? 1000 : 0,
                                    .total_extlen = record->piece & 0x80 ? 2 : 0};
    memcpy(caller->request, &header, sizeof(header));
    memcpy(caller->request + sizeof(header), bytes, record->length);
    size_t room = (size_t)record->room * 64;
    size_t piece = 1 + (size_t)(record->piece & 0x7f) * 8;
    size_t written = fs_call_raw(caller, header.len, piece, room);
    struct fuse_out_header out;
    assert(written <= room);
    if (written > 0) {
        memcpy(&out, caller->reply, sizeof(out));
        assert(written >= sizeof(out) && out.len == written && out.error <= 0 && out.error > -4096);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fs_rig rig;
    static bool limited;
    if (!limited)
        limit_files();
    limited = true;
    fs_rig_init(&rig, size & 1 ? FS_CACHE_AUTO : FS_CACHE_ALWAYS, size & 2, FD_LIMIT);
    make_tree(&rig);
    struct fs_caller *caller = fs_caller_new(&rig.server);
    make_known(caller);

    struct record record;
    for (unsigned i = 0; i < REQUESTS && size >= sizeof(record); i++) {
        memcpy(&record, data, sizeof(record));
        data += sizeof(record);
        size -= sizeof(record);
        if (record.length > size)
            record.length = (uint16_t)size;
        if (record.opcode != FUSE_SYNCFS) /* it writes out the whole machine's disk */
            send_record(caller, &record, data);
        data += record.length;
        size -= record.length;
        assert(rig.server.table.fds <= FD_LIMIT + 4);
    }
    fs_call(caller, FUSE_DESTROY, 0, NULL, 0, 0);
    assert(rig.server.table.inodes == 1 && rig.server.table.fds == 0 && rig.server.table.handles == 0);
    assert(fs_caller_init(caller, 0) == 0);
    fs_caller_free(caller);
    fs_rig_fini(&rig);
    return 0;
}
