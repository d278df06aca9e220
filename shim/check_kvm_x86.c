/*
 * The scratch VM on x86-64: see check_kvm.h. One vCPU, 64 KiB of memory, long mode set up by the host; a
 * guest is a few instructions that end by writing to GUEST_PORT. Called by `husk check` only.
 */
#include "shim/check_kvm.h"

#include "common/fd.h"

#include <asm/processor-flags.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* Guest-physical layout. */
#define GDT_GPA          0x1000u
#define IDT_GPA          0x2000u
#define PML4_GPA         0x3000u
#define PDPT_GPA         0x4000u
#define PD_GPA           0x5000u
#define HANDLER_GPA      0x7000u
#define CODE_GPA         0x8000u
#define DATA_GPA         0xa000u /* scratch, zero, 64-byte aligned; the guests' code names it as a number */
#define STACK_GPA        0x10000u
#define MEMORY_BYTES     0x10000u
#define IDENTITY_MAP_GPA 0xfffbc000u /* KVM's own pages on Intel, out of the guests' way */
#define TSS_GPA          0xfffbd000u

#define GUEST_PORT     0x80
#define CODE_SELECTOR  0x08
#define DATA_SELECTOR  0x10
#define EFER_LME_LMA   0x500u
#define PTE_PRESENT_RW 0x3u
#define PTE_LARGE      0x80u
#define GATE_INTERRUPT 0x8e00u
#define BREAKPOINT     3
#define CPUID_MAX      256
#define CPUID_1_XSAVE  (1u << 26)
#define EXITS_MAX      16

/* Each guest from guest_NAME to guest_NAME_end. "al" is arbitrary at the end: the exit itself is the answer.
 */
__asm__(".pushsection .rodata\n"
        "guest_plain: nop; out %al, $0x80; hlt; guest_plain_end:\n"
        "guest_int3: int3; out %al, $0x80; hlt; guest_int3_end:\n"
        "guest_cmpxchg16b: xor %eax, %eax; xor %edx, %edx; lock cmpxchg16b 0xa000;"
        " out %al, $0x80; hlt; guest_cmpxchg16b_end:\n"
        "guest_fxsave: fxsave 0xa000; fxrstor 0xa000; out %al, $0x80; hlt; guest_fxsave_end:\n"
        "guest_xsave: xor %ecx, %ecx; xor %edx, %edx; mov $3, %eax; xsetbv; xsave 0xa000; xrstor 0xa000;"
        " out %al, $0x80; hlt; guest_xsave_end:\n"
        "guest_handler: iretq; guest_handler_end:\n"
        ".popsection\n");

#define GUEST_SYMBOLS(name) extern const char guest_##name[], guest_##name##_end[]
GUEST_SYMBOLS(plain);
GUEST_SYMBOLS(int3);
GUEST_SYMBOLS(cmpxchg16b);
GUEST_SYMBOLS(fxsave);
GUEST_SYMBOLS(xsave);
GUEST_SYMBOLS(handler);

static const struct guest {
    const char *name;
    const char *start, *end;
    bool needs_xsave;
} guests[] = {
    {"plain code", guest_plain, guest_plain_end, false},
    {"int3 and iretq", guest_int3, guest_int3_end, false},
    {"cmpxchg16b", guest_cmpxchg16b, guest_cmpxchg16b_end, false},
    {"fxsave and fxrstor", guest_fxsave, guest_fxsave_end, false},
    {"xsave and xrstor", guest_xsave, guest_xsave_end, true},
};

struct scratch {
    int vm_fd, vcpu_fd;
    uint8_t *memory;
    struct kvm_run *run;
    size_t run_bytes;
    bool has_xsave;
};

size_t check_kvm_guest_count(void)
{
    return sizeof(guests) / sizeof(guests[0]);
}

const char *check_kvm_guest_name(size_t index)
{
    return guests[index].name;
}

static void scratch_fini(struct scratch *scratch)
{
    if (scratch->run != MAP_FAILED)
        munmap(scratch->run, scratch->run_bytes);
    fd_close(&scratch->vcpu_fd);
    fd_close(&scratch->vm_fd);
    if (scratch->memory != MAP_FAILED)
        munmap(scratch->memory, MEMORY_BYTES);
}

