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
#include <sys/mman.h>

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

static int region_find(const struct guest_memory *memory, const uint8_t *hva, uint64_t length)
{
    for (unsigned i = 0; i < memory->regions; i++) {
        const struct guest_memory_region *region = &memory->region[i];
        if (hva >= region->hva && (uint64_t)(hva - region->hva) < region->size &&
            length <= region->size - (uint64_t)(hva - region->hva))
            return (int)i;
    }
    return -EFAULT;
}

int guest_memory_set_file(struct guest_memory *memory, gpa_t gpa, uint64_t length)
{
    const uint8_t *hva = guest_memory_at(memory, gpa, length);
    int index = hva ? region_find(memory, hva, length) : -EFAULT;
    if (index < 0)
        return index;
    struct guest_memory_region *region = &memory->region[index];
    uint64_t from = gpa - region->gpa, to = from + length;
    bool empty = region->file_from == region->file_to;
    region->file_from = empty || from < region->file_from ? from : region->file_from;
    region->file_to = empty || to > region->file_to ? to : region->file_to;
    return 0;
}

/* What was mapped from a file would read as the file's bytes again: fresh anonymous memory takes its place.
 */
static int replace_file(uint8_t *from, uint64_t length)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    if (mmap(from, length, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED ||
        madvise(from, length, MADV_DONTDUMP) < 0)
        return -errno;
    return 0;
}

static int discard_anonymous(uint8_t *from, const uint8_t *to)
{
    return from < to && madvise(from, (size_t)(to - from), MADV_DONTNEED) < 0 ? -errno : 0;
}

int guest_memory_discard(const struct guest_memory *memory, void *hva, uint64_t length)
{
    int index = region_find(memory, hva, length);
    if (index < 0)
        return index;
    const struct guest_memory_region *region = &memory->region[index];
    uint64_t at = (uint64_t)((uint8_t *)hva - region->hva);
    uint64_t from = (at + GUEST_PAGE_SIZE - 1) & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
    uint64_t to = (at + length) & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
    if (from >= to)
        return 0;
    uint64_t file_from = from > region->file_from ? from : region->file_from;
    uint64_t file_to = to < region->file_to ? to : region->file_to;
    if (file_from >= file_to)
        return discard_anonymous(region->hva + from, region->hva + to);
    int rc = discard_anonymous(region->hva + from, region->hva + file_from);
    if (rc == 0)
        rc = replace_file(region->hva + file_from, file_to - file_from);
    if (rc == 0)
        rc = discard_anonymous(region->hva + file_to, region->hva + to);
    return rc;
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
