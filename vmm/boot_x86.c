/* The 64-bit boot protocol: see boot_x86.h. Field names are those of <asm/bootparam.h>. */
#include "vmm/boot_x86.h"

#include "vmm/file_load.h"
#include "vmm/layout.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>

#define PAGE           4096ull
#define RNG_SEED_BYTES 32u
/* boot.rst: 0xaa55 and "HdrS" mark a valid header, 0xff an unregistered boot loader. */
#define BOOT_FLAG        0xaa55u
#define HEADER_MAGIC     0x53726448u
#define LOADER_UNDEFINED 0xffu
#define PROTOCOL_VERSION 0x020fu
/* <asm/bootparam.h> keeps enum x86_hardware_subarch to itself in user space. X86_SUBARCH_CE4100 promises that
 * there is no i8042, no CMOS clock and no PnP BIOS to look for. */
#define SUBARCH_CE4100 4u
#define E820_RAM       1u

#define GDT_CODE_SELECTOR 0x10u
#define GDT_DATA_SELECTOR 0x18u
#define GDT_CODE          0x00af9b000000ffffull /* 64-bit code, flat, accessed */
#define GDT_DATA          0x00cf93000000ffffull /* data, flat, accessed */
#define PTE_PRESENT_RW    0x3ull
#define PTE_HUGE          0x80ull
#define CR0_PE            0x1ull
#define CR0_ET            0x10ull
#define CR0_PG            0x80000000ull
#define CR4_PAE           0x20ull
#define EFER_LME          0x100ull
#define EFER_LMA          0x400ull
#define RFLAGS_FIXED      0x2ull

int boot_initrd_load(int fd, const struct guest_memory *memory, gpa_t kernel_end, struct boot_initrd *initrd,
                     struct error *err)
{
    struct stat file;
    if (fstat(fd, &file) < 0)
        return error_set(err, errno, "initrd: stat");
    if (!S_ISREG(file.st_mode) || file.st_size == 0)
        return error_set(err, 0, "initrd: not a regular file with content");
    uint64_t bytes = (uint64_t)file.st_size;
    uint64_t low = memory->region[0].size;
    uint64_t span = (bytes + PAGE - 1) & ~(PAGE - 1);
    if (span > low || low - span < kernel_end)
        return error_set(err, 0, "initrd: %llu bytes do not fit the guest's memory beside the kernel",
                         (unsigned long long)bytes);
    *initrd = (struct boot_initrd){.gpa = low - span, .bytes = bytes};
    int rc = file_load(fd, guest_memory_at(memory, initrd->gpa, bytes), bytes, 0);
    if (rc < 0)
        return error_set(err, rc == -ENODATA ? EIO : -rc, "initrd: read");
    return 0;
}

/* One GDT and page tables that map the first GiB onto itself with 2 MiB pages: the kernel makes its own at
 * once. */
static void write_entry_tables(const struct guest_memory *memory)
{
    uint64_t *gdt = guest_memory_at(memory, LAYOUT_GDT, 4 * sizeof(*gdt));
    memset(gdt, 0, 4 * sizeof(*gdt));
    gdt[GDT_CODE_SELECTOR / 8] = GDT_CODE;
    gdt[GDT_DATA_SELECTOR / 8] = GDT_DATA;

    uint64_t *tables = guest_memory_at(memory, LAYOUT_PAGE_TABLES, 3 * PAGE);
    uint64_t *pml4 = tables, *pdpt = tables + 512, *pd = tables + 1024;
    memset(tables, 0, 3 * PAGE);
    pml4[0] = (LAYOUT_PAGE_TABLES + PAGE) | PTE_PRESENT_RW;
    pdpt[0] = (LAYOUT_PAGE_TABLES + 2 * PAGE) | PTE_PRESENT_RW;
    for (uint64_t i = 0; i < 512; i++)
        pd[i] = i << 21 | PTE_HUGE | PTE_PRESENT_RW;
}

/* The e820 map: conventional memory, low RAM from 1 MiB, high RAM. What lies between 0x9fc00 and 1 MiB is in
 * no entry although there is RAM behind it: the vmgenid page is there (drivers/virt/vmgenid.c maps it
 * itself). */
static void write_e820(struct boot_params *params, const struct guest_memory *memory, unsigned regions)
{
    uint8_t n = 0;
    params->e820_table[n++] = (struct boot_e820_entry){0, LAYOUT_CONVENTIONAL_END, E820_RAM};
    params->e820_table[n++] =
        (struct boot_e820_entry){LAYOUT_KERNEL_MIN, memory->region[0].size - LAYOUT_KERNEL_MIN, E820_RAM};
    for (unsigned i = 1; i < regions; i++)
        params->e820_table[n++] =
            (struct boot_e820_entry){memory->region[i].gpa, memory->region[i].size, E820_RAM};
    params->e820_entries = n;
}

