/*
 * Delegation of cgroups: see cgroup_delegate.h.
 */
#include "agent/cgroup_delegate.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define DELEGATE_FILE "/sys/kernel/cgroup/delegate"

int cgroup_delegate(int cgroup_fd, uid_t owner, struct error *err)
{
    cleanup_free char *names = NULL;
    ssize_t length = fd_read_file_at(AT_FDCWD, DELEGATE_FILE, 4096, &names);
    if (length < 0)
        return error_set(err, (int)-length, DELEGATE_FILE);
    if (fchown(cgroup_fd, owner, (gid_t)-1) < 0)
        return error_set(err, errno, "owner of the cgroup");
    char *rest = names;
    for (char *name; (name = strsep(&rest, "\n")) != NULL;) {
        /* The list names files of controllers that this cgroup may not have. */
        if (*name && fchownat(cgroup_fd, name, owner, (gid_t)-1, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
            return error_set(err, errno, "owner of the cgroup's %s", name);
    }
    return 0;
}
