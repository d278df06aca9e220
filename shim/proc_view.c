/*
 * The monitor's /proc: see proc_view.h. FUSE as of linux/fuse.h; requests are few and answered one by one.
 *
 * A node is a process and a file of it: its number is 256 times the pid (0: the guest as a whole) plus the
 * file's index in the table. What a file holds is asked for when it is opened, so that one read after the
 * other sees one state, and kept with the handle.
 */
#include "shim/proc_view.h"

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "protocol/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/mount.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REQUEST_BYTES (FUSE_MIN_READ_BUFFER + 4096)
#define HANDLES_MAX   256u
#define PID_DIGITS    10
#define PIDS_MAX      65536u /* a guest has no more by default */
#define ERRNO_MAX     511    /* of an answer (fs/fuse/dev.c) */

/* Indices of a node: of the first file of a process, the first of the guest, the first link to a namespace;
 * of the directory of these links and of a process's own. The root is node 1. */
#define FIRST_FILE   2u
#define FIRST_OF_ALL 32u
#define FIRST_LINK   64u
#define NS_DIRECTORY 254u
#define DIRECTORY    255u

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const char *const process_files[] = {"cgroup", "cmdline",   "comm",          "gid_map", "io",
                                            "limits", "oom_score", "oom_score_adj", "stat",    "statm",
                                            "status", "uid_map",   "wchan"};
static const char *const guest_files[] = {"loadavg", "meminfo", "stat", "uptime", "version"};
static const char *const links[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};

/* The names in a directory but for processes and "ns"; the first one's index. */
struct names {
    const char *const *table;
    size_t count, first;
    const char *prefix; /* of the names in the guest's paths */
};

static const struct names names_of_process = {process_files, COUNT(process_files), FIRST_FILE, ""};
static const struct names names_of_guest = {guest_files, COUNT(guest_files), FIRST_OF_ALL, ""};
static const struct names names_of_links = {links, COUNT(links), FIRST_LINK, "ns/"};

struct handle {
    uint8_t *bytes; /* NULL: free */
    size_t length;
};

struct proc_view {
    int fd;
    proc_view_ask ask;
    void *arg;
    struct handle handle[HANDLES_MAX];
};

static uint64_t node_of(uint64_t pid, uint64_t file)
{
    return pid << 8 | file;
}

static bool node_is_directory(uint64_t node)
{
    return node == FUSE_ROOT_ID || (node & 0xff) == DIRECTORY || (node & 0xff) == NS_DIRECTORY;
}

static bool node_is_link(uint64_t node)
{
    uint64_t file = node & 0xff;
    return file >= FIRST_LINK && file < FIRST_LINK + COUNT(links);
}

static uint32_t node_type(uint64_t node)
{
    return node_is_directory(node) ? S_IFDIR : node_is_link(node) ? S_IFLNK : S_IFREG;
}

/* What the guest is asked for of a node that is no process's directory: "" for the processes. */
static void node_path(uint64_t node, char path[64])
{
    static const struct names *const all[] = {&names_of_process, &names_of_guest, &names_of_links};
    uint64_t file = node & 0xff;
    *path = '\0';
    for (size_t i = 0; i < COUNT(all); i++) {
        if (file < all[i]->first || file >= all[i]->first + all[i]->count)
            continue;
        int length = 0;
        if (all[i] != &names_of_guest)
            length = snprintf(path, 64, "%llu/", (unsigned long long)(node >> 8));
        snprintf(path + length, (size_t)(64 - length), "%s%s", all[i]->prefix,
                 all[i]->table[file - all[i]->first]);
    }
}

static void reply(const struct proc_view *view, uint64_t unique, int error, const void *data, size_t length)
{
    struct fuse_out_header head = {
        .len = (uint32_t)(sizeof(head) + length), .error = error, .unique = unique};
    struct iovec parts[2] = {{&head, sizeof(head)}, {(void *)(uintptr_t)data, length}};
    /* ENOENT: whoever asked was interrupted. */
    if (writev(view->fd, parts, length > 0 ? 2 : 1) < 0 && errno != ENOENT)
        log_debug("proc view: answer: %s", strerror(errno));
}

static struct fuse_attr attributes(uint64_t node)
{
    static const uint32_t file_mode = 0444, other_mode = 0555;
    uint32_t type = node_type(node);
    return (struct fuse_attr){.ino = node,
                              .mode = type | (type == S_IFREG ? file_mode : other_mode),
                              .nlink = type == S_IFDIR ? 2 : 1,
                              /* What a file holds is not known before it is opened; of one that is said to be
                               * empty, sendfile takes nothing. */
                              .size = type == S_IFREG ? PROC_FILE_BYTES_MAX : 0,
                              .blksize = 4096};
}

