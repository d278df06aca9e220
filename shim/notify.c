/*
 * Passing notifications on: see notify.h. The messages are the container's own words: they go out line by
 * line, and only as text.
 */
#include "shim/notify.h"

#include "common/fd.h"
#include "common/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

void notify_name(char name[NOTIFY_NAME_MAX], const char *container)
{
    /* An abstract name has 107 bytes, an ID may be longer: the end of it tells two of a pod apart. */
    size_t length = strlen(container), most = NOTIFY_NAME_MAX - sizeof("husk/notify/");
    snprintf(name, NOTIFY_NAME_MAX, "husk/notify/%s", length > most ? container + length - most : container);
}

json_t *notify_add_to_spec(json_t *spec, const char *container, struct error *err)
{
    char name[NOTIFY_NAME_MAX];
    cleanup_json json_t *copy = json_copy(spec);
    cleanup_json json_t *process = json_copy(json_object_get(spec, "process"));
    cleanup_json json_t *env = json_copy(json_object_get(process, "env"));
    notify_name(name, container);
    if (!env)
        env = json_array();
    if (!process || json_array_append_new(env, json_sprintf("NOTIFY_SOCKET=@%s", name)) < 0 ||
        json_object_set(process, "env", env) < 0 || json_object_set(copy, "process", process) < 0) {
        error_set(err, 0, "NOTIFY_SOCKET: config.json has no process with an environment");
        return NULL;
    }
    return json_incref(copy);
}

static bool starts_with(const char *line, size_t length, const char *prefix)
{
    return length >= strlen(prefix) && strncmp(line, prefix, strlen(prefix)) == 0;
}

static bool append_line(char *text, size_t size, size_t *at, const char *line, size_t length)
{
    if (length + 1 >= size - *at)
        return false;
    memcpy(text + *at, line, length);
    text[*at + length] = '\n';
    *at += length + 1;
    text[*at] = '\0';
    return true;
}

size_t notify_rewrite(const char *message, pid_t pid, char *text, size_t size)
{
    static const char *const about_fds[] = {"FDSTORE", "FDNAME=", "FDPOLL=", "BARRIER="};
    bool tell_pid = false;
    size_t at = 0;
    text[0] = '\0';
    for (const char *line = message; *line;) {
        size_t length = strcspn(line, "\n");
        bool passed_on = length > 0;
        for (size_t i = 0; i < sizeof(about_fds) / sizeof(about_fds[0]); i++)
            passed_on &= !starts_with(line, length, about_fds[i]);
        bool is_pid = starts_with(line, length, "MAINPID=");
        bool is_ready = length == strlen("READY=1") && starts_with(line, length, "READY=1");
        tell_pid |= is_pid || is_ready;
        if (passed_on && !is_pid)
            append_line(text, size, &at, line, length);
        line += length + (line[length] == '\n');
    }
    if (tell_pid) {
        char line[32];
        int length = snprintf(line, sizeof(line), "MAINPID=%d", (int)pid);
        append_line(text, size, &at, line, (size_t)length);
    }
    return at;
}

const char *notify_keep(const char *path, char kept[NOTIFY_KEPT_MAX])
{
    int fd = path && path[0] == '/' ? open(path, O_PATH | O_CLOEXEC) : -1;
    if (fd < 0)
        return path;
    snprintf(kept, NOTIFY_KEPT_MAX, "/proc/self/fd/%d", fd);
    return kept;
}

int notify_send(const char *path, const char *text, size_t length, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t path_length = strlen(path);
    if (path_length == 0 || path_length >= sizeof(address.sun_path))
        return error_set(err, ENAMETOOLONG, "NOTIFY_SOCKET");
    memcpy(address.sun_path, path, path_length);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_length + (path[0] != '@'));
    cleanup_fd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 ||
        sendto(fd, text, length, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address, size) < 0)
        return error_set(err, errno, "NOTIFY_SOCKET %s", path);
    return 0;
}
