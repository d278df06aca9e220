/*
 * Running a virtual CPU: see vcpu.h.
 *
 * Kicks: whoever wants a vCPU out of KVM_RUN sets the gate, then kvm_run.immediate_exit, then sends a signal
 * whose handler does nothing. The thread clears immediate_exit before it looks at the gate, so either it sees
 * the gate, or immediate_exit is set after and KVM_RUN returns at once, or the signal interrupts it.
 */
#include "vmm/vcpu.h"

#include "common/fd.h"
#include "vmm/cpuid_x86.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define STACK_BYTES (128u << 10)
#define DETAIL_MAX  160

/* Reset values that KVM leaves to us (Intel SDM 4): fast string operations on, and memory write-back where no
 * range says otherwise, as firmware would have set it. */
#define MSR_IA32_MISC_ENABLE            0x1a0u
#define MISC_ENABLE_FAST_STRING         1u
#define MSR_MTRR_DEF_TYPE               0x2ffu
#define MTRR_DEF_TYPE_ENABLE_WRITE_BACK 0x806u

static int vcpu_set_msrs(int fd)
{
    union {
        struct kvm_msrs head;
        uint8_t room[sizeof(struct kvm_msrs) + 2 * sizeof(struct kvm_msr_entry)];
    } msrs = {.head.nmsrs = 2};
    msrs.head.entries[0] =
        (struct kvm_msr_entry){.index = MSR_IA32_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRING};
    msrs.head.entries[1] =
        (struct kvm_msr_entry){.index = MSR_MTRR_DEF_TYPE, .data = MTRR_DEF_TYPE_ENABLE_WRITE_BACK};
    int set = ioctl(fd, KVM_SET_MSRS, &msrs);
    if (set < 0)
        return -errno;
    return set == 2 ? 0 : -EIO;
}

/* KVM makes its table of APICs anew while it makes a vCPU, but before that vCPU is in the list it is made
 * from: until something else changes the table, an INIT for the newest vCPU of a running guest is lost.
 * Setting an APIC changes it. */
static int vcpu_publish_apic(int fd)
{
    struct kvm_lapic_state lapic;
    return ioctl(fd, KVM_GET_LAPIC, &lapic) < 0 || ioctl(fd, KVM_SET_LAPIC, &lapic) < 0 ? -errno : 0;
}

int vcpu_init(struct vcpu *vcpu, const struct kvm *kvm, const struct vcpu_host *host, unsigned index,
              struct kvm_cpuid2 *cpuid, struct error *err)
{
    *vcpu = (struct vcpu){.host = host,
                          .index = index,
                          .run = MAP_FAILED,
                          .run_bytes = kvm->run_bytes,
                          .xsave_bytes = kvm->xsave_bytes};
    vcpu->fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
    if (vcpu->fd < 0)
        return error_set(err, errno, "KVM: create vCPU %u", index);
    vcpu->run = mmap(NULL, vcpu->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (vcpu->run == MAP_FAILED) {
        error_set(err, errno, "KVM: map vCPU %u", index);
        goto fail;
    }
    if (kvm->sync_regs)
        vcpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS; /* for the history */
    cpuid_set_apic_id(cpuid, index);
    if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) < 0) {
        error_set(err, errno, "KVM: set CPUID of vCPU %u", index);
        goto fail;
    }
    int rc = vcpu_set_msrs(vcpu->fd);
    if (rc < 0) {
        error_set(err, -rc, "KVM: set MSRs of vCPU %u", index);
        goto fail;
    }
    rc = vcpu_publish_apic(vcpu->fd);
    if (rc < 0) {
        error_set(err, -rc, "KVM: set the APIC of vCPU %u", index);
        goto fail;
    }
    return 0;
fail:
    vcpu_fini(vcpu);
    return -1;
}

void vcpu_fini(struct vcpu *vcpu)
{
    if (vcpu->run && vcpu->run != MAP_FAILED)
        munmap(vcpu->run, vcpu->run_bytes);
    vcpu->run = NULL;
    fd_close(&vcpu->fd);
}

void vcpu_gate_init(struct vcpu_gate *gate, void (*all_standing)(void *arg), void *arg)
{
    *gate = (struct vcpu_gate){.wanted = VCPU_PAUSE, .all_standing = all_standing, .arg = arg};
    pthread_mutex_init(&gate->lock, NULL);
    pthread_cond_init(&gate->changed, NULL);
}

