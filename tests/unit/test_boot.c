/* Unit tests of what the guest's kernel is booted with: the ELF loader with every broken file by name, zero
 * page, e820 map, setup_data chain, initrd and device tree. */
#include "vmm/boot_x86.h"
#include "vmm/device_tree.h"
#include "vmm/elf_kernel.h"
#include "vmm/file_load.h"
#include "vmm/layout.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <libfdt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB       (1ull << 20)
#define RAM_BYTES (64 * MIB)
#define TEXT_SIZE 0x3010u /* three pages and a bit */

static uint8_t *ram;
static struct guest_memory memory;

static int setup(void **state)
{
    (void)state;
    ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    memory = (struct guest_memory){.regions = 0};
    return ram == MAP_FAILED ? -1 : guest_memory_add(&memory, 0, RAM_BYTES, ram);
}

static int teardown(void **state)
{
    (void)state;
    return munmap(ram, RAM_BYTES);
}

/* A small good kernel: one segment of TEXT_SIZE bytes and 1 MiB of bss. */
struct image {
    Elf64_Ehdr header;
    Elf64_Phdr segment[2];
    uint8_t padding[0x1000 - sizeof(Elf64_Ehdr) - 2 * sizeof(Elf64_Phdr)];
    uint8_t text[TEXT_SIZE];
};

static struct image good_image(void)
{
    struct image image = {
        .header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                   .e_type = ET_EXEC,
                   .e_machine = EM_X86_64,
                   .e_version = EV_CURRENT,
                   .e_entry = 16 * MIB + 0x10,
                   .e_phoff = sizeof(Elf64_Ehdr),
                   .e_phentsize = sizeof(Elf64_Phdr),
                   .e_phnum = 2},
        .segment = {{.p_type = PT_LOAD,
                     .p_offset = offsetof(struct image, text),
                     .p_paddr = 16 * MIB,
                     .p_filesz = TEXT_SIZE,
                     .p_memsz = MIB},
                    {.p_type = PT_NOTE, .p_offset = UINT64_MAX}},
    };
    for (unsigned i = 0; i < TEXT_SIZE; i++)
        image.text[i] = (uint8_t)(i * 7 + 1);
    return image;
}

/* A file with the first `length` bytes of the image. */
static int image_file(const struct image *image, size_t length)
{
    int fd = memfd_create("kernel", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, image, length), length);
    return fd;
}

static void load_good(bool map)
{
    struct image image = good_image();
    struct elf_kernel kernel;
    struct error err;
    int fd = image_file(&image, sizeof(image));
    assert_int_equal(elf_kernel_load(fd, &memory, map, &kernel, &err), 0);
    assert_true(kernel.entry == 16 * MIB + 0x10);
    assert_true(kernel.end == 17 * MIB);
    assert_memory_equal(ram + 16 * MIB, image.text, TEXT_SIZE);
    assert_int_equal(ram[16 * MIB + TEXT_SIZE], 0);
    /* The guest's writes are its own. */
    uint8_t in_file;
    ram[16 * MIB] ^= 0xff;
    assert_int_equal(pread(fd, &in_file, 1, offsetof(struct image, text)), 1);
    assert_int_equal(in_file, image.text[0]);
    close(fd);
}

static void a_good_kernel_is_read(void **state)
{
    (void)state;
    load_good(false);
}

static void a_good_kernel_is_mapped(void **state)
{
    (void)state;
    load_good(true);
}

static void an_unaligned_segment_is_read_even_if_mapping_is_asked_for(void **state)
{
    struct image image = good_image();
    struct elf_kernel kernel;
    struct error err;
    (void)state;
    image.segment[0].p_paddr += 8;
    int fd = image_file(&image, sizeof(image));
    assert_int_equal(elf_kernel_load(fd, &memory, true, &kernel, &err), 0);
    assert_memory_equal(ram + 16 * MIB + 8, image.text, TEXT_SIZE);
    close(fd);
}

