/*
 * A vCPU's state as data: see vcpu.h. The structures are KVM's, saved as they are: a snapshot is for hosts of
 * one architecture, and their layout is ABI. Order of restoring: what later parts depend on comes first
 * (api.rst; the APIC's base and mode are in the special registers, timers need the TSC).
 */
#include "vmm/vcpu.h"

#include "vmm/snapshot.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define SECTION_NAME    "vcpu"
#define SECTION_VERSION 1u
#define MSRS_MAX        1024u
#define MSRS_PER_CALL   64u

/* The fixed-size parts, in the order they are restored. XSAVE comes after XCRS, MSRs after all of these. */
struct part {
    unsigned long get, set;
    size_t bytes;
};

static const struct part parts[] = {
    {KVM_GET_MP_STATE, KVM_SET_MP_STATE, sizeof(struct kvm_mp_state)},
    {KVM_GET_REGS, KVM_SET_REGS, sizeof(struct kvm_regs)},
    {KVM_GET_SREGS, KVM_SET_SREGS, sizeof(struct kvm_sregs)},
    {KVM_GET_XCRS, KVM_SET_XCRS, sizeof(struct kvm_xcrs)},
    {KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, sizeof(struct kvm_debugregs)},
    {KVM_GET_LAPIC, KVM_SET_LAPIC, sizeof(struct kvm_lapic_state)},
};

#define PARTS          (sizeof(parts) / sizeof(parts[0]))
#define PART_BYTES_MAX 2048u

_Static_assert(sizeof(struct kvm_lapic_state) <= PART_BYTES_MAX, "the largest part");
_Static_assert(sizeof(struct kvm_sregs) <= PART_BYTES_MAX, "a large part");

union msr_batch {
    struct kvm_msrs head;
    uint8_t room[sizeof(struct kvm_msrs) + MSRS_PER_CALL * sizeof(struct kvm_msr_entry)];
};

/* Reads the MSRs in `batch`. One that this vCPU does not have ends KVM_GET_MSRS there: it is dropped and the
 * rest is asked for again. Returns how many were read, at the batch's front. */
static unsigned msrs_get(int fd, union msr_batch *batch)
{
    unsigned got = 0, left = batch->head.nmsrs;
    while (left > 0) {
        union msr_batch rest = {.head.nmsrs = left};
        memcpy(rest.head.entries, batch->head.entries + got, left * sizeof(rest.head.entries[0]));
        int count = ioctl(fd, KVM_GET_MSRS, &rest);
        unsigned done = count > 0 ? (unsigned)count : 0;
        memcpy(batch->head.entries + got, rest.head.entries, done * sizeof(rest.head.entries[0]));
        got += done;
        left -= done;
        if (left > 0) { /* entry `done` of the rest was refused */
            left--;
            memmove(batch->head.entries + got, batch->head.entries + got + 1,
                    left * sizeof(rest.head.entries[0]));
        }
    }
    return got;
}

static void save_msrs(const struct vcpu *vcpu, const struct kvm_msr_list *list,
                      struct snapshot_writer *writer)
{
    for (uint32_t from = 0; from < list->nmsrs; from += MSRS_PER_CALL) {
        uint32_t left = list->nmsrs - from;
        union msr_batch batch = {.head.nmsrs = left < MSRS_PER_CALL ? left : MSRS_PER_CALL};
        for (uint32_t i = 0; i < batch.head.nmsrs; i++)
            batch.head.entries[i].index = list->indices[from + i];
        unsigned got = msrs_get(vcpu->fd, &batch);
        for (unsigned i = 0; i < got; i++) {
            snapshot_put_u32(writer, batch.head.entries[i].index);
            snapshot_put_u64(writer, batch.head.entries[i].data);
        }
    }
    /* No MSR has this number: the end. */
    snapshot_put_u32(writer, UINT32_MAX);
}

static int save_xsave(const struct vcpu *vcpu, struct snapshot_writer *writer)
{
    void *xsave = calloc(1, vcpu->xsave_bytes);
    if (!xsave)
        return -ENOMEM;
    unsigned long request = vcpu->xsave_bytes > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE;
    int rc = ioctl(vcpu->fd, request, xsave) < 0 ? -errno : 0;
    if (rc == 0)
        snapshot_put_bytes(writer, xsave, vcpu->xsave_bytes);
    free(xsave);
    return rc;
}

