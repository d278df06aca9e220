/*
 * kvm-probe: does this machine's /dev/kvm run guest kernel code? Exit status 0: yes, 1: no (with the reason
 * on stderr).
 *
 * Called by `run`, and on purpose not a part of husk, whose own `husk check` is under test. That /dev/kvm
 * opens proves nothing: there are hosts whose KVM runs guest user mode natively and interprets guest kernel
 * mode, and the interpreter lacks instructions which every stock kernel executes. So the probe runs some of
 * them at CPL 0 in long mode of a scratch VM: int3 through an IDT, cmpxchg16b, fxsave/fxrstor and, where
 * CPUID has it, xsave/xrstor, and writes to control registers.
 *
 * Guest-physical layout: page tables at 0x1000..0x3fff (2 MiB identity map), GDT at 0x4000, IDT at 0x5000,
 * code at 0x6000, data at 0x7000, stack below 0x9000. The code ends with a byte written to port 0xf4: 'Y'
 * when all went as it must.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    PML4 = 0x1000,
    PDPT = 0x2000,
    PD = 0x3000,
    GDT = 0x4000,
    IDT = 0x5000,
    CODE = 0x6000,
    STACK = 0x9000,
    MEMORY_BYTES = 0x200000,
    EXITS_MAX = 1000
};

/* Runs at CODE with rbx = 1 when CPUID has XSAVE. Position-independent; data is addressed absolutely at
 * 0x7000. */
extern const uint8_t guest_code[], guest_breakpoint[], guest_code_end[];
__asm__(".pushsection .rodata\n"
        ".global guest_code, guest_breakpoint, guest_code_end\n"
        "guest_code:\n"
        "  xor %r12d, %r12d\n"
        "  int3\n" /* the handler sets r12 */
        "  cmp $0x33, %r12d\n"
        "  jne 1f\n"
        "  xor %eax, %eax\n" /* [0x7000] == 0: exchange for rcx:rbx */
        "  xor %edx, %edx\n"
        "  mov %rbx, %r13\n"
        "  mov $0x1122, %ebx\n"
        "  mov $0x3344, %ecx\n"
        "  lock cmpxchg16b 0x7000\n"
        "  jnz 1f\n"
        "  cmpq $0x1122, 0x7000\n"
        "  jne 1f\n"
        "  cmpq $0x3344, 0x7008\n"
        "  jne 1f\n"
        "  fninit\n"
        "  fxsave 0x7200\n"
        "  fxrstor 0x7200\n"
        "  test %r13, %r13\n"
        "  jz 2f\n"
        "  mov %cr4, %rax\n"
        "  or $0x40000, %rax\n" /* OSXSAVE */
        "  mov %rax, %cr4\n"
        "  xor %ecx, %ecx\n"
        "  mov $3, %eax\n"
        "  xor %edx, %edx\n"
        "  xsetbv\n"
        "  xsave 0x7400\n"
        "  mov $3, %eax\n"
        "  xor %edx, %edx\n"
        "  xrstor 0x7400\n"
        "2: mov $'Y', %al\n"
        "  jmp 3f\n"
        "1: mov $'N', %al\n"
        "3: mov $0xf4, %edx\n"
        "  outb %al, %dx\n"
        "4: hlt\n"
        "  jmp 4b\n"
        "guest_breakpoint:\n"
        "  mov $0x33, %r12d\n"
        "  iretq\n"
        "guest_code_end:\n"
        ".popsection\n");

static int refuse(const char *what)
{
    if (errno)
        fprintf(stderr, "kvm-probe: %s: %s\n", what, strerror(errno));
    else
        fprintf(stderr, "kvm-probe: %s\n", what);
    return 1;
}

static void put64(uint8_t *memory, uint32_t gpa, uint64_t value)
{
    memcpy(memory + gpa, &value, sizeof value);
}

