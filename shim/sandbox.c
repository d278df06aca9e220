/*
 * The sandbox's life on the host: see sandbox.h. The VMM and its guest are not trusted: what they wrote
 * (status.json, logs) is only ever shown, capped and escaped.
 */
#include "shim/sandbox.h"

#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "shim/network.h"
#include "shim/vmm_control.h"
#include "shim/vmm_process.h"

#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define VMM_FILE         "vmm.json"
#define VMM_LOG_FILE     "vmm.log"
#define CONSOLE_LOG_FILE "console.log"
#define STATUS_FILE      "status.json"
#define VMM_FILE_MAX     4096
#define STATUS_BYTES_MAX 65536
#define LOG_BYTES_MAX    (16u << 20)
#define KILL_TIMEOUT_MS  5000
#define VSOCK_BACKLOG    128

static void vmm_files_close(struct vmm_files *files)
{
    fd_close(&files->kernel);
    fd_close(&files->initramfs);
    fd_close(&files->vsock);
    fd_close(&files->console);
    fd_close(&files->status);
    fd_close(&files->log);
    fd_close(&files->control);
    for (size_t i = 0; files->disks && i < files->disks->count; i++)
        close(files->disk_fds[i]);
}

/* What would make the VMM fail for a reason the user can mend is told here in one line. */
static int sandbox_check_host(const struct config *config, const struct vmm_files *files, struct error *err)
{
    char magic[SELFMAG] = "";
    cleanup_fd int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0)
        return error_set(err, errno, "open /dev/kvm (\"husk check\" tells more)");
    if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
        return error_set(err, 0, "/dev/kvm is not KVM's device (\"husk check\" tells more)");
    if (access(config->vmm, X_OK) < 0)
        return error_set(err, errno, "VMM %s", config->vmm);
    if (pread(files->kernel, magic, SELFMAG, 0) != SELFMAG || memcmp(magic, ELFMAG, SELFMAG) != 0)
        return error_set(err, 0, "kernel %s: not an ELF image", config->kernel);
    return 0;
}

static int sandbox_listen(int dir_fd, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, errno, "socket");
    /* By the open directory: sun_path holds 108 bytes, and --root may be longer. */
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" AGENT_VSOCK_SOCKET, dir_fd);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, VSOCK_BACKLOG) < 0)
        return error_set(err, errno, AGENT_VSOCK_SOCKET);
    return take_fd(&fd);
}

static int sandbox_open_log(int dir_fd, const char *name, int *fd, struct error *err)
{
    *fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    return *fd < 0 ? error_set(err, errno, "%s", name) : 0;
}

static int sandbox_open_files(const struct sandbox *sandbox, const struct config *config,
                              struct vmm_files *files, struct error *err)
{
    files->kernel = open(config->kernel, O_RDONLY | O_CLOEXEC);
    if (files->kernel < 0)
        return error_set(err, errno, "kernel %s", config->kernel);
    files->initramfs = open(config->initramfs, O_RDONLY | O_CLOEXEC);
    if (files->initramfs < 0)
        return error_set(err, errno, "initramfs %s", config->initramfs);
    if (sandbox_check_host(config, files, err) < 0)
        return -1;
    files->vsock = sandbox_listen(sandbox->dir_fd, err);
    if (files->vsock < 0)
        return -1;
    files->control = vmm_control_listen(sandbox->dir_fd, err);
    if (files->control < 0 || sandbox_open_log(sandbox->dir_fd, CONSOLE_LOG_FILE, &files->console, err) < 0 ||
        sandbox_open_log(sandbox->dir_fd, STATUS_FILE, &files->status, err) < 0 ||
        sandbox_open_log(sandbox->dir_fd, VMM_LOG_FILE, &files->log, err) < 0)
        return -1;
    return 0;
}

/* Writes down who the VMM is, so that any later command can end it, and how large its VM is. */
static int sandbox_record_vmm(const struct sandbox *sandbox, struct error *err)
{
    cleanup_json json_t *object = json_pack("{s:o, s:o}", "vmm", process_id_to_json(&sandbox->vmm), "size",
                                            vm_size_to_json(&sandbox->size));
    cleanup_free char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    if (!text)
        return error_set(err, ENOMEM, VMM_FILE);
    int result = fd_write_file_atomic(sandbox->dir_fd, VMM_FILE, text, strlen(text), 0600);
    return result < 0 ? error_set(err, -result, "write " VMM_FILE) : 0;
}

/* The VMM gets the score the container asked for: it holds the container's memory. Lowering it needs a
 * capability that a runtime inside another container may lack; that is no reason to fail. */
