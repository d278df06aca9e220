/* The command line: see options.h. A row of the table is all there is to an option. */
#include "vmm/options.h"

#include "vmm/blk_option.h"
#include "vmm/layout.h"
#include "vmm/net_option.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define ID_CHARACTERS_MAX 128u
#define FS_WORKERS_MAX    64u
#define SLOTS_MAX         16u
#define SLOTS_DEFAULT     4u
#define SLOTS_NOT_GIVEN   UINT_MAX

struct option {
    const char *name;
    const char *argument; /* NULL: a switch */
    const char *expects;  /* what a bad argument should have been */
    const char *help;
    /* 0, or -EINVAL when the argument is not as expected. */
    int (*set)(struct options *options, const char *value);
};

static int set_number(unsigned *out, const char *value, unsigned min, unsigned max)
{
    char *end;
    errno = 0;
    unsigned long number = strtoul(value, &end, 10);
    if (errno || end == value || *end || *value == '-' || number < min || number > max)
        return -EINVAL;
    *out = (unsigned)number;
    return 0;
}

static int set_choice(unsigned *out, const char *value, const char *const *choices, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(value, choices[i]) == 0) {
            *out = i;
            return 0;
        }
    }
    return -EINVAL;
}

static int set_text(const char **out, const char *value)
{
    *out = value;
    return *value ? 0 : -EINVAL;
}

static int set_id(struct options *options, const char *value)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-+";
    size_t length = strlen(value);
    if (length == 0 || length > ID_CHARACTERS_MAX || strspn(value, allowed) != length)
        return -EINVAL;
    options->id = value;
    return 0;
}

static int set_cpus(struct options *options, const char *value)
{
    return set_number(&options->cpus, value, 1, LAYOUT_VCPUS_MAX);
}

static int set_cpus_max(struct options *options, const char *value)
{
    return set_number(&options->cpus_max, value, 1, LAYOUT_VCPUS_MAX);
}

static int set_memory(struct options *options, const char *value)
{
    return set_number(&options->memory_mib, value, LAYOUT_MEMORY_MIN_MIB, LAYOUT_MEMORY_MAX_MIB);
}

static int set_memory_max(struct options *options, const char *value)
{
    return set_number(&options->memory_max_mib, value, LAYOUT_MEMORY_MIN_MIB, LAYOUT_MEMORY_MAX_MIB);
}

static int set_kernel(struct options *options, const char *value)
{
    return set_text(&options->kernel, value);
}

static int set_initrd(struct options *options, const char *value)
{
    return set_text(&options->initrd, value);
}

static int set_cmdline(struct options *options, const char *value)
{
    options->cmdline = value;
    return 0;
}

static int set_kvm(struct options *options, const char *value)
{
    return set_text(&options->kvm, value);
}

static int set_vsock(struct options *options, const char *value)
{
    return set_text(&options->vsock, value);
}

static int set_shared(struct options *options, const char *value)
{
    return set_text(&options->shared, value);
}

static int set_console(struct options *options, const char *value)
{
    return set_text(&options->console, value);
}

static int set_status(struct options *options, const char *value)
{
    return set_text(&options->status, value);
}

static int set_log(struct options *options, const char *value)
{
    return set_text(&options->log, value);
}

static int set_control(struct options *options, const char *value)
{
    return set_text(&options->control, value);
}

static int set_slots(struct options *options, const char *value)
{
    return set_number(&options->slots, value, 0, SLOTS_MAX);
}

static int set_blk(struct options *options, const char *value)
{
    if (options->blks == OPTIONS_BLKS_MAX)
        return -EINVAL;
    return blk_option_parse(value, &options->blk[options->blks++]);
}

static int set_net(struct options *options, const char *value)
{
    if (options->nets == OPTIONS_NETS_MAX)
        return -EINVAL;
    return net_option_parse(value, &options->net[options->nets++]);
}

static int set_log_level(struct options *options, const char *value)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    unsigned level;
    int rc = set_choice(&level, value, levels, 4);
    if (rc == 0)
        options->log_level = (enum log_level)level;
    return rc;
}

static int set_cpu_mask(struct options *options, const char *value)
{
    options->cpu_mask = value;
    return 0;
}