/* Appends one node to the setup_data chain at *at, 8-byte aligned, and returns where its data goes; NULL when
 * it does not fit. `link` is the previous node's `next`. */
static void *setup_data_add(const struct guest_memory *memory, gpa_t *at, __u64 **link, uint32_t type,
                            size_t bytes)
{
    if (bytes > LAYOUT_SETUP_DATA_END - *at - sizeof(struct setup_data))
        return NULL;
    struct setup_data *node = guest_memory_at(memory, *at, sizeof(*node) + bytes);
    if (!node)
        return NULL;
    node->next = 0;
    node->type = type;
    node->len = (uint32_t)bytes;
    **link = *at;
    *link = &node->next;
    *at = (*at + sizeof(*node) + bytes + 7) & ~7ull;
    return node->data;
}

static int write_setup_data(const struct guest_memory *memory, const struct boot_config *config,
                            struct boot_params *params, struct error *err)
{
    gpa_t at = LAYOUT_SETUP_DATA;
    __u64 head = 0, *link = &head;
    void *seed = setup_data_add(memory, &at, &link, SETUP_RNG_SEED, RNG_SEED_BYTES);
    if (!seed || getrandom(seed, RNG_SEED_BYTES, 0) != (ssize_t)RNG_SEED_BYTES)
        return error_set(err, errno, "boot: random seed");
    void *tree = setup_data_add(memory, &at, &link, SETUP_DTB, config->device_tree_bytes);
    if (!tree)
        return error_set(err, E2BIG, "boot: device tree of %zu bytes", config->device_tree_bytes);
    memcpy(tree, config->device_tree, config->device_tree_bytes);
    params->hdr.setup_data = head;
    return 0;
}

int boot_structures_write(const struct guest_memory *memory, const struct boot_config *config,
                          struct error *err)
{
    struct boot_params *params = guest_memory_at(memory, LAYOUT_ZERO_PAGE, sizeof(*params));
    char *cmdline = guest_memory_at(memory, LAYOUT_CMDLINE, LAYOUT_CMDLINE_MAX);
    size_t cmdline_bytes = strlen(config->cmdline) + 1;
    if (!params || !cmdline || !guest_memory_at(memory, LAYOUT_KERNEL_MIN, PAGE))
        return error_set(err, EINVAL, "boot: memory map");
    if (cmdline_bytes > LAYOUT_CMDLINE_MAX)
        return error_set(err, E2BIG, "boot: command line of %zu bytes, at most %u", cmdline_bytes,
                         LAYOUT_CMDLINE_MAX);
    write_entry_tables(memory);
    memcpy(cmdline, config->cmdline, cmdline_bytes);
    *params = (struct boot_params){
        .hdr = {.boot_flag = BOOT_FLAG,
                .header = HEADER_MAGIC,
                .version = PROTOCOL_VERSION,
                .type_of_loader = LOADER_UNDEFINED,
                .loadflags = LOADED_HIGH,
                .hardware_subarch = SUBARCH_CE4100,
                .cmd_line_ptr = LAYOUT_CMDLINE,
                .cmdline_size = (uint32_t)(cmdline_bytes - 1),
                /* Low RAM ends below 4 GiB, so both fit. */
                .ramdisk_image = (uint32_t)config->initrd.gpa,
                .ramdisk_size = (uint32_t)config->initrd.bytes},
    };
    write_e820(params, memory, config->regions ? config->regions : memory->regions);
    return write_setup_data(memory, config, params, err);
}

int boot_vcpu_set_entry(int vcpu_fd, gpa_t entry)
{
    struct kvm_sregs sregs;
    if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
        return -errno;
    struct kvm_segment flat = {.limit = 0xffffffff, .present = 1, .s = 1, .g = 1};
    sregs.cs = flat;
    sregs.cs.selector = GDT_CODE_SELECTOR;
    sregs.cs.type = 11; /* code, read, accessed */
    sregs.cs.l = 1;
    flat.selector = GDT_DATA_SELECTOR;
    flat.type = 3; /* data, write, accessed */
    flat.db = 1;
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat;
    sregs.gdt.base = LAYOUT_GDT;
    sregs.gdt.limit = 4 * 8 - 1;
    sregs.cr3 = LAYOUT_PAGE_TABLES;
    sregs.cr4 = CR4_PAE;
    sregs.cr0 = CR0_PG | CR0_ET | CR0_PE;
    sregs.efer = EFER_LME | EFER_LMA;
    if (ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) < 0)
        return -errno;
    struct kvm_regs regs = {
        .rip = entry, .rsi = LAYOUT_ZERO_PAGE, .rsp = LAYOUT_BOOT_STACK, .rflags = RFLAGS_FIXED};
    return ioctl(vcpu_fd, KVM_SET_REGS, &regs) < 0 ? -errno : 0;
}
