/* See proc_view_fixture.h. */
#include "proc_view_fixture.h"

#include "common/error.h"
#include "common/fd.h"
#include "shim/proc_view.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define ROWS_MAX         32
#define PATIENCE_SECONDS 10

struct row {
    char path[64];
    json_t *answer;
    int code;
};

struct proc_view_fixture {
    char directory[32];
    int fuse_fd;
    pthread_t server;
    pid_t watchdog;
    int done; /* closed: the watchdog's end */
    bool ended;
    pthread_mutex_t lock; /* what follows */
    struct row row[ROWS_MAX];
    size_t rows;
    char asked[8192], taken[8192];
};

static json_t *ask(void *arg, const char *path, struct error *err)
{
    struct proc_view_fixture *view = arg;
    json_t *answer = NULL;
    err->code = ESRCH;
    pthread_mutex_lock(&view->lock);
    size_t used = strlen(view->asked);
    snprintf(view->asked + used, sizeof(view->asked) - used, "[%s]", path);
    for (size_t i = 0; i < view->rows; i++) {
        if (strcmp(view->row[i].path, path) == 0) {
            /* A copy: counts of references are not for two threads. */
            answer = json_deep_copy(view->row[i].answer);
            err->code = view->row[i].code;
        }
    }
    pthread_mutex_unlock(&view->lock);
    return answer;
}

static void *serve(void *arg)
{
    struct proc_view_fixture *view = arg;
    proc_view_serve(view->fuse_fd, ask, view);
    return NULL;
}

static struct timespec in_seconds(int seconds)
{
    struct timespec when;
    clock_gettime(CLOCK_REALTIME, &when);
    when.tv_sec += seconds;
    return when;
}

/* Not even SIGKILL ends who waits for an answer, this process included; this does. */
static void __attribute__((noreturn)) watch(const struct proc_view_fixture *view, int done)
{
    close(view->fuse_fd);
    if (poll(&(struct pollfd){.fd = done, .events = POLLIN}, 1, PATIENCE_SECONDS * 1000) == 1)
        _exit(0);
    umount2(view->directory, MNT_FORCE);
    _exit(1);
}

int proc_view_fixture_can_run(void)
{
    cleanup_fd int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    cleanup_fd int context = fsopen("fuse", 0);
    return geteuid() == 0 && fd >= 0 && context >= 0;
}

int proc_view_fixture_group(void **state)
{
    (void)state;
    return unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -1 : 0;
}

void attach(int tree, char directory[32])
{
    snprintf(directory, 32, "/tmp/proc-view-XXXXXX");
    assert_non_null(mkdtemp(directory));
    assert_int_equal(move_mount(tree, "", AT_FDCWD, directory, MOVE_MOUNT_F_EMPTY_PATH), 0);
}

int proc_view_fixture_setup(void **state)
{
    struct proc_view_fixture *view = calloc(1, sizeof(*view));
    assert_non_null(view);
    int tree = proc_view_mount(&view->fuse_fd);
    assert_true(tree >= 0);
    attach(tree, view->directory);
    close(tree); /* it is not for the watchdog, whose copy would keep the mount in use */
    pthread_mutex_init(&view->lock, NULL);
    int done[2];
    assert_int_equal(pipe2(done, O_CLOEXEC), 0);
    view->done = done[1];
    view->watchdog = fork();
    assert_true(view->watchdog >= 0);
    if (view->watchdog == 0) {
        close(done[1]);
        watch(view, done[0]);
    }
    close(done[0]);
    assert_int_equal(pthread_create(&view->server, NULL, serve, view), 0);
    *state = view;
    return 0;
}

int has_ended(struct proc_view_fixture *view, int seconds)
{
    struct timespec end = in_seconds(seconds);
    if (!view->ended)
        view->ended = pthread_timedjoin_np(view->server, NULL, &end) == 0;
    return view->ended;
}

void detach(struct proc_view_fixture *view)
{
    assert_int_equal(umount2(view->directory, 0), 0);
}

