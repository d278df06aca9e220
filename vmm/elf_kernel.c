/* The ELF loader: see elf_kernel.h. Field names are the ELF specification's (gABI chapters 4 and 5). */
#include "vmm/elf_kernel.h"

#include "vmm/file_load.h"
#include "vmm/layout.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PROGRAM_HEADERS_MAX 64
#define PAGE                4096ull

/* A file that ends early is no ELF file that could be run. */
static int read_exact(int fd, void *to, uint64_t length, uint64_t offset)
{
    int rc = file_load(fd, to, length, offset);
    return rc == -ENODATA ? -ENOEXEC : rc;
}

static int header_check(const Elf64_Ehdr *header, struct error *err)
{
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
        return error_set(err, 0, "kernel: not an ELF file");
    if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
        header->e_machine != EM_X86_64)
        return error_set(err, 0, "kernel: not an ELF file for x86-64");
    if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
        return error_set(err, 0, "kernel: ELF type %u is not an executable", header->e_type);
    if (header->e_phentsize != sizeof(Elf64_Phdr))
        return error_set(err, 0, "kernel: program headers of %u bytes, expected %zu", header->e_phentsize,
                         sizeof(Elf64_Phdr));
    if (header->e_phnum == 0 || header->e_phnum > PROGRAM_HEADERS_MAX)
        return error_set(err, 0, "kernel: %u program headers, expected 1 to %d", header->e_phnum,
                         PROGRAM_HEADERS_MAX);
    return 0;
}

/* A segment must lie whole in the file and, from 1 MiB up, whole in one region of RAM. */
static int segment_check(const Elf64_Phdr *segment, unsigned index, uint64_t file_size,
                         const struct guest_memory *memory, struct error *err)
{
    if (segment->p_filesz > segment->p_memsz)
        return error_set(err, 0, "kernel: segment %u: more bytes in the file than in memory", index);
    if (segment->p_offset > file_size || segment->p_filesz > file_size - segment->p_offset)
        return error_set(err, 0, "kernel: segment %u: ends beyond the file (truncated?)", index);
    if (segment->p_paddr < LAYOUT_KERNEL_MIN)
        return error_set(err, 0, "kernel: segment %u: load address 0x%llx is below 1 MiB", index,
                         (unsigned long long)segment->p_paddr);
    if (!guest_memory_at(memory, segment->p_paddr, segment->p_memsz))
        return error_set(err, 0, "kernel: segment %u: 0x%llx bytes at 0x%llx do not fit the guest's memory",
                         index, (unsigned long long)segment->p_memsz, (unsigned long long)segment->p_paddr);
    return 0;
}

/* Maps the segment's whole pages from the file. Returns how many bytes from its start are mapped: 0 where the
 * file's alignment does not allow it, or -errno. */
static int64_t segment_map(int fd, const Elf64_Phdr *segment, uint8_t *to)
{
    if ((segment->p_offset | segment->p_paddr) % PAGE)
        return 0;
    uint64_t whole = segment->p_filesz & ~(PAGE - 1);
    if (whole == 0)
        return 0;
    if (mmap(to, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
             (off_t)segment->p_offset) == MAP_FAILED)
        return -errno;
    return (int64_t)whole;
}

static int segment_load(int fd, const Elf64_Phdr *segment, unsigned index, const struct guest_memory *memory,
                        bool map, struct error *err)
{
    uint8_t *to = guest_memory_at(memory, segment->p_paddr, segment->p_memsz);
    int64_t mapped = map ? segment_map(fd, segment, to) : 0;
    if (mapped < 0)
        return error_set(err, (int)-mapped, "kernel: segment %u: map", index);
    int rc = read_exact(fd, to + mapped, segment->p_filesz - (uint64_t)mapped,
                        segment->p_offset + (uint64_t)mapped);
    if (rc < 0)
        return error_set(err, -rc, "kernel: segment %u: read", index);
    return 0;
}

int elf_kernel_load(int fd, const struct guest_memory *memory, bool map, struct elf_kernel *kernel,
                    struct error *err)
{
    struct stat file;
    if (fstat(fd, &file) < 0)
        return error_set(err, errno, "kernel: stat");
    if (!S_ISREG(file.st_mode))
        return error_set(err, 0, "kernel: not a regular file");
    uint64_t file_size = (uint64_t)file.st_size;

    Elf64_Ehdr header;
    if (file_size < sizeof(header))
        return error_set(err, 0, "kernel: not an ELF file");
    int rc = read_exact(fd, &header, sizeof(header), 0);
    if (rc < 0)
        return error_set(err, -rc, "kernel: read");
    if (header_check(&header, err) < 0)
        return -1;

    Elf64_Phdr segments[PROGRAM_HEADERS_MAX] = {{.p_type = PT_NULL}};
    uint64_t table = (uint64_t)header.e_phnum * sizeof(Elf64_Phdr);
    if (header.e_phoff > file_size || table > file_size - header.e_phoff)
        return error_set(err, 0, "kernel: program headers beyond the end of the file (truncated?)");
    rc = read_exact(fd, segments, table, header.e_phoff);
    if (rc < 0)
        return error_set(err, -rc, "kernel: read program headers");

    *kernel = (struct elf_kernel){.entry = header.e_entry};
    bool entry_inside = false;
    for (unsigned i = 0; i < header.e_phnum; i++) {
        const Elf64_Phdr *segment = &segments[i];
        if (segment->p_type != PT_LOAD || segment->p_memsz == 0)
            continue;
        if (segment_check(segment, i, file_size, memory, err) < 0 ||
            segment_load(fd, segment, i, memory, map, err) < 0)
            return -1;
        if (segment->p_paddr + segment->p_memsz > kernel->end)
            kernel->end = segment->p_paddr + segment->p_memsz;
        if (header.e_entry >= segment->p_paddr && header.e_entry - segment->p_paddr < segment->p_filesz)
            entry_inside = true;
    }
    if (!entry_inside)
        return error_set(err, 0, "kernel: entry point 0x%llx lies in no loaded segment",
                         (unsigned long long)header.e_entry);
    if (kernel->end > LAYOUT_BOOT_MAPPED_END)
        return error_set(err, 0,
                         "kernel: extends beyond the first GiB, which is all that is mapped at entry");
    return 0;
}
