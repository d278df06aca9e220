/*
 * Inside a container's namespaces: see namespaces.h.
 */
#include "agent/namespaces.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int namespaces_loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
        return -errno;
    request.ifr_flags |= IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

/* The parser has made sure that the sysctl is one of a namespace that is the container's own. */
static int set_sysctl(const struct spec_sysctl *sysctl)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof(path), "/proc/sys/%s", sysctl->name);
    if (length < 0 || (size_t)length >= sizeof(path))
        return -ENAMETOOLONG;
    /* A name with slashes is a path already, and its dots are part of names ("net/ipv4/conf/eth0.1"). */
    if (!strchr(sysctl->name, '/')) {
        for (char *c = path; *c; c++)
            *c = *c == '.' ? '/' : *c;
    }
    cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, sysctl->value, strlen(sysctl->value)) < 0)
        return -errno;
    return 0;
}

/* Those of a network namespace made for the container, and of the others, need only right over the
 * container's own namespaces. `shared` picks what is left: sysctls of the sandbox's network. */
static int set_sysctls(const struct spec *spec, bool shared, struct error *err)
{
    for (size_t i = 0; i < spec->sysctl_count; i++) {
        const struct spec_sysctl *sysctl = &spec->sysctls[i];
        if (sysctl->network != shared)
            continue;
        int failed = set_sysctl(sysctl);
        if (failed)
            return error_set(err, -failed, "linux.sysctl: %s", sysctl->name);
    }
    return 0;
}

int namespaces_prepare(const struct spec *spec, struct error *err)
{
    return set_sysctls(spec, true, err);
}

int namespaces_make_time(const struct spec *spec, struct error *err)
{
    if (!(spec->namespaces & CLONE_NEWTIME))
        return 0;
    if (unshare(CLONE_NEWTIME) < 0)
        return error_set(err, errno, "time namespace");
    for (size_t i = 0; i < 2; i++) {
        const struct spec_time_offset *offset = &spec->time_offsets[i];
        char text[96];
        if (!offset->clock)
            continue;
        int length = snprintf(text, sizeof(text), "%s %lld %lld\n", offset->clock, (long long)offset->seconds,
                              (long long)offset->nanoseconds);
        cleanup_fd int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, text, (size_t)length) < 0)
            return error_set(err, errno, "linux.timeOffsets.%s", offset->clock);
    }
    return 0;
}

int namespaces_set_up(const struct spec *spec, struct error *err)
{
    if ((spec->namespaces & CLONE_NEWCGROUP) && unshare(CLONE_NEWCGROUP) < 0)
        return error_set(err, errno, "cgroup namespace");
    if (spec->hostname && sethostname(spec->hostname, strlen(spec->hostname)) < 0)
        return error_set(err, errno, "hostname");
    if (spec->domainname && setdomainname(spec->domainname, strlen(spec->domainname)) < 0)
        return error_set(err, errno, "domainname");
    return set_sysctls(spec, false, err);
}