/* More than one huge page, begun and ended in the middle of a page that holds something already. */
static void a_file_is_loaded_between_what_is_there(void **state)
{
    const uint64_t from = 2 * MIB - 100, bytes = 4 * MIB + 300, skipped = 7;
    (void)state;
    int fd = memfd_create("file", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)(skipped + bytes)), 0);
    uint8_t *file = mmap(NULL, skipped + bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(file != MAP_FAILED);
    for (uint64_t i = 0; i < skipped + bytes; i++)
        file[i] = (uint8_t)(i * 13 + i / 4096 + 1);
    ram[from - 1] = ram[from + bytes] = 0xa5;
    assert_int_equal(file_load(fd, ram + from, bytes, skipped), 0);
    assert_memory_equal(ram + from, file + skipped, bytes);
    assert_int_equal(ram[from - 1], 0xa5);
    assert_int_equal(ram[from + bytes], 0xa5);
    assert_int_equal(ram[from + bytes + 1], 0);

    assert_int_equal(file_load(fd, ram, bytes, skipped + 1), -ENODATA);
    assert_memory_equal(ram, file + skipped + 1, bytes - 1);
    assert_int_equal(file_load(fd, ram, 0, skipped + bytes), 0);
    assert_int_equal(file_load(-1, ram, 1, 0), -EBADF);
    munmap(file, skipped + bytes);
    close(fd);
}

static void refuse(const struct image *image, size_t length, const char *why)
{
    struct elf_kernel kernel;
    struct error err = {.code = 0};
    int fd = image_file(image, length);
    assert_int_equal(elf_kernel_load(fd, &memory, true, &kernel, &err), -1);
    if (!strstr(err.text, why))
        fail_msg("got \"%s\", expected \"%s\"", err.text, why);
    close(fd);
}

static void broken_headers_are_refused_by_name(void **state)
{
    struct image image = good_image();
    (void)state;
    refuse(&image, 0, "not an ELF file");
    refuse(&image, sizeof(Elf64_Ehdr) - 1, "not an ELF file");
    image.header.e_ident[0] = 'x';
    refuse(&image, sizeof(image), "not an ELF file");
    image = good_image();
    image.header.e_ident[EI_CLASS] = ELFCLASS32;
    refuse(&image, sizeof(image), "not an ELF file for x86-64");
    image = good_image();
    image.header.e_machine = EM_AARCH64;
    refuse(&image, sizeof(image), "not an ELF file for x86-64");
    image = good_image();
    image.header.e_type = ET_REL;
    refuse(&image, sizeof(image), "not an executable");
    image = good_image();
    image.header.e_phentsize = 1;
    refuse(&image, sizeof(image), "program headers of 1 bytes");
    image = good_image();
    image.header.e_phnum = 0;
    refuse(&image, sizeof(image), "0 program headers");
    image.header.e_phnum = UINT16_MAX;
    refuse(&image, sizeof(image), "65535 program headers");
    image = good_image();
    image.header.e_phoff = UINT64_MAX - 8;
    refuse(&image, sizeof(image), "beyond the end of the file");
    image = good_image();
    refuse(&image, sizeof(Elf64_Ehdr) + 10, "beyond the end of the file");
}

static void broken_segments_are_refused_by_name(void **state)
{
    struct image image = good_image();
    (void)state;
    refuse(&image, sizeof(image) - 1, "segment 0: ends beyond the file");
    image.segment[0].p_offset = UINT64_MAX;
    refuse(&image, sizeof(image), "segment 0: ends beyond the file");
    image = good_image();
    image.segment[0].p_memsz = TEXT_SIZE - 1;
    refuse(&image, sizeof(image), "more bytes in the file than in memory");
    image = good_image();
    image.segment[0].p_paddr = 0x7000;
    refuse(&image, sizeof(image), "below 1 MiB");
    image = good_image();
    image.segment[0].p_paddr = RAM_BYTES - 0x1000;
    refuse(&image, sizeof(image), "do not fit the guest's memory");
    image.segment[0].p_paddr = UINT64_MAX - 0xfff;
    refuse(&image, sizeof(image), "do not fit the guest's memory");
    image = good_image();
    image.segment[0].p_memsz = UINT64_MAX;
    refuse(&image, sizeof(image), "do not fit the guest's memory");
    image = good_image();
    image.header.e_entry = 16 * MIB - 1;
    refuse(&image, sizeof(image), "in no loaded segment");
    image.header.e_entry = 16 * MIB + TEXT_SIZE; /* bss */
    refuse(&image, sizeof(image), "in no loaded segment");
    image = good_image();
    image.segment[0].p_type = PT_NULL;
    refuse(&image, sizeof(image), "in no loaded segment");
}

