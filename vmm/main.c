/*
 * husk-vmm: one sandbox's virtual machine, from the command line to its end.
 *
 * main is a staircase: each step is numbered, and gives up something that the next ones do not need. The shim
 * starts husk-vmm as pid 1 of a new pid namespace with everything opened; started by hand it opens paths and
 * makes that namespace itself, and the process outside (warden.c) passes signals and the exit status on.
 */
#include "common/fd.h"
#include "common/loop.h"
#include "protocol/protocol.h"
#include "vmm/control_memory.h"
#include "vmm/control_methods.h"
#include "vmm/files.h"
#include "vmm/io_threads.h"
#include "vmm/jail.h"
#include "vmm/machine.h"
#include "vmm/nursery.h"
#include "vmm/options.h"
#include "vmm/seccomp.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/mem.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/vsock.h"
#include "vmm/warden.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>

#define EXIT_USAGE 2
#define ROLE_BYTES 144
#define MIB        (1ull << 20)
/* A guest that prints without end fills no disk. */
#define CONSOLE_LIMIT_BYTES (64 * MIB)
/* Descriptors that are not the file server's: KVM's, eventfds, vsock connections. */
#define FDS_RESERVED (VSOCK_CONNECTIONS_MAX + 512u)
#define FDS_FS_MIN   64u
/* One for each vCPU that may send at once; more would only take turns on the host's processors. */
#define NET_THREADS_MAX 4u