static void fill_memory(uint8_t *memory)
{
    put64(memory, PML4, PDPT | 3);
    put64(memory, PDPT, PD | 3);
    put64(memory, PD, 0 | 0x83); /* one 2 MiB page */
    put64(memory, GDT + 0x10, 0x00af9b000000ffff);
    put64(memory, GDT + 0x18, 0x00cf93000000ffff);
    uint64_t handler = CODE + (uint64_t)(guest_breakpoint - guest_code);
    put64(memory, IDT + 3 * 16,
          (handler & 0xffff) | 0x10 << 16 | 0x8eULL << 40 | (handler >> 16 & 0xffff) << 48);
    memcpy(memory + CODE, guest_code, (size_t)(guest_code_end - guest_code));
}

static int set_long_mode(int vcpu, bool xsave)
{
    struct kvm_sregs s;
    if (ioctl(vcpu, KVM_GET_SREGS, &s) < 0)
        return -1;
    struct kvm_segment code = {
        .limit = ~0U, .selector = 0x10, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    struct kvm_segment data = {
        .limit = ~0U, .selector = 0x18, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
    s.cs = code;
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.gdt = (struct kvm_dtable){.base = GDT, .limit = 0x1f};
    s.idt = (struct kvm_dtable){.base = IDT, .limit = 0xfff};
    s.cr3 = PML4;
    s.cr4 = 1 << 5 | 1 << 9 | 1 << 10;      /* PAE, OSFXSR, OSXMMEXCPT */
    s.cr0 = 1U << 31 | 1 << 5 | 1 << 1 | 1; /* PG, NE, MP, PE */
    s.efer = 1 << 8 | 1 << 10;              /* LME, LMA */
    struct kvm_regs r = {.rip = CODE, .rsp = STACK, .rflags = 2, .rbx = xsave};
    return ioctl(vcpu, KVM_SET_SREGS, &s) < 0 ? -1 : ioctl(vcpu, KVM_SET_REGS, &r);
}

/* Gives the vCPU what the host supports; *xsave tells whether that has XSAVE. */
static int set_cpuid(int kvm, int vcpu, bool *xsave)
{
    enum { ENTRIES = 256 };
    struct kvm_cpuid2 *c = calloc(1, sizeof *c + ENTRIES * sizeof c->entries[0]);
    if (!c)
        return -1;
    c->nent = ENTRIES;
    int r = ioctl(kvm, KVM_GET_SUPPORTED_CPUID, c);
    for (uint32_t i = 0; r == 0 && i < c->nent; i++)
        if (c->entries[i].function == 1)
            *xsave = c->entries[i].ecx >> 26 & 1;
    if (r == 0)
        r = ioctl(vcpu, KVM_SET_CPUID2, c);
    free(c);
    return r;
}

static int run_guest(int vcpu, struct kvm_run *run)
{
    for (int exits = 0; exits < EXITS_MAX; exits++) {
        if (ioctl(vcpu, KVM_RUN, 0) < 0) {
            if (errno == EINTR || errno == EAGAIN)
                continue;
            return refuse("KVM_RUN");
        }
        errno = 0;
        if (run->exit_reason == KVM_EXIT_IO && run->io.port == 0xf4)
            return ((uint8_t *)run)[run->io.data_offset] == 'Y'
                       ? 0
                       : refuse("an instruction gave a wrong result");
        if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
            return refuse("this KVM cannot execute a guest kernel's instructions (internal error)");
        if (run->exit_reason != KVM_EXIT_IO)
            return refuse("unexpected exit of the guest");
    }
    return refuse("the guest does not come to its end");
}

int main(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0)
        return refuse("/dev/kvm");
    int vm = ioctl(kvm, KVM_CREATE_VM, 0), run_bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (vm < 0 || run_bytes < 0)
        return refuse("KVM_CREATE_VM");
    uint8_t *memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return refuse("mmap");
    fill_memory(memory);
    struct kvm_userspace_memory_region slot = {.memory_size = MEMORY_BYTES,
                                               .userspace_addr = (uintptr_t)memory};
    if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
        return refuse("KVM_SET_USER_MEMORY_REGION");
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (vcpu < 0)
        return refuse("KVM_CREATE_VCPU");
    struct kvm_run *run = mmap(NULL, (size_t)run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    bool xsave = false;
    if (run == MAP_FAILED || set_cpuid(kvm, vcpu, &xsave) < 0 || set_long_mode(vcpu, xsave) < 0)
        return refuse("setting the vCPU up");
    return run_guest(vcpu, run);
}