static void the_initrd_goes_to_the_top_of_low_ram(void **state)
{
    struct boot_initrd initrd;
    struct error err;
    uint8_t bytes[5000];
    (void)state;
    memset(bytes, 0x5a, sizeof(bytes));
    int fd = memfd_create("initrd", MFD_CLOEXEC);
    assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
    assert_int_equal(boot_initrd_load(fd, &memory, 32 * MIB, &initrd, &err), 0);
    assert_true(initrd.gpa == RAM_BYTES - 8192);
    assert_true(initrd.bytes == sizeof(bytes));
    assert_memory_equal(ram + initrd.gpa, bytes, sizeof(bytes));
    assert_int_equal(boot_initrd_load(fd, &memory, RAM_BYTES - 4096, &initrd, &err), -1);
    assert_non_null(strstr(err.text, "do not fit"));
    assert_int_equal(ftruncate(fd, (off_t)(2 * RAM_BYTES)), 0);
    assert_int_equal(boot_initrd_load(fd, &memory, 32 * MIB, &initrd, &err), -1);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(boot_initrd_load(fd, &memory, 32 * MIB, &initrd, &err), -1);
    close(fd);
}

static void the_zero_page_says_what_was_loaded(void **state)
{
    static uint8_t high[4096] __attribute__((aligned(4096)));
    char tree[3000] = "tree";
    struct boot_config config = {.cmdline = "console=hvc0",
                                 .initrd = {.gpa = 0x3000000, .bytes = 1234},
                                 .device_tree = tree,
                                 .device_tree_bytes = sizeof(tree)};
    struct error err;
    (void)state;
    assert_int_equal(guest_memory_add(&memory, LAYOUT_HIGH_RAM, sizeof(high), high), 0);
    assert_int_equal(boot_structures_write(&memory, &config, &err), 0);
    const struct boot_params *params = (const void *)(ram + LAYOUT_ZERO_PAGE);
    assert_int_equal(params->hdr.header, 0x53726448);
    assert_int_equal(params->hdr.ramdisk_image, 0x3000000);
    assert_int_equal(params->hdr.ramdisk_size, 1234);
    assert_string_equal((char *)ram + params->hdr.cmd_line_ptr, "console=hvc0");

    assert_int_equal(params->e820_entries, 3);
    assert_true(params->e820_table[0].addr == 0 && params->e820_table[0].size == LAYOUT_CONVENTIONAL_END);
    assert_true(params->e820_table[1].addr == MIB && params->e820_table[1].size == RAM_BYTES - MIB);
    assert_true(params->e820_table[2].addr == LAYOUT_HIGH_RAM && params->e820_table[2].size == sizeof(high));

    unsigned seeds = 0, trees = 0;
    for (uint64_t at = params->hdr.setup_data; at;) {
        const struct setup_data *node = guest_memory_at(&memory, at, sizeof(*node));
        assert_non_null(node);
        if (node->type == SETUP_RNG_SEED) {
            static const uint8_t zeroes[32];
            assert_int_equal(node->len, 32);
            assert_memory_not_equal(node->data, zeroes, 32);
            seeds++;
        } else if (node->type == SETUP_DTB) {
            assert_int_equal(node->len, sizeof(tree));
            assert_memory_equal(node->data, tree, sizeof(tree));
            trees++;
        }
        at = node->next;
    }
    assert_int_equal(seeds, 1);
    assert_int_equal(trees, 1);
}

static void structures_that_do_not_fit_are_refused(void **state)
{
    char cmdline[LAYOUT_CMDLINE_MAX + 1], *tree = calloc(1, 1 << 20);
    struct boot_config config = {.cmdline = cmdline, .device_tree = tree, .device_tree_bytes = 100};
    struct error err;
    (void)state;
    memset(cmdline, 'a', sizeof(cmdline));
    cmdline[LAYOUT_CMDLINE_MAX] = '\0';
    assert_int_equal(boot_structures_write(&memory, &config, &err), -1);
    assert_non_null(strstr(err.text, "command line of 2049 bytes"));
    cmdline[LAYOUT_CMDLINE_MAX - 1] = '\0';
    assert_int_equal(boot_structures_write(&memory, &config, &err), 0);
    config.device_tree_bytes = 1 << 20;
    assert_int_equal(boot_structures_write(&memory, &config, &err), -1);
    assert_non_null(strstr(err.text, "device tree"));
    free(tree);
}

