/*
 * The guest's RAM map: see guest_memory.h. Regions do not overlap and are searched in the order they were
 * added; a machine has two, so a search is cheaper than any index.
 *
 * Trust boundary: (gpa, length) is the guest's. Sums are never formed from it: the offset is subtracted first
 * and compared then.
 */
#include "vmm/guest_memory.h"

#include <errno.h>
#include <stdbool.h>

#define GUEST_PAGE_SIZE 4096u

static bool range_overlaps(const struct guest_memory_region *region, gpa_t gpa, uint64_t size)
{
    return gpa < region->gpa + region->size && region->gpa < gpa + size;
}

int guest_memory_add(struct guest_memory *memory, gpa_t gpa, uint64_t size, void *hva)
{
    uint64_t end;
    if (!hva || size == 0 || (gpa | size | (uintptr_t)hva) % GUEST_PAGE_SIZE ||
        __builtin_add_overflow(gpa, size, &end))
        return -EINVAL;
    for (unsigned i = 0; i < memory->regions; i++) {
        if (range_overlaps(&memory->region[i], gpa, size))
            return -EEXIST;
    }
    if (memory->regions == GUEST_MEMORY_REGIONS_MAX)
        return -ENOSPC;
    memory->region[memory->regions++] = (struct guest_memory_region){.gpa = gpa, .size = size, .hva = hva};
    return 0;
}

void *guest_memory_at(const struct guest_memory *memory, gpa_t gpa, uint64_t length)
{
    for (unsigned i = 0; i < memory->regions; i++) {
        const struct guest_memory_region *region = &memory->region[i];
        if (gpa < region->gpa)
            continue;
        uint64_t offset = gpa - region->gpa;
        if (offset < region->size && length <= region->size - offset)
            return region->hva + offset;
    }
    return NULL;
}
