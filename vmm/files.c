/* Opening what the command line names: see files.h. */
#include "vmm/files.h"

#include "common/fd.h"
#include "vmm/options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define VSOCK_BACKLOG   128
#define CONTROL_BACKLOG 8
#define FILES_MAX       (9 + OPTIONS_BLKS_MAX + OPTIONS_NETS_MAX * 2 * VIRTIO_NET_PAIRS_MAX)

/* The number in "fd:N"; -1 when text is a path; -2 when the number is none. */
static int descriptor_number(const char *text)
{
    if (strncmp(text, "fd:", 3) != 0)
        return -1;
    char *end;
    errno = 0;
    long number = strtol(text + 3, &end, 10);
    if (errno || end == text + 3 || *end || number < 0 || number > INT_MAX)
        return -2;
    return (int)number;
}

static int take_descriptor(const char *option, const char *text, struct error *err)
{
    int fd = descriptor_number(text);
    if (fd < 0)
        return error_set(err, 0, "--%s %s: not a descriptor's number", option, text);
    int rc = fd_set_cloexec(fd, 1);
    if (rc < 0)
        return error_set(err, -rc, "--%s %s", option, text);
    return fd;
}

/* Opens `text` if it is given. 0 with *fd, or -1. */
static int open_named(int *fd, const char *option, const char *text, int flags, struct error *err)
{
    if (!text)
        return 0;
    if (descriptor_number(text) != -1)
        *fd = take_descriptor(option, text, err);
    else if ((*fd = open(text, flags | O_CLOEXEC | O_NOCTTY, 0600)) < 0)
        error_set(err, errno, "--%s %s", option, text);
    return *fd < 0 ? -1 : 0;
}

static int listen_at(const char *option, const char *path, int type, int backlog, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof(address.sun_path))
        return error_set(err, ENAMETOOLONG, "--%s %s", option, path);
    memcpy(address.sun_path, path, length + 1);
    cleanup_fd int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return error_set(err, errno, "--%s %s", option, path);
    if (listen(fd, backlog) < 0) {
        error_set(err, errno, "--%s %s: listen", option, path);
        unlink(path);
        return -1;
    }
    return take_fd(&fd);
}

/* A socket that listens: inherited, or made at a path, which *named then tells. */
static int open_listener(int *fd, bool *named, const char *option, const char *text, int type, int backlog,
                         struct error *err)
{
    if (!text)
        return 0;
    *named = descriptor_number(text) == -1;
    *fd = *named ? listen_at(option, text, type, backlog, err) : take_descriptor(option, text, err);
    *named = *named && *fd >= 0;
    return *fd < 0 ? -1 : 0;
}

/* Network devices' descriptors are inherited: made ours, one by one. */
static int take_nets(struct files *files, const struct options *options, struct error *err)
{
    for (unsigned i = 0; i < options->nets; i++) {
        files->net[i] = options->net[i];
        files->nets = i + 1;
        for (unsigned pair = 0; pair < options->net[i].pairs; pair++) {
            int rc = fd_set_cloexec(files->net[i].tap_fd[pair], 1);
            if (rc == 0 && files->net[i].vhost_fd[pair] >= 0)
                rc = fd_set_cloexec(files->net[i].vhost_fd[pair], 1);
            if (rc < 0)
                return error_set(err, -rc, "--net: descriptors of queue pair %u", pair);
        }
    }
    return 0;
}

static int take_blks(struct files *files, const struct options *options, struct error *err)
{
    for (unsigned i = 0; i < options->blks; i++) {
        files->blk_fd[i] = options->blk[i].fd;
        files->blks = i + 1;
        int rc = fd_set_cloexec(files->blk_fd[i], 1);
        if (rc < 0)
            return error_set(err, -rc, "--blk: descriptor %d", files->blk_fd[i]);
    }
    return 0;
}

int files_open(struct files *files, const struct options *options, struct error *err)
{
    *files = (struct files){.kvm = -1,
                            .kernel = -1,
                            .initrd = -1,
                            .console = -1,
                            .status = -1,
                            .log = -1,
                            .shared = -1,
                            .vsock = -1,
                            .control = -1};
    /* The log and the status first: they tell of the others' failures. */
    if (open_named(&files->log, "log", options->log, O_WRONLY | O_CREAT | O_APPEND, err) < 0 ||
        open_named(&files->status, "status", options->status, O_WRONLY | O_CREAT | O_TRUNC, err) < 0 ||
        open_named(&files->kvm, "kvm", options->kvm, O_RDWR, err) < 0 ||
        open_named(&files->kernel, "kernel", options->kernel, O_RDONLY, err) < 0 ||
        open_named(&files->initrd, "initrd", options->initrd, O_RDONLY, err) < 0 ||
        open_named(&files->shared, "shared", options->shared, O_PATH | O_DIRECTORY, err) < 0)
        return -1;
    const char *console = options->console ? options->console : "/dev/null";
    if (open_named(&files->console, "console", console, O_WRONLY | O_CREAT | O_APPEND, err) < 0)
        return -1;
    if (take_nets(files, options, err) < 0 || take_blks(files, options, err) < 0 ||
        open_listener(&files->vsock, &files->vsock_named, "vsock", options->vsock, SOCK_STREAM, VSOCK_BACKLOG,
                      err) < 0)
        return -1;
    return open_listener(&files->control, &files->control_named, "control", options->control, SOCK_SEQPACKET,
                         CONTROL_BACKLOG, err);
}

int files_close_others(const struct files *files, struct error *err)
{
    int keep[FILES_MAX] = {files->kvm, files->kernel, files->initrd, files->console, files->status,
                           files->log, files->shared, files->vsock,  files->control};
    unsigned kept = 9;
    for (unsigned i = 0; i < files->nets; i++) {
        for (unsigned pair = 0; pair < files->net[i].pairs; pair++) {
            keep[kept++] = files->net[i].tap_fd[pair];
            keep[kept++] = files->net[i].vhost_fd[pair];
        }
    }
    for (unsigned i = 0; i < files->blks; i++)
        keep[kept++] = files->blk_fd[i];
    for (unsigned from = STDERR_FILENO + 1;;) {
        int next = -1; /* the lowest kept descriptor from `from` on */
        for (unsigned i = 0; i < kept; i++) {
            if (keep[i] >= (int)from && (next < 0 || keep[i] < next))
                next = keep[i];
        }
        unsigned last = next < 0 ? UINT_MAX : (unsigned)next - 1;
        if (next != (int)from && close_range(from, last, 0) < 0)
            return error_set(err, errno, "close inherited descriptors");
        if (next < 0)
            return 0;
        from = (unsigned)next + 1;
    }
}

void files_close(struct files *files)
{
    fd_close(&files->kvm);
    fd_close(&files->kernel);
    fd_close(&files->initrd);
    fd_close(&files->console);
    fd_close(&files->status);
    fd_close(&files->log);
    fd_close(&files->shared);
    fd_close(&files->vsock);
    fd_close(&files->control);
    for (unsigned i = 0; i < files->nets; i++)
        virtio_net_options_close(&files->net[i]);
    for (unsigned i = 0; i < files->blks; i++)
        fd_close(&files->blk_fd[i]);
}
