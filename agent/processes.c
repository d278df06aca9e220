/*
 * Processes as /proc tells of them: see processes.h. Names and arguments are the container's own words:
 * capped, and made fit for JSON.
 */
#include "agent/processes.h"

#include "common/fd.h"
#include "common/json.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#define PROC_FILE_MAX 16384
#define ARGUMENTS_MAX 512 /* bytes shown */
#define PROCESSES_MAX 8192
#define MS_PER_S      1000
#define NS_PER_MS     1000000
#define BYTES_PER_KIB 1024

/* proc(5), /proc/PID/stat. */
struct proc_stat {
    char comm[64];
    char state;
    int ppid, pgid, sid, tty;
    int64_t user_ticks, system_ticks, priority, nice, threads, rss_pages;
    uint64_t start_ticks, virtual_bytes;
};

static int proc_read_stat(int dir_fd, struct proc_stat *out)
{
    cleanup_free char *text = NULL;
    ssize_t length = fd_read_file_at(dir_fd, "stat", PROC_FILE_MAX, &text);
    if (length < 0)
        return (int)length;
    /* The name may hold blanks and parentheses: the other fields start behind its last ")". */
    char *name = strchr(text, '('), *end = strrchr(text, ')');
    if (!name || !end || end < name)
        return -EPROTO;
    *end = '\0';
    snprintf(out->comm, sizeof(out->comm), "%s", name + 1);
    int got = sscanf(end + 1,
                     " %c %d %d %d %d %*d %*u %*u %*u %*u %*u %" SCNd64 " %" SCNd64 " %*d %*d %" SCNd64
                     " %" SCNd64 " %" SCNd64 " %*d %" SCNu64 " %" SCNu64 " %" SCNd64,
                     &out->state, &out->ppid, &out->pgid, &out->sid, &out->tty, &out->user_ticks,
                     &out->system_ticks, &out->priority, &out->nice, &out->threads, &out->start_ticks,
                     &out->virtual_bytes, &out->rss_pages);
    return got == 13 ? 0 : -EPROTO;
}

/* The effective ids, and the pid in the innermost pid namespace. */
static int proc_read_status(int dir_fd, int64_t *uid, int64_t *gid, int64_t *own_pid)
{
    cleanup_free char *text = NULL;
    ssize_t length = fd_read_file_at(dir_fd, "status", PROC_FILE_MAX, &text);
    if (length < 0)
        return (int)length;
    const char *uids = strstr(text, "\nUid:"), *gids = strstr(text, "\nGid:");
    const char *pids = strstr(text, "\nNSpid:");
    if (!uids || !gids || sscanf(uids, "\nUid: %*d %" SCNd64, uid) != 1 ||
        sscanf(gids, "\nGid: %*d %" SCNd64, gid) != 1)
        return -EPROTO;
    if (pids) {
        const char *end = strchr(pids + 1, '\n');
        while (end && end[-1] != '\t')
            end--;
        *own_pid = end ? strtoll(end, NULL, 10) : 0;
    }
    return 0;
}

/* Any bytes as a JSON string: control characters, and bytes that are no UTF-8, become '?'. */
static json_t *text_to_json(char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (iscntrl((unsigned char)text[i]))
            text[i] = '?';
    }
    json_t *string = json_stringn(text, length);
    for (size_t i = 0; !string && i < length; i++) {
        if ((unsigned char)text[i] >= 0x80)
            text[i] = '?';
    }
    return string ? string : json_stringn(text, length);
}

/* The arguments, or the name in brackets when there are none (a zombie, or it wiped them). */
static json_t *proc_read_arguments(int dir_fd, const char *comm)
{
    char text[ARGUMENTS_MAX];
    cleanup_fd int fd = openat(dir_fd, "cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, text, sizeof(text));
    while (length > 0 && text[length - 1] == '\0')
        length--;
    for (ssize_t i = 0; i < length; i++) {
        if (text[i] == '\0')
            text[i] = ' ';
    }
    if (length <= 0)
        length = snprintf(text, sizeof(text), "[%s]", comm);
    return text_to_json(text, (size_t)length);
}

static int64_t ticks_to_ms(uint64_t ticks)
{
    return (int64_t)(ticks * MS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
}

/* New reference, or NULL when the process is gone or memory is short. */
static json_t *proc_to_json(pid_t pid)
{
    char path[32];
    struct proc_stat stat;
    struct timespec now;
    int64_t uid = 0, gid = 0, own_pid = pid;
    snprintf(path, sizeof(path), "/proc/%d", (int)pid);
    cleanup_fd int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || proc_read_stat(dir, &stat) || proc_read_status(dir, &uid, &gid, &own_pid))
        return NULL;
    clock_gettime(CLOCK_BOOTTIME, &now);
    int64_t age_ms = now.tv_sec * MS_PER_S + now.tv_nsec / NS_PER_MS - ticks_to_ms(stat.start_ticks);
    char state[2] = {stat.state, '\0'};
    return json_pack(
        "{s:i, s:I, s:i, s:i, s:i, s:i, s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "pid",
        (int)pid, "own_pid", (json_int_t)own_pid, "ppid", stat.ppid, "pgid", stat.pgid, "sid", stat.sid,
        "tty", stat.tty, "uid", (json_int_t)uid, "gid", (json_int_t)gid, "state", state, "threads",
        (json_int_t)stat.threads, "nice", (json_int_t)stat.nice, "priority", (json_int_t)stat.priority,
        "cpu_ms", (json_int_t)ticks_to_ms((uint64_t)(stat.user_ticks + stat.system_ticks)), "age_ms",
        (json_int_t)(age_ms > 0 ? age_ms : 0), "virtual_kib",
        (json_int_t)(stat.virtual_bytes / BYTES_PER_KIB), "resident_kib",
        (json_int_t)(stat.rss_pages * sysconf(_SC_PAGESIZE) / BYTES_PER_KIB), "comm",
        text_to_json(stat.comm, strlen(stat.comm)), "args", proc_read_arguments(dir, stat.comm));
}

json_t *processes_list(const struct cgroup *cgroup, bool details, struct error *err)
{
    struct cgroup_pids list;
    int failed = cgroup_list_pids(cgroup, &list);
    if (failed) {
        error_set(err, -failed, "list the processes");
        return NULL;
    }
    cleanup_free pid_t *pids = list.pids;
    if (details && list.count > PROCESSES_MAX) {
        error_set(err, E2BIG, "%zu processes", list.count);
        return NULL;
    }
    json_t *array = json_array();
    for (size_t i = 0; i < list.count; i++) {
        json_t *entry = details ? proc_to_json(pids[i]) : json_integer(pids[i]);
        if (entry)
            json_array_append_new(array, entry);
    }
    if (!details)
        return json_pack("{s:o}", "pids", array);
    struct sysinfo info;
    json_int_t memory_kib =
        sysinfo(&info) == 0 ? (json_int_t)(info.totalram * info.mem_unit / BYTES_PER_KIB) : 0;
    return json_pack("{s:o, s:I}", "processes", array, "memory_kib", memory_kib);
}
