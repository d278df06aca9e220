/*
 * Finding and running a process's program: see program.h. Runs in the container's root as the container's
 * user; the files read here are the image's.
 */
#include "agent/program.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char *environment_get(const char *const *env, const char *name)
{
    size_t length = strlen(name);
    const char *found = NULL; /* the last one counts, as in runc */
    for (; env && *env; env++) {
        if (strncmp(*env, name, length) == 0 && (*env)[length] == '=')
            found = *env + length + 1;
    }
    return found;
}

/* 0 when it is a file that may be executed, else -errno. */
static int program_check(const char *path)
{
    struct stat status;
    if (stat(path, &status) < 0)
        return -errno;
    if (S_ISDIR(status.st_mode))
        return -EISDIR;
    return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

/* Errors without the C library's own wording, which differs from Go's in its capitals. */
static int program_error(struct error *err, int code, const char *name, const char *what)
{
    return error_say(err, code, "exec: \"%s\": %s", name, what);
}

static int program_find_in(const char *directories, const char *name, char path[PATH_MAX])
{
    int worst = -ENOENT;
    for (const char *at = directories; *at;) {
        size_t length = strcspn(at, ":");
        int put = snprintf(path, PATH_MAX, "%.*s/%s", (int)length, length ? at : ".", name);
        if (put > 0 && put < PATH_MAX) {
            int failed = program_check(path);
            if (failed == 0)
                return 0;
            if (failed == -EACCES)
                worst = failed;
        }
        at += length + (at[length] == ':');
    }
    return worst;
}

int program_find(const struct spec_process *process, char path[PATH_MAX], struct error *err)
{
    const char *name = process->args[0];
    char what[PATH_MAX + 64];
    int failed;
    if (strchr(name, '/')) {
        if (snprintf(path, PATH_MAX, "%s", name) >= PATH_MAX)
            return error_set(err, ENAMETOOLONG, "exec");
        failed = program_check(path);
        if (failed == -ENOENT) {
            snprintf(what, sizeof(what), "stat %s: no such file or directory", name);
            return program_error(err, ENOENT, name, what);
        }
    } else {
        const char *directories = environment_get(process->env, "PATH");
        failed = *name ? program_find_in(directories ? directories : PATH_DEFAULT, name, path) : -ENOENT;
        if (failed == -ENOENT)
            return program_error(err, ENOENT, name, "executable file not found in $PATH");
    }
    if (failed == -EACCES)
        return program_error(err, EACCES, name, "permission denied");
    if (failed == -EISDIR)
        return program_error(err, EACCES, name, "is a directory: permission denied");
    if (failed)
        return error_set(err, -failed, "exec: \"%s\"", name);
    return 0;
}

/* The user's home directory as the image's /etc/passwd has it, or "/". Heap string or NULL. */
static char *home_of(uid_t uid)
{
    /* Not blocking: the image may have put a pipe there. */
    cleanup_fd int fd = open("/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat status;
    char *home = NULL;
    FILE *file = NULL;
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
        file = fdopen(fd, "re");
    if (file) {
        struct passwd *entry;
        take_fd(&fd);
        while (!home && (entry = fgetpwent(file)) != NULL) {
            if (entry->pw_uid == uid)
                home = strdup(entry->pw_dir);
        }
        fclose(file);
    }
    return home ? home : strdup("/");
}

static bool has_same_name(const char *variable, const char *other)
{
    size_t length = strcspn(variable, "=");
    return strcspn(other, "=") == length && strncmp(variable, other, length) == 0;
}

/* The environment for the program: a heap array whose strings are borrowed, but for one in *added. Of a name
 * that is there several times the last counts, as if they were set one after the other (runc, crun). */
static const char **environment_make(const struct spec_process *process, char **added)
{
    size_t count = 0, kept = 0;
    while (process->env && process->env[count])
        count++;
    const char **env = calloc(count + 2, sizeof(*env));
    if (!env)
        return NULL;
    for (size_t i = 0; i < count; i++)
        env[i] = process->env[i];
    const char *home = environment_get(process->env, "HOME");
    if (!home || !*home) {
        cleanup_free char *directory = home_of(process->uid);
        if (directory && asprintf(added, "HOME=%s", directory) > 0)
            env[count++] = *added;
    }
    for (size_t i = 0; i < count; i++) {
        size_t later = i + 1;
        while (later < count && !has_same_name(env[i], env[later]))
            later++;
        if (later == count)
            env[kept++] = env[i];
    }
    env[kept] = NULL;
    return env;
}

int program_run(const struct spec_process *process, const char *path, struct error *err)
{
    cleanup_free char *home = NULL;
    cleanup_free const char **env = environment_make(process, &home);
    if (!env)
        return error_set(err, ENOMEM, "environment");
    execve(path, (char *const *)process->args, (char *const *)env);
    int code = errno;
    if (code == ENOENT)
        return program_error(err, code, path, "no such file or directory");
    if (code == EACCES)
        return program_error(err, code, path, "permission denied");
    if (code == ENOEXEC)
        return program_error(err, code, path, "exec format error");
    return error_set(err, code, "exec: \"%s\"", path);
}