/* --- What the guest has -------------------------------------------------------------------------------- */

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A file's bytes into the handle. 0 or -errno. */
static int take_file(struct handle *handle, const json_t *result)
{
    const char *text = json_string_value(json_object_get(result, "hex"));
    size_t length = text ? strlen(text) / 2 : 0;
    if (!text || strlen(text) % 2 || length > PROC_FILE_BYTES_MAX)
        return -EIO;
    handle->bytes = malloc(length + 1);
    if (!handle->bytes)
        return -ENOMEM;
    for (size_t i = 0; i < length; i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            free(take_ptr(&handle->bytes));
            return -EIO;
        }
        handle->bytes[i] = (uint8_t)(high << 4 | low);
    }
    handle->length = length;
    return 0;
}

static int add_entry(struct handle *handle, uint64_t node, const char *name)
{
    size_t length = strlen(name), bytes = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + length);
    uint8_t *grown = realloc(handle->bytes, handle->length + bytes);
    if (!grown)
        return -ENOMEM;
    struct fuse_dirent *entry = (struct fuse_dirent *)(void *)(grown + handle->length);
    memset(entry, 0, bytes);
    *entry = (struct fuse_dirent){.ino = node,
                                  .off = handle->length + bytes,
                                  .namelen = (uint32_t)length,
                                  .type = node_type(node) >> 12};
    memcpy(entry->name, name, length);
    handle->bytes = grown;
    handle->length += bytes;
    return 0;
}

static const struct names *names_of(uint64_t directory)
{
    if (directory == FUSE_ROOT_ID)
        return &names_of_guest;
    return (directory & 0xff) == NS_DIRECTORY ? &names_of_links : &names_of_process;
}

static uint64_t pid_of(uint64_t node)
{
    return node == FUSE_ROOT_ID ? 0 : node >> 8;
}

/* The entries of a directory: of the root with the processes of `pids`. */
static int take_directory(struct handle *handle, uint64_t node, const json_t *pids)
{
    const struct names *names = names_of(node);
    int failed = add_entry(handle, node, ".");
    if (!failed)
        failed = add_entry(handle, FUSE_ROOT_ID, "..");
    for (size_t i = 0; i < names->count && !failed; i++)
        failed = add_entry(handle, node_of(pid_of(node), names->first + i), names->table[i]);
    if (!failed && (node & 0xff) == DIRECTORY)
        failed = add_entry(handle, node_of(pid_of(node), NS_DIRECTORY), "ns");
    if (json_array_size(pids) > PIDS_MAX)
        return -EIO;
    for (size_t i = 0; i < json_array_size(pids) && !failed; i++) {
        char name[24];
        json_int_t number = json_integer_value(json_array_get(pids, i));
        if (number <= 0 || number > INT32_MAX)
            return -EIO;
        snprintf(name, sizeof(name), "%lld", (long long)number);
        failed = add_entry(handle, node_of((uint64_t)number, DIRECTORY), name);
    }
    return failed;
}

/* What the guest says of a path. New reference, or NULL with *failed. */
static json_t *ask(const struct proc_view *view, const char *path, int *failed)
{
    struct error err = {0};
    json_t *result = view->ask(view->arg, path, &err);
    if (err.code == ESRCH)
        err.code = ENOENT; /* a process that has ended is not there, as in procfs */
    /* The guest chooses the code: the kernel drops answers with numbers that are none, and then the reader
     * waits for ever; ENOSYS would switch the request off for good. */
    bool usable = err.code > 0 && err.code <= ERRNO_MAX && err.code != ENOSYS;
    *failed = result ? 0 : usable ? -err.code : -EIO;
    return result;
}

/* --- Requests ------------------------------------------------------------------------------------------ */

static void handle_init(const struct proc_view *view, const struct fuse_in_header *in, const void *data)
{
    const struct fuse_init_in *init = data;
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
                                .minor = FUSE_KERNEL_MINOR_VERSION,
                                .max_readahead = init->max_readahead,
                                .max_background = 16,
                                .congestion_threshold = 12,
                                .max_write = 4096,
                                .time_gran = 1};
    reply(view, in->unique, init->major < 7 ? -EPROTO : 0, &out, init->major < 7 ? 0 : sizeof(out));
}

