/*
 * User namespaces: see user_namespace.h. A user namespace is born with a process in it; here that is a child
 * which does nothing and lives until its maps are written and the namespace is open.
 */
#include "agent/user_namespace.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* A map is written in one call of less than a page (user_namespaces(7)). */
#define MAP_TEXT_MAX 4096

static int map_write(pid_t pid, const char *file, const struct spec_id_map *maps, size_t count)
{
    char path[64], text[MAP_TEXT_MAX];
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        int put = snprintf(text + length, sizeof(text) - length, "%u %u %u\n", maps[i].inside,
                           maps[i].outside, maps[i].count);
        if (put < 0 || (size_t)put >= sizeof(text) - length)
            return -E2BIG;
        length += (size_t)put;
    }
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, text, length) < 0 ? -errno : 0;
}

static int namespace_open(pid_t pid, const struct spec_id_maps *maps, struct error *err)
{
    char path[64];
    int failed = map_write(pid, "uid_map", maps->uids, maps->uid_count);
    if (failed)
        return error_set(err, -failed, "uidMappings");
    failed = map_write(pid, "gid_map", maps->gids, maps->gid_count);
    if (failed)
        return error_set(err, -failed, "gidMappings");
    snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? error_set(err, errno, "open the user namespace") : fd;
}

int user_namespace_new(const struct spec_id_maps *maps, struct error *err)
{
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid < 0)
        return error_set(err, errno, "user namespace");
    if (pid == 0) {
        for (;;)
            pause();
    }
    int fd = namespace_open(pid, maps, err);
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return fd;
}