struct vmm {
    struct options options;
    struct files files;
    char role[ROLE_BYTES]; /* before each log line */
    uint64_t start_us;
    int proc_self_fd; /* until the fs device has it */
    struct loop *loop;
    struct watch signals;
    struct machine *machine;
    struct virtio_device *fs, *mem, *balloon; /* mem, balloon: NULL when there is none */
    struct virtio_device *blk[OPTIONS_BLKS_MAX];
    struct nursery *nursery;        /* NULL: no thread can come later */
    struct io_threads *net_threads; /* NULL: no network device is there, and none can come */
    struct control_target control_target;
};

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void on_signal(struct watch *watch, uint32_t events)
{
    struct vmm *vmm = watch->arg;
    struct signalfd_siginfo info;
    (void)events;
    if (read(watch->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        machine_end(vmm->machine, END_TERMINATED, strsignal((int)info.ssi_signo));
}

/* The agent listens: see protocol.h. */
static void on_knock(void *arg)
{
    struct vmm *vmm = arg;
    machine_mark_hello(vmm->machine);
}

static int vcpu_thread_start(void *arg, unsigned index)
{
    char name[16];
    (void)arg;
    snprintf(name, sizeof(name), "vcpu%u", index);
    prctl(PR_SET_NAME, name);
    return seccomp_confine(SECCOMP_VCPU);
}

static int net_thread_start(void *arg)
{
    (void)arg;
    return seccomp_confine(SECCOMP_NET);
}

static int blk_thread_start(void *arg)
{
    (void)arg;
    return seccomp_confine(SECCOMP_BLK);
}

static int nursery_start(void)
{
    return seccomp_confine(SECCOMP_NURSERY);
}

static int fs_worker_start(void *arg)
{
    (void)arg;
    return seccomp_confine(SECCOMP_FS);
}

/* It lives before the privileges are dropped, and needs none. */
static int load_thread_start(void)
{
    prctl(PR_SET_NAME, "load");
    int rc = jail_drop_capabilities();
    if (rc == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        rc = -errno;
    return rc < 0 ? rc : seccomp_confine(SECCOMP_LOAD);
}

/* Step 4 */
static int build_machine(struct vmm *vmm, struct error *err)
{
    const struct options *options = &vmm->options;
    struct machine_boot boot = {.kernel_fd = vmm->files.kernel,
                                .initrd_fd = vmm->files.initrd,
                                .map_kernel = options->map_kernel,
                                .load_thread_start = load_thread_start};
    struct machine_config config = {.kvm_fd = take_fd(&vmm->files.kvm),
                                    .cpus = options->cpus,
                                    .cpus_max = options->cpus_max,
                                    .memory = {.bytes = options->memory_mib * MIB,
                                               .bytes_max = options->memory_max_mib * MIB,
                                               .hugepages = options->hugepages,
                                               .prefault = options->prefault,
                                               .transparent_huge = !options->small_pages},
                                    .cpu_mask = options->cpu_mask,
                                    .console_fd = vmm->files.console,
                                    .console_limit_bytes = CONSOLE_LIMIT_BYTES,
                                    .vcpu_thread_start = vcpu_thread_start,
                                    .boot = &boot,
                                    .start_us = vmm->start_us};
    vmm->machine = machine_new(&config, vmm->loop, err);
    return vmm->machine ? 0 : -1;
}

/* `device` as its constructor gave it: NULL with errno. */
static int add_device(struct vmm *vmm, const char *name, struct virtio_device *device, struct error *err)
{
    if (!device)
        return error_set(err, errno, "virtio %s", name);
    return machine_add_virtio(vmm->machine, device, err);
}

static int add_fs(struct vmm *vmm, struct error *err)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return error_set(err, errno, "virtio fs: descriptor limit");
    rlim_t limit =
        files.rlim_cur > FDS_RESERVED + FDS_FS_MIN ? files.rlim_cur - FDS_RESERVED : files.rlim_cur / 2;
    struct virtio_fs_options options = {.tag = SHARED_TAG,
                                        .request_queues = 1,
                                        .workers = vmm->options.fs_workers,
                                        .cache = vmm->options.fs_cache,
                                        .writeback = vmm->options.fs_writeback,
                                        .fd_limit = limit < 1u << 20 ? (unsigned)limit : 1u << 20,
                                        .proc_self_fd = take_fd(&vmm->proc_self_fd),
                                        .worker_start = fs_worker_start};
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        close(options.proc_self_fd);
        return error_set(err, errno, "virtio fs: open the shared tree");
    }
    vmm->fs = virtio_fs_new(vmm->loop, root, &options);
    return add_device(vmm, "fs", vmm->fs, err);
}

/* Network devices, and room for more. */
static int add_nets(struct vmm *vmm, struct error *err)
{
    const struct options *options = &vmm->options;
    if (vmm->files.nets == 0 && options->slots == 0)
        return 0;
    unsigned cpus = options->cpus_max > options->cpus ? options->cpus_max : options->cpus;
    vmm->net_threads = io_threads_new(cpus < NET_THREADS_MAX ? cpus : NET_THREADS_MAX);
    if (!vmm->net_threads)
        return error_set(err, errno, "virtio net: event loops");
    struct virtio_net_host host = {.loop = vmm->loop, .memory = machine_memory(vmm->machine)};
    host.loops = io_threads_loops(vmm->net_threads, &host.loop_count);
    for (unsigned i = 0; i < vmm->files.nets; i++) {
        struct virtio_device *device = virtio_net_new(&host, &vmm->files.net[i], err);
        if (!device || machine_add_virtio(vmm->machine, device, err) < 0)
            return -1;
    }
    return machine_add_placeholders(vmm->machine, options->slots, err);
}

/* The guest names disks in the order they are probed. */
static int add_blks(struct vmm *vmm, struct error *err)
{
    for (unsigned i = 0; i < vmm->files.blks; i++) {
        struct virtio_blk_options options = vmm->options.blk[i];
        options.fd = take_fd(&vmm->files.blk_fd[i]);
        options.thread_start = blk_thread_start;
        vmm->blk[i] = virtio_blk_new(vmm->loop, &options, err);
        if (!vmm->blk[i] || machine_add_virtio(vmm->machine, vmm->blk[i], err) < 0)
            return error_wrap(err, "--blk fd:%d", vmm->options.blk[i].fd);
    }
    return 0;
}

/* Step 5. The order is the guest's probing order: what the agent waits for comes first. */
static int add_devices(struct vmm *vmm, struct error *err)
{
    struct loop *loop = vmm->loop;
    const struct memory *memory = machine_get_memory(vmm->machine);
    struct virtio_device *console = virtio_console_new(loop, vmm->files.console, CONSOLE_LIMIT_BYTES);
    if (add_device(vmm, "console", console, err) < 0)
        return -1;
    if (vmm->files.vsock >= 0) {
        struct virtio_device *vsock = virtio_vsock_new(loop, vmm->files.vsock, GUEST_CID, KNOCK_PORT);
        if (vsock)
            virtio_vsock_on_knock(vsock, on_knock, vmm);
        if (add_device(vmm, "vsock", vsock, err) < 0)
            return -1;
    }
    if (add_fs(vmm, err) < 0)
        return -1;
    if (add_device(vmm, "rng", virtio_rng_new(loop), err) < 0)
        return -1;
    if (add_blks(vmm, err) < 0 || add_nets(vmm, err) < 0)
        return -1;
    if (memory->pluggable_bytes > 0) {
        struct virtio_mem_options mem = {.memory = &memory->map,
                                         .region = memory->pluggable_gpa,
                                         .region_bytes = memory->pluggable_bytes,
                                         .bytes_max = memory->pluggable_max};
        vmm->mem = virtio_mem_new(loop, &mem);
        if (add_device(vmm, "mem", vmm->mem, err) < 0)
            return -1;
    }
    /* Huge pages come from a pool of their own, which nothing is gained for by giving single ones back. */
    if (vmm->options.no_balloon || vmm->options.hugepages)
        return 0;
    vmm->balloon = virtio_balloon_new(loop, &memory->map);
    return add_device(vmm, "balloon", vmm->balloon, err);
}

/* Step 8 */
static int load_guest(struct vmm *vmm, struct error *err)
{
    if (machine_load(vmm->machine, vmm->options.cmdline, err) < 0)
        return -1;
    fd_close(&vmm->files.kernel);
    fd_close(&vmm->files.initrd);
    return 0;
}

/* Signals come through the loop, also those sent while the machine is built. */
static int watch_signals(struct vmm *vmm, struct error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return error_set(err, errno, "signals");
    signal(SIGPIPE, SIG_IGN);
    vmm->signals =
        (struct watch){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .fn = on_signal, .arg = vmm};
    if (vmm->signals.fd < 0)
        return error_set(err, errno, "signals");
    int rc = loop_add(vmm->loop, &vmm->signals, EPOLLIN);
    return rc < 0 ? error_set(err, -rc, "signals") : 0;
}

static int serve_control(struct vmm *vmm, struct error *err)
{
    if (vmm->files.control < 0)
        return 0;
    vmm->control_target =
        (struct control_target){.id = vmm->options.id,
                                .loop = vmm->loop,
                                .machine = vmm->machine,
                                .net_threads = vmm->net_threads,
                                .memory = memory_control_new(vmm->loop, vmm->machine, vmm->mem, vmm->balloon),
                                .nursery = vmm->nursery,
                                .blk_thread_start = blk_thread_start};
    if (!vmm->control_target.memory)
        return error_set(err, errno, "control socket");
    /* Lives as long as the process. */
    if (!control_new(vmm->loop, take_fd(&vmm->files.control), control_methods, control_methods_count,
                     &vmm->control_target))
        return error_set(err, errno, "control socket");
    return 0;
}

/* Disks' threads, and the one that makes threads later. */
static int start_blk_threads(struct vmm *vmm, struct error *err)
{
    const struct options *options = &vmm->options;
    for (unsigned i = 0; i < vmm->files.blks; i++) {
        int rc = virtio_blk_start(vmm->blk[i]);
        if (rc < 0)
            return error_set(err, -rc, "virtio blk: start threads");
    }
    if (options->slots == 0 && vmm->files.blks == 0 && options->cpus_max <= options->cpus)
        return 0;
    vmm->nursery = nursery_new(nursery_start);
    if (!vmm->nursery)
        return error_set(err, errno, "thread that makes threads");
    machine_set_nursery(vmm->machine, vmm->nursery);
    return 0;
}

/* Step 7: threads exist from here on; no vCPU passes the gate yet. */
static int start_threads(struct vmm *vmm, struct error *err)
{
    int rc = virtio_fs_start(vmm->fs);
    if (rc < 0)
        return error_set(err, -rc, "virtio fs: start workers");
    rc = jail_drop_capabilities(); /* the workers have theirs */
    if (rc < 0)
        return error_set(err, -rc, "jail: capabilities");
    rc = vmm->net_threads ? io_threads_start(vmm->net_threads, "net", net_thread_start, NULL) : 0;
    if (rc < 0)
        return error_set(err, -rc, "virtio net: start threads");
    if (start_blk_threads(vmm, err) < 0 || serve_control(vmm, err) < 0)
        return -1;
    return machine_start(vmm->machine, err);
}

/* Everything inside the pid namespace. 0 when the guest ran to an end of its own, else -1 with err. */
static int vmm_run(struct vmm *vmm, struct error *err)
{
    /* 3. The jail: from here on there is no path to anything of the host's. */
    vmm->proc_self_fd = jail_open_proc_self_fd(err);
    if (vmm->proc_self_fd < 0 || jail_enter(vmm->files.shared, err) < 0)
        return -1;
    fd_close(&vmm->files.shared);
    /* 4. The machine: memory, interrupt controllers, vCPUs. A confined thread begins to read the kernel. */
    vmm->loop = loop_new();
    if (!vmm->loop)
        return error_set(err, errno, "event loop");
    if (watch_signals(vmm, err) < 0 || build_machine(vmm, err) < 0)
        return -1;
    /* 5. Devices. */
    if (jail_raise_limits(err) < 0 || add_devices(vmm, err) < 0)
        return -1;
    /* 6. Privileges: the file server's capabilities stay, for the file server's threads. */
    if (jail_drop_privileges(err) < 0)
        return -1;
    /* 7. Threads, each confined to the system calls of its role. */
    if (start_threads(vmm, err) < 0)
        return -1;
    /* 8. Kernel, initrd, device tree; then no more system calls than serving the guest takes. */
    if (load_guest(vmm, err) < 0)
        return -1;
    int rc = seccomp_confine(SECCOMP_IO);
    if (rc < 0)
        return error_set(err, -rc, "jail: seccomp");
    /* 9. The guest's first instruction. */
    machine_resume(vmm->machine);
    rc = loop_run(vmm->loop);
    machine_stop(vmm->machine);
    machine_log_end(vmm->machine);
    return rc < 0 ? error_set(err, -rc, "event loop") : 0;
}

/* Tells the end in the status file and the log. Returns the exit status. */
static int report_end(const struct vmm *vmm, const struct status *status)
{
    if (status->reason == END_VMM_ERROR)
        log_err("%s", status->detail);
    else
        log_info("end reason=%s%s%s", end_reason_name(status->reason), *status->detail ? " detail=" : "",
                 status->detail);
    int rc = vmm->files.status < 0 ? 0 : status_write(vmm->files.status, status);
    if (rc < 0)
        log_err("status: %s", strerror(-rc));
    return (int)status->reason;
}

static int report_failure(const struct vmm *vmm, const struct error *err)
{
    struct status status = {.reason = END_VMM_ERROR, .detail = err->text};
    return report_end(vmm, &status);
}

int main(int argc, char **argv)
{
    struct vmm vmm = {.start_us = now_us(), .proc_self_fd = -1, .signals.fd = -1};
    struct error err;
    /* Threads share one heap: an arena each would cost more memory than the lock does time. */
    mallopt(M_ARENA_MAX, 1);
    /* Keys of the status line are ours: jansson need not open /dev/urandom in the jail to seed its hash. */
    json_object_seed(1);
    log_init("husk-vmm", STDERR_FILENO, LOG_FORMAT_TEXT, LOG_LEVEL_INFO);

    /* 1. What is asked for. */
    if (options_parse(&vmm.options, argc, argv, &err) < 0) {
        log_err("%s", err.text);
        return EXIT_USAGE;
    }
    if (vmm.options.help || vmm.options.version) {
        if (vmm.options.help)
            options_print_help(stdout);
        else
            puts("husk-vmm " HUSK_VERSION);
        return fflush(stdout) == 0 ? 0 : END_VMM_ERROR;
    }

    /* 2. Everything is opened now; nothing else stays open. */
    int opened = files_open(&vmm.files, &vmm.options, &err);
    if (vmm.options.id)
        snprintf(vmm.role, sizeof(vmm.role), "husk-vmm[%s]", vmm.options.id);
    else
        snprintf(vmm.role, sizeof(vmm.role), "husk-vmm");
    log_init(vmm.role, vmm.files.log >= 0 ? vmm.files.log : STDERR_FILENO, LOG_FORMAT_TEXT,
             vmm.options.log_level);
    if (opened < 0 || files_close_others(&vmm.files, &err) < 0)
        return report_failure(&vmm, &err);
    if (getpid() != 1) {
        pid_t child = jail_fork_pid_namespace(&err);
        if (child < 0)
            return report_failure(&vmm, &err);
        if (child > 0)
            return warden_run(child, &vmm.files, &vmm.options);
    }

    /* 3. to 9. */
    if (vmm_run(&vmm, &err) < 0)
        return report_failure(&vmm, &err);
    struct status status;
    machine_get_status(vmm.machine, vmm.options.stats, &status);
    /* The kernel takes the rest apart faster than we would. */
    return report_end(&vmm, &status);
}