/* The node of a name in a directory; 0 with *failed when there is none. */
static uint64_t find_name(const struct proc_view *view, uint64_t parent, const char *name, int *failed)
{
    size_t digits = strspn(name, "0123456789");
    *failed = 0;
    if (parent == FUSE_ROOT_ID && digits > 0 && digits <= PID_DIGITS && !name[digits] && name[0] != '0') {
        char path[64];
        unsigned long long pid = strtoull(name, NULL, 10);
        snprintf(path, sizeof(path), "%llu/comm", pid);
        json_decref(ask(view, path, failed));
        return *failed ? 0 : node_of(pid, DIRECTORY);
    }
    const struct names *names = names_of(parent);
    for (size_t i = 0; i < names->count && node_is_directory(parent); i++) {
        if (strcmp(names->table[i], name) == 0)
            return node_of(pid_of(parent), names->first + i);
    }
    if ((parent & 0xff) == DIRECTORY && strcmp(name, "ns") == 0)
        return node_of(pid_of(parent), NS_DIRECTORY);
    *failed = -ENOENT;
    return 0;
}

/* Nothing is remembered by the kernel: the next look may find another process, or none. */
static void handle_lookup(const struct proc_view *view, const struct fuse_in_header *in, const char *name)
{
    int failed;
    struct fuse_entry_out out = {.nodeid = find_name(view, in->nodeid, name, &failed)};
    out.attr = attributes(out.nodeid);
    reply(view, in->unique, failed, &out, failed ? 0 : sizeof(out));
}

static void handle_getattr(const struct proc_view *view, const struct fuse_in_header *in)
{
    struct fuse_attr_out out = {.attr = attributes(in->nodeid)};
    reply(view, in->unique, 0, &out, sizeof(out));
}

static void handle_open(struct proc_view *view, const struct fuse_in_header *in)
{
    char path[64];
    struct fuse_open_out out = {.open_flags = FOPEN_DIRECT_IO}; /* sizes are not known before */
    int failed = 0;
    while (out.fh < HANDLES_MAX && view->handle[out.fh].bytes)
        out.fh++;
    if (out.fh == HANDLES_MAX) {
        reply(view, in->unique, -ENFILE, NULL, 0);
        return;
    }
    struct handle *handle = &view->handle[out.fh];
    bool directory = node_is_directory(in->nodeid);
    node_path(in->nodeid, path);
    json_t *result = directory && in->nodeid != FUSE_ROOT_ID ? NULL : ask(view, path, &failed);
    handle->length = 0;
    if (!failed)
        failed = directory ? take_directory(handle, in->nodeid, json_object_get(result, "pids"))
                           : take_file(handle, result);
    json_decref(result);
    if (failed)
        free(take_ptr(&handle->bytes));
    reply(view, in->unique, failed, &out, failed ? 0 : sizeof(out));
}

static void handle_readlink(const struct proc_view *view, const struct fuse_in_header *in)
{
    char path[64];
    int failed = -EINVAL;
    node_path(in->nodeid, path);
    json_t *result = node_is_link(in->nodeid) ? ask(view, path, &failed) : NULL;
    const char *text = json_string_value(json_object_get(result, "link"));
    if (result && !text)
        failed = -EIO;
    reply(view, in->unique, failed, text, failed ? 0 : strlen(text));
    json_decref(result);
}

/* The end of the entry that begins at `at`. */
static size_t entry_end(const struct handle *handle, size_t at)
{
    const struct fuse_dirent *entry = (const void *)(handle->bytes + at);
    return at + FUSE_DIRENT_SIZE(entry);
}

/* How many bytes of whole entries from `at` on fit into `size`; -EINVAL when no entry begins there: the
 * offset is the reader's. */
static ssize_t whole_entries(const struct handle *handle, size_t at, size_t size)
{
    size_t end = 0;
    while (end < at)
        end = entry_end(handle, end);
    if (end != at)
        return -EINVAL;
    while (end < handle->length && entry_end(handle, end) - at <= size)
        end = entry_end(handle, end);
    return (ssize_t)(end - at);
}