static void the_device_tree_names_every_device(void **state)
{
    _Alignas(8) uint8_t blob[DEVICE_TREE_BYTES_MAX];
    struct device_tree_config config = {.cpus = 3, .virtio_slots = 2};
    int length;
    (void)state;
    int bytes = device_tree_build(&config, blob, sizeof(blob));
    assert_true(bytes > 0);
    assert_int_equal(fdt_check_full(blob, (size_t)bytes), 0);
    for (unsigned id = 0; id < 3; id++) {
        char path[32];
        snprintf(path, sizeof(path), "/cpus/cpu@%u", id);
        int node = fdt_path_offset(blob, path);
        assert_true(node >= 0);
        const fdt32_t *reg = fdt_getprop(blob, node, "reg", &length);
        assert_int_equal(fdt32_to_cpu(*reg), id);
        assert_string_equal(fdt_getprop(blob, node, "device_type", NULL), "cpu");
    }
    assert_true(fdt_path_offset(blob, "/cpus/cpu@3") < 0);

    int node = -1;
    for (unsigned slot = 0; slot < 2; slot++) {
        node = fdt_node_offset_by_compatible(blob, node, "virtio,mmio");
        assert_true(node >= 0);
        const fdt64_t *reg = fdt_getprop(blob, node, "reg", &length);
        assert_int_equal(length, 16);
        assert_true(fdt64_to_cpu(reg[0]) == LAYOUT_VIRTIO + slot * LAYOUT_VIRTIO_STRIDE);
        const fdt32_t *interrupt = fdt_getprop(blob, node, "interrupts", &length);
        assert_int_equal(length, 8);
        assert_int_equal(fdt32_to_cpu(interrupt[0]), LAYOUT_PIN_VIRTIO + slot);
        assert_int_equal(fdt32_to_cpu(interrupt[1]), 3);
    }
    assert_true(fdt_node_offset_by_compatible(blob, node, "virtio,mmio") < 0);
    int ioapic = fdt_node_offset_by_compatible(blob, -1, "intel,ce4100-ioapic");
    assert_true(ioapic >= 0);
    const fdt32_t *parent = fdt_getprop(blob, 0, "interrupt-parent", NULL);
    assert_int_equal(fdt_get_phandle(blob, ioapic), fdt32_to_cpu(*parent));
    assert_true(fdt_node_offset_by_compatible(blob, -1, "intel,ce4100-lapic") >= 0);
    assert_true(fdt_node_offset_by_compatible(blob, -1, "qemu,pvpanic-mmio") >= 0);
    assert_true(fdt_node_offset_by_compatible(blob, -1, "microsoft,vmgenid") >= 0);
}

static void the_largest_device_tree_fits_and_a_small_buffer_is_told(void **state)
{
    _Alignas(8) uint8_t blob[DEVICE_TREE_BYTES_MAX];
    struct device_tree_config config = {.cpus = LAYOUT_VCPUS_MAX, .virtio_slots = LAYOUT_VIRTIO_SLOTS};
    (void)state;
    assert_true(device_tree_build(&config, blob, sizeof(blob)) > 0);
    assert_int_equal(device_tree_build(&config, blob, 512), -ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_good_kernel_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(a_good_kernel_is_mapped, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unaligned_segment_is_read_even_if_mapping_is_asked_for, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_file_is_loaded_between_what_is_there, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_headers_are_refused_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_segments_are_refused_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(the_initrd_goes_to_the_top_of_low_ram, setup, teardown),
        cmocka_unit_test_setup_teardown(the_zero_page_says_what_was_loaded, setup, teardown),
        cmocka_unit_test_setup_teardown(structures_that_do_not_fit_are_refused, setup, teardown),
        cmocka_unit_test(the_device_tree_names_every_device),
        cmocka_unit_test(the_largest_device_tree_fits_and_a_small_buffer_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