int proc_view_fixture_teardown(void **state)
{
    struct proc_view_fixture *view = *state;
    int status;
    close(view->done);
    if (waitpid(view->watchdog, &status, 0) != view->watchdog)
        return -1;
    umount2(view->directory, MNT_FORCE | MNT_DETACH);
    if (!has_ended(view, PATIENCE_SECONDS))
        return -1;
    close(view->fuse_fd);
    rmdir(view->directory);
    for (size_t i = 0; i < view->rows; i++)
        json_decref(view->row[i].answer);
    free(view);
    return status == 0 ? 0 : -1;
}

void guest_says(struct proc_view_fixture *view, const char *path, json_t *answer, int code)
{
    size_t i = 0;
    pthread_mutex_lock(&view->lock);
    while (i < view->rows && strcmp(view->row[i].path, path) != 0)
        i++;
    assert_true(i < ROWS_MAX);
    if (i == view->rows)
        view->rows++;
    json_decref(view->row[i].answer);
    view->row[i] = (struct row){.answer = answer, .code = code};
    snprintf(view->row[i].path, sizeof(view->row[i].path), "%s", path);
    pthread_mutex_unlock(&view->lock);
}

json_t *hex_of(const void *bytes, size_t length)
{
    char *text = malloc(2 * length + 1);
    assert_non_null(text);
    *text = '\0';
    for (size_t i = 0; i < length; i++)
        sprintf(text + 2 * i, "%02x", ((const uint8_t *)bytes)[i]);
    json_t *answer = json_pack("{s:s}", "hex", text);
    free(text);
    return answer;
}

void guest_has_file(struct proc_view_fixture *view, const char *path, const void *bytes, size_t length)
{
    guest_says(view, path, hex_of(bytes, length), 0);
}

const char *guest_asked(struct proc_view_fixture *view)
{
    pthread_mutex_lock(&view->lock);
    memcpy(view->taken, view->asked, sizeof(view->taken));
    *view->asked = '\0';
    pthread_mutex_unlock(&view->lock);
    return view->taken;
}

const char *in_view(const struct proc_view_fixture *view, const char *path)
{
    static char text[4][128];
    static unsigned turn;
    char *mine = text[turn++ % 4];
    snprintf(mine, sizeof(text[0]), "%s/%s", view->directory, path);
    return mine;
}

int code_of(long result)
{
    return result < 0 ? errno : 0;
}

int stat_code(const struct proc_view_fixture *view, const char *path)
{
    struct stat status;
    return code_of(lstat(in_view(view, path), &status));
}

int open_code(const struct proc_view_fixture *view, const char *path)
{
    int fd = open(in_view(view, path), O_RDONLY | O_CLOEXEC);
    int code = code_of(fd);
    fd_close(&fd);
    return code;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char *names_in(const char *path)
{
    char *name[4096], *all = NULL;
    size_t count = 0, length = 0;
    DIR *directory = opendir(path);
    assert_non_null(directory);
    errno = 0;
    for (struct dirent *entry; count < 4096 && (entry = readdir(directory)); count++) {
        const char *mark = entry->d_type == DT_DIR ? "/" : entry->d_type == DT_LNK ? "@" : "";
        assert_true(asprintf(&name[count], "%s%s", entry->d_name, mark) > 0);
    }
    assert_int_equal(errno, 0);
    closedir(directory);
    qsort(name, count, sizeof(name[0]), compare);
    FILE *text = open_memstream(&all, &length);
    for (size_t i = 0; i < count; free(name[i++]))
        fprintf(text, "%s%s", i > 0 ? " " : "", name[i]);
    fclose(text);
    return all;
}

void expect_names(const struct proc_view_fixture *view, const char *path, const char *names)
{
    cleanup_free char *got = names_in(in_view(view, path));
    assert_string_equal(got, names);
}

void expect_file(const struct proc_view_fixture *view, const char *path, const void *bytes, size_t length)
{
    cleanup_free char *got = NULL;
    ssize_t size = fd_read_file_at(AT_FDCWD, in_view(view, path), 1u << 20, &got);
    assert_int_equal(size, length);
    assert_memory_equal(got, bytes, length);
}
