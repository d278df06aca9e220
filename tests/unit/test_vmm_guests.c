/*
 * Tiny guests, one a behaviour, run by the real husk-vmm under KVM in its jail: how each ends is what is
 * tested. Skipped (exit status 77) without root or a KVM device.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SKIPPED  77
#define LOAD     0x1000000u
#define CODE_MAX 4096u

/* x86-64 code that maps [0xd0000000, 0xd0200000), where the virtio windows and pvpanic are, on top of the
 * entry's page tables: PDPT[3] -> 0xc000, PD[128] -> 0xd0000000, a 2 MiB page. Then PD[502] -> 0xfec00000 for
 * the IOAPIC. */
#define MAP_DEVICES                                                                                          \
    0x48, 0xc7, 0x04, 0x25, 0x18, 0xa0, 0x00, 0x00, 0x03, 0xc0, 0x00, 0x00, /* movq $0xc003, 0xa018 */       \
        0xb8, 0x83, 0x00, 0x00, 0xd0,                                       /* mov $0xd0000083, %eax */      \
        0x48, 0x89, 0x04, 0x25, 0x00, 0xc4, 0x00, 0x00,                     /* mov %rax, 0xc400 */           \
        0xb8, 0x83, 0x00, 0xc0, 0xfe,                                       /* mov $0xfec00083, %eax */      \
        0x48, 0x89, 0x04, 0x25, 0xb0, 0xcf, 0x00, 0x00                      /* mov %rax, 0xcfb0 */
#define PVPANIC(value)                                                                                       \
    0xbb, 0x00, 0x00, 0x10, 0xd0, 0xc6, 0x03, value /* mov $pvpanic, %ebx; movb $value, (%rbx) */
#define RESET   0xb0, 0xfe, 0xe6, 0x64              /* mov $0xfe, %al; out %al, $0x64 */
#define FOREVER 0xeb, 0xfe                          /* jmp . */
#define TRIPLE_FAULT                                                                                         \
    0x0f, 0x01, 0x1c, 0x25, 0x00, 0x05, 0x00, 0x00, 0x0f, 0x0b /* lidt 0x500 (zeroes); ud2                   \
                                                                */

struct result {
    int exit_status;
    char status[4096], console[4096], log[16384];
};

/* A kernel whose only segment is `code`, as a descriptor. */
static int kernel_new(const uint8_t *code, size_t bytes)
{
    struct {
        Elf64_Ehdr header;
        Elf64_Phdr segment;
        uint8_t code[CODE_MAX];
    } image = {
        .header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                   .e_type = ET_EXEC,
                   .e_machine = EM_X86_64,
                   .e_entry = LOAD,
                   .e_phoff = sizeof(Elf64_Ehdr),
                   .e_phentsize = sizeof(Elf64_Phdr),
                   .e_phnum = 1},
        .segment = {.p_type = PT_LOAD, .p_paddr = LOAD, .p_filesz = CODE_MAX, .p_memsz = CODE_MAX},
    };
    image.segment.p_offset = (Elf64_Off)((uint8_t *)image.code - (uint8_t *)&image);
    memcpy(image.code, code, bytes);
    int fd = memfd_create("kernel", 0);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, &image, sizeof(image)), sizeof(image));
    return fd;
}

static void read_back(int fd, char *text, size_t capacity)
{
    ssize_t length = pread(fd, text, capacity - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    close(fd);
}

/* Starts husk-vmm on the kernel; files receives status, console and log. */
static pid_t start(int kernel, const char *cpus, int files[3])
{
    static const char *const names[] = {"status", "console", "log"};
    char arguments[4][16];
    snprintf(arguments[3], sizeof(arguments[3]), "fd:%d", kernel);
    for (int i = 0; i < 3; i++) {
        files[i] = memfd_create(names[i], 0);
        assert_true(files[i] >= 0);
        snprintf(arguments[i], sizeof(arguments[i]), "fd:%d", files[i]);
    }
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        /* In the jail there is no /proc for the leak checker, and what is left at the end is left on purpose.
         */
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
        execl(HUSK_VMM, "husk-vmm", "--kernel", arguments[3], "--memory", "64", "--cpus", cpus, "--status",
              arguments[0], "--console", arguments[1], "--log", arguments[2], "--stats", NULL);
        _exit(127);
    }
    return pid;
}

