/*
 * Finding and running a process's program: see program.h. Runs in the container's root as the container's
 * user; the files read here are the image's.
 */
#include "agent/program.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
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

/* Variables that the spec does not have. */
#define ADDED_MAX 4 /* HOME, LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES */

struct environment {
    const char **variables; /* NULL-terminated; borrowed, but for those in `added` */
    char *added[ADDED_MAX];
    size_t added_count;
};

__attribute__((format(printf, 2, 3))) static int environment_add(struct environment *env, const char *format,
                                                                 ...)
{
    va_list args;
    va_start(args, format);
    int length = vasprintf(&env->added[env->added_count], format, args);
    va_end(args);
    if (length < 0)
        return -1;
    env->added_count++;
    return 0;
}

/* The process is the one that sd_listen_fds(3) asks for. 0 or -1. */
static int environment_activate(struct environment *env, const struct program_activation *activation)
{
    if (activation->fds == 0)
        return 0;
    if (environment_add(env, "LISTEN_FDS=%u", activation->fds) ||
        environment_add(env, "LISTEN_PID=%d", (int)getpid()))
        return -1;
    return activation->names ? environment_add(env, "LISTEN_FDNAMES=%s", activation->names) : 0;
}

/* Of a name that is there several times the last counts, as if they were set one after the other (runc,
 * crun). What of it could be made is the caller's to free. 0 or -1. */
static int environment_make(const struct spec_process *process, const struct program_activation *activation,
                            struct environment *env)
{
    size_t count = 0, kept = 0;
    const char *home = environment_get(process->env, "HOME");
    if (!home || !*home) {
        cleanup_free char *directory = home_of(process->uid);
        if (directory && environment_add(env, "HOME=%s", directory))
            return -1;
    }
    if (environment_activate(env, activation))
        return -1;
    while (process->env && process->env[count])
        count++;
    env->variables = calloc(count + env->added_count + 1, sizeof(*env->variables));
    if (!env->variables)
        return -1;
    if (count > 0)
        memcpy(env->variables, process->env, count * sizeof(*env->variables));
    for (size_t i = 0; i < env->added_count; i++)
        env->variables[count++] = env->added[i];
    for (size_t i = 0; i < count; i++) {
        size_t later = i + 1;
        while (later < count && !has_same_name(env->variables[i], env->variables[later]))
            later++;
        if (later == count)
            env->variables[kept++] = env->variables[i];
    }
    env->variables[kept] = NULL;
    return 0;
}

static void environment_free(struct environment *env)
{
    for (size_t i = 0; i < env->added_count; i++)
        free(env->added[i]);
    free(env->variables);
}

int program_run(const struct spec_process *process, const char *path,
                const struct program_activation *activation, struct error *err)
{
    struct environment env = {0};
    int failed = environment_make(process, activation, &env);
    if (!failed)
        execve(path, (char *const *)process->args, (char *const *)env.variables);
    int code = failed ? ENOMEM : errno;
    environment_free(&env);
    if (code == ENOENT)
        return program_error(err, code, path, "no such file or directory");
    if (code == EACCES)
        return program_error(err, code, path, "permission denied");
    if (code == ENOEXEC)
        return program_error(err, code, path, "exec format error");
    return error_set(err, code, "exec: \"%s\"", path);
}
