/*
 * Into the pod's network namespace: see network_namespace.h.
 */
#include "shim/network_namespace.h"

#include "common/fd.h"
#include "common/json.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define HOST_REFUSED                                                                                         \
    "a container with a kernel of its own can't share the host's network: give it a network namespace of "   \
    "its own"

int network_namespace_find(const json_t *spec, const char **path, struct error *err)
{
    json_t *section = NULL, *list = NULL;
    if (json_get_object(spec, "", "linux", &section, err) < 0 ||
        (section && json_get_array(section, "linux", "namespaces", &list, err) < 0))
        return -1;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *type = NULL;
        char where[48];
        snprintf(where, sizeof(where), "linux.namespaces[%zu]", i);
        if (!json_is_object(entry))
            return error_set(err, 0, "%s: expected an object", where);
        if (json_get_string(entry, where, "type", &type, err) < 0)
            return -1;
        if (!type || strcmp(type, "network") != 0)
            continue;
        *path = NULL;
        if (json_get_string(entry, where, "path", path, err) < 0)
            return -1;
        if (*path && !**path)
            *path = NULL;
        return 0;
    }
    return error_say(err, EOPNOTSUPP, "linux.namespaces: no network namespace: " HOST_REFUSED);
}

/* Whether both are one namespace; a namespace that can't be looked at is another. */
static bool namespace_is(const struct stat *status, const char *other_path)
{
    struct stat other;
    return stat(other_path, &other) == 0 && other.st_dev == status->st_dev && other.st_ino == status->st_ino;
}

int network_namespace_open(const char *path, struct error *err)
{
    struct stat status;
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) < 0)
        return error_set(err, errno, "network namespace %s", path);
    if (ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET)
        return error_say(err, EINVAL, "network namespace %s: it is none", path);
    /* The host is where husk runs, and where its init runs. */
    if (namespace_is(&status, "/proc/thread-self/ns/net") || namespace_is(&status, "/proc/1/ns/net"))
        return error_say(err, EOPNOTSUPP, "network namespace %s is the host's: " HOST_REFUSED, path);
    return take_fd(&fd);
}

/* As any runtime does in a namespace that it makes. */
static int loopback_up(struct error *err)
{
    struct ifreq request = {.ifr_name = "lo"};
    cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
        return error_set(err, errno, "loopback interface");
    request.ifr_flags |= IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? error_set(err, errno, "loopback interface") : 0;
}

int network_namespace_enter(const char *path, struct error *err)
{
    cleanup_fd int before = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (before < 0)
        return error_set(err, errno, "own network namespace");
    if (!path) {
        if (unshare(CLONE_NEWNET) < 0)
            return error_set(err, errno, "make a network namespace");
        return loopback_up(err) < 0 ? -1 : take_fd(&before);
    }
    cleanup_fd int fd = network_namespace_open(path, err);
    if (fd < 0)
        return -1;
    if (setns(fd, CLONE_NEWNET) < 0)
        return error_set(err, errno, "join the network namespace %s", path);
    return take_fd(&before);
}