static void finish(pid_t pid, const int files[3], struct result *result)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    result->exit_status = WEXITSTATUS(status);
    read_back(files[0], result->status, sizeof(result->status));
    read_back(files[1], result->console, sizeof(result->console));
    read_back(files[2], result->log, sizeof(result->log));
}

static void run(const uint8_t *code, size_t bytes, struct result *result)
{
    int files[3], kernel = kernel_new(code, bytes);
    pid_t pid = start(kernel, "1", files);
    close(kernel);
    alarm(60); /* a guest that does not end fails the test */
    finish(pid, files, result);
    alarm(0);
}

static void expect(const struct result *result, int exit_status, const char *reason)
{
    char start_of_line[64];
    snprintf(start_of_line, sizeof(start_of_line), "{\"reason\":\"%s\"", reason);
    if (result->exit_status != exit_status ||
        strncmp(result->status, start_of_line, strlen(start_of_line)) != 0)
        fail_msg("exit status %d, status %s, log %s", result->exit_status, result->status, result->log);
}

#define RUN(code, result) run(code, sizeof(code), result)

static void reset_is_told(void **state)
{
    static const uint8_t code[] = {RESET, FOREVER};
    struct result result;
    (void)state;
    RUN(code, &result);
    expect(&result, 3, "reset");
    assert_non_null(strstr(result.status, "before the agent was up"));
    assert_non_null(strstr(result.log, "write address=0x64 length=1 data=0xfe"));
}

static void power_off_is_told(void **state)
{
    static const uint8_t code[] = {MAP_DEVICES, PVPANIC(4), FOREVER};
    struct result result;
    (void)state;
    RUN(code, &result);
    expect(&result, 0, "power-off");
}

static void a_panic_lasts_until_the_reset(void **state)
{
    /* After the panic: "p\n" to the serial port, which must still arrive. */
    static const uint8_t code[] = {MAP_DEVICES, PVPANIC(1), 0x66, 0xba, 0xf8, 0x03,  0xb0,
                                   'p',         0xee,       0xb0, '\n', 0xee, RESET, FOREVER};
    struct result result;
    (void)state;
    RUN(code, &result);
    expect(&result, 4, "panic");
    assert_string_equal(result.console, "p\n");
}

static void a_panic_without_reset_ends_too(void **state)
{
    static const uint8_t code[] = {MAP_DEVICES, PVPANIC(1), FOREVER};
    struct result result;
    (void)state;
    RUN(code, &result);
    expect(&result, 4, "panic");
    assert_non_null(strstr(result.status, "did not reset in time"));
}

static void a_triple_fault_is_told_with_registers_and_last_exits(void **state)
{
    /* First a write to a port that nobody drives. */
    static const uint8_t code[] = {0xb0, 0x5a, 0xe6, 0xed, TRIPLE_FAULT}; /* mov $0x5a, %al; out %al, $0xed */
    struct result result;
    (void)state;
    RUN(code, &result);
    expect(&result, 5, "triple-fault");
    /* Not their values: on AMD, KVM resets a processor that shuts down before it tells. */
    assert_non_null(strstr(result.log, "vcpu=0 rip="));
    assert_non_null(strstr(result.log, "vcpu=0 cr0="));
    const char *exits = strstr(result.log, "vcpu=0 exit=0 ");
    assert_non_null(exits);
    assert_non_null(strstr(exits, "reason=2 rip=0000000001000"));
    assert_non_null(strstr(exits, "write address=0xed length=1 data=0x5a"));
    assert_non_null(strstr(exits, "vcpu=0 exit=1 "));
    assert_non_null(strstr(exits, "reason=8 "));
}

