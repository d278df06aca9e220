/*
 * init: first program of the testbed's kernel. Lays a throw-away overlay over the machine's root (virtio-fs,
 * read-only), puts the repository and the build directory in it as they are on the machine, mounts what a
 * Linux system has, and becomes exec-server. A C program and not a shell script because under software
 * emulation each fork and exec costs 20 ms.
 *
 * The initramfs, made by `image` and `run`, holds beside it: /config (NAME=VALUE lines for this boot: token
 * port address repo build shared modules), /modules with the files `first` and `later` that list modules in
 * their order, /nodes (device nodes whose opening loads a module: path, major, minor), /bin/busybox and
 * /bin/exec-server.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

struct mount_row {
    const char *source, *target, *type, *options;
    mode_t mode; /* of a directory to make, 0: it is there */
    unsigned long flags;
};

/* Before the overlay is there. */
static const struct mount_row early_mounts[] = {
    {"devtmpfs", "/dev", "devtmpfs", NULL, 0755, 0},
    {"proc", "/proc", "proc", NULL, 0755, 0},
    {"sysfs", "/sys", "sysfs", NULL, 0755, 0},
};

/* What is shared; the machine's root is never writable from here. */
static const struct mount_row share_mounts[] = {
    {"host", "/host", "virtiofs", NULL, 0755, MS_RDONLY},
    {"repo", "/repo", "virtiofs", NULL, 0755, 0},
    {"build", "/build", "virtiofs", NULL, 0755, 0},
    {"/dev/vda", "/disk", "ext4", "nobarrier", 0755, MS_NOATIME},
};

/* In the new root, after /dev, /proc and /sys have moved there. */
static const struct mount_row late_mounts[] = {
    {"devpts", "dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666", 0755, 0},
    {"tmpfs", "dev/shm", "tmpfs", "mode=1777", 0755, MS_NOSUID | MS_NODEV},
    {"mqueue", "dev/mqueue", "mqueue", NULL, 0755, 0},
    {"tmpfs", "run", "tmpfs", "mode=755", 0, MS_NOSUID | MS_NODEV},
    {"cgroup2", "sys/fs/cgroup", "cgroup2", "nsdelegate,memory_recursiveprot", 0, 0},
    {"bpf", "sys/fs/bpf", "bpf", NULL, 0, 0},
    {"tracefs", "sys/kernel/tracing", "tracefs", NULL, 0, 0},
    {"securityfs", "sys/kernel/security", "securityfs", NULL, 0, 0},
};

/*
 * Directories of the scratch disk, and where they appear. The disk carries everything that is written: the
 * overlay's upper layer and, beside it, plain ext4 for container storage, since an overlay refuses an upper
 * directory on an overlay.
 */
static const struct {
    const char *directory, *target;
    mode_t mode;
} disk_directories[] = {
    {"root", NULL, 0755},
    {"root/upper", NULL, 0755},
    {"root/work", NULL, 0755},
    {"tmp", "/tmp", 01777},
    {"var-tmp", "/var/tmp", 01777},
    {"scratch", "/scratch", 01777},
    {"containers", "/var/lib/containers", 0755},
    {"containerd", "/var/lib/containerd", 0755},
};

/* Says on the console, which `run` watches, what is wrong, and stops. */
__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...)
{
    int error = errno;
    va_list ap;
    va_start(ap, format);
    fprintf(stderr, "testbed: failed: ");
    vfprintf(stderr, format, ap);
    fprintf(stderr, ": %s\n", strerror(error));
    va_end(ap);
    for (;;)
        pause();
}

static void make_directories(const char *path, mode_t mode)
{
    char p[4096];
    snprintf(p, sizeof p, "%s", path);
    for (char *slash = strchr(p + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(p, 0755);
        *slash = '/';
    }
    if (mkdir(p, mode) == 0)
        chmod(p, mode); /* without the umask */
}

static void mount_rows(const struct mount_row *rows, size_t count)
{
    for (const struct mount_row *r = rows; r < rows + count; r++) {
        if (r->mode)
            make_directories(r->target, r->mode);
        if (mount(r->source, r->target, r->type, r->flags, r->options) < 0)
            fail("mount %s", r->target);
    }
}

#define MOUNT_ROWS(table) mount_rows(table, sizeof(table) / sizeof(table)[0])

/* Mounts the directory FROM at /new/TO, made when it is not there. */
static void bind(const char *from, const char *to)
{
    char target[4096];
    snprintf(target, sizeof target, "/new%s", to);
    make_directories(target, 0755);
    if (mount(from, target, NULL, MS_BIND, NULL) < 0)
        fail("bind %s at %s", from, to);
}

static void read_config(void)
{
    char line[8192];
    FILE *f = fopen("/config", "re");
    if (!f)
        fail("/config");
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *value = strchr(line, '=');
        if (!value)
            continue;
        *value++ = '\0';
        setenv(line, value, 1);
    }
    fclose(f);
}

