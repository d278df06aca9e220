/*
 * The guest's first and last minutes: see guest.h. Runs as PID 1 of the initramfs, which holds nothing but
 * this program; whatever is mounted, it mounts.
 */
#include "agent/guest.h"

#include "agent/cgroup.h"
#include "agent/container.h"
#include "agent/namespaces.h"
#include "agent/rootfs.h"
#include "common/fd.h"
#include "common/log.h"
#include "protocol/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BIND_DIR    "/root"
#define GUEST_NAME  "husk"
#define FILES_MAX   1048576 /* of the agent: streams and connections */
#define END_WAIT_MS 2000
/* As much as one request to the file server can carry; the kernel's default of 128 KiB makes eight of it. */
#define SHARED_READ_AHEAD_KIB "1024"

/* The initial root (rootfs) has no mount above it, so pivot_root(2) refuses to leave it, and containers could
 * not be given a root of their own. A bind mount of it, moved over itself, can be left. */
static int make_root_pivotable(struct error *err)
{
    mkdir(BIND_DIR, 0755);
    if (mount("/", BIND_DIR, NULL, MS_BIND, NULL) < 0 || chdir(BIND_DIR) < 0 ||
        mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0)
        return error_set(err, errno, "prepare the root");
    return 0;
}

/* Without a /dev/console in the initramfs the kernel starts init with no fd open at all. */
static int open_standard_fds(struct error *err)
{
    int null_fd = open("/dev/null", O_RDWR);
    if (null_fd < 0)
        return error_set(err, errno, "/dev/null");
    for (int fd = 0; fd < 3; fd++) {
        if (fd != null_fd && dup2(null_fd, fd) < 0)
            return error_set(err, errno, "fds");
    }
    if (null_fd >= 3)
        close(null_fd);
    return 0;
}

int guest_prepare(struct error *err)
{
    if (make_root_pivotable(err))
        return -1;
    mkdir("/dev", 0755);
    if (mount("dev", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755") < 0)
        return error_set(err, errno, "mount /dev");
    if (open_standard_fds(err))
        return -1;
    /* The console is the sandbox's log on the host. Never waited for. */
    int log_fd = open("/dev/console", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    log_init("husk-agent", log_fd, LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
    return 0;
}

static const struct {
    const char *type, *source, *target, *options;
    unsigned long flags;
} guest_mounts[] = {
    {"proc", "proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"sysfs", "sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"cgroup2", "cgroup2", CGROUP_ROOT, "nsdelegate,memory_recursiveprot", MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"virtiofs", SHARED_TAG, SHARED_DIR, NULL, 0},
};

static void set_read_ahead(void)
{
    struct stat st;
    char path[64];
    if (stat(SHARED_DIR, &st) < 0) {
        log_warn("%s: %s", SHARED_DIR, strerror(errno));
        return;
    }
    snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(st.st_dev), minor(st.st_dev));
    cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, SHARED_READ_AHEAD_KIB, strlen(SHARED_READ_AHEAD_KIB)) < 0)
        log_warn("%s: %s", path, strerror(errno));
}

void guest_complete(void)
{
    static const char *const directories[] = {"/proc",     "/sys",     "/run",
                                              "/run/husk", SHARED_DIR, ROOTFS_ATTACH_DIR};
    for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++) {
        if (mkdir(directories[i], 0755) < 0 && errno != EEXIST)
            log_err("mkdir %s: %s", directories[i], strerror(errno));
    }
    for (size_t i = 0; i < sizeof(guest_mounts) / sizeof(guest_mounts[0]); i++) {
        if (mount(guest_mounts[i].source, guest_mounts[i].target, guest_mounts[i].type, guest_mounts[i].flags,
                  guest_mounts[i].options) < 0)
            log_err("mount %s on %s: %s", guest_mounts[i].type, guest_mounts[i].target, strerror(errno));
    }
    set_read_ahead();
    struct error err;
    if (cgroup_enable_controllers(&err))
        log_err("%s", err.text);
    /* For containers that share the sandbox's uts namespace. */
    if (sethostname(GUEST_NAME, strlen(GUEST_NAME)) < 0)
        log_warn("hostname: %s", strerror(errno));
    int failed = namespaces_loopback_up();
    if (failed)
        log_err("loopback interface: %s", strerror(-failed));
    const struct rlimit files = {.rlim_cur = FILES_MAX, .rlim_max = FILES_MAX};
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        log_warn("limit of open files: %s", strerror(errno));
}

/* A process may still be writing: the tree is only synced when all have ended. */
static void end_containers(struct sandbox *sandbox)
{
    struct container *container;
    LIST_FOREACH(container, &sandbox->containers, link)
    {
        cgroup_kill(&container->cgroup, SIGKILL);
    }
    int waited_ms = 0;
    LIST_FOREACH(container, &sandbox->containers, link)
    {
        for (; cgroup_is_populated(&container->cgroup) && waited_ms < END_WAIT_MS; waited_ms += 2)
            poll(NULL, 0, 2);
    }
}

void guest_power_off(struct sandbox *sandbox)
{
    for (struct connection *at = LIST_FIRST(&sandbox->connections); at; at = connection_next(at))
        connection_flush(at);
    end_containers(sandbox);
    sync();
    umount2(SHARED_DIR, 0);
    reboot(RB_POWER_OFF);
    log_err("power off: %s", strerror(errno));
}