static void code_that_kvm_cannot_run_is_an_internal_error(void **state)
{
    /* A jump into an address that neither RAM nor a device answers. */
    static const uint8_t code[] = {MAP_DEVICES, 0xbb, 0x00, 0x00, 0x18, 0xd0, 0xff, 0xe3}; /* jmp *%rbx */
    struct result result;
    (void)state;
    RUN(code, &result);
    expect(&result, 6, "internal-error");
    assert_non_null(strstr(result.status, "KVM_EXIT_INTERNAL_ERROR"));
    assert_non_null(strstr(result.log, "rip=00000000d0180000"));
}

static void unassigned_addresses_read_as_ones(void **state)
{
    static const uint8_t code[] = {
        MAP_DEVICES,                                /* */
        0xbb,         0x00, 0x00, 0x18, 0xd0,       /* mov $0xd0180000, %ebx */
        0xc7,         0x03, 0x78, 0x56, 0x34, 0x12, /* movl $0x12345678, (%rbx) */
        0x8b,         0x03,                         /* mov (%rbx), %eax */
        0x83,         0xf8, 0xff,                   /* cmp $-1, %eax */
        0x75,         0x0e,                         /* jne fault */
        0x66,         0xba, 0x77, 0x02,             /* mov $0x277, %dx */
        0xee,                                       /* out %al, %dx */
        0xec,                                       /* in %dx, %al */
        0x3c,         0xff,                         /* cmp $-1, %al */
        0x75,         0x04,                         /* jne fault */
        RESET,                                      /* */
        TRIPLE_FAULT,                               /* fault: */
    };
    struct result result;
    (void)state;
    RUN(code, &result);
    expect(&result, 3, "reset");
    assert_non_null(strstr(result.log, "unassigned address=0xd0180000"));
}

static void the_serial_port_prints_to_the_console(void **state)
{
    /* Waits for the transmitter as earlyprintk does, then "hi\n" by outsb. */
    static const uint8_t code[] = {
        0x66,  0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb, /* wait: in $0x3fd; test $0x20; jz wait */
        0xc7,  0x04, 0x25, 0x00, 0x06, 0x00, 0x00, 'h',  'i',  '\n', 0x00, /* movl $"hi\n", 0x600 */
        0xbe,  0x00, 0x06, 0x00, 0x00, 0xb9, 0x03, 0x00, 0x00, 0x00, /* mov $0x600, %esi; mov $3, %ecx */
        0x66,  0xba, 0xf8, 0x03, 0xf3, 0x6e,                         /* mov $0x3f8, %dx; rep outsb */
        RESET,
    };
    struct result result;
    (void)state;
    RUN(code, &result);
    expect(&result, 3, "reset");
    assert_string_equal(result.console, "hi\n");
}

static void reading_registers_and_acknowledging_cost_no_exit(void **state)
{
    /* Reads the first window's MagicValue 100 times, writes 1 to InterruptACK as often, sets Status to 1 and
     * reads that: 1 exit, the last write. */
    static const uint8_t code[] = {
        MAP_DEVICES, 0xbb,    0x00,         0x00, 0x00, 0xd0,       /* mov $0xd0000000, %ebx */
        0xb9,        0x64,    0x00,         0x00, 0x00,             /* mov $100, %ecx */
        0x81,        0x3b,    'v',          'i',  'r',  't',        /* read: cmpl $"virt", (%rbx) */
        0x75,        0x27,                                          /* jne wrong */
        0xff,        0xc9,    0x75,         0xf4,                   /* dec %ecx; jnz read */
        0xb9,        0x64,    0x00,         0x00, 0x00,             /* mov $100, %ecx */
        0xc7,        0x43,    0x64,         0x01, 0x00, 0x00, 0x00, /* acknowledge: movl $1, 0x64(%rbx) */
        0xff,        0xc9,    0x75,         0xf5,                   /* dec %ecx; jnz acknowledge */
        0xc7,        0x43,    0x70,         0x01, 0x00, 0x00, 0x00, /* movl $1, 0x70(%rbx) */
        0x83,        0x7b,    0x70,         0x01,                   /* cmpl $1, 0x70(%rbx) */
        0x75,        0x06,                                          /* jne wrong */
        RESET,       FOREVER, TRIPLE_FAULT,                         /* wrong: */
    };
    struct result result;
    (void)state;
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    bool readonly = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_READONLY_MEM) > 0;
    close(kvm);
    RUN(code, &result);
    expect(&result, 3, "reset");
    const char *exits = strstr(result.status, "\"mmio\":");
    assert_non_null(exits);
    assert_int_equal(atoi(exits + strlen("\"mmio\":")), readonly ? 1 : 102);
}

