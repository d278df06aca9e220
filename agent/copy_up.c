/*
 * tmpcopyup: see copy_up.h. The source is the image's and hostile: it is read by fd with O_NOFOLLOW, and its
 * depth is capped because each level is a frame of the stack and two fds.
 */
#include "agent/copy_up.h"

#include "common/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define DEPTH_MAX       128
#define XATTR_NAMES_MAX 4096
#define XATTR_VALUE_MAX 65536
#define SENDFILE_BYTES  (1u << 20)

static int copy_directory(int from_fd, int to_fd, dev_t device, unsigned depth, struct error *err);

/* Extended attributes that the target can't hold are left out, as cp -a does: they are no reason to fail. */
static void copy_xattrs(int from_fd, int to_fd)
{
    char names[XATTR_NAMES_MAX];
    ssize_t length = flistxattr(from_fd, names, sizeof(names));
    cleanup_free char *value = length > 0 ? malloc(XATTR_VALUE_MAX) : NULL;
    for (char *name = names; value && name < names + length; name += strlen(name) + 1) {
        ssize_t size = fgetxattr(from_fd, name, value, XATTR_VALUE_MAX);
        if (size >= 0)
            (void)!fsetxattr(to_fd, name, value, (size_t)size, 0);
    }
}

/* Owner, mode and times; the owner first, since changing it clears the set-uid bits. */
static int copy_metadata(int from_fd, int to_fd, const struct stat *status)
{
    const struct timespec times[2] = {status->st_atim, status->st_mtim};
    if (fchown(to_fd, status->st_uid, status->st_gid) < 0 || fchmod(to_fd, status->st_mode & 07777) < 0)
        return -errno;
    copy_xattrs(from_fd, to_fd);
    return futimens(to_fd, times) < 0 ? -errno : 0;
}

static int copy_file(int from_dir, int to_dir, const char *name, const struct stat *status)
{
    cleanup_fd int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    cleanup_fd int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (from < 0 || to < 0)
        return -errno;
    ssize_t put;
    while ((put = sendfile(to, from, NULL, SENDFILE_BYTES)) != 0) {
        if (put < 0 && errno != EINTR)
            return -errno;
    }
    return copy_metadata(from, to, status);
}

static int copy_link(int from_dir, int to_dir, const char *name, const struct stat *status)
{
    char target[PATH_MAX];
    ssize_t length = readlinkat(from_dir, name, target, sizeof(target) - 1);
    if (length < 0)
        return -errno;
    target[length] = '\0';
    if (symlinkat(target, to_dir, name) < 0 ||
        fchownat(to_dir, name, status->st_uid, status->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return 0;
}

static int copy_special(int to_dir, const char *name, const struct stat *status)
{
    if (mknodat(to_dir, name, status->st_mode, status->st_rdev) < 0 ||
        fchownat(to_dir, name, status->st_uid, status->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        fchmodat(to_dir, name, status->st_mode & 07777, 0) < 0)
        return -errno;
    return 0;
}

static int copy_subdirectory(int from_dir, int to_dir, const char *name, const struct stat *status,
                             unsigned depth, struct error *err)
{
    cleanup_fd int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0 || mkdirat(to_dir, name, 0700) < 0)
        return error_set(err, errno, "%s", name);
    cleanup_fd int to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (to < 0)
        return error_set(err, errno, "%s", name);
    if (copy_directory(from, to, status->st_dev, depth + 1, err))
        return error_wrap(err, "%s", name);
    int failed = copy_metadata(from, to, status);
    return failed ? error_set(err, -failed, "%s", name) : 0;
}

static int copy_entry(int from_dir, int to_dir, const char *name, dev_t device, unsigned depth,
                      struct error *err)
{
    struct stat status;
    int failed = 0;
    if (fstatat(from_dir, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return error_set(err, errno, "%s", name);
    if (S_ISDIR(status.st_mode)) {
        if (status.st_dev != device)
            return 0;
        return copy_subdirectory(from_dir, to_dir, name, &status, depth, err);
    }
    if (S_ISREG(status.st_mode))
        failed = copy_file(from_dir, to_dir, name, &status);
    else if (S_ISLNK(status.st_mode))
        failed = copy_link(from_dir, to_dir, name, &status);
    else
        failed = copy_special(to_dir, name, &status);
    return failed ? error_set(err, -failed, "%s", name) : 0;
}

/* from_fd and to_fd stay open; the directory stream has its own. */
static int copy_directory(int from_fd, int to_fd, dev_t device, unsigned depth, struct error *err)
{
    if (depth > DEPTH_MAX)
        return error_set(err, ELOOP, "deeper than %d directories", DEPTH_MAX);
    int stream_fd = openat(from_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = stream_fd < 0 ? NULL : fdopendir(stream_fd);
    if (!stream)
        return error_set(err, errno, "open directory");
    int failed = 0;
    struct dirent *entry;
    while (!failed && (entry = readdir(stream)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            failed = copy_entry(from_fd, to_fd, entry->d_name, device, depth, err);
    }
    closedir(stream);
    return failed;
}

int copy_up(int from_fd, int to_fd, struct error *err)
{
    struct stat status;
    /* Both came as O_PATH. */
    cleanup_fd int from = openat(from_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_fd int to = openat(to_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from < 0 || to < 0 || fstat(from, &status) < 0)
        return error_set(err, errno, "open directory");
    return copy_directory(from, to, status.st_dev, 0, err);
}
