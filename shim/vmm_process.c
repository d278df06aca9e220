/*
 * Starting husk-vmm: see vmm_process.h. Called by shim/sandbox.c in the monitor, before it has threads.
 *
 * Between clone and exec the child touches only what needs no lock: system calls and the argument vector made
 * before. It reports a failure as errno through a close-on-exec pipe.
 */
#include "shim/vmm_process.h"

#include "common/fd.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DISK_QUEUES_MAX 4u
#define ARGUMENTS_MAX   72

/* The VMM's command line, built before the clone. */
struct vmm_arguments {
    const char *argv[ARGUMENTS_MAX];
    size_t count;
    char numbers[16][24];
    size_t numbers_count;
    char nets[VMM_NETS_MAX][1024];
    char disks[HOST_DISKS_MAX][80];
};

static void arguments_add(struct vmm_arguments *arguments, const char *word)
{
    if (arguments->count < ARGUMENTS_MAX - 1)
        arguments->argv[arguments->count++] = word;
}

static void arguments_add_text(struct vmm_arguments *arguments, const char *option, const char *value)
{
    if (!value || !*value)
        return;
    arguments_add(arguments, option);
    arguments_add(arguments, value);
}

static void arguments_add_number(struct vmm_arguments *arguments, const char *option, const char *prefix,
                                 uint64_t value)
{
    char *text = arguments->numbers[arguments->numbers_count++];
    snprintf(text, sizeof(arguments->numbers[0]), "%s%llu", prefix, (unsigned long long)value);
    arguments_add_text(arguments, option, text);
}

static void arguments_add_fd(struct vmm_arguments *arguments, const char *option, int fd)
{
    arguments_add_number(arguments, option, "fd:", (uint64_t)fd);
}

/* "id=3,mac=..,taps=7:8,vhosts=9:10": see vmm/net_option.h. */
static void arguments_add_net(struct vmm_arguments *arguments, unsigned index, const struct vmm_net *net)
{
    char *text = arguments->nets[index];
    size_t room = sizeof(arguments->nets[index]);
    int used = snprintf(text, room, "id=%u,mac=%02x:%02x:%02x:%02x:%02x:%02x", net->id, net->mac[0],
                        net->mac[1], net->mac[2], net->mac[3], net->mac[4], net->mac[5]);
    if (net->mtu > 0)
        used += snprintf(text + used, room - (size_t)used, ",mtu=%u", net->mtu);
    for (unsigned i = 0; i < net->queues; i++)
        used += snprintf(text + used, room - (size_t)used, "%s%d", i == 0 ? ",taps=" : ":", net->tap[i]);
    for (unsigned i = 0; net->vhost && i < net->queues; i++)
        used +=
            snprintf(text + used, room - (size_t)used, "%s%d", i == 0 ? ",vhosts=" : ":", net->vhost_net[i]);
    arguments_add_text(arguments, "--net", text);
}

/* "fd:7,serial=8:16,ro": see vmm/blk_option.h. A queue for each vCPU there may be, up to 4. */
static void arguments_add_disk(struct vmm_arguments *arguments, unsigned index, const struct vmm_files *files,
                               uint64_t vcpus)
{
    const struct host_disk *disk = &files->disks->disk[index];
    snprintf(arguments->disks[index], sizeof(arguments->disks[index]), "fd:%d,serial=%s,queues=%u%s",
             files->disk_fds[index], disk->serial,
             vcpus < DISK_QUEUES_MAX ? (unsigned)vcpus : DISK_QUEUES_MAX, disk->writable ? "" : ",ro");
    arguments_add_text(arguments, "--blk", arguments->disks[index]);
}

static const char *const level_options[] = {"error", "warn", "info", "debug"};

static void arguments_build(struct vmm_arguments *arguments, const struct config *config, const char *id,
                            const struct vm_size *size, const struct vmm_files *files)
{
    arguments_add(arguments, "husk-vmm");
    arguments_add_text(arguments, "--id", id);
    arguments_add_number(arguments, "--cpus", "", size->vcpus);
    arguments_add_number(arguments, "--cpus-max", "", size->vcpus_max);
    arguments_add_number(arguments, "--memory", "", size->memory_mib);
    arguments_add_number(arguments, "--memory-max", "", size->memory_max_mib);
    arguments_add_fd(arguments, "--kernel", files->kernel);
    arguments_add_fd(arguments, "--initrd", files->initramfs);
    arguments_add_fd(arguments, "--vsock", files->vsock);
    arguments_add_fd(arguments, "--console", files->console);
    arguments_add_fd(arguments, "--status", files->status);
    arguments_add_fd(arguments, "--log", files->log);
    arguments_add_fd(arguments, "--control", files->control);
    for (unsigned i = 0; i < files->net_count && i < VMM_NETS_MAX; i++)
        arguments_add_net(arguments, i, &files->nets[i]);
    for (unsigned i = 0; files->disks && i < files->disks->count; i++)
        arguments_add_disk(arguments, i, files, size->vcpus_max ? size->vcpus_max : size->vcpus);
    arguments_add_text(arguments, "--cmdline", config->kernel_params);
    arguments_add_text(arguments, "--cpu-mask", config->cpu_mask);
    arguments_add_text(arguments, "--fs-cache", config->fs_cache);
    arguments_add_text(arguments, "--log-level", level_options[log_level_get()]);
    if (config->fs_writeback)
        arguments_add(arguments, "--fs-writeback");
    if (config->hugepages)
        arguments_add(arguments, "--hugepages");
    if (config->prefault)
        arguments_add(arguments, "--prefault");
}

