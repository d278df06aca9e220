/*
 * Whose rights a worker thread acts with (fsuid, fsgid, groups, umask, CAP_FSETID): per-thread state, changed
 * by raw system calls because the C library would change the whole process.
 *
 * The guest's kernel has checked permissions before a request comes (default_permissions); the server acts
 * as root with the jail's few capabilities. Only new files need the caller's identity, so that they get its
 * owner, and the host's own rules for set-user-ID, set-group-ID and file capabilities need CAP_FSETID dropped
 * when the caller in the guest lacks it (CVE-2021-20263, CVE-2022-0358).
 */
#ifndef HUSK_VMM_FS_CREDS_H
#define HUSK_VMM_FS_CREDS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fs_creds {
    uid_t own_uid;
    gid_t own_gid;
    uint32_t permitted[2], effective[2]; /* capability sets */
    bool switched, group_set;            /* not the thread's own identity; with a supplementary group */
    mode_t umask;
};

/* Makes the calling thread a server thread: its own umask and working directory (`/proc/self/fd`, given as
 * proc_self_fd, so that "N" names the file behind fd N in calls that take only a path), no supplementary
 * groups, capabilities kept when fsuid changes. 0 or -errno. */
int fs_creds_init(struct fs_creds *creds, int proc_self_fd);

/* Until fs_creds_leave new files belong to uid and gid. `group`: a supplementary group the caller has, or
 * (gid_t)-1; needed only where the set-group-ID bit of a new file is at stake. 0; -EPERM when the thread may
 * not take that identity (nothing has changed then). */
int fs_creds_enter(struct fs_creds *creds, uid_t uid, gid_t gid, gid_t group);
void fs_creds_leave(struct fs_creds *creds);
/* Sets the umask that the host applies to what is created (or a default ACL instead, its own decision). */
void fs_creds_umask(struct fs_creds *creds, mode_t umask);
/* Has (if the thread may) or drops CAP_FSETID from here on. 0; -EPERM when it could not be dropped. */
int fs_creds_fsetid(struct fs_creds *creds, bool keep);
/* The same for the capabilities that override file permissions. */
int fs_creds_dac(struct fs_creds *creds, bool keep);

#endif
