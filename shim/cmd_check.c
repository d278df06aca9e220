/*
 * husk check: whether this machine can run husk, point by point, each with what to do about it. Exit status 0
 * when all is well, 1 when something is missing.
 */
#include "common/fd.h"
#include "common/json.h"
#include "shim/check_kvm.h"
#include "shim/command.h"
#include "shim/config.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CPIO_NEWC_MAGIC "070701"
#define MEMINFO_MAX     16384

struct check_options {
    const char *format;
};

static const struct option_row option_rows[] = {{"format", 'f', "FORMAT", "table (default) or json",
                                                 option_set_string, offsetof(struct check_options, format)},
                                                {0}};

/* What the points look at. */
struct check {
    int kvm_fd; /* -1 after the first point failed */
    const char *config_dir;
    struct config config;
};

/* One point. Its function fills `found` when all is well, or err. */
struct point {
    const char *name;
    int (*look)(struct check *check, long argument, char *found, size_t size, struct error *err);
    long argument;
    const char *advice;
};

static int look_configuration(struct check *check, long argument, char *found, size_t size, struct error *err)
{
    (void)argument;
    if (config_load(&check->config, check->config_dir, err) < 0)
        return -1;
    snprintf(found, size, "%s: %llu vCPU, %llu MiB", check->config_dir,
             (unsigned long long)check->config.vcpus, (unsigned long long)check->config.memory_mib);
    return 0;
}

static int look_device(struct check *check, long argument, char *found, size_t size, struct error *err)
{
    (void)argument;
    check->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (check->kvm_fd < 0)
        return error_set(err, errno, "open /dev/kvm");
    snprintf(found, size, "opens");
    return 0;
}

/* KVM_CHECK_EXTENSION, or -1 with err filled. */
static int ask_kvm(const struct check *check, long capability, struct error *err)
{
    if (check->kvm_fd < 0)
        return error_set(err, 0, "not known without /dev/kvm");
    int value = ioctl(check->kvm_fd, KVM_CHECK_EXTENSION, capability);
    return value < 0 ? error_set(err, errno, "KVM_CHECK_EXTENSION") : value;
}

static int look_api(struct check *check, long argument, char *found, size_t size, struct error *err)
{
    (void)argument;
    if (check->kvm_fd < 0)
        return error_set(err, 0, "not known without /dev/kvm");
    int version = ioctl(check->kvm_fd, KVM_GET_API_VERSION, 0);
    if (version < 0)
        return error_set(err, errno, "KVM_GET_API_VERSION");
    if (version != KVM_API_VERSION)
        return error_set(err, 0, "version %d, %d is needed", version, KVM_API_VERSION);
    snprintf(found, size, "version %d", version);
    return 0;
}

static int look_capability(struct check *check, long argument, char *found, size_t size, struct error *err)
{
    int value = ask_kvm(check, argument, err);
    if (value == 0)
        return error_set(err, 0, "KVM does not have it");
    snprintf(found, size, "there");
    return value < 0 ? -1 : 0;
}

static int look_guest(struct check *check, long argument, char *found, size_t size, struct error *err)
{
    if (check->kvm_fd < 0)
        return error_set(err, 0, "not known without /dev/kvm");
    if (check_kvm_guest_run(check->kvm_fd, (size_t)argument, err) < 0)
        return -1;
    snprintf(found, size, "executes at CPL 0");
    return 0;
}

static int look_vcpus(struct check *check, long argument, char *found, size_t size, struct error *err)
{
    (void)argument;
    int most = ask_kvm(check, KVM_CAP_MAX_VCPUS, err);
    if (most < 0)
        return -1;
    if ((uint64_t)most < check->config.vcpus)
        return error_set(err, 0, "at most %d, the configuration asks for %llu", most,
                         (unsigned long long)check->config.vcpus);
    snprintf(found, size, "up to %d a VM", most);
    return 0;
}

