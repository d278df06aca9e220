/* Per-thread credentials: see creds.h. */
#include "vmm/fs/creds.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool has_cap(const uint32_t set[2], unsigned cap)
{
    return set[CAP_TO_INDEX(cap)] & CAP_TO_MASK(cap);
}

static int caps_read(struct fs_creds *creds)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    for (int i = 0; i < 2; i++) {
        creds->permitted[i] = data[i].permitted;
        creds->effective[i] = data[i].effective;
    }
    return 0;
}

static int caps_write(const struct fs_creds *creds)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    for (int i = 0; i < 2; i++)
        data[i] = (struct __user_cap_data_struct){.permitted = creds->permitted[i],
                                                  .effective = creds->effective[i]};
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int fs_creds_init(struct fs_creds *creds, int proc_self_fd)
{
    *creds = (struct fs_creds){.own_uid = geteuid(), .own_gid = getegid()};
    if (unshare(CLONE_FS) < 0 || fchdir(proc_self_fd) < 0)
        return -errno;
    creds->umask = umask(0);
    umask(creds->umask);
    int err = caps_read(creds);
    if (err)
        return err;
    if (!has_cap(creds->effective, CAP_SETUID))
        return 0; /* an unprivileged server creates files as itself only */
    int securebits = prctl(PR_GET_SECUREBITS);
    if (securebits < 0)
        return -errno;
    if (!(securebits & SECBIT_NO_SETUID_FIXUP) &&
        prctl(PR_SET_SECUREBITS, securebits | SECBIT_NO_SETUID_FIXUP) < 0)
        return -errno;
    if (syscall(SYS_setgroups, 0, NULL) < 0)
        return -errno;
    return 0;
}

/* setfsuid and setfsgid tell nothing but the value before the call. */
static int set_fsuid(uid_t uid)
{
    syscall(SYS_setfsuid, uid);
    return (uid_t)syscall(SYS_setfsuid, (uid_t)-1) == uid ? 0 : -EPERM;
}

static int set_fsgid(gid_t gid)
{
    syscall(SYS_setfsgid, gid);
    return (gid_t)syscall(SYS_setfsgid, (gid_t)-1) == gid ? 0 : -EPERM;
}

int fs_creds_enter(struct fs_creds *creds, uid_t uid, gid_t gid, gid_t group)
{
    creds->switched = gid != creds->own_gid || uid != creds->own_uid;
    if (gid != creds->own_gid && set_fsgid(gid))
        goto refused;
    if (uid != creds->own_uid && set_fsuid(uid))
        goto refused;
    if (group != (gid_t)-1) {
        if (syscall(SYS_setgroups, 1, &group) < 0)
            goto refused;
        creds->group_set = true;
    }
    return 0;
refused:
    fs_creds_leave(creds);
    return -EPERM;
}

void fs_creds_leave(struct fs_creds *creds)
{
    if (creds->group_set)
        syscall(SYS_setgroups, 0, NULL);
    if (creds->switched) {
        syscall(SYS_setfsuid, creds->own_uid);
        syscall(SYS_setfsgid, creds->own_gid);
    }
    creds->group_set = creds->switched = false;
}

void fs_creds_umask(struct fs_creds *creds, mode_t mask)
{
    mask &= 0777;
    if (creds->umask != mask)
        umask(mask);
    creds->umask = mask;
}

/* Sets or clears the permitted ones among `mask` (capabilities below 32) in the effective set. */
static int caps_toggle(struct fs_creds *creds, uint32_t mask, bool keep)
{
    uint32_t before = creds->effective[0];
    uint32_t after = keep ? before | (mask & creds->permitted[0]) : before & ~mask;
    if (after == before)
        return 0;
    creds->effective[0] = after;
    int err = caps_write(creds);
    if (err)
        creds->effective[0] = before;
    return err ? -EPERM : 0;
}

int fs_creds_fsetid(struct fs_creds *creds, bool keep)
{
    return caps_toggle(creds, CAP_TO_MASK(CAP_FSETID), keep);
}

int fs_creds_dac(struct fs_creds *creds, bool keep)
{
    return caps_toggle(creds, CAP_TO_MASK(CAP_DAC_OVERRIDE) | CAP_TO_MASK(CAP_DAC_READ_SEARCH), keep);
}