/* As much of a handle as fits; of a directory whole entries. */
static void handle_read(struct proc_view *view, const struct fuse_in_header *in, const void *data)
{
    const struct fuse_read_in *read_in = data;
    const struct handle *handle = read_in->fh < HANDLES_MAX ? &view->handle[read_in->fh] : NULL;
    if (!handle || !handle->bytes) {
        reply(view, in->unique, -EBADF, NULL, 0);
        return;
    }
    size_t at = read_in->offset < handle->length ? (size_t)read_in->offset : handle->length;
    size_t left = handle->length - at;
    ssize_t length = (ssize_t)(left < read_in->size ? left : read_in->size);
    if (in->opcode == FUSE_READDIR)
        length = whole_entries(handle, at, read_in->size);
    reply(view, in->unique, length < 0 ? (int)length : 0, handle->bytes + at,
          length < 0 ? 0 : (size_t)length);
}

static void handle_release(struct proc_view *view, const struct fuse_in_header *in, const void *data)
{
    const struct fuse_release_in *release = data;
    if (release->fh < HANDLES_MAX)
        free(take_ptr(&view->handle[release->fh].bytes));
    reply(view, in->unique, 0, NULL, 0);
}

static void handle_statfs(const struct proc_view *view, const struct fuse_in_header *in)
{
    struct fuse_statfs_out out = {.st = {.bsize = 4096, .namelen = 255, .frsize = 4096}};
    reply(view, in->unique, 0, &out, sizeof(out));
}

static void handle(struct proc_view *view, const struct fuse_in_header *in, const void *data)
{
    switch (in->opcode) {
    case FUSE_INIT:
        handle_init(view, in, data);
        break;
    case FUSE_LOOKUP:
        handle_lookup(view, in, data);
        break;
    case FUSE_GETATTR:
        handle_getattr(view, in);
        break;
    case FUSE_READLINK:
        handle_readlink(view, in);
        break;
    case FUSE_OPEN:
    case FUSE_OPENDIR:
        handle_open(view, in);
        break;
    case FUSE_READ:
    case FUSE_READDIR:
        handle_read(view, in, data);
        break;
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
        handle_release(view, in, data);
        break;
    case FUSE_STATFS:
        handle_statfs(view, in);
        break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        break; /* not answered, and nothing to do */
    default:
        reply(view, in->unique, -ENOSYS, NULL, 0);
    }
}

void proc_view_serve(int fuse_fd, proc_view_ask ask_fn, void *arg)
{
    struct proc_view *view = calloc(1, sizeof(*view));
    uint8_t *request = malloc(REQUEST_BYTES);
    ssize_t got = 0;
    if (view && request) {
        *view = (struct proc_view){.fd = fuse_fd, .ask = ask_fn, .arg = arg};
        /* ENOENT: a request was taken back. ENODEV: unmounted. */
        while ((got = read(fuse_fd, request, REQUEST_BYTES)) >= (ssize_t)sizeof(struct fuse_in_header) ||
               (got < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN))) {
            if (got > 0)
                handle(view, (const void *)request, request + sizeof(struct fuse_in_header));
        }
        for (unsigned i = 0; i < HANDLES_MAX; i++)
            free(view->handle[i].bytes);
    }
    free(request);
    free(view);
}

int proc_view_mount(int *fuse_fd)
{
    char number[16];
    cleanup_fd int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    cleanup_fd int context = fd < 0 ? -1 : fsopen("fuse", FSOPEN_CLOEXEC);
    if (context < 0)
        return -errno;
    snprintf(number, sizeof(number), "%d", fd);
    if (fsconfig(context, FSCONFIG_SET_STRING, "source", "husk-proc", 0) < 0 ||
        fsconfig(context, FSCONFIG_SET_STRING, "fd", number, 0) < 0 ||
        fsconfig(context, FSCONFIG_SET_STRING, "rootmode", "40555", 0) < 0 ||
        fsconfig(context, FSCONFIG_SET_STRING, "user_id", "0", 0) < 0 ||
        fsconfig(context, FSCONFIG_SET_STRING, "group_id", "0", 0) < 0 ||
        fsconfig(context, FSCONFIG_SET_FLAG, "allow_other", NULL, 0) < 0 ||
        fsconfig(context, FSCONFIG_SET_FLAG, "default_permissions", NULL, 0) < 0 ||
        fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -errno;
    /* What a link says is the guest's word: it can be read and leads nowhere. */
    int tree = fsmount(context, FSMOUNT_CLOEXEC,
                       MOUNT_ATTR_NOSYMFOLLOW | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                           MOUNT_ATTR_NOEXEC);
    if (tree < 0)
        return -errno;
    *fuse_fd = take_fd(&fd);
    return tree;
}
