/*
 * Device rules: see cgroup_devices.h.
 *
 * The program is a decision list: the kernel gives it access, type, major and minor of what a process wants
 * to open or make; each rule is a block of comparisons that falls through to the next block when one of them
 * does not hold. A later rule of the specification overrules an earlier one, so the blocks come in reverse.
 * Devices that every container has come first.
 */
#include "agent/cgroup_devices.h"

#include "common/fd.h"

#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>

/* At most: five comparisons, a decision. */
#define RULE_INSNS     16
#define PROLOGUE_INSNS 8
#define DECISION_INSNS 2
#define ANY            (-1)

/* Always allowed (config-linux.md "Default Devices", and making any device file, which without access to the
 * device is harmless), as runc and crun have it. */
#define ALL_ACCESS (BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE)

static const struct spec_device_rule default_rules[] = {
    {ANY, ANY, BPF_DEVCG_ACC_MKNOD, 'c', true},
    {ANY, ANY, BPF_DEVCG_ACC_MKNOD, 'b', true},
    {1, 3, ALL_ACCESS, 'c', true},     /* null */
    {1, 5, ALL_ACCESS, 'c', true},     /* zero */
    {1, 7, ALL_ACCESS, 'c', true},     /* full */
    {1, 8, ALL_ACCESS, 'c', true},     /* random */
    {1, 9, ALL_ACCESS, 'c', true},     /* urandom */
    {5, 0, ALL_ACCESS, 'c', true},     /* tty */
    {5, 1, ALL_ACCESS, 'c', true},     /* console */
    {5, 2, ALL_ACCESS, 'c', true},     /* ptmx */
    {136, ANY, ALL_ACCESS, 'c', true}, /* pts */
};

#define DEFAULT_RULES (sizeof(default_rules) / sizeof(default_rules[0]))

struct program {
    struct bpf_insn *insns;
    size_t count;
};

/* Registers: R1 context, R2 type, R3 access, R4 major, R5 minor, R6 scratch. */
static void emit(struct program *program, unsigned char code, unsigned to, unsigned from, short offset,
                 int immediate)
{
    program->insns[program->count++] = (struct bpf_insn){
        .code = code, .dst_reg = to & 0xfu, .src_reg = from & 0xfu, .off = offset, .imm = immediate};
}

static void emit_load(struct program *program, unsigned to, size_t offset)
{
    emit(program, BPF_LDX | BPF_MEM | BPF_W, to, BPF_REG_1, (short)offset, 0);
}

/* A rule's block. Jumps out of it are patched once its length is known. Whether the rule matches everything,
 * so that nothing behind it could be reached, which the kernel would not accept. */
static bool emit_rule(struct program *program, const struct spec_device_rule *rule)
{
    size_t start = program->count;
    if (rule->type != 'a')
        emit(program, BPF_JMP32 | BPF_JNE | BPF_K, BPF_REG_2, 0, 0,
             rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
    if (rule->access != ALL_ACCESS) {
        /* An allowing rule must cover all that is wanted, a denying one any of it. */
        emit(program, BPF_ALU | BPF_MOV | BPF_X, BPF_REG_6, BPF_REG_3, 0, 0);
        emit(program, BPF_ALU | BPF_AND | BPF_K, BPF_REG_6, 0, 0, (int)rule->access);
        if (rule->allow)
            emit(program, BPF_JMP32 | BPF_JNE | BPF_X, BPF_REG_6, BPF_REG_3, 0, 0);
        else
            emit(program, BPF_JMP32 | BPF_JEQ | BPF_K, BPF_REG_6, 0, 0, 0);
    }
    if (rule->major != ANY)
        emit(program, BPF_JMP32 | BPF_JNE | BPF_K, BPF_REG_4, 0, 0, (int)rule->major);
    if (rule->minor != ANY)
        emit(program, BPF_JMP32 | BPF_JNE | BPF_K, BPF_REG_5, 0, 0, (int)rule->minor);
    emit(program, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, rule->allow);
    emit(program, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    for (size_t i = start; i < program->count; i++) {
        if (BPF_CLASS(program->insns[i].code) == BPF_JMP32)
            program->insns[i].off = (short)(program->count - i - 1);
    }
    return program->count - start == DECISION_INSNS;
}

static void emit_program(struct program *program, const struct spec_device_rule *rules, size_t count)
{
    /* access_type: the type in its lower half, the access in its upper. */
    emit_load(program, BPF_REG_2, offsetof(struct bpf_cgroup_dev_ctx, access_type));
    emit(program, BPF_ALU | BPF_MOV | BPF_X, BPF_REG_3, BPF_REG_2, 0, 0);
    emit(program, BPF_ALU | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xffff);
    emit(program, BPF_ALU | BPF_RSH | BPF_K, BPF_REG_3, 0, 0, 16);
    emit_load(program, BPF_REG_4, offsetof(struct bpf_cgroup_dev_ctx, major));
    emit_load(program, BPF_REG_5, offsetof(struct bpf_cgroup_dev_ctx, minor));
    for (size_t i = 0; i < DEFAULT_RULES; i++)
        emit_rule(program, &default_rules[i]);
    while (count > 0) {
        if (emit_rule(program, &rules[--count]))
            return;
    }
    /* Nothing said: version 1's device cgroup starts by allowing all. */
    emit(program, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1);
    emit(program, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static int bpf(int command, union bpf_attr *attr)
{
    long result = syscall(SYS_bpf, command, attr, sizeof(*attr));
    return result < 0 ? -errno : (int)result;
}

int cgroup_devices_set(int cgroup_fd, const struct spec_device_rule *rules, size_t count, struct error *err)
{
    struct program program = {0};
    if (count == 0)
        return 0;
    program.insns = calloc(PROLOGUE_INSNS + (count + DEFAULT_RULES) * RULE_INSNS, sizeof(*program.insns));
    cleanup_free struct bpf_insn *insns = program.insns;
    if (!insns)
        return error_set(err, ENOMEM, "linux.resources.devices");
    emit_program(&program, rules, count);

    union bpf_attr load;
    memset(&load, 0, sizeof(load));
    load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    load.insns = (uintptr_t)program.insns;
    load.insn_cnt = (unsigned)program.count;
    load.license = (uintptr_t) "GPL";
    cleanup_fd int program_fd = bpf(BPF_PROG_LOAD, &load);
    if (program_fd < 0)
        return error_set(err, -program_fd, "linux.resources.devices: load the rules");

    union bpf_attr attach;
    memset(&attach, 0, sizeof(attach));
    attach.target_fd = (unsigned)cgroup_fd;
    attach.attach_bpf_fd = (unsigned)program_fd;
    attach.attach_type = BPF_CGROUP_DEVICE;
    /* Without flags: a later call replaces it, and the container can't attach one of its own over it. */
    int failed = bpf(BPF_PROG_ATTACH, &attach);
    return failed ? error_set(err, -failed, "linux.resources.devices: attach the rules") : 0;
}
