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

#define VSOCK_BACKLOG 128
#define FILES_MAX     8

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

static int listen_at(const char *path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof(address.sun_path))
        return error_set(err, ENAMETOOLONG, "--vsock %s", path);
    memcpy(address.sun_path, path, length + 1);
    cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return error_set(err, errno, "--vsock %s", path);
    if (listen(fd, VSOCK_BACKLOG) < 0) {
        error_set(err, errno, "--vsock %s: listen", path);
        unlink(path);
        return -1;
    }
    return take_fd(&fd);
}

static int open_vsock(struct files *files, const char *text, struct error *err)
{
    if (!text)
        return 0;
    if (descriptor_number(text) != -1) {
        files->vsock = take_descriptor("vsock", text, err);
        return files->vsock < 0 ? -1 : 0;
    }
    files->vsock = listen_at(text, err);
    files->vsock_named = files->vsock >= 0;
    return files->vsock < 0 ? -1 : 0;
}

int files_open(struct files *files, const struct options *options, struct error *err)
{
    *files = (struct files){-1, -1, -1, -1, -1, -1, -1, -1, false};
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
    return open_vsock(files, options->vsock, err);
}

int files_close_others(const struct files *files, struct error *err)
{
    int keep[FILES_MAX] = {files->kvm,    files->kernel, files->initrd, files->console,
                           files->status, files->log,    files->shared, files->vsock};
    for (unsigned from = STDERR_FILENO + 1;;) {
        int next = -1; /* the lowest kept descriptor from `from` on */
        for (unsigned i = 0; i < FILES_MAX; i++) {
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
}
