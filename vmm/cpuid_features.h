/* The CPU features that --cpu-mask can take away, by the names that /proc/cpuinfo gives them. */
#ifndef HUSK_VMM_CPUID_FEATURES_H
#define HUSK_VMM_CPUID_FEATURES_H

#include <stddef.h>
#include <stdint.h>

enum cpuid_register { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

struct cpuid_feature {
    const char *name;
    uint32_t function, index;
    enum cpuid_register reg;
    unsigned bit;
};

/* The feature named by `length` characters, or NULL. Static. */
const struct cpuid_feature *cpuid_feature_find(const char *name, size_t length);

#endif