void vcpu_gate_set(struct vcpu_gate *gate, enum vcpu_wanted wanted)
{
    pthread_mutex_lock(&gate->lock);
    if (atomic_load(&gate->wanted) != VCPU_STOP)
        atomic_store(&gate->wanted, wanted);
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

bool vcpu_gate_all_standing(struct vcpu_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    bool all = gate->standing == gate->members;
    pthread_mutex_unlock(&gate->lock);
    return all;
}

static void gate_stand(struct vcpu_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    bool last = ++gate->standing == gate->members;
    pthread_mutex_unlock(&gate->lock);
    if (last)
        gate->all_standing(gate->arg);
}

static void gate_wait(struct vcpu_gate *gate)
{
    gate_stand(gate);
    pthread_mutex_lock(&gate->lock);
    while (atomic_load(&gate->wanted) == VCPU_PAUSE)
        pthread_cond_wait(&gate->changed, &gate->lock);
    gate->standing--;
    pthread_mutex_unlock(&gate->lock);
}

void vcpu_kick_handler(int signal)
{
    (void)signal;
}

void vcpu_kick(struct vcpu *vcpu)
{
    if (!vcpu->started)
        return;
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    pthread_kill(vcpu->thread, VCPU_KICK_SIGNAL);
}

static void vcpu_end(const struct vcpu *vcpu, enum end_reason reason, const char *detail)
{
    log_err("vcpu=%u end=%s %s", vcpu->index, end_reason_name(reason), detail);
    vcpu->host->end(vcpu->host->end_arg, reason, detail);
}

/* String instructions come as one exit with `count` accesses. The data follows struct kvm_run, in its
 * mapping. */
static void handle_io(struct vcpu *vcpu)
{
    const struct kvm_run *run = vcpu->run;
    uint8_t *data = (uint8_t *)vcpu->run + run->io.data_offset;
    uint32_t size = run->io.size, count = run->io.count;
    uint16_t port = run->io.port;
    bool out = run->io.direction == KVM_EXIT_IO_OUT;
    /* Ports that nobody drives are no news: a PC kernel probes them. */
    for (uint32_t i = 0; i < count; i++, data += size) {
        if (out)
            bus_write(vcpu->host->pio, port, data, size);
        else
            bus_read(vcpu->host->pio, port, data, size);
    }
}

static void handle_mmio(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    uint64_t address = run->mmio.phys_addr;
    uint32_t length = run->mmio.len;
    bool write = run->mmio.is_write, found;
    if (write)
        found = bus_write(vcpu->host->mmio, address, run->mmio.data, length);
    else
        found = bus_read(vcpu->host->mmio, address, run->mmio.data, length);
    if (!found)
        log_limited(&vcpu->limit, "vcpu=%u %s of unassigned address=0x%llx length=%u", vcpu->index,
                    write ? "write" : "read", (unsigned long long)address, length);
}

static void end_system_event(const struct vcpu *vcpu)
{
    switch (vcpu->run->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        vcpu->host->end(vcpu->host->end_arg, END_POWER_OFF, "");
        break;
    case KVM_SYSTEM_EVENT_RESET:
        vcpu->host->end(vcpu->host->end_arg, END_RESET, "");
        break;
    default:
        vcpu_end(vcpu, END_PANIC, "the guest's kernel reported a crash");
        break;
    }
}

static void end_internal_error(const struct vcpu *vcpu)
{
    char detail[DETAIL_MAX];
    const struct kvm_run *run = vcpu->run;
    unsigned suberror = run->internal.suberror;
    const char *what = suberror == KVM_INTERNAL_ERROR_EMULATION                ? "emulation failed"
                       : suberror == KVM_INTERNAL_ERROR_SIMUL_EX               ? "simultaneous exceptions"
                       : suberror == KVM_INTERNAL_ERROR_DELIVERY_EV            ? "event delivery failed"
                       : suberror == KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON ? "unexpected exit reason"
                                                                               : "unknown";
    snprintf(detail, sizeof(detail), "KVM_EXIT_INTERNAL_ERROR suberror=%u (%s)", suberror, what);
    vcpu_end(vcpu, END_INTERNAL_ERROR, detail);
}

static void end_unhandled(const struct vcpu *vcpu)
{
    char detail[DETAIL_MAX];
    const struct kvm_run *run = vcpu->run;
    if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
        snprintf(detail, sizeof(detail), "KVM_EXIT_FAIL_ENTRY hardware_entry_failure_reason=0x%llx",
                 (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
    else
        snprintf(detail, sizeof(detail), "unhandled KVM exit reason %u", run->exit_reason);
    vcpu_end(vcpu, END_INTERNAL_ERROR, detail);
}

/* One exit. False when the machine is at its end. */
static bool handle_exit(struct vcpu *vcpu)
{
    uint32_t reason = vcpu->run->exit_reason;
    exit_history_add(&vcpu->history, vcpu->run);
    atomic_fetch_add_explicit(&vcpu->exits[reason < EXIT_KINDS ? reason : EXIT_KINDS - 1], 1,
                              memory_order_relaxed);
    switch (reason) {
    case KVM_EXIT_IO:
        handle_io(vcpu);
        return true;
    case KVM_EXIT_MMIO:
        handle_mmio(vcpu);
        return true;
    case KVM_EXIT_IOAPIC_EOI:
        ioapic_end_of_interrupt(vcpu->host->ioapic, vcpu->run->eoi.vector);
        return true;
    case KVM_EXIT_INTR:
        return true;
    case KVM_EXIT_SHUTDOWN:
        vcpu_end(vcpu, END_TRIPLE_FAULT, "the guest's CPU shut down");
        return false;
    case KVM_EXIT_SYSTEM_EVENT:
        end_system_event(vcpu);
        return false;
    case KVM_EXIT_INTERNAL_ERROR:
        end_internal_error(vcpu);
        return false;
    default:
        end_unhandled(vcpu);
        return false;
    }
}

/* A KVM_RUN that failed. False when that is for good. */
static bool handle_run_error(struct vcpu *vcpu, int error)
{
    char detail[DETAIL_MAX];
    if (error == EINTR) {
        atomic_fetch_add_explicit(&vcpu->exits[KVM_EXIT_INTR], 1, memory_order_relaxed);
        if (atomic_load(&vcpu->host->gate->wanted) == VCPU_PAUSE)
            gate_wait(vcpu->host->gate);
        return true;
    }
    if (error == EAGAIN) /* a secondary CPU that has just been sent its INIT or SIPI */
        return true;
    snprintf(detail, sizeof(detail), "KVM_RUN: %s", strerror(error));
    vcpu_end(vcpu, END_INTERNAL_ERROR, detail);
    return false;
}

static void vcpu_loop(struct vcpu *vcpu)
{
    struct vcpu_gate *gate = vcpu->host->gate;
    for (bool go_on = true; go_on;) {
        __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        int wanted = atomic_load(&gate->wanted);
        if (wanted == VCPU_STOP)
            return;
        /* KVM finishes the access of the last exit only in the next KVM_RUN: enter once more, then pause. */
        if (wanted == VCPU_PAUSE)
            __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        if (ioctl(vcpu->fd, KVM_RUN, 0) == 0)
            go_on = handle_exit(vcpu);
        else
            go_on = handle_run_error(vcpu, errno);
    }
}

static void *vcpu_thread(void *arg)
{
    struct vcpu *vcpu = arg;
    const struct vcpu_host *host = vcpu->host;
    int rc = host->thread_start(host->thread_start_arg, vcpu->index);
    if (rc < 0) {
        log_err("vcpu=%u thread could not be confined: %s", vcpu->index, strerror(-rc));
        host->end(host->end_arg, END_VMM_ERROR, "a vCPU thread could not be confined");
    } else {
        vcpu_loop(vcpu);
    }
    gate_stand(host->gate);
    return NULL;
}

int vcpu_start(struct vcpu *vcpu)
{
    pthread_attr_t attributes;
    int rc = pthread_attr_init(&attributes);
    if (rc != 0)
        return -rc;
    struct vcpu_gate *gate = vcpu->host->gate;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_mutex_lock(&gate->lock); /* the thread counts itself among the members */
    rc = pthread_create(&vcpu->thread, &attributes, vcpu_thread, vcpu);
    vcpu->started = rc == 0;
    gate->members += vcpu->started;
    pthread_mutex_unlock(&gate->lock);
    pthread_attr_destroy(&attributes);
    return -rc;
}

void vcpu_join(struct vcpu *vcpu)
{
    if (vcpu->started)
        pthread_join(vcpu->thread, NULL);
    vcpu->started = false;
}

static void log_registers(const struct vcpu *vcpu)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0 || ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0) {
        log_err("vcpu=%u registers: %s", vcpu->index, strerror(errno));
        return;
    }
    log_err("vcpu=%u rip=%016llx rflags=%016llx rsp=%016llx", vcpu->index, regs.rip, regs.rflags, regs.rsp);
    log_err("vcpu=%u rax=%016llx rbx=%016llx rcx=%016llx rdx=%016llx", vcpu->index, regs.rax, regs.rbx,
            regs.rcx, regs.rdx);
    log_err("vcpu=%u rsi=%016llx rdi=%016llx rbp=%016llx r8=%016llx", vcpu->index, regs.rsi, regs.rdi,
            regs.rbp, regs.r8);
    log_err("vcpu=%u r9=%016llx r10=%016llx r11=%016llx r12=%016llx", vcpu->index, regs.r9, regs.r10,
            regs.r11, regs.r12);
    log_err("vcpu=%u r13=%016llx r14=%016llx r15=%016llx", vcpu->index, regs.r13, regs.r14, regs.r15);
    log_err("vcpu=%u cr0=%llx cr2=%016llx cr3=%llx cr4=%llx efer=%llx", vcpu->index, sregs.cr0, sregs.cr2,
            sregs.cr3, sregs.cr4, sregs.efer);
    log_err("vcpu=%u cs=%04x:%016llx ss=%04x gdt=%016llx+%x idt=%016llx+%x", vcpu->index, sregs.cs.selector,
            sregs.cs.base, sregs.ss.selector, sregs.gdt.base, sregs.gdt.limit, sregs.idt.base,
            sregs.idt.limit);
}

void vcpu_log_state(const struct vcpu *vcpu)
{
    log_registers(vcpu);
    exit_history_log(&vcpu->history, vcpu->index);
}
