/*
 * CPUID: see cpuid_x86.h. Leaves and bits are those of Intel SDM 2A (CPUID) and AMD APM 3 (appendix E); KVM's
 * own leaves are in Documentation/virt/kvm/x86/cpuid.rst.
 */
#include "vmm/cpuid_x86.h"

#include "vmm/cpuid_features.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define BIT(n) (1u << (n))

/* Leaf 1 */
#define L1_ECX_X2APIC       BIT(21)
#define L1_ECX_TSC_DEADLINE BIT(24)
#define L1_ECX_HYPERVISOR   BIT(31)
#define L1_EDX_HTT          BIT(28)
/* Leaf 6 */
#define L6_EAX_ARAT BIT(2)
/* Leaf 0x80000001 */
#define L81_ECX_CMP_LEGACY BIT(1)
/* Levels of leaves 0xb and 0x1f (ECX bits 15:8) */
#define LEVEL_SMT  (1u << 8)
#define LEVEL_CORE (2u << 8)

/* Bits of leaf.register that no guest of husk has. */
struct cleared {
    uint32_t function, index;
    enum cpuid_register reg;
    uint32_t bits;
    const char *why;
};

static const struct cleared cleared[] = {
    {0x1, 0, CPUID_ECX, BIT(2) | BIT(7) | BIT(8), "DTES64, EIST, TM2: no thermal or debug store hardware"},
    {0x1, 0, CPUID_ECX, BIT(3), "MONITOR: MWAIT would keep the host's CPU"},
    {0x1, 0, CPUID_ECX, BIT(5) | BIT(6), "VMX, SMX: no nested virtualisation"},
    {0x1, 0, CPUID_ECX, BIT(15), "PDCM: no performance counters"},
    {0x7, 0, CPUID_EBX, BIT(2) | BIT(25), "SGX, Intel PT: no enclaves, no trace"},
    {0x7, 0, CPUID_ECX, BIT(30), "SGX_LC"},
    {0x80000001, 0, CPUID_ECX, BIT(2) | BIT(12), "SVM, SKINIT: no nested virtualisation"},
    {0x80000001, 0, CPUID_ECX, BIT(10) | BIT(23) | BIT(24) | BIT(28), "IBS and AMD's performance counters"},
    {KVM_CPUID_FEATURES, 0, CPUID_EAX, BIT(KVM_FEATURE_MSI_EXT_DEST_ID), "the IOAPIC has 8-bit destinations"},
};

/* Leaves that a guest sees as all zero. */
static const uint32_t emptied[] = {
    0x3,        /* processor serial number */
    0x5,        /* MONITOR/MWAIT */
    0x9,        /* direct cache access */
    0xa,        /* performance counters */
    0x12,       /* SGX */
    0x14,       /* processor trace */
    0x8000000a, /* SVM */
    0x8000001b, /* IBS */
    0x8000001f, /* memory encryption */
    0x80000022, /* performance counters */
    0x80000026, /* AMD's extended topology: the host's; 0xb serves */
};

static uint32_t *entry_register(struct kvm_cpuid_entry2 *entry, enum cpuid_register reg)
{
    switch (reg) {
    case CPUID_EAX:
        return &entry->eax;
    case CPUID_EBX:
        return &entry->ebx;
    case CPUID_ECX:
        return &entry->ecx;
    case CPUID_EDX:
        break;
    }
    return &entry->edx;
}

static struct kvm_cpuid_entry2 *entry_find(struct kvm_cpuid2 *table, uint32_t function, uint32_t index)
{
    for (uint32_t i = 0; i < table->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &table->entries[i];
        if (entry->function == function && entry->index == index)
            return entry;
    }
    return NULL;
}

static void entries_remove(struct kvm_cpuid2 *table, uint32_t function)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < table->nent; i++) {
        if (table->entries[i].function != function)
            table->entries[kept++] = table->entries[i];
    }
    table->nent = kept;
}

static void entry_add(struct kvm_cpuid2 *table, const struct kvm_cpuid_entry2 *entry)
{
    if (table->nent < CPUID_ENTRIES_MAX)
        table->entries[table->nent++] = *entry;
}

void cpuid_restrict(struct kvm_cpuid2 *table)
{
    for (size_t i = 0; i < sizeof(cleared) / sizeof(cleared[0]); i++) {
        struct kvm_cpuid_entry2 *entry = entry_find(table, cleared[i].function, cleared[i].index);
        if (entry)
            *entry_register(entry, cleared[i].reg) &= ~cleared[i].bits;
    }
    for (size_t i = 0; i < sizeof(emptied) / sizeof(emptied[0]); i++)
        entries_remove(table, emptied[i]);
    struct kvm_cpuid_entry2 *entry = entry_find(table, 0x1, 0);
    if (entry) /* KVM offers both with its local APIC but does not list them (api.rst 4.46) */
        entry->ecx |= L1_ECX_X2APIC | L1_ECX_TSC_DEADLINE | L1_ECX_HYPERVISOR;
    entry = entry_find(table, 0x6, 0);
    if (entry) { /* power management is the host's; the APIC timer never stops */
        entry->eax = L6_EAX_ARAT;
        entry->ebx = entry->ecx = entry->edx = 0;
    }
}