static void sandbox_set_oom_score(const struct sandbox *sandbox, int score)
{
    char path[64], text[16];
    snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)sandbox->vmm.pid);
    int length = snprintf(text, sizeof(text), "%d", score);
    cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, (size_t)length) < 0)
        log_warn("oom_score_adj not set score=%d: %s", score, strerror(errno));
}

static int sandbox_run_vmm(struct sandbox *sandbox, const struct config *config, const struct bundle *bundle,
                           const struct vmm_files *files, struct error *err)
{
    struct vmm_process process = {.pidfd = -1, .go_fd = -1, .exec_fd = -1};
    if (vmm_process_clone(config, sandbox->id, &sandbox->size, files, &process, err) < 0)
        return -1;
    sandbox->vmm = process.id;
    sandbox->vmm_pidfd = process.pidfd;
    if (sandbox_record_vmm(sandbox, err) < 0) {
        fd_close(&process.go_fd);
        fd_close(&process.exec_fd);
        return -1;
    }
    if (bundle->has_oom_score_adj)
        sandbox_set_oom_score(sandbox, bundle->oom_score_adj);
    return vmm_process_go(&process, config, err);
}

static int sandbox_init(struct sandbox *sandbox, const struct store *store, const char *id, struct error *err)
{
    *sandbox = (struct sandbox){.id = strdup(id), .dir_fd = -1, .vmm_pidfd = -1};
    if (!sandbox->id || asprintf(&sandbox->path, "%s/sandboxes/%s", store->root, id) < 0) {
        sandbox->path = NULL;
        return error_set(err, ENOMEM, "sandbox");
    }
    return 0;
}

int sandbox_start(struct sandbox *sandbox, const struct store *store, const char *id,
                  const struct config *config, const struct bundle *bundle, const struct vm_size *size,
                  const struct network *network, struct error *err)
{
    struct host_disks disks = bundle->disks; /* its mounts stay the bundle's */
    int disk_fds[HOST_DISKS_MAX];
    struct vmm_files files = {.kernel = -1,
                              .initramfs = -1,
                              .vsock = -1,
                              .console = -1,
                              .status = -1,
                              .log = -1,
                              .control = -1,
                              .disk_fds = disk_fds};
    files.nets = network_nics(network, &files.net_count);
    if (sandbox_init(sandbox, store, id, err) < 0)
        goto fail;
    sandbox->size = *size;
    sandbox->dir_fd = store_create_sandbox(store, id, err);
    if (sandbox->dir_fd < 0)
        goto fail;
    if (host_disks_open(&disks, disk_fds, err) == 0)
        files.disks = &disks;
    if (!files.disks || sandbox_open_files(sandbox, config, &files, err) < 0 ||
        sandbox_run_vmm(sandbox, config, bundle, &files, err) < 0) {
        sandbox_stop(sandbox, 0);
        store_remove_sandbox(store, id, NULL);
        goto fail;
    }
    vmm_files_close(&files);
    return 0;
fail:
    vmm_files_close(&files);
    sandbox_fini(sandbox);
    return -1;
}

/* Finds the VMM that vmm.json tells of. 0 also when there is none: its creator was killed before it ran. */
static int sandbox_find_vmm(struct sandbox *sandbox, struct error *err)
{
    cleanup_free char *text = NULL;
    ssize_t length = fd_read_file_at(sandbox->dir_fd, VMM_FILE, VMM_FILE_MAX, &text);
    if (length == -ENOENT)
        return 0;
    if (length < 0)
        return error_set(err, (int)-length, "%s/" VMM_FILE, sandbox->path);
    cleanup_json json_t *object = json_parse_object(text, (size_t)length, err);
    json_t *size = NULL;
    if (!object || process_id_from_json(object, "vmm", &sandbox->vmm, err) < 0 ||
        json_require(json_get_object(object, "", "size", &size, err), "", "size", err) < 0 ||
        vm_size_from_json(size, &sandbox->size, err) < 0)
        return error_wrap(err, "%s/" VMM_FILE, sandbox->path);
    int pidfd = process_id_open(&sandbox->vmm);
    sandbox->vmm_pidfd = pidfd < 0 ? -1 : pidfd;
    return 0;
}

int sandbox_open(struct sandbox *sandbox, const struct store *store, const char *id, struct error *err)
{
    if (sandbox_init(sandbox, store, id, err) == 0) {
        sandbox->dir_fd = store_open_sandbox(store, id, err);
        if (sandbox->dir_fd >= 0 && sandbox_find_vmm(sandbox, err) == 0)
            return 0;
    }
    sandbox_fini(sandbox);
    return -1;
}