static int set_fs_cache(struct options *options, const char *value)
{
    static const char *const policies[] = {"none", "auto", "always"};
    unsigned policy;
    int rc = set_choice(&policy, value, policies, 3);
    if (rc == 0)
        options->fs_cache = (enum fs_cache)policy;
    return rc;
}

static int set_fs_workers(struct options *options, const char *value)
{
    return set_number(&options->fs_workers, value, 1, FS_WORKERS_MAX);
}

static int set_fs_writeback(struct options *options, const char *value)
{
    (void)value;
    options->fs_writeback = true;
    return 0;
}

static int set_hugepages(struct options *options, const char *value)
{
    (void)value;
    options->hugepages = true;
    return 0;
}

static int set_prefault(struct options *options, const char *value)
{
    (void)value;
    options->prefault = true;
    return 0;
}

static int set_small_pages(struct options *options, const char *value)
{
    (void)value;
    options->small_pages = true;
    return 0;
}

static int set_map_kernel(struct options *options, const char *value)
{
    (void)value;
    options->map_kernel = true;
    return 0;
}

static int set_no_balloon(struct options *options, const char *value)
{
    (void)value;
    options->no_balloon = true;
    return 0;
}

static int set_stats(struct options *options, const char *value)
{
    (void)value;
    options->stats = true;
    return 0;
}

static int set_help(struct options *options, const char *value)
{
    (void)value;
    options->help = true;
    return 0;
}

static int set_version(struct options *options, const char *value)
{
    (void)value;
    options->version = true;
    return 0;
}

static const struct option table[] = {
    {"id", "ID", "1 to 128 letters, digits, '_', '.', '-' or '+'", "name of the sandbox, for logs", set_id},
    {"cpus", "N", "a number from 1 to 32", "vCPUs (1)", set_cpus},
    {"cpus-max", "N", "a number from 1 to 32", "vCPUs that the guest may be given later (as --cpus)",
     set_cpus_max},
    {"memory", "MIB", "a number from 64 to 524288", "guest memory in MiB (256)", set_memory},
    {"memory-max", "MIB", "a number from 64 to 524288",
     "memory that the guest may be given later, in all (as --memory)", set_memory_max},
    {"kernel", "FILE", "a file", "guest kernel, an ELF vmlinux (required)", set_kernel},
    {"initrd", "FILE", "a file", "initial file system", set_initrd},
    {"cmdline", "TEXT", "text", "appended to the kernel's command line", set_cmdline},
    {"kvm", "FILE", "a file", "the KVM device (/dev/kvm)", set_kvm},
    {"vsock", "FILE", "a socket",
     "Unix socket outside of the guest's vsock: fd:N listens already, a path is created", set_vsock},
    {"shared", "DIR", "a directory", "tree the guest sees over virtio-fs (an empty one)", set_shared},
    {"console", "FILE", "a file", "takes the guest kernel's log, appended", set_console},
    {"status", "FILE", "a file", "takes one JSON line that tells how the VM ended", set_status},
    {"log", "FILE", "a file", "takes our own log, appended (standard error)", set_log},
    {"log-level", "LEVEL", "error, warn, info or debug", "the most talkative level logged (info)",
     set_log_level},
    {"stats", NULL, NULL, "add times and VM exits by kind to the status", set_stats},
    {"hugepages", NULL, NULL, "guest memory from the pool of 2 MiB pages", set_hugepages},
    {"prefault", NULL, NULL, "touch all guest memory before the guest starts", set_prefault},
    {"small-pages", NULL, NULL, "no transparent huge pages for guest memory", set_small_pages},
    {"map-kernel", NULL, NULL,
     "map the kernel's file, shared by sandboxes, instead of reading it: smaller, slower to boot",
     set_map_kernel},
    {"no-balloon", NULL, NULL, "memory that the guest frees stays with it", set_no_balloon},
    {"cpu-mask", "FEATURE,...", "names", "CPU features to hide, by their names in /proc/cpuinfo",
     set_cpu_mask},
    {"fs-cache", "POLICY", "none, auto or always", "what the guest may cache of shared files (auto)",
     set_fs_cache},
    {"fs-writeback", NULL, NULL, "let the guest delay writes to shared files", set_fs_writeback},
    {"fs-workers", "N", "a number from 1 to 64", "threads that serve shared files (4)", set_fs_workers},
    {"blk", "OPTIONS", "at most 8 of fd:N[,ro][,direct][,serial=S][,queues=N][,threads=N][,bps=N][,iops=N]",
     "disk: fd:N[,ro][,direct][,serial=S][,queues=N][,threads=N][,bps=N][,iops=N]", set_blk},
    {"net", "OPTIONS", "at most 8 of id=N,mac=MAC,taps=FD[:FD...][,vhosts=FD[:FD...]][,mtu=N]",
     "network device: id=N,mac=MAC,taps=FD[:FD...][,vhosts=FD[:FD...]][,mtu=N]", set_net},
    {"slots", "N", "a number from 0 to 16", "places for devices that come later (4 with --control)",
     set_slots},
    {"control", "FILE", "a socket", "Unix socket to ask for changes: fd:N listens already, a path is created",
     set_control},
    {"help", NULL, NULL, "print this text", set_help},
    {"version", NULL, NULL, "print the version", set_version},
};

