/*
 * Guest RAM: see memory.h. The mapping starts at a 2 MiB boundary and so do its two parts in the guest, so
 * that huge pages of the host line up with those of the guest's second-level tables.
 */
#include "vmm/memory.h"

#include "vmm/layout.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define HUGE_PAGE (2ull << 20)
#define MIB       (1ull << 20)
/* Of the 2 MiB blocks below 8 MiB Linux touches 335 pages in the first at boot and some 40 in the others, and
 * almost everything above. A huge page for the first costs 0.7 MiB of the host's memory and saves as many
 * faults; for the others it would cost 2 MiB and more each. */
#define SPARSE_BEGIN HUGE_PAGE
#define SPARSE_END   (8 * MIB)

/* A private anonymous mapping aligned to 2 MiB: reserves a little more and gives both ends back. */
static uint8_t *map_aligned(uint64_t bytes)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    uint8_t *got = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (got == MAP_FAILED)
        return NULL;
    uint64_t head = (HUGE_PAGE - (uintptr_t)got % HUGE_PAGE) % HUGE_PAGE;
    if (head > 0)
        munmap(got, head);
    munmap(got + head + bytes, HUGE_PAGE - head);
    return got + head;
}

/* A kernel without transparent huge pages says EINVAL: small pages serve as well. */
static int advise(uint8_t *base, uint64_t bytes, int advice)
{
    return madvise(base, bytes, advice) < 0 && errno != EINVAL ? -errno : 0;
}

/* Without MAP_NORESERVE: the pool's pages are set aside now, and a pool too small fails here, not as SIGBUS
 * later. */
static uint8_t *map_hugetlb(uint64_t bytes)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (21 << MAP_HUGE_SHIFT);
    uint8_t *got = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    return got == MAP_FAILED ? NULL : got;
}

static int memory_map(struct memory *memory, const struct memory_options *options, struct error *err)
{
    unsigned long long mib = options->bytes / MIB;
    if (options->hugepages) {
        if (options->bytes % HUGE_PAGE)
            return error_set(err, 0, "memory: %llu MiB are no whole number of 2 MiB pages", mib);
        memory->base = map_hugetlb(options->bytes);
        if (!memory->base)
            return error_set(err, errno,
                             "memory: reserve %llu huge pages of 2 MiB (see /proc/sys/vm/nr_hugepages)",
                             mib / 2);
        return 0;
    }
    memory->base = map_aligned(options->bytes);
    if (!memory->base)
        return error_set(err, errno, "memory: reserve %llu MiB", mib);
    int rc = advise(memory->base, options->bytes, MADV_NOHUGEPAGE);
    if (rc == 0 && options->transparent_huge)
        rc = advise(memory->base, SPARSE_BEGIN, MADV_HUGEPAGE);
    if (rc == 0 && options->transparent_huge)
        rc = advise(memory->base + SPARSE_END, options->bytes - SPARSE_END, MADV_HUGEPAGE);
    return rc < 0 ? error_set(err, -rc, "memory: madvise") : 0;
}

/* The region that virtio-mem plugs from, above all RAM. */
static int pluggable_map(struct memory *memory, const struct memory_options *options, struct error *err)
{
    if (options->bytes_max <= options->bytes)
        return 0;
    uint64_t bytes = options->bytes_max - options->bytes;
    if (options->hugepages)
        return error_set(err, 0, "memory: more of it later: not with huge pages of the pool");
    uint64_t end = LAYOUT_HIGH_RAM;
    if (options->bytes > LAYOUT_LOW_RAM_MAX)
        end += options->bytes - LAYOUT_LOW_RAM_MAX;
    memory->pluggable_max = (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    memory->pluggable_bytes =
        (memory->pluggable_max + LAYOUT_PLUGGABLE_GRAIN - 1) & ~(LAYOUT_PLUGGABLE_GRAIN - 1);
    memory->pluggable_gpa = (end + LAYOUT_PLUGGABLE_ALIGN - 1) & ~(LAYOUT_PLUGGABLE_ALIGN - 1);
    memory->pluggable = map_aligned(memory->pluggable_bytes);
    if (!memory->pluggable)
        return error_set(err, errno, "memory: reserve %llu MiB for later", (unsigned long long)(bytes / MIB));
    int rc = advise(memory->pluggable, memory->pluggable_bytes,
                    options->transparent_huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    if (rc == 0 && madvise(memory->pluggable, memory->pluggable_bytes, MADV_DONTDUMP) < 0)
        rc = -errno;
    if (rc == 0)
        rc =
            guest_memory_add(&memory->map, memory->pluggable_gpa, memory->pluggable_bytes, memory->pluggable);
    return rc < 0
               ? error_set(err, -rc, "memory: lay out %llu MiB for later", (unsigned long long)(bytes / MIB))
               : 0;
}

int memory_init(struct memory *memory, const struct memory_options *options, struct error *err)
{
    *memory = (struct memory){.bytes = options->bytes};
    if (memory_map(memory, options, err) < 0)
        return -1;
    uint64_t low = options->bytes < LAYOUT_LOW_RAM_MAX ? options->bytes : LAYOUT_LOW_RAM_MAX;
    int rc = guest_memory_add(&memory->map, 0, low, memory->base);
    if (rc == 0 && options->bytes > low)
        rc = guest_memory_add(&memory->map, LAYOUT_HIGH_RAM, options->bytes - low, memory->base + low);
    if (rc < 0 || madvise(memory->base, options->bytes, MADV_DONTDUMP) < 0) {
        error_set(err, rc < 0 ? -rc : errno, "memory: lay out %llu MiB",
                  (unsigned long long)(options->bytes / MIB));
        memory_fini(memory);
        return -1;
    }
    memory->boot_regions = memory->map.regions;
    if (pluggable_map(memory, options, err) < 0) {
        memory_fini(memory);
        return -1;
    }
    return 0;
}

int memory_prefault(const struct memory *memory, const struct memory_options *options, struct error *err)
{
    if (options->prefault && madvise(memory->base, memory->bytes, MADV_POPULATE_WRITE) < 0)
        return error_set(err, errno, "memory: prefault %llu MiB", (unsigned long long)(memory->bytes / MIB));
    return 0;
}

int memory_register(const struct memory *memory, int vm_fd, struct error *err)
{
    for (unsigned i = 0; i < memory->map.regions; i++) {
        const struct guest_memory_region *region = &memory->map.region[i];
        struct kvm_userspace_memory_region slot = {.slot = i,
                                                   .guest_phys_addr = region->gpa,
                                                   .memory_size = region->size,
                                                   .userspace_addr = (uintptr_t)region->hva};
        if (ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
            return error_set(err, errno, "KVM: register %llu MiB of memory at 0x%llx",
                             (unsigned long long)(region->size / MIB), (unsigned long long)region->gpa);
    }
    return 0;
}

void memory_fini(struct memory *memory)
{
    if (memory->base)
        munmap(memory->base, memory->bytes);
    if (memory->pluggable)
        munmap(memory->pluggable, memory->pluggable_bytes);
    *memory = (struct memory){.base = NULL};
}