int vcpu_save(const struct vcpu *vcpu, const struct kvm_msr_list *msrs, struct snapshot_writer *writer)
{
    _Alignas(8) uint8_t buffer[PART_BYTES_MAX];
    struct kvm_vcpu_events events = {0};
    snapshot_section_begin(writer, SECTION_NAME, vcpu->index, SECTION_VERSION);
    for (size_t i = 0; i < PARTS; i++) {
        memset(buffer, 0, sizeof(buffer));
        if (ioctl(vcpu->fd, parts[i].get, buffer) < 0)
            return -errno;
        snapshot_put_bytes(writer, buffer, parts[i].bytes);
    }
    int rc = save_xsave(vcpu, writer);
    if (rc < 0)
        return rc;
    if (ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events) < 0)
        return -errno;
    snapshot_put_bytes(writer, &events, sizeof(events));
    int tsc_khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
    snapshot_put_u32(writer, tsc_khz > 0 ? (uint32_t)tsc_khz : 0);
    save_msrs(vcpu, msrs, writer);
    snapshot_section_end(writer);
    return 0;
}

static int restore_xsave(const struct vcpu *vcpu, struct snapshot_reader *reader)
{
    size_t length;
    const void *from = snapshot_get_blob(reader, vcpu->xsave_bytes, &length);
    void *xsave = calloc(1, vcpu->xsave_bytes);
    if (!xsave)
        return -ENOMEM;
    if (from)
        memcpy(xsave, from, length);
    int rc = snapshot_reader_error(reader);
    if (rc == 0 && ioctl(vcpu->fd, KVM_SET_XSAVE, xsave) < 0)
        rc = -errno;
    free(xsave);
    return rc;
}

static int restore_msrs(const struct vcpu *vcpu, struct snapshot_reader *reader)
{
    union msr_batch batch = {.head.nmsrs = 0};
    for (unsigned total = 0;; total++) {
        uint32_t index = snapshot_get_u32(reader);
        bool end = index == UINT32_MAX || snapshot_reader_error(reader) < 0;
        if (!end)
            batch.head.entries[batch.head.nmsrs++] =
                (struct kvm_msr_entry){.index = index, .data = snapshot_get_u64(reader)};
        if (batch.head.nmsrs == MSRS_PER_CALL || (end && batch.head.nmsrs > 0)) {
            int set = ioctl(vcpu->fd, KVM_SET_MSRS, &batch);
            if (set < 0)
                return -errno;
            if (set < (int)batch.head.nmsrs) {
                log_err("vcpu=%u restore: MSR 0x%x refused", vcpu->index, batch.head.entries[set].index);
                return -EINVAL;
            }
            batch.head.nmsrs = 0;
        }
        if (end)
            return snapshot_reader_error(reader);
        if (total == MSRS_MAX)
            return -EPROTO;
    }
}

int vcpu_restore(const struct vcpu *vcpu, struct snapshot_reader *reader)
{
    _Alignas(8) uint8_t buffer[PART_BYTES_MAX];
    struct kvm_vcpu_events events;
    int rc = snapshot_section_open(reader, SECTION_NAME, vcpu->index, SECTION_VERSION, NULL);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < PARTS; i++) {
        snapshot_get_bytes(reader, buffer, parts[i].bytes);
        if (snapshot_reader_error(reader) < 0)
            return -EPROTO;
        if (ioctl(vcpu->fd, parts[i].set, buffer) < 0)
            return -errno;
    }
    rc = restore_xsave(vcpu, reader);
    if (rc < 0)
        return rc;
    snapshot_get_bytes(reader, &events, sizeof(events));
    uint32_t tsc_khz = snapshot_get_u32(reader);
    if (snapshot_reader_error(reader) < 0)
        return -EPROTO;
    int own_khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
    if (tsc_khz && own_khz != (int)tsc_khz && ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (unsigned long)tsc_khz) < 0)
        return -errno;
    rc = restore_msrs(vcpu, reader);
    if (rc < 0)
        return rc;
    /* Last: setting registers clears pending events. */
    if (ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events) < 0)
        return -errno;
    return snapshot_section_finish(reader);
}
