/*
 * The guest's RAM, and the only place that turns a guest physical address into memory of ours.
 *
 * Trust boundary: every gpa and length that reaches guest_memory_at comes from the guest. Ranges are
 * half-open; a range that leaves its region is refused whole. The map is fixed before the first vCPU runs, so
 * reading it needs no lock.
 */
#ifndef HUSK_VMM_GUEST_MEMORY_H
#define HUSK_VMM_GUEST_MEMORY_H

#include <stddef.h>
#include <stdint.h>

typedef uint64_t gpa_t; /* a guest physical address: never a pointer */

#define GUEST_MEMORY_REGIONS_MAX 4

struct guest_memory_region {
    gpa_t gpa;
    uint64_t size; /* bytes, a multiple of the page size */
    uint8_t *hva;
    /* The part, in bytes from hva, that may be mapped privately from files: empty if both are 0. */
    uint64_t file_from, file_to;
};

struct guest_memory {
    struct guest_memory_region region[GUEST_MEMORY_REGIONS_MAX];
    unsigned regions;
};

/* Adds [gpa, gpa + size) backed by hva. The memory stays the caller's. 0; -EINVAL for an empty, unaligned or
 * overflowing range; -EEXIST when it overlaps; -ENOSPC when the table is full. */
int guest_memory_add(struct guest_memory *memory, gpa_t gpa, uint64_t size, void *hva);

/* The host address of [gpa, gpa + length), or NULL when any byte of it is not RAM or the range spans two
 * regions. A length of 0 is allowed within a region. */
void *guest_memory_at(const struct guest_memory *memory, gpa_t gpa, uint64_t length);

/* Notes that [gpa, gpa + length) may be mapped from a file, for guest_memory_discard. Before the first vCPU
 * runs. 0, or -EFAULT when it is not within one region. */
int guest_memory_set_file(struct guest_memory *memory, gpa_t gpa, uint64_t length);

/* Gives the whole pages within [hva, hva + length) back to the host; they read as zeros from then on. The
 * range lies in RAM, as guest_memory_at gave it. Pages of hugetlbfs are not for this: -EINVAL. Any thread;
 * the guest may run. 0 or -errno (-ENOMEM: too many mappings). */
int guest_memory_discard(const struct guest_memory *memory, void *hva, uint64_t length);

#endif
