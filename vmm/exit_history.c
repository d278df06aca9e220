/* The ring of exits: see exit_history.h. */
#include "vmm/exit_history.h"

#include "common/log.h"

#include <string.h>
#include <time.h>

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void record_io(struct exit_record *record, const struct kvm_run *run)
{
    record->address = run->io.port;
    record->length = run->io.size;
    record->write = run->io.direction == KVM_EXIT_IO_OUT;
    if (record->write && run->io.size <= sizeof(record->data))
        memcpy(&record->data, (const uint8_t *)run + run->io.data_offset, run->io.size);
}

static void record_mmio(struct exit_record *record, const struct kvm_run *run)
{
    record->address = run->mmio.phys_addr;
    record->length = (uint8_t)run->mmio.len;
    record->write = run->mmio.is_write;
    if (record->write && run->mmio.len <= sizeof(record->data))
        memcpy(&record->data, run->mmio.data, run->mmio.len);
}

void exit_history_add(struct exit_history *history, const struct kvm_run *run)
{
    struct exit_record *record = &history->record[history->count++ % EXIT_HISTORY_LENGTH];
    *record = (struct exit_record){.at_us = now_us(), .reason = run->exit_reason};
    if (run->kvm_valid_regs & KVM_SYNC_X86_REGS)
        record->rip = run->s.regs.regs.rip;
    if (run->exit_reason == KVM_EXIT_IO)
        record_io(record, run);
    else if (run->exit_reason == KVM_EXIT_MMIO)
        record_mmio(record, run);
    else if (run->exit_reason == KVM_EXIT_IOAPIC_EOI)
        record->address = run->eoi.vector;
}

void exit_history_log(const struct exit_history *history, unsigned vcpu)
{
    uint64_t kept = history->count < EXIT_HISTORY_LENGTH ? history->count : EXIT_HISTORY_LENGTH;
    uint64_t now = now_us();
    for (uint64_t i = history->count - kept; i < history->count; i++) {
        const struct exit_record *record = &history->record[i % EXIT_HISTORY_LENGTH];
        log_err("vcpu=%u exit=%llu ago_us=%llu reason=%u rip=%016llx %s address=0x%llx length=%u data=0x%llx",
                vcpu, (unsigned long long)i, (unsigned long long)(now - record->at_us), record->reason,
                (unsigned long long)record->rip, record->write ? "write" : "read",
                (unsigned long long)record->address, record->length, (unsigned long long)record->data);
    }
}
