/*
 * The guest's device tree: see device_tree.h. Bindings: arch/x86/kernel/devicetree.c for processors and APICs
 * (Documentation/devicetree/bindings/x86/ce4100.txt), virtio/mmio.yaml, drivers/misc/pvpanic/pvpanic-mmio.c,
 * rng/microsoft,vmgenid.yaml. The x86 kernel looks at children of the root only, and at none without
 * `compatible`.
 *
 * libfdt's sequential-write calls return their first error from then on, so only the last one is looked at.
 */
#include "vmm/device_tree.h"

#include "vmm/layout.h"

#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <string.h>

#define IOAPIC_PHANDLE 1u
/* Second cell of an interrupt specifier: ioapic_irq_domain's types in arch/x86/kernel/devicetree.c. */
#define INTERRUPT_EDGE_HIGH 3u
#define PVPANIC_BYTES       2u
#define PAGE_BYTES          0x1000u

static void put_string(void *fdt, const char *name, const char *value)
{
    fdt_property(fdt, name, value, (int)strlen(value) + 1);
}

/* reg = <address size>, two cells each. */
static void put_reg(void *fdt, uint64_t address, uint64_t bytes)
{
    fdt64_t reg[2] = {cpu_to_fdt64(address), cpu_to_fdt64(bytes)};
    fdt_property(fdt, "reg", reg, sizeof(reg));
}

static void put_interrupt(void *fdt, uint32_t pin)
{
    fdt32_t interrupt[2] = {cpu_to_fdt32(pin), cpu_to_fdt32(INTERRUPT_EDGE_HIGH)};
    fdt_property(fdt, "interrupts", interrupt, sizeof(interrupt));
}

static void begin_device(void *fdt, const char *kind, uint64_t address, uint64_t bytes,
                         const char *compatible)
{
    char name[48];
    snprintf(name, sizeof(name), "%s@%llx", kind, (unsigned long long)address);
    fdt_begin_node(fdt, name);
    put_string(fdt, "compatible", compatible);
    put_reg(fdt, address, bytes);
}

static void put_cpus(void *fdt, unsigned cpus)
{
    fdt_begin_node(fdt, "cpus");
    fdt_property_u32(fdt, "#address-cells", 1);
    fdt_property_u32(fdt, "#size-cells", 0);
    for (unsigned id = 0; id < cpus; id++) {
        char name[16];
        snprintf(name, sizeof(name), "cpu@%x", id);
        fdt_begin_node(fdt, name);
        put_string(fdt, "device_type", "cpu");
        put_string(fdt, "compatible", "husk,vcpu");
        fdt_property_u32(fdt, "reg", id);
        fdt_end_node(fdt);
    }
    fdt_end_node(fdt);
}

static void put_interrupt_controllers(void *fdt)
{
    begin_device(fdt, "lapic", LAYOUT_LAPIC, LAYOUT_APIC_SIZE, "intel,ce4100-lapic");
    fdt_property(fdt, "intel,virtual-wire-mode", NULL, 0);
    fdt_end_node(fdt);
    begin_device(fdt, "ioapic", LAYOUT_IOAPIC, LAYOUT_APIC_SIZE, "intel,ce4100-ioapic");
    fdt_property(fdt, "interrupt-controller", NULL, 0);
    fdt_property_u32(fdt, "#interrupt-cells", 2);
    fdt_property_u32(fdt, "phandle", IOAPIC_PHANDLE);
    fdt_end_node(fdt);
}

static void put_devices(void *fdt, unsigned virtio_slots)
{
    for (unsigned slot = 0; slot < virtio_slots; slot++) {
        begin_device(fdt, DEVICE_TREE_VIRTIO_NODE, LAYOUT_VIRTIO + slot * LAYOUT_VIRTIO_STRIDE,
                     LAYOUT_VIRTIO_STRIDE, "virtio,mmio");
        put_interrupt(fdt, LAYOUT_PIN_VIRTIO + slot);
        fdt_end_node(fdt);
    }
    begin_device(fdt, "pvpanic", LAYOUT_PVPANIC, PVPANIC_BYTES, "qemu,pvpanic-mmio");
    fdt_end_node(fdt);
    begin_device(fdt, "vmgenid", LAYOUT_VMGENID, PAGE_BYTES, "microsoft,vmgenid");
    put_interrupt(fdt, LAYOUT_PIN_VMGENID);
    fdt_end_node(fdt);
}

int device_tree_build(const struct device_tree_config *config, void *blob, size_t capacity)
{
    if (capacity > DEVICE_TREE_BYTES_MAX)
        capacity = DEVICE_TREE_BYTES_MAX;
    fdt_create(blob, (int)capacity);
    fdt_finish_reservemap(blob);
    fdt_begin_node(blob, "");
    fdt_property_u32(blob, "#address-cells", 2);
    fdt_property_u32(blob, "#size-cells", 2);
    put_string(blob, "compatible", "husk,microvm");
    put_string(blob, "model", "husk");
    fdt_property_u32(blob, "interrupt-parent", IOAPIC_PHANDLE);
    put_cpus(blob, config->cpus);
    put_interrupt_controllers(blob);
    put_devices(blob, config->virtio_slots);
    fdt_end_node(blob);
    int rc = fdt_finish(blob);
    if (rc < 0)
        return rc == -FDT_ERR_NOSPACE ? -ENOSPC : -EIO;
    return (int)fdt_totalsize(blob);
}