static const char *config(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

static void load_modules(const char *list)
{
    char name[256];
    FILE *f = fopen(list, "re");
    if (!f)
        fail("%s", list);
    while (fgets(name, sizeof name, f)) {
        char path[300];
        name[strcspn(name, "\n")] = '\0';
        snprintf(path, sizeof path, "/modules/%s", name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0)
            fail("module %s", name);
        close(fd);
    }
    fclose(f);
}

static void make_nodes(void)
{
    char path[200], target[300];
    unsigned int major, minor;
    FILE *f = fopen("/nodes", "re");
    if (!f)
        fail("/nodes");
    while (fscanf(f, "%199s %u %u", path, &major, &minor) == 3) {
        snprintf(target, sizeof target, "/dev/%s", path);
        char *slash = strrchr(target, '/');
        *slash = '\0';
        make_directories(target, 0755);
        *slash = '/';
        if ((mknod(target, S_IFCHR, makedev(major, minor)) < 0 && errno != EEXIST) || chmod(target, 0666) < 0)
            fail("mknod %s", path);
    }
    fclose(f);
    chmod("/dev/fuse", 0666); /* as udev has it; loaded before, it is in no list */
}

static void make_root(void)
{
    struct utsname u;
    char path[4096], target[4096];
    for (size_t i = 0; i < sizeof disk_directories / sizeof disk_directories[0]; i++) {
        snprintf(path, sizeof path, "/disk/%s", disk_directories[i].directory);
        make_directories(path, disk_directories[i].mode);
    }
    mkdir("/new", 0755);
    if (mount("overlay", "/new", "overlay", MS_NOATIME,
              "lowerdir=/host,upperdir=/disk/root/upper,workdir=/disk/root/"
              "work,index=off,xino=off,metacopy=off") < 0)
        fail("the overlay");
    for (size_t i = 0; i < sizeof disk_directories / sizeof disk_directories[0]; i++) {
        snprintf(path, sizeof path, "/disk/%s", disk_directories[i].directory);
        if (disk_directories[i].target)
            bind(path, disk_directories[i].target);
    }
    uname(&u);
    snprintf(path, sizeof path, "/host%s", config("modules"));
    snprintf(target, sizeof target, "/lib/modules/%s", u.release);
    bind(path, target);
    if (*config("shared")) {
        snprintf(path, sizeof path, "/host%s", config("shared"));
        bind(path, config("shared"));
    }
    bind("/repo", config("repo"));
    snprintf(target, sizeof target, "/new%s", config("repo"));
    if (mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0)
        fail("the repository read-only");
    bind("/build", config("build"));
}

/* All controllers for the children of the root, as systemd leaves it. */
static void enable_controllers(void)
{
    char name[64];
    FILE *f = fopen("/sys/fs/cgroup/cgroup.controllers", "re");
    FILE *out = fopen("/sys/fs/cgroup/cgroup.subtree_control", "we");
    if (!f || !out)
        fail("cgroup.controllers");
    setvbuf(out, NULL, _IONBF, 0);
    while (fscanf(f, "%63s", name) == 1)
        fprintf(out, "+%s", name);
    fclose(f);
    fclose(out);
}

static void copy_program(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    struct stat s;
    if (in < 0 || out < 0 || fstat(in, &s) < 0)
        fail("%s", to);
    for (off_t left = s.st_size; left > 0;) {
        ssize_t n = sendfile(out, in, NULL, (size_t)left);
        if (n <= 0)
            fail("copy %s", from);
        left -= n;
    }
    close(in);
    close(out);
}

static void fill_root(void)
{
    static const char *const moved[] = {"/dev", "/proc", "/sys"};
    static const char *const links[][2] = {{"/proc/self/fd", "dev/fd"},
                                           {"/proc/self/fd/0", "dev/stdin"},
                                           {"/proc/self/fd/1", "dev/stdout"},
                                           {"/proc/self/fd/2", "dev/stderr"}};
    char target[64];
    for (size_t i = 0; i < sizeof moved / sizeof moved[0]; i++) {
        snprintf(target, sizeof target, "/new%s", moved[i]);
        if (mount(moved[i], target, NULL, MS_MOVE, NULL) < 0)
            fail("move %s", moved[i]);
    }
    if (chdir("/new") < 0)
        fail("chdir /new");
    MOUNT_ROWS(late_mounts);
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
        if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
            fail("symlink %s", links[i][1]);
    make_directories("run/lock", 01777);
    make_directories("run/testbed/host", 0755);
    make_directories("run/user/0", 0700);
    copy_program("/bin/busybox", "run/testbed/busybox");
    copy_program("/bin/exec-server", "run/testbed/exec-server");
    if (mount("/host", "run/testbed/host", NULL, MS_BIND, NULL) < 0)
        fail("/run/testbed/host");
}

static void switch_root(void)
{
    if (mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
        fail("switch to the new root");
    /* Propagation as systemd sets it, which container engines rely on. */
    if (mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) < 0)
        fail("shared propagation");
}

/*
 * Holds a VM with one vCPU for as long as the testbed lives. With the first VM KVM patches jumps into the
 * kernel's code, in the scheduler among it, and out again with the last; the emulator's other CPU may then
 * run half of a patched instruction (tests/README.md).
 */
static void hold_vm(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0 || ioctl(vm, KVM_CREATE_IRQCHIP, 0) < 0 || ioctl(vm, KVM_CREATE_VCPU, 0) < 0)
        fail("a VM to hold");
    for (;;)
        pause();
}

int main(void)
{
    int status = 0;
    umask(022);
    MOUNT_ROWS(early_mounts);
    for (int fd = 0; fd < 3; fd++)
        dup2(open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC), fd);
    read_config();
    pid_t later = fork(); /* what only commands need loads meanwhile */
    if (later == 0) {
        load_modules("/modules/later");
        _exit(0);
    }
    load_modules("/modules/first");
    MOUNT_ROWS(share_mounts);
    make_root();
    make_nodes();
    fill_root();
    switch_root();
    enable_controllers();
    sethostname("testbed", 7);
    if (later < 0 || waitpid(later, &status, 0) != later || status)
        fail("modules");
    if (fork() == 0)
        hold_vm();
    execl("/run/testbed/exec-server", "exec-server", config("token"), config("port"), "eth1",
          config("address"), config("build"), NULL);
    fail("exec-server");
}