static int look_memory(struct check *check, long argument, char *found, size_t size, struct error *err)
{
    (void)argument;
    cleanup_free char *text = NULL;
    ssize_t length = fd_read_file_at(AT_FDCWD, "/proc/meminfo", MEMINFO_MAX, &text);
    if (length < 0)
        return error_set(err, (int)-length, "read /proc/meminfo");
    const char *line = strstr(text, "MemAvailable:");
    unsigned long long available_mib = line ? strtoull(line + strlen("MemAvailable:"), NULL, 10) / 1024 : 0;
    if (available_mib < check->config.memory_mib)
        return error_set(err, 0, "%llu MiB available, the configuration gives %llu MiB to a VM",
                         available_mib, (unsigned long long)check->config.memory_mib);
    snprintf(found, size, "%llu MiB available, %llu MiB a VM", available_mib,
             (unsigned long long)check->config.memory_mib);
    return 0;
}

static int look_mounts(struct check *check, long argument, char *found, size_t size, struct error *err)
{
    (void)check;
    (void)argument;
    /* Nothing is mounted: the call is only asked whether it exists (Linux 5.12). */
    if (syscall(SYS_mount_setattr, -1, "", 0, NULL, 0) < 0 && errno == ENOSYS)
        return error_set(err, ENOSYS, "mount_setattr");
    snprintf(found, size, "open_tree, move_mount, mount_setattr");
    return 0;
}

static int look_vmm(struct check *check, long argument, char *found, size_t size, struct error *err)
{
    (void)argument;
    if (!check->config.vmm)
        return error_set(err, 0, "not known without a configuration");
    if (access(check->config.vmm, X_OK) < 0)
        return error_set(err, errno, "%s", check->config.vmm);
    snprintf(found, size, "%s", check->config.vmm);
    return 0;
}

static int look_kernel(struct check *check, long argument, char *found, size_t size, struct error *err)
{
    (void)argument;
    Elf64_Ehdr header;
    if (!check->config.kernel)
        return error_set(err, 0, "not known without a configuration");
    cleanup_fd int fd = open(check->config.kernel, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, errno, "%s", check->config.kernel);
    if (fd_read_full(fd, &header, sizeof(header)) < 0 || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_ident[EI_CLASS] != ELFCLASS64)
        return error_set(err, 0, "%s: not a 64-bit ELF image", check->config.kernel);
    if (header.e_machine != EM_X86_64)
        return error_set(err, 0, "%s: made for another machine", check->config.kernel);
    snprintf(found, size, "%s", check->config.kernel);
    return 0;
}

static int look_agent(struct check *check, long argument, char *found, size_t size, struct error *err)
{
    (void)argument;
    char magic[sizeof(CPIO_NEWC_MAGIC) - 1];
    if (!check->config.initramfs)
        return error_set(err, 0, "not known without a configuration");
    cleanup_fd int fd = open(check->config.initramfs, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, errno, "%s", check->config.initramfs);
    if (fd_read_full(fd, magic, sizeof(magic)) < 0 || memcmp(magic, CPIO_NEWC_MAGIC, sizeof(magic)) != 0)
        return error_set(err, 0, "%s: not an initramfs (cpio, newc)", check->config.initramfs);
    snprintf(found, size, "%s", check->config.initramfs);
    return 0;
}

#define ADVICE_KVM                                                                                           \
    "load kvm_intel or kvm_amd, allow virtualisation in the firmware (in a VM: nested virtualisation), and " \
    "have access to /dev/kvm"
#define ADVICE_HOST_KERNEL "use a newer host kernel (Debian 12's or later)"
#define ADVICE_GUEST                                                                                         \
    "this KVM does not run kernels: use a machine whose CPU has VMX or SVM, or a VM with real nested "       \
    "virtualisation"
#define ADVICE_CONFIG  "correct husk.conf"
#define ADVICE_INSTALL "build or install husk completely, or name the file in husk.conf"

