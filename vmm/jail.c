/*
 * Closing the jail: see jail.h. Only system calls and no paths of the host: the new root is attached through
 * descriptors (fsmount, open_tree), so nothing can be raced or followed.
 */
#include "vmm/jail.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The root has room for the names of the containers' trees and nothing else. */
#define ROOT_SIZE   "256k"
#define ROOT_INODES "16384"

#define ROOT_ATTRIBUTES (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

/* What acting for users other than root on the shared tree takes. */
static const int kept_capabilities[] = {
    CAP_CHOWN,           /* chown, and files made for any owner */
    CAP_DAC_OVERRIDE,    /* the guest's root reads and writes any file */
    CAP_DAC_READ_SEARCH, /* reopening inodes through /proc-less handles */
    CAP_FOWNER,          /* chmod, utimes, xattrs of files owned by others */
    CAP_FSETID,          /* set-group-id bits survive chmod and chown where the guest said so */
    CAP_SETUID,          /* setfsuid: act as the guest's user */
    CAP_SETGID,          /* setfsgid and supplementary groups */
    CAP_MKNOD,           /* device nodes in images */
    CAP_SETFCAP,         /* security.capability */
};

pid_t jail_fork_pid_namespace(struct error *err)
{
    if (unshare(CLONE_NEWPID) < 0)
        return error_set(err, errno, "jail: new pid namespace (this takes root)");
    pid_t pid = fork();
    if (pid < 0)
        return error_set(err, errno, "jail: fork");
    if (pid > 0)
        return pid;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return error_set(err, errno, "jail: parent death signal");
    return 0;
}

int jail_open_proc_self_fd(struct error *err)
{
    int tree = open_tree(AT_FDCWD, "/proc/self/fd", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    return tree < 0 ? error_set(err, errno, "jail: clone /proc/self/fd") : tree;
}

/* A detached mount of an empty tmpfs. The fd, or -1. */
static int empty_tree(struct error *err)
{
    cleanup_fd int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "source", "husk", 0) < 0 ||
        fsconfig(fs, FSCONFIG_SET_STRING, "size", ROOT_SIZE, 0) < 0 ||
        fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", ROOT_INODES, 0) < 0 ||
        fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return error_set(err, errno, "jail: make the root");
    int tree = fsmount(fs, FSMOUNT_CLOEXEC, ROOT_ATTRIBUTES | MOUNT_ATTR_RDONLY);
    return tree < 0 ? error_set(err, errno, "jail: mount the root") : tree;
}

/* A detached copy of the shared tree's mounts. The fd, or -1. Must come before the new mount namespace, to
 * which the descriptor's mount does not belong. */
static int shared_tree(int shared_fd, struct error *err)
{
    struct mount_attr attributes = {.attr_set = ROOT_ATTRIBUTES, .propagation = MS_PRIVATE};
    cleanup_fd int tree =
        open_tree(shared_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
    if (tree < 0 ||
        mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof(attributes)) < 0)
        return error_set(err, errno, "jail: clone the shared tree");
    return take_fd(&tree);
}

int jail_enter(int shared_fd, struct error *err)
{
    cleanup_fd int tree = shared_fd < 0 ? empty_tree(err) : shared_tree(shared_fd, err);
    if (tree < 0)
        return -1;
    if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) < 0)
        return error_set(err, errno, "jail: new namespaces");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return error_set(err, errno, "jail: make mounts private");
    if (move_mount(tree, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return error_set(err, errno, "jail: attach the root");
    /* pivot_root(".", ".") stacks the old root on the new one, from where it is taken off (pivot_root(2)). */
    if (fchdir(tree) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return error_set(err, errno, "jail: pivot_root");
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return error_set(err, errno, "jail: detach the old root");
    return 0;
}

static int set_capabilities(const int *kept, size_t count)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
    for (size_t i = 0; i < count; i++) {
        data[CAP_TO_INDEX(kept[i])].permitted |= CAP_TO_MASK(kept[i]);
        data[CAP_TO_INDEX(kept[i])].effective |= CAP_TO_MASK(kept[i]);
    }
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int drop_bounding_set(void)
{
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap) < 0)
            return -errno;
    }
    return 0;
}

int jail_raise_limits(struct error *err)
{
    struct rlimit files;
    const struct rlimit none = {0, 0};
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return error_set(err, errno, "jail: resource limits");
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
        return error_set(err, errno, "jail: resource limits");
    return 0;
}

int jail_drop_privileges(struct error *err)
{
    /* NO_SETUID_FIXUP: setfsuid to a user must not take CAP_FSETID and its like from the worker; NOROOT: uid
     * 0 gives nothing back. All locked. */
    const unsigned long bits = SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_NOROOT |
                               SECBIT_NOROOT_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                               SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED | SECBIT_KEEP_CAPS_LOCKED;
    int rc = drop_bounding_set();
    if (rc < 0)
        return error_set(err, -rc, "jail: capability bounding set");
    if (prctl(PR_SET_SECUREBITS, bits) < 0)
        return error_set(err, errno, "jail: securebits");
    rc = set_capabilities(kept_capabilities, sizeof(kept_capabilities) / sizeof(kept_capabilities[0]));
    if (rc < 0)
        return error_set(err, -rc, "jail: capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_set(err, errno, "jail: no_new_privs");
    return 0;
}

int jail_drop_capabilities(void)
{
    return set_capabilities(NULL, 0);
}
