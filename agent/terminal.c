/*
 * Pseudo-terminals: see terminal.h. Runs between fork and exec; the master travels to the agent (sync.h).
 */
#include "agent/terminal.h"

#include "agent/mounts.h"
#include "agent/resolve.h"
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

int terminal_open(const struct spec_process *process, int root_fd, int *master, int *slave, struct error *err)
{
    struct winsize size = {.ws_row = process->rows, .ws_col = process->columns};
    int unlock = 0;
    cleanup_fd int ours = resolve_open(root_fd, "/dev/pts/ptmx", O_RDWR | O_NOCTTY);
    if (ours < 0)
        return error_set(err, -ours, "terminal: /dev/pts/ptmx");
    /* TIOCGPTPEER opens the slave without a path, so no mount of the container can stand in for it. */
    cleanup_fd int theirs = -1;
    if (ioctl(ours, TIOCSPTLCK, &unlock) < 0 ||
        (theirs = ioctl(ours, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0)
        return error_set(err, errno, "terminal");
    if ((size.ws_row || size.ws_col) && ioctl(ours, TIOCSWINSZ, &size) < 0)
        return error_set(err, errno, "terminal size");
    /* The group stays devpts' own (tty). */
    if (fchown(theirs, process->uid, (gid_t)-1) < 0)
        return error_set(err, errno, "terminal owner");
    *master = take_fd(&ours);
    *slave = take_fd(&theirs);
    return 0;
}

int terminal_make_console(int root_fd, int slave, struct error *err)
{
    cleanup_fd int place = resolve_make_file(root_fd, "/dev/console");
    if (place < 0)
        return error_set(err, -place, "/dev/console");
    cleanup_fd int mount_fd = mounts_clone(slave, 0);
    int failed = mount_fd < 0 ? mount_fd : mounts_attach(mount_fd, place);
    return failed ? error_set(err, -failed, "/dev/console") : 0;
}

int terminal_take(int slave, struct error *err)
{
    if (ioctl(slave, TIOCSCTTY, 0) < 0)
        return error_set(err, errno, "controlling terminal");
    for (int fd = 0; fd < 3; fd++) {
        if (dup2(slave, fd) < 0)
            return error_set(err, errno, "terminal");
    }
    return 0;
}
