/* Fuzzes the ELF loader: any file as a guest kernel, into 32 MiB of RAM. A load that succeeds must have
 * stayed inside. */
#include "vmm/elf_kernel.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_BYTES (32u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct guest_memory memory = {.regions = 0};
    struct elf_kernel kernel;
    struct error err;
    uint8_t *ram =
        mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int fd = memfd_create("kernel", MFD_CLOEXEC);
    if (ram == MAP_FAILED || fd < 0 || guest_memory_add(&memory, 0, RAM_BYTES, ram) < 0 ||
        write(fd, data, size) != (ssize_t)size)
        abort();
    for (int map = 0; map < 2; map++) {
        int rc = elf_kernel_load(fd, &memory, map, &kernel, &err);
        if (rc == 0 && (kernel.end > RAM_BYTES || kernel.entry >= kernel.end))
            abort();
    }
    close(fd);
    munmap(ram, RAM_BYTES);
    return 0;
}