static int scratch_init(struct scratch *scratch, int kvm_fd, struct error *err)
{
    uint64_t identity = IDENTITY_MAP_GPA;
    scratch->vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
    if (scratch->vm_fd < 0)
        return error_set(err, errno, "KVM_CREATE_VM");
    scratch->memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (scratch->memory == MAP_FAILED)
        return error_set(err, errno, "mmap");
    struct kvm_userspace_memory_region region = {.memory_size = MEMORY_BYTES,
                                                 .userspace_addr = (uintptr_t)scratch->memory};
    if (ioctl(scratch->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0 ||
        ioctl(scratch->vm_fd, KVM_SET_TSS_ADDR, TSS_GPA) < 0)
        return error_set(err, errno, "KVM_SET_TSS_ADDR");
    if (ioctl(scratch->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        return error_set(err, errno, "KVM_SET_USER_MEMORY_REGION");
    scratch->vcpu_fd = ioctl(scratch->vm_fd, KVM_CREATE_VCPU, 0);
    if (scratch->vcpu_fd < 0)
        return error_set(err, errno, "KVM_CREATE_VCPU");
    int run_bytes = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_bytes < (int)sizeof(struct kvm_run))
        return error_set(err, errno, "KVM_GET_VCPU_MMAP_SIZE");
    scratch->run_bytes = (size_t)run_bytes;
    scratch->run = mmap(NULL, scratch->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, scratch->vcpu_fd, 0);
    return scratch->run == MAP_FAILED ? error_set(err, errno, "mmap of the vCPU") : 0;
}

static int scratch_set_cpuid(struct scratch *scratch, int kvm_fd, struct error *err)
{
    cleanup_free struct kvm_cpuid2 *cpuid =
        calloc(1, sizeof(*cpuid) + CPUID_MAX * sizeof(struct kvm_cpuid_entry2));
    if (!cpuid)
        return error_set(err, ENOMEM, "CPUID");
    cpuid->nent = CPUID_MAX;
    if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
        return error_set(err, errno, "KVM_GET_SUPPORTED_CPUID");
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        if (cpuid->entries[i].function == 1)
            scratch->has_xsave = cpuid->entries[i].ecx & CPUID_1_XSAVE;
    }
    return ioctl(scratch->vcpu_fd, KVM_SET_CPUID2, cpuid) < 0 ? error_set(err, errno, "KVM_SET_CPUID2") : 0;
}

static void scratch_put64(struct scratch *scratch, uint32_t gpa, uint64_t value)
{
    memcpy(scratch->memory + gpa, &value, sizeof(value));
}

/* Tables for long mode: the first 2 MiB mapped one to one, flat segments, a gate for int3. */
static void scratch_fill_memory(struct scratch *scratch, const struct guest *guest)
{
    scratch_put64(scratch, PML4_GPA, PDPT_GPA | PTE_PRESENT_RW);
    scratch_put64(scratch, PDPT_GPA, PD_GPA | PTE_PRESENT_RW);
    scratch_put64(scratch, PD_GPA, PTE_LARGE | PTE_PRESENT_RW);
    scratch_put64(scratch, GDT_GPA + CODE_SELECTOR, 0x00af9b000000ffffu);
    scratch_put64(scratch, GDT_GPA + DATA_SELECTOR, 0x00cf93000000ffffu);
    scratch_put64(scratch, IDT_GPA + BREAKPOINT * 16,
                  HANDLER_GPA | CODE_SELECTOR << 16 | (uint64_t)GATE_INTERRUPT << 32);
    memcpy(scratch->memory + HANDLER_GPA, guest_handler, (size_t)(guest_handler_end - guest_handler));
    memcpy(scratch->memory + CODE_GPA, guest->start, (size_t)(guest->end - guest->start));
}

static int scratch_set_registers(struct scratch *scratch, const struct guest *guest, struct error *err)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = CODE_GPA, .rsp = STACK_GPA, .rflags = X86_EFLAGS_FIXED};
    struct kvm_segment segment = {
        .limit = 0xffffffff, .selector = DATA_SELECTOR, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    if (ioctl(scratch->vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
        return error_set(err, errno, "KVM_GET_SREGS");
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment;
    segment.selector = CODE_SELECTOR;
    segment.type = 11;
    segment.db = 0;
    segment.l = 1;
    sregs.cs = segment;
    sregs.gdt.base = GDT_GPA;
    sregs.gdt.limit = 3 * 8 - 1;
    sregs.idt.base = IDT_GPA;
    sregs.idt.limit = 256 * 16 - 1;
    sregs.cr3 = PML4_GPA;
    sregs.cr4 =
        X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | (guest->needs_xsave ? X86_CR4_OSXSAVE : 0);
    sregs.cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_PG;
    sregs.efer = EFER_LME_LMA;
    if (ioctl(scratch->vcpu_fd, KVM_SET_SREGS, &sregs) < 0)
        return error_set(err, errno, "KVM_SET_SREGS");
    return ioctl(scratch->vcpu_fd, KVM_SET_REGS, &regs) < 0 ? error_set(err, errno, "KVM_SET_REGS") : 0;
}

static int scratch_execute(struct scratch *scratch, struct error *err)
{
    for (int exits = 0; exits < EXITS_MAX; exits++) {
        if (ioctl(scratch->vcpu_fd, KVM_RUN, 0) < 0) {
            if (errno == EINTR)
                continue;
            return error_set(err, errno, "KVM_RUN");
        }
        switch (scratch->run->exit_reason) {
        case KVM_EXIT_IO:
            if (scratch->run->io.port == GUEST_PORT)
                return 0;
            return error_set(err, 0, "unexpected port 0x%x", scratch->run->io.port);
        case KVM_EXIT_INTERNAL_ERROR:
            return error_set(err, 0, "KVM_EXIT_INTERNAL_ERROR: KVM cannot execute this instruction");
        case KVM_EXIT_SHUTDOWN:
            return error_set(err, 0, "triple fault: the instruction did not do what a CPU does");
        case KVM_EXIT_FAIL_ENTRY:
            return error_set(err, 0, "KVM_EXIT_FAIL_ENTRY: the hardware refused the guest's state");
        default:
            return error_set(err, 0, "unexpected exit, reason %u", scratch->run->exit_reason);
        }
    }
    return error_set(err, EINTR, "KVM_RUN");
}

int check_kvm_guest_run(int kvm_fd, size_t index, struct error *err)
{
    const struct guest *guest = &guests[index];
    struct scratch scratch = {.vm_fd = -1, .vcpu_fd = -1, .memory = MAP_FAILED, .run = MAP_FAILED};
    int result = scratch_init(&scratch, kvm_fd, err);
    if (result == 0)
        result = scratch_set_cpuid(&scratch, kvm_fd, err);
    /* A CPU without xsave has nothing to prove there: the guest's kernel won't use it either. */
    if (result == 0 && (!guest->needs_xsave || scratch.has_xsave)) {
        scratch_fill_memory(&scratch, guest);
        result = scratch_set_registers(&scratch, guest, err);
        if (result == 0)
            result = scratch_execute(&scratch, err);
    }
    scratch_fini(&scratch);
    return result;
}