static void garbage_in_every_device_register_harms_nobody(void **state)
{
    /* Every 4 bytes of the virtio windows (and what lies between), then of the IOAPIC's page: written with a
     * running pattern, read back, 1, 2, 4 and 8 bytes wide. */
    static const uint8_t code[] = {
        MAP_DEVICES, 0xbb, 0x00, 0x00, 0x00, 0xd0,                   /* mov $0xd0000000, %ebx */
        0xb9,        0x00, 0x10, 0x00, 0x00,                         /* mov $0x1000, %ecx */
        0x69,        0xc0, 0x35, 0x4e, 0x5a, 0x01, 0x83, 0xc0, 0x01, /* next: imul, add: a new pattern */
        0x88,        0x03, 0x66, 0x89, 0x03, 0x89, 0x03, 0x48, 0x89,
        0x03, /* mov %al, %ax, %eax, %rax -> (%rbx) */
        0x8a,        0x13, 0x66, 0x8b, 0x13, 0x8b, 0x13, 0x48, 0x8b,
        0x13,                                      /* mov (%rbx) -> %dl, %dx, %edx, %rdx */
        0x83,        0xc3, 0x04,                   /* add $4, %ebx */
        0x83,        0xe9, 0x01,                   /* sub $1, %ecx */
        0x75,        0xdb,                         /* jnz next */
        0xb9,        0x00, 0x04, 0x00, 0x00,       /* mov $0x400, %ecx */
        0x81,        0xfb, 0x00, 0x00, 0xc0, 0xfe, /* cmp $0xfec00000, %ebx */
        0xbb,        0x00, 0x00, 0xc0, 0xfe,       /* mov $0xfec00000, %ebx */
        0x72,        0xc9,                         /* jb next: the IOAPIC's turn, once */
        RESET,
    };
    struct result result;
    (void)state;
    RUN(code, &result);
    expect(&result, 3, "reset");
}

static void a_signal_ends_a_guest_that_never_would(void **state)
{
    static const uint8_t code[] = {0x66, 0xba, 0xf8, 0x03, 0xb0, '\n', 0xee, FOREVER};
    struct result result;
    int files[3];
    char byte;
    (void)state;
    int kernel = kernel_new(code, sizeof(code));
    pid_t pid = start(kernel, "2", files);
    close(kernel);
    for (int i = 0; i < 600 && pread(files[1], &byte, 1, 0) != 1; i++)
        usleep(100000);
    kill(pid, SIGTERM);
    alarm(60);
    finish(pid, files, &result);
    alarm(0);
    expect(&result, 7, "terminated");
    assert_string_equal(result.console, "\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reset_is_told),
        cmocka_unit_test(power_off_is_told),
        cmocka_unit_test(a_panic_lasts_until_the_reset),
        cmocka_unit_test(a_panic_without_reset_ends_too),
        cmocka_unit_test(a_triple_fault_is_told_with_registers_and_last_exits),
        cmocka_unit_test(code_that_kvm_cannot_run_is_an_internal_error),
        cmocka_unit_test(unassigned_addresses_read_as_ones),
        cmocka_unit_test(the_serial_port_prints_to_the_console),
        cmocka_unit_test(reading_registers_and_acknowledging_cost_no_exit),
        cmocka_unit_test(garbage_in_every_device_register_harms_nobody),
        cmocka_unit_test(a_signal_ends_a_guest_that_never_would),
    };
    if (geteuid() != 0 || access("/dev/kvm", R_OK | W_OK) < 0) {
        fprintf(stderr, "skipped: needs root and /dev/kvm\n");
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
