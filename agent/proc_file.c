/* A container's /proc: see proc_file.h. */
#include "agent/proc_file.h"

#include "common/fd.h"
#include "protocol/protocol.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the pid namespace: procfs is mounted for that of its mounter. */
static int mount_proc(void)
{
    cleanup_fd int context = fsopen("proc", FSOPEN_CLOEXEC);
    if (context < 0 || fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -errno;
    int fd = fsmount(context, FSMOUNT_CLOEXEC,
                     MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    return fd < 0 ? -errno : fd;
}

/* The helper: a process enters a pid namespace only by being born there. */
static void __attribute__((noreturn)) help(int pidfd, int socket_fd)
{
    if (setns(pidfd, CLONE_NEWPID) < 0)
        _exit(errno);
    pid_t pid = fork();
    if (pid != 0) { /* it leaves the pid namespace when it has been waited for */
        waitpid(pid, NULL, 0);
        _exit(0);
    }
    int fd = mount_proc();
    if (fd >= 0)
        fd_send(socket_fd, &fd, 1);
    _exit(0);
}

int proc_open(int pidfd, struct error *err)
{
    int sockets[2], fd = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
        return error_set(err, errno, "socketpair");
    pid_t pid = fork();
    if (pid == 0)
        help(pidfd, sockets[1]);
    int failed = pid < 0 ? -errno : 0;
    close(sockets[1]);
    /* Both helpers' ends close when they end, so this comes back; then the namespace is as it was. */
    char end;
    if (!failed && fd_receive(sockets[0], &fd, 1) != 1)
        failed = -ESRCH;
    while (!failed && read(sockets[0], &end, sizeof(end)) < 0 && errno == EINTR)
        ;
    close(sockets[0]);
    return failed ? error_set(err, -failed, "the /proc of the pid namespace") : fd;
}

static json_t *list_processes(int proc_fd, struct error *err)
{
    int fd = openat(proc_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory) {
        error_set(err, errno, "/proc");
        fd_close(&fd);
        return NULL;
    }
    json_t *pids = json_array();
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (isdigit((unsigned char)entry->d_name[0]))
            json_array_append_new(pids, json_integer(strtol(entry->d_name, NULL, 10)));
    }
    closedir(directory);
    return json_pack("{s:o}", "pids", pids);
}

/* "NAME", "PID/NAME", or "PID/ns/NAME", which is a link: names are lower case letters and underscores. */
static bool path_is_valid(const char *path, bool *link)
{
    const char *name = path + strspn(path, "0123456789");
    if (name > path && *name++ != '/')
        return false;
    *link = name > path && strncmp(name, "ns/", 3) == 0;
    if (*link)
        name += 3;
    return islower((unsigned char)*name) && name[strspn(name, "abcdefghijklmnopqrstuvwxyz_")] == '\0';
}

static ssize_t read_whole(int fd, uint8_t *bytes, size_t size)
{
    size_t used = 0;
    ssize_t got = 1;
    while (got > 0 && used < size) {
        got = read(fd, bytes + used, size - used);
        used += got > 0 ? (size_t)got : 0;
    }
    return got < 0 ? -errno : (ssize_t)used;
}

static json_t *read_link(int proc_fd, const char *path, struct error *err)
{
    char text[64];
    ssize_t length = readlinkat(proc_fd, path, text, sizeof(text));
    if (length < 0) {
        error_set(err, errno, "/proc/%s", path);
        return NULL;
    }
    return json_pack("{s:s%}", "link", text, (size_t)length);
}

json_t *proc_read(int proc_fd, const char *path, struct error *err)
{
    static const char digits[] = "0123456789abcdef";
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    if (*path == '\0')
        return list_processes(proc_fd, err);
    bool link;
    if (!path_is_valid(path, &link)) {
        error_set(err, EINVAL, "/proc/%.64s", path);
        return NULL;
    }
    if (link)
        return read_link(proc_fd, path, err);
    cleanup_fd int fd = (int)syscall(SYS_openat2, proc_fd, path, &how, sizeof(how));
    struct stat status;
    cleanup_free uint8_t *bytes = malloc(PROC_FILE_BYTES_MAX);
    cleanup_free char *text = malloc(2 * PROC_FILE_BYTES_MAX);
    if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || !bytes || !text) {
        error_set(err, fd < 0 ? errno : EINVAL, "/proc/%s", path);
        return NULL;
    }
    ssize_t length = read_whole(fd, bytes, PROC_FILE_BYTES_MAX);
    if (length < 0) {
        error_set(err, (int)-length, "/proc/%s", path);
        return NULL;
    }
    for (ssize_t i = 0; i < length; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 0xf];
    }
    return json_pack("{s:s%}", "hex", text, (size_t)length * 2);
}
