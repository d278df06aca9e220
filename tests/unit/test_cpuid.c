/* Unit tests of CPUID: what is taken away, masks by name, and a topology that agrees with itself for every
 * number of vCPUs. */
#include "vmm/cpuid_x86.h"

#include <asm/kvm_para.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *table, uint32_t function, uint32_t index)
{
    for (uint32_t i = 0; i < table->nent; i++) {
        if (table->entries[i].function == function && table->entries[i].index == index)
            return &table->entries[i];
    }
    return NULL;
}

/* As KVM would answer on a host with every bit set: whatever gets through must be wanted. */
static struct kvm_cpuid2 *all_ones(void)
{
    static const uint32_t leaves[][2] = {
        {0x1, 0},        {0x3, 0},        {0x4, 0},        {0x4, 3},        {0x5, 0},        {0x6, 0},
        {0x7, 0},        {0x7, 1},        {0xa, 0},        {0xb, 0},        {0xb, 1},        {0xd, 1},
        {0x12, 0},       {0x14, 0},       {0x1f, 0},       {0x40000001, 0}, {0x80000001, 0}, {0x80000008, 0},
        {0x8000000a, 0}, {0x8000001d, 3}, {0x8000001e, 0}, {0x8000001f, 0}, {0x80000026, 0},
    };
    struct kvm_cpuid2 *table =
        calloc(1, sizeof(*table) + CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2));
    assert_non_null(table);
    for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++)
        table->entries[table->nent++] =
            (struct kvm_cpuid_entry2){leaves[i][0], leaves[i][1], 0, ~0u, ~0u, ~0u, ~0u, {0}};
    table->entries[table->nent++] = (struct kvm_cpuid_entry2){.function = 0, .eax = 0x1f};
    return table;
}

static void what_husk_does_not_offer_is_gone(void **state)
{
    (void)state;
    struct kvm_cpuid2 *table = all_ones();
    cpuid_restrict(table);
    const uint32_t gone[] = {0x3, 0x5, 0xa, 0x12, 0x14, 0x8000000a, 0x8000001f, 0x80000026};
    for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
        assert_null(find(table, gone[i], 0));
    assert_int_equal(find(table, 1, 0)->ecx & 1u << 5, 0);              /* VMX */
    assert_int_equal(find(table, 1, 0)->ecx & 1u << 3, 0);              /* MONITOR */
    assert_int_equal(find(table, 0x80000001, 0)->ecx & 1u << 2, 0);     /* SVM */
    assert_int_equal(find(table, 7, 0)->ebx & (1u << 2 | 1u << 25), 0); /* SGX, PT */
    assert_int_equal(find(table, 6, 0)->eax, 1u << 2);                  /* ARAT alone */
    assert_int_equal(find(table, KVM_CPUID_FEATURES, 0)->eax & 1u << KVM_FEATURE_MSI_EXT_DEST_ID, 0);
    free(table);
}

static void what_the_local_apic_offers_is_told(void **state)
{
    (void)state;
    struct kvm_cpuid2 *table = all_ones();
    find(table, 1, 0)->ecx = 0;
    cpuid_restrict(table);
    /* x2APIC, TSC deadline, hypervisor */
    assert_int_equal(find(table, 1, 0)->ecx, 1u << 21 | 1u << 24 | 1u << 31);
    free(table);
}

static void masks_take_exactly_what_they_name(void **state)
{
    struct error err;
    (void)state;
    struct kvm_cpuid2 *table = all_ones();
    assert_int_equal(cpuid_mask(table, "avx2,aes,rdtscp", &err), 0);
    assert_int_equal(find(table, 7, 0)->ebx, ~(1u << 5));
    assert_int_equal(find(table, 1, 0)->ecx, ~(1u << 25));
    assert_int_equal(find(table, 0x80000001, 0)->edx, ~(1u << 27));
    assert_int_equal(find(table, 7, 0)->ecx, ~0u);
    assert_int_equal(cpuid_mask(table, "", &err), 0);
    assert_int_equal(cpuid_mask(table, "avx2,turbo", &err), -1);
    assert_non_null(strstr(err.text, "'turbo'"));
    assert_int_equal(cpuid_mask(table, "avx2,,aes", &err), -1);
    assert_int_equal(cpuid_mask(table, "av", &err), -1);
    free(table);
}

