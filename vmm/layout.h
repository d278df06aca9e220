/* clang-format off */
/*
 * Where everything lies in the guest's physical address space on x86-64. One place, so that RAM, boot
 * structures, device windows and the e820 map cannot drift apart.
 *
 *   0x0000_5000  GDT for the entry                0x9fc00        end of conventional memory
 *   0x0000_7000  zero page (struct boot_params)   0xd0000        vmgenid page: in a memory slot, in no e820 entry
 *   0x0000_9000  page tables for the entry        0x100000       kernel and the rest of low RAM, to 3 GiB at most
 *   0x0002_0000  command line                     0xd0000000     virtio-mmio windows, pvpanic, PCI devices
 *   0x0003_0000  setup_data chain                 0xfec00000     IOAPIC, 0xfee00000 local APICs
 *                                                 0x1_0000_0000  high RAM
 */
/* clang-format on */
#ifndef HUSK_VMM_LAYOUT_H
#define HUSK_VMM_LAYOUT_H

#define LAYOUT_GDT              0x5000u
#define LAYOUT_ZERO_PAGE        0x7000u
#define LAYOUT_BOOT_STACK       0x8ff0u
#define LAYOUT_PAGE_TABLES      0x9000u /* one page each: PML4, PDPT, PD; maps the first GiB */
#define LAYOUT_PAGE_TABLES_END  0xc000u
#define LAYOUT_CMDLINE          0x20000u
#define LAYOUT_CMDLINE_MAX      2048u /* COMMAND_LINE_SIZE of x86, NUL included */
#define LAYOUT_SETUP_DATA       0x30000u
#define LAYOUT_SETUP_DATA_END   0x90000u
#define LAYOUT_CONVENTIONAL_END 0x9fc00u
#define LAYOUT_VMGENID          0xd0000u
#define LAYOUT_KERNEL_MIN       0x100000u
#define LAYOUT_BOOT_MAPPED_END  0x40000000u

#define LAYOUT_LOW_RAM_MAX 0xc0000000u
#define LAYOUT_HIGH_RAM    0x100000000ull

/* Memory plugged later begins at a multiple of what Linux takes as one block of memory at most, and is a
 * multiple of what it takes at least: the guest cannot use parts of a block. */
#define LAYOUT_PLUGGABLE_ALIGN (2ull << 30)
#define LAYOUT_PLUGGABLE_GRAIN (128ull << 20)

#define LAYOUT_VIRTIO        0xd0000000u
#define LAYOUT_VIRTIO_STRIDE 0x1000u
#define LAYOUT_PVPANIC       0xd0100000u
#define LAYOUT_PCI_MEMORY    0xd0200000u /* a region for each of 32 devices */
#define LAYOUT_PCI_PORTS     0xc000u     /* the same, of I/O ports */
#define LAYOUT_IOAPIC        0xfec00000u
#define LAYOUT_LAPIC         0xfee00000u
#define LAYOUT_APIC_SIZE     0x1000u
#define LAYOUT_IDENTITY_MAP                                                                                  \
    0xfffbc000u /* one page and three: what KVM needs on Intel (api.rst 4.13, 4.28)                          \
                 */
#define LAYOUT_TSS 0xfffbd000u

/* Interrupt lines (IOAPIC pins, which are GSIs). From the first up, without gaps: a guest is told of the pins
 * in use only (ioapic_set_pins). */
#define LAYOUT_PINS         24u
#define LAYOUT_PIN_VMGENID  1u
#define LAYOUT_PIN_VIRTIO   2u /* the first of the virtio slots' */
#define LAYOUT_VIRTIO_SLOTS (LAYOUT_PINS - LAYOUT_PIN_VIRTIO)

#define LAYOUT_MEMORY_MIN_MIB 64u
#define LAYOUT_MEMORY_MAX_MIB (512u * 1024u)
#define LAYOUT_VCPUS_MAX      32u

#endif