#define TABLE_ROWS (sizeof(table) / sizeof(table[0]))

static const struct option *option_find(const char *name, size_t length)
{
    for (size_t i = 0; i < TABLE_ROWS; i++) {
        if (strlen(table[i].name) == length && memcmp(table[i].name, name, length) == 0)
            return &table[i];
    }
    return NULL;
}

/* "--name value", "--name=value" or, for a switch, "--name". Returns how many words were taken, or -1. */
static int option_apply(struct options *options, char **word, struct error *err)
{
    const char *name = *word + 2;
    size_t length = strcspn(name, "=");
    const struct option *option = strncmp(*word, "--", 2) == 0 ? option_find(name, length) : NULL;
    if (!option)
        return error_set(err, 0, "unknown option '%s' (--help lists them)", *word);
    const char *value = name[length] == '=' ? name + length + 1 : NULL;
    int taken = 1;
    if (!option->argument && value)
        return error_set(err, 0, "--%s takes no argument", option->name);
    if (option->argument && !value) {
        value = word[1];
        taken = 2;
        if (!value)
            return error_set(err, 0, "--%s needs an argument: %s", option->name, option->expects);
    }
    if (option->set(options, value) < 0)
        return error_set(err, 0, "--%s %s: expected %s", option->name, value, option->expects);
    return taken;
}

int options_parse(struct options *options, int argc, char **argv, struct error *err)
{
    *options = (struct options){.cpus = 1,
                                .memory_mib = 256,
                                .kvm = "/dev/kvm",
                                .fs_cache = FS_CACHE_AUTO,
                                .fs_workers = 4,
                                .slots = SLOTS_NOT_GIVEN,
                                .log_level = LOG_LEVEL_INFO};
    for (int i = 1; i < argc;) {
        int taken = option_apply(options, &argv[i], err);
        if (taken < 0)
            return -1;
        i += taken;
    }
    if (options->slots == SLOTS_NOT_GIVEN)
        options->slots = options->control ? SLOTS_DEFAULT : 0;
    if (!options->kernel && !options->help && !options->version)
        return error_set(err, 0, "--kernel is required");
    if (options->cpus_max && options->cpus_max < options->cpus)
        return error_set(err, 0, "--cpus-max %u: less than --cpus %u", options->cpus_max, options->cpus);
    if (options->memory_max_mib && options->memory_max_mib < options->memory_mib)
        return error_set(err, 0, "--memory-max %u: less than --memory %u", options->memory_max_mib,
                         options->memory_mib);
    return 0;
}

void options_print_help(FILE *to)
{
    fputs("Usage: husk-vmm --kernel FILE [OPTION]...\nRuns a sandbox's virtual machine until the guest ends "
          "it.\n"
          "FILE is a path, or fd:N for a file that is open already.\n\n",
          to);
    for (size_t i = 0; i < TABLE_ROWS; i++) {
        char left[40];
        snprintf(left, sizeof(left), "--%s %s", table[i].name, table[i].argument ? table[i].argument : "");
        fprintf(to, "  %-24s%s\n", left, table[i].help);
    }
    fputs("\nExit status: 0 power-off, 1 failure of husk-vmm, 2 wrong usage, 3 reset, 4 guest panic, 5 "
          "triple fault,\n"
          "6 internal error of KVM, 7 terminated by a signal.\n",
          to);
}