void sandbox_fini(struct sandbox *sandbox)
{
    /* A VMM that was our child and has ended must not stay as a zombie with whoever adopts our children. */
    siginfo_t info;
    if (sandbox->vmm_pidfd >= 0)
        waitid(P_PIDFD, (id_t)sandbox->vmm_pidfd, &info, WEXITED | WNOHANG);
    fd_close(&sandbox->dir_fd);
    fd_close(&sandbox->vmm_pidfd);
    free(take_ptr(&sandbox->id));
    free(take_ptr(&sandbox->path));
}

int sandbox_set_size(struct sandbox *sandbox, const struct vm_size *size, struct error *err)
{
    sandbox->size = *size;
    return sandbox_record_vmm(sandbox, err);
}

struct agent_address sandbox_agent_address(const struct sandbox *sandbox)
{
    return (struct agent_address){.sandbox_fd = sandbox->dir_fd, .vmm_pidfd = sandbox->vmm_pidfd};
}

void sandbox_stop(const struct sandbox *sandbox, int grace_ms)
{
    if (sandbox->vmm_pidfd < 0)
        return;
    if (grace_ms > 0 && process_wait_end(sandbox->vmm_pidfd, grace_ms) == 0)
        return;
    int err = process_id_kill(&sandbox->vmm, KILL_TIMEOUT_MS);
    if (err)
        log_err("the VMM can't be killed pid=%d: %s", (int)sandbox->vmm.pid, strerror(-err));
}

/* "REASON: DETAIL" from the one JSON line the VMM wrote. 0, or -1 when there is none. */
static int sandbox_read_status(const struct sandbox *sandbox, char *text, size_t size)
{
    cleanup_free char *content = NULL;
    const char *reason = NULL, *detail = NULL;
    ssize_t length = fd_read_file_at(sandbox->dir_fd, STATUS_FILE, STATUS_BYTES_MAX, &content);
    if (length <= 0)
        return -1;
    cleanup_json json_t *object = json_parse_object(content, (size_t)length, NULL);
    if (!object || json_get_string(object, "", "reason", &reason, NULL) <= 0)
        return -1;
    json_get_string(object, "", "detail", &detail, NULL);
    snprintf(text, size, "%s%s%s", reason, detail && *detail ? ": " : "", detail ? detail : "");
    return 0;
}

/* How the VMM's process ended, where the caller is its parent. */
static void sandbox_read_exit(const struct sandbox *sandbox, char *text, size_t size)
{
    siginfo_t info = {0};
    snprintf(text, size, "the VMM was killed");
    if (sandbox->vmm_pidfd < 0 || waitid(P_PIDFD, (id_t)sandbox->vmm_pidfd, &info, WEXITED | WNOWAIT) < 0)
        return;
    if (info.si_code == CLD_EXITED)
        snprintf(text, size, "the VMM exited with status %d", info.si_status);
    else
        snprintf(text, size, "the VMM was killed by signal %d", info.si_status);
}

/* Appends the line of a log that has `mark` in it, or else the last one, if there is one. */
static void sandbox_append_log(const struct sandbox *sandbox, const char *name, const char *mark,
                               const char *label, char *text, size_t size)
{
    cleanup_free char *log = NULL;
    ssize_t length = fd_read_file_at(sandbox->dir_fd, name, LOG_BYTES_MAX, &log);
    while (length > 0 && isspace((unsigned char)log[length - 1]))
        log[--length] = '\0';
    if (length <= 0)
        return;
    char *marked = mark ? strstr(log, mark) : NULL;
    const char *line = marked ? marked : strrchr(log, '\n') ? strrchr(log, '\n') + 1 : log;
    size_t used = strlen(text);
    snprintf(text + used, size - used, "; %s: %.*s", label, (int)strcspn(line, "\r\n"), line);
}

void sandbox_describe_end(const struct sandbox *sandbox, char *text, size_t size)
{
    if (sandbox_read_status(sandbox, text, size) < 0) {
        sandbox_read_exit(sandbox, text, size);
        sandbox_append_log(sandbox, VMM_LOG_FILE, NULL, "its last words", text, size);
    } else if (strncmp(text, "panic", strlen("panic")) == 0 || strncmp(text, "reset", strlen("reset")) == 0) {
        /* What a guest that did not go down by itself said last. */
        sandbox_append_log(sandbox, CONSOLE_LOG_FILE, "Kernel panic", "its kernel's last words", text, size);
    }
    for (char *c = text; *c; c++) {
        if (iscntrl((unsigned char)*c))
            *c = '?';
    }
}