static void check_topology(struct kvm_cpuid2 *table, unsigned cpus, unsigned apic_id)
{
    unsigned bits = 0;
    while (1u << bits < cpus)
        bits++;
    cpuid_set_apic_id(table, apic_id);
    const struct kvm_cpuid_entry2 *leaf = find(table, 1, 0);
    assert_int_equal(leaf->ebx >> 24, apic_id);
    assert_int_equal(leaf->ebx >> 16 & 0xff, 1u << bits);
    assert_int_equal(leaf->edx >> 28 & 1, cpus > 1);
    /* Caches: level 3 shared by all, lower ones by none. all_ones has one of "level 7" in both leaves. */
    assert_int_equal(find(table, 4, 3)->eax >> 14 & 0xfff, (1u << bits) - 1);
    assert_int_equal(find(table, 4, 3)->eax >> 26, (1u << bits) - 1);
    assert_int_equal(find(table, 0x8000001d, 3)->eax >> 14 & 0xfff, (1u << bits) - 1);
    for (unsigned i = 0; i < 2; i++) {
        uint32_t function = i ? 0x1f : 0xb;
        leaf = find(table, function, 0);
        assert_int_equal(leaf->eax, 0); /* one thread a core: no bits */
        assert_int_equal(leaf->ebx, 1);
        assert_int_equal(leaf->ecx, 0x100);
        assert_int_equal(leaf->edx, apic_id);
        leaf = find(table, function, 1);
        assert_int_equal(leaf->eax, bits);
        assert_int_equal(leaf->ebx, cpus);
        assert_int_equal(leaf->ecx, 0x201);
        assert_int_equal(leaf->edx, apic_id);
        leaf = find(table, function, 2);
        assert_int_equal(leaf->ebx, 0);
        assert_int_equal(leaf->ecx, 2);
    }
    leaf = find(table, 0x80000008, 0);
    assert_int_equal(leaf->ecx & 0xff, cpus - 1);
    assert_int_equal(leaf->ecx >> 12 & 0xf, bits);
    leaf = find(table, 0x8000001e, 0);
    assert_int_equal(leaf->eax, apic_id);
    assert_int_equal(leaf->ebx, apic_id);
    assert_int_equal(leaf->ecx, 0);
}

static void topology_agrees_with_itself_for_1_to_32_vcpus(void **state)
{
    (void)state;
    for (unsigned cpus = 1; cpus <= 32; cpus++) {
        struct kvm_cpuid2 *table = all_ones();
        cpuid_set_topology(table, cpus);
        for (unsigned id = 0; id < cpus; id++)
            check_topology(table, cpus, id);
        free(table);
    }
}

static void low_caches_are_each_cores_own(void **state)
{
    (void)state;
    struct kvm_cpuid2 *table = all_ones();
    find(table, 4, 0)->eax = 1 | 1u << 5 | ~0x3fffu; /* data, level 1, shared by all the host has */
    cpuid_set_topology(table, 8);
    assert_int_equal(find(table, 4, 0)->eax >> 14 & 0xfff, 0);
    assert_int_equal(find(table, 4, 0)->eax & 0x3fff, 1 | 1u << 5);
    free(table);
}

static void a_host_without_leaf_0xb_gets_one(void **state)
{
    (void)state;
    struct kvm_cpuid2 *table = all_ones();
    find(table, 0, 0)->eax = 0x7;
    table->entries[14].function = 0x2; /* no 0x1f either */
    cpuid_set_topology(table, 2);
    assert_int_equal(find(table, 0, 0)->eax, 0xb);
    assert_non_null(find(table, 0xb, 1));
    assert_null(find(table, 0x1f, 0));
    free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_husk_does_not_offer_is_gone),
        cmocka_unit_test(what_the_local_apic_offers_is_told),
        cmocka_unit_test(masks_take_exactly_what_they_name),
        cmocka_unit_test(topology_agrees_with_itself_for_1_to_32_vcpus),
        cmocka_unit_test(low_caches_are_each_cores_own),
        cmocka_unit_test(a_host_without_leaf_0xb_gets_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