/* In the child: signals as a new program expects them, no fds but the VMM's own. 0 or -errno. */
static int child_prepare(const struct vmm_files *files)
{
    const int kept[] = {files->kernel, files->initramfs, files->vsock,  files->console,
                        files->status, files->log,       files->control};
    sigset_t none;
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
        dup2(files->log, STDERR_FILENO) < 0)
        return -errno;
    if (close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
        return -errno;
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        int err = fd_set_cloexec(kept[i], 0);
        if (err)
            return err;
    }
    for (unsigned i = 0; i < files->net_count; i++) {
        for (unsigned queue = 0; queue < files->nets[i].queues; queue++) {
            int err = fd_set_cloexec(files->nets[i].tap[queue], 0);
            if (!err && files->nets[i].vhost)
                err = fd_set_cloexec(files->nets[i].vhost_net[queue], 0);
            if (err)
                return err;
        }
    }
    for (unsigned i = 0; files->disks && i < files->disks->count; i++) {
        int err = fd_set_cloexec(files->disk_fds[i], 0);
        if (err)
            return err;
    }
    return 0;
}

static void __attribute__((noreturn))
child_run(const char *path, char *const *argv, const struct vmm_files *files, int go_fd, int exec_fd)
{
    char byte;
    if (fd_read_full(go_fd, &byte, 1) < 0)
        _exit(1);
    int err = child_prepare(files);
    if (!err) {
        execve(path, argv, (char *const[]){NULL});
        err = -errno;
    }
    /* The reader is gone only when nobody is left to be told. */
    ssize_t put = write(exec_fd, &err, sizeof(err));
    _exit(put == sizeof(err) ? 127 : 126);
}

int vmm_process_clone(const struct config *config, const char *id, const struct vm_size *size,
                      const struct vmm_files *files, struct vmm_process *out, struct error *err)
{
    int go[2], exec[2], pidfd = -1;
    struct vmm_arguments arguments = {.count = 0};
    arguments_build(&arguments, config, id, size, files);
    if (pipe2(go, O_CLOEXEC) < 0)
        return error_set(err, errno, "pipe");
    cleanup_fd int go_read = go[0], go_write = go[1];
    if (pipe2(exec, O_CLOEXEC) < 0)
        return error_set(err, errno, "pipe");
    cleanup_fd int exec_read = exec[0], exec_write = exec[1];

    /* The VMM becomes process 1 of its pid namespace: it can see and signal nobody but itself. */
    struct clone_args args = {
        .flags = CLONE_PIDFD | CLONE_NEWPID, .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid < 0)
        return error_set(err, errno, "start the VMM in a new pid namespace");
    if (pid == 0) {
        close(go_write);
        child_run(config->vmm, (char *const *)arguments.argv, files, go_read, exec_write);
    }
    *out = (struct vmm_process){.pidfd = pidfd, .go_fd = take_fd(&go_write), .exec_fd = take_fd(&exec_read)};
    int result = process_id_get((pid_t)pid, &out->id);
    if (result == 0)
        return 0;
    fd_close(&out->pidfd);
    fd_close(&out->go_fd);
    fd_close(&out->exec_fd);
    return error_set(err, -result, "the VMM's process");
}

int vmm_process_go(struct vmm_process *process, const struct config *config, struct error *err)
{
    cleanup_fd int go_fd = take_fd(&process->go_fd), exec_fd = take_fd(&process->exec_fd);
    int code = 0;
    int result = fd_write_full(go_fd, "", 1);
    if (result)
        return error_set(err, -result, "start the VMM");
    result = fd_read_full(exec_fd, &code, sizeof(code));
    if (result == 0)
        return error_set(err, -code, "execute %s", config->vmm);
    return 0; /* closed by the execve; a VMM that died before is noticed by its pidfd */
}
