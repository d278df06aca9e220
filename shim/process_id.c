/*
 * Processes by pid and start time: see process_id.h.
 */
#include "shim/process_id.h"

#include "common/fd.h"
#include "common/json.h"
#include "shim/deadline.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>

#define STAT_BYTES_MAX  4096
#define STAT_STATE      3 /* field numbers of proc(5) */
#define STAT_START_TIME 22

int process_id_get(pid_t pid, struct process_id *out)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    cleanup_free char *stat = NULL;
    if (fd_read_file_at(AT_FDCWD, path, STAT_BYTES_MAX, &stat) < 0)
        return -ESRCH;
    /* Field 2, the name, may hold blanks and parentheses: the fields after it start behind its last ")". */
    char *at = strrchr(stat, ')');
    if (!at || at[1] != ' ')
        return -ESRCH;
    at += 2;
    if (*at == 'Z' || *at == 'X')
        return -ESRCH;
    for (int field = STAT_STATE; field < STAT_START_TIME; field++) {
        at = strchr(at, ' ');
        if (!at)
            return -ESRCH;
        at++;
    }
    *out = (struct process_id){.pid = pid, .start_time = strtoull(at, NULL, 10)};
    return 0;
}

bool process_id_alive(const struct process_id *id)
{
    struct process_id now;
    return id->pid > 0 && process_id_get(id->pid, &now) == 0 && now.start_time == id->start_time;
}

int process_id_open(const struct process_id *id)
{
    if (id->pid <= 0)
        return -ESRCH;
    /* The pidfd first: once it is held, the pid cannot come to mean another process unnoticed. */
    int fd = pidfd_open(id->pid, 0);
    if (fd < 0)
        return -errno;
    if (!process_id_alive(id)) {
        close(fd);
        return -ESRCH;
    }
    return fd;
}

int process_id_kill(const struct process_id *id, int timeout_ms)
{
    cleanup_fd int fd = process_id_open(id);
    if (fd < 0)
        return 0;
    if (pidfd_send_signal(fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
        return -errno;
    return process_wait_end(fd, timeout_ms);
}

int process_wait_end(int pidfd, int timeout_ms)
{
    struct pollfd pfd = {.fd = pidfd, .events = POLLIN};
    int64_t deadline = deadline_in(timeout_ms);
    for (;;) {
        int ready = poll(&pfd, 1, deadline_left_ms(deadline));
        if (ready > 0)
            return 0;
        if (ready == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

json_t *process_id_to_json(const struct process_id *id)
{
    return json_pack("{s:i, s:I}", "pid", (int)id->pid, "start_time", (json_int_t)id->start_time);
}

int process_id_from_json(const json_t *object, const char *key, struct process_id *out, struct error *err)
{
    json_t *member = NULL;
    int64_t pid = 0, start_time = 0;
    int got = json_get_object(object, "", key, &member, err);
    if (got <= 0)
        return got;
    if (json_require(json_get_int(member, key, "pid", 1, INT32_MAX, &pid, err), key, "pid", err) < 0 ||
        json_require(json_get_int(member, key, "start_time", 0, INT64_MAX, &start_time, err), key,
                     "start_time", err) < 0)
        return -1;
    *out = (struct process_id){.pid = (pid_t)pid, .start_time = (uint64_t)start_time};
    return 0;
}