static const struct point points[] = {
    {"configuration", look_configuration, 0, ADVICE_CONFIG},
    {"/dev/kvm", look_device, 0, ADVICE_KVM},
    {"KVM API", look_api, 0, ADVICE_HOST_KERNEL},
    {"split irqchip", look_capability, KVM_CAP_SPLIT_IRQCHIP, ADVICE_HOST_KERNEL},
    {"irqfd", look_capability, KVM_CAP_IRQFD, ADVICE_HOST_KERNEL},
    {"ioeventfd", look_capability, KVM_CAP_IOEVENTFD, ADVICE_HOST_KERNEL},
    {"IRQ routing", look_capability, KVM_CAP_IRQ_ROUTING, ADVICE_HOST_KERNEL},
    {"TSC deadline timer", look_capability, KVM_CAP_TSC_DEADLINE_TIMER, ADVICE_HOST_KERNEL},
    {"immediate exit", look_capability, KVM_CAP_IMMEDIATE_EXIT, ADVICE_HOST_KERNEL},
    {"guest: plain code", look_guest, 0, ADVICE_GUEST},
    {"guest: int3, iretq", look_guest, 1, ADVICE_GUEST},
    {"guest: cmpxchg16b", look_guest, 2, ADVICE_GUEST},
    {"guest: fxsave, fxrstor", look_guest, 3, ADVICE_GUEST},
    {"guest: xsave, xrstor", look_guest, 4, ADVICE_GUEST},
    {"vCPUs", look_vcpus, 0, "lower vcpus in husk.conf"},
    {"memory", look_memory, 0, "lower memory_mib in husk.conf, or free memory"},
    {"mounts", look_mounts, 0, ADVICE_HOST_KERNEL},
    {"VMM", look_vmm, 0, ADVICE_INSTALL},
    {"kernel image", look_kernel, 0, ADVICE_INSTALL},
    {"agent image", look_agent, 0, ADVICE_INSTALL},
};
#define POINTS_COUNT (sizeof(points) / sizeof(points[0]))

static void print_point(const struct point *point, bool ok, const char *text)
{
    printf("%-4s  %-24s %s\n", ok ? "ok" : "FAIL", point->name, text);
    if (!ok)
        printf("%6s%-24s what to do: %s\n", "", "", point->advice);
}

static int append_point(json_t *array, const struct point *point, bool ok, const char *text,
                        struct error *err)
{
    json_t *object = json_pack("{s:s, s:b, s:s, s:s*}", "point", point->name, "ok", ok, "found", text,
                               "advice", ok ? NULL : point->advice);
    return json_array_append_new(array, object) < 0 ? error_set(err, ENOMEM, "check") : 0;
}

/* Number of points that failed, or -1 with err filled. `array` NULL: prints as it goes. */
static int look_at_all(struct check *check, json_t *array, struct error *err)
{
    int failed = 0;
    for (size_t i = 0; i < POINTS_COUNT; i++) {
        char found[512] = "";
        struct error wrong;
        bool ok = points[i].look(check, points[i].argument, found, sizeof(found), &wrong) == 0;
        failed += !ok;
        const char *text = ok ? found : wrong.text;
        if (!array)
            print_point(&points[i], ok, text);
        else if (append_point(array, &points[i], ok, text, err) < 0)
            return -1;
    }
    return failed;
}

static int check_run(const struct context *context, int argc, char **argv, struct error *err)
{
    struct check_options options = {0};
    struct check check = {.kvm_fd = -1, .config_dir = context->options.config_dir};
    int count = command_parse(&cmd_check, &options, argc, argv, err);
    if (count < 0)
        return count;
    bool json = options.format && strcmp(options.format, "json") == 0;
    if (options.format && !json && strcmp(options.format, "table") != 0)
        return error_set(err, 0, "check: unknown format \"%s\"", options.format);
    cleanup_json json_t *array = json ? json_array() : NULL;
    int failed = look_at_all(&check, array, err);
    fd_close(&check.kvm_fd);
    config_fini(&check.config);
    if (failed < 0)
        return -1;
    if (json) {
        cleanup_json json_t *object = json_pack("{s:b, s:O}", "ok", failed == 0, "points", array);
        json_dumpf(object, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        putchar('\n');
    } else {
        printf(failed ? "\nThis machine cannot run husk: %d points failed.\n"
                      : "\nThis machine can run husk.\n",
               failed);
    }
    return failed ? 1 : 0;
}

const struct command cmd_check = {.name = "check",
                                  .arguments = "",
                                  .help = "tell whether this machine can run husk, and what it lacks",
                                  .options = option_rows,
                                  .arguments_min = 0,
                                  .arguments_max = 0,
                                  .no_store = true,
                                  .run = check_run};
