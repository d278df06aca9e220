/* Fuzzes saved state: the stream's reader, and the restore functions that need no KVM, on any bytes. */
#include "vmm/ioapic.h"
#include "vmm/serial_8250.h"
#include "vmm/snapshot.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int set_routes(void *arg, const struct kvm_irq_routing *routes)
{
    (void)arg;
    if (routes->nr > LAYOUT_PINS)
        abort();
    return 0;
}

static int send_msi(void *arg, const struct kvm_msi *msi)
{
    (void)arg;
    (void)msi;
    return 0;
}

static void read_everything(struct snapshot_reader *reader)
{
    uint8_t bytes[8];
    size_t length;
    volatile uint8_t sink = 0;
    if (snapshot_section_open(reader, "any", 0, UINT32_MAX, NULL) < 0)
        return;
    for (int i = 0; i < 64 && snapshot_reader_error(reader) == 0; i++) {
        switch (snapshot_get_u8(reader) % 6) {
        case 0:
            snapshot_get_u16(reader);
            break;
        case 1:
            snapshot_get_u32(reader);
            break;
        case 2:
            snapshot_get_u64(reader);
            break;
        case 3:
            snapshot_get_bytes(reader, bytes, sizeof(bytes));
            break;
        default: {
            const uint8_t *blob = snapshot_get_blob(reader, 1024, &length);
            for (size_t at = 0; at < length; at++)
                sink = blob[at]; /* the sanitizer watches */
            break;
        }
        }
    }
    (void)sink;
    snapshot_section_finish(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct ioapic_ops ops = {set_routes, send_msi};
    struct snapshot_reader *reader = snapshot_reader_new(data, size);
    if (!reader)
        return 0;
    read_everything(reader);
    snapshot_reader_free(reader);

    /* A fault sticks to a reader: each device gets its own. */
    reader = snapshot_reader_new(data, size);
    struct ioapic *ioapic = ioapic_new(&ops, NULL);
    if (ioapic_restore(ioapic, reader) == 0)
        ioapic_end_of_interrupt(ioapic, 0x30);
    ioapic_free(ioapic);
    snapshot_reader_free(reader);

    reader = snapshot_reader_new(data, size);
    struct serial *serial = serial_new(-1, 0);
    serial_restore(serial, reader);
    serial_free(serial);
    snapshot_reader_free(reader);
    return 0;
}