int cpuid_mask(struct kvm_cpuid2 *table, const char *mask, struct error *err)
{
    while (*mask) {
        size_t length = strcspn(mask, ",");
        const struct cpuid_feature *feature = cpuid_feature_find(mask, length);
        if (!feature)
            return error_set(err, 0, "--cpu-mask: unknown CPU feature '%.*s'", (int)length, mask);
        struct kvm_cpuid_entry2 *entry = entry_find(table, feature->function, feature->index);
        if (entry)
            *entry_register(entry, feature->reg) &= ~BIT(feature->bit);
        mask += length;
        if (*mask == ',')
            mask++;
    }
    return 0;
}

/* Bits that hold ids 0 .. count - 1. */
static uint32_t id_bits(unsigned count)
{
    uint32_t bits = 0;
    while (1u << bits < count)
        bits++;
    return bits;
}

/* Caches, leaves 4 (Intel) and 0x8000001d (AMD): levels 1 and 2 are each core's, level 3 is shared by all. */
static void cache_set_sharing(struct kvm_cpuid_entry2 *entry, unsigned cpus, bool intel)
{
    uint32_t level = entry->eax >> 5 & 7;
    uint32_t sharing = level >= 3 ? (1u << id_bits(cpus)) - 1 : 0; /* ids that may share it, minus 1 */
    entry->eax = (entry->eax & 0x3fff) | sharing << 14;
    if (intel)
        entry->eax |= ((1u << id_bits(cpus)) - 1) << 26; /* core ids in the package, minus 1 */
}

/* One package, `cpus` cores, one thread each; ids in leaves 0xb and 0x1f are set by cpuid_set_apic_id. */
static void extended_topology_set(struct kvm_cpuid2 *table, uint32_t function, unsigned cpus)
{
    const uint32_t levels[3][3] = {{0, 1, LEVEL_SMT | 0}, {id_bits(cpus), cpus, LEVEL_CORE | 1}, {0, 0, 2}};
    entries_remove(table, function);
    for (uint32_t i = 0; i < 3; i++) {
        struct kvm_cpuid_entry2 entry = {.function = function,
                                         .index = i,
                                         .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                                         .eax = levels[i][0],
                                         .ebx = levels[i][1],
                                         .ecx = levels[i][2]};
        entry_add(table, &entry);
    }
}

void cpuid_set_topology(struct kvm_cpuid2 *table, unsigned cpus)
{
    uint32_t bits = id_bits(cpus), leaves = 0;
    for (uint32_t i = 0; i < table->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &table->entries[i];
        switch (entry->function) {
        case 0x0:
            if (entry->eax < 0xb)
                entry->eax = 0xb;
            leaves = entry->eax;
            break;
        case 0x1: /* EBX 23:16: ids in the package, which HTT makes valid */
            entry->ebx = (entry->ebx & 0xff00ffff) | (1u << bits) << 16;
            entry->edx = cpus > 1 ? entry->edx | L1_EDX_HTT : entry->edx & ~L1_EDX_HTT;
            break;
        case 0x4:
            cache_set_sharing(entry, cpus, true);
            break;
        case 0x80000001:
            entry->ecx = cpus > 1 ? entry->ecx | L81_ECX_CMP_LEGACY : entry->ecx & ~L81_ECX_CMP_LEGACY;
            break;
        case 0x80000008: /* ECX 15:12: bits of the core id; 7:0: cores minus 1 */
            entry->ecx = bits << 12 | (cpus - 1);
            break;
        case 0x8000001d:
            cache_set_sharing(entry, cpus, false);
            break;
        default:
            break;
        }
    }
    extended_topology_set(table, 0xb, cpus);
    if (leaves >= 0x1f)
        extended_topology_set(table, 0x1f, cpus);
}

void cpuid_set_apic_id(struct kvm_cpuid2 *table, unsigned apic_id)
{
    for (uint32_t i = 0; i < table->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &table->entries[i];
        switch (entry->function) {
        case 0x1:
            entry->ebx = (entry->ebx & 0x00ffffff) | apic_id << 24;
            break;
        case 0xb:
        case 0x1f:
            entry->edx = apic_id;
            break;
        case 0x8000001e: /* EAX: APIC id; EBX: threads per core minus 1, core id; ECX: nodes minus 1, node */
            entry->eax = apic_id;
            entry->ebx = apic_id & 0xff;
            entry->ecx = 0;
            break;
        default:
            break;
        }
    }
}

struct kvm_cpuid2 *cpuid_new(int kvm_fd, unsigned cpus, const char *mask, struct error *err)
{
    struct kvm_cpuid2 *table =
        calloc(1, sizeof(*table) + CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2));
    if (!table) {
        error_set(err, ENOMEM, "CPUID");
        return NULL;
    }
    table->nent = CPUID_ENTRIES_MAX;
    if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, table) < 0) {
        error_set(err, errno, "KVM: ask for the supported CPUID");
        free(table);
        return NULL;
    }
    cpuid_restrict(table);
    if (mask && cpuid_mask(table, mask, err) < 0) {
        free(table);
        return NULL;
    }
    cpuid_set_topology(table, cpus);
    return table;
}
