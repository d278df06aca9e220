/*
 * The IOAPIC: see ioapic.h. Register and field names follow Intel's 82093AA data sheet, §3.
 *
 * Linux masks all pins one by one at boot and programs few. So the routes are handed to KVM only when the set
 * of messages that unmasked pins would send has changed: KVM waits for a grace period each time.
 */
#include "vmm/ioapic.h"

#include "common/log.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Memory-mapped registers (§3.1); IOEOIR came with version 0x20. */
#define REG_IOREGSEL 0x00u
#define REG_IOWIN    0x10u
#define REG_IOEOIR   0x40u
/* Registers behind IOREGSEL (§3.2) */
#define INDEX_ID     0x00u
#define INDEX_VER    0x01u
#define INDEX_ARB    0x02u
#define INDEX_REDTBL 0x10u

#define VERSION 0x20u
#define ID_MASK 0x0f000000u

/* Redirection entry (§3.2.4) */
#define ENTRY_VECTOR        0xffull
#define ENTRY_DELIVERY_MODE 0x700ull
#define ENTRY_DEST_LOGICAL  (1ull << 11)
#define ENTRY_REMOTE_IRR    (1ull << 14)
#define ENTRY_LEVEL         (1ull << 15)
#define ENTRY_MASKED        (1ull << 16)
#define ENTRY_DEST_SHIFT    56
#define ENTRY_WRITABLE      0xff0000000001afffull
#define DELIVERY_LOWEST     0x100ull

/* A message-signalled interrupt (Intel SDM 3A §11.11): what a redirection entry stands for. */
#define MSI_ADDRESS        0xfee00000u
#define MSI_DEST_SHIFT     12
#define MSI_REDIRECT_HINT  (1u << 3)
#define MSI_DEST_LOGICAL   (1u << 2)
#define MSI_LEVEL          (1u << 15)
#define MSI_ASSERT         (1u << 14)
#define VECTOR_FIRST_VALID 16u

#define SECTION_NAME    "ioapic"
#define SECTION_VERSION 1u

struct msi {
    uint32_t address, data;
};

struct ioapic {
    const struct ioapic_ops *ops;
    void *arg;
    unsigned pins;        /* that the guest sees */
    pthread_mutex_t lock; /* guards all below */
    uint32_t id, select;
    uint64_t entry[LAYOUT_PINS];
    uint32_t asserted;              /* one bit a pin: its line as ioapic_set_line left it */
    struct msi routed[LAYOUT_PINS]; /* what KVM was told; address 0: no route */
    struct log_limit limit;
};

struct ioapic *ioapic_new(const struct ioapic_ops *ops, void *arg)
{
    struct ioapic *ioapic = calloc(1, sizeof(*ioapic));
    if (!ioapic)
        return NULL;
    ioapic->ops = ops;
    ioapic->arg = arg;
    ioapic->pins = LAYOUT_PINS;
    pthread_mutex_init(&ioapic->lock, NULL);
    for (unsigned pin = 0; pin < LAYOUT_PINS; pin++)
        ioapic->entry[pin] = ENTRY_MASKED;
    return ioapic;
}

void ioapic_set_pins(struct ioapic *ioapic, unsigned pins)
{
    ioapic->pins = pins < LAYOUT_PINS ? pins : LAYOUT_PINS;
}

void ioapic_free(struct ioapic *ioapic)
{
    if (!ioapic)
        return;
    pthread_mutex_destroy(&ioapic->lock);
    free(ioapic);
}

/* The message a pin sends; address 0 when it is masked or its vector is none (0..15 are not for interrupts).
 */
static struct msi entry_message(uint64_t entry)
{
    if ((entry & ENTRY_MASKED) || (entry & ENTRY_VECTOR) < VECTOR_FIRST_VALID)
        return (struct msi){0, 0};
    uint32_t destination = (uint32_t)(entry >> ENTRY_DEST_SHIFT);
    struct msi msi = {.address = MSI_ADDRESS | destination << MSI_DEST_SHIFT,
                      /* vector and delivery mode lie at the same bits in both */
                      .data = (uint32_t)(entry & (ENTRY_VECTOR | ENTRY_DELIVERY_MODE))};
    if (entry & ENTRY_DEST_LOGICAL)
        msi.address |= MSI_DEST_LOGICAL;
    if ((entry & ENTRY_DELIVERY_MODE) == DELIVERY_LOWEST)
        msi.address |= MSI_REDIRECT_HINT;
    if (entry & ENTRY_LEVEL)
        msi.data |= MSI_LEVEL | MSI_ASSERT;
    return msi;
}

/* Hands the routes to KVM if any message changed. Called with the lock held. */
static int routes_update(struct ioapic *ioapic)
{
    union {
        struct kvm_irq_routing head;
        uint8_t room[sizeof(struct kvm_irq_routing) + LAYOUT_PINS * sizeof(struct kvm_irq_routing_entry)];
    } table = {.head.nr = 0};
    struct msi messages[LAYOUT_PINS];
    for (uint32_t pin = 0; pin < LAYOUT_PINS; pin++) {
        messages[pin] = entry_message(ioapic->entry[pin]);
        if (messages[pin].address == 0)
            continue;
        table.head.entries[table.head.nr++] = (struct kvm_irq_routing_entry){
            .gsi = pin,
            .type = KVM_IRQ_ROUTING_MSI,
            .u.msi = {.address_lo = messages[pin].address, .data = messages[pin].data}};
    }
    if (memcmp(messages, ioapic->routed, sizeof(messages)) == 0)
        return 0;
    int rc = ioapic->ops->set_routes(ioapic->arg, &table.head);
    if (rc == 0)
        memcpy(ioapic->routed, messages, sizeof(messages));
    return rc;
}

/* Sends the pin's message now, unless it is masked or, level-triggered, still in service. Lock held. */
static void pin_send(struct ioapic *ioapic, unsigned pin)
{
    struct msi msi = entry_message(ioapic->entry[pin]);
    if (msi.address == 0 || (ioapic->entry[pin] & ENTRY_REMOTE_IRR))
        return;
    if (ioapic->entry[pin] & ENTRY_LEVEL)
        ioapic->entry[pin] |= ENTRY_REMOTE_IRR;
    struct kvm_msi message = {.address_lo = msi.address, .data = msi.data};
    int rc = ioapic->ops->send_msi(ioapic->arg, &message);
    if (rc < 0)
        log_limited(&ioapic->limit, "ioapic: pin=%u message refused error=%d", pin, -rc);
}

static bool line_pending(const struct ioapic *ioapic, unsigned pin)
{
    return (ioapic->asserted >> pin & 1) && (ioapic->entry[pin] & ENTRY_LEVEL);
}

void ioapic_set_line(struct ioapic *ioapic, unsigned pin, bool asserted)
{
    if (pin >= LAYOUT_PINS)
        return;
    pthread_mutex_lock(&ioapic->lock);
    bool was = ioapic->asserted >> pin & 1;
    ioapic->asserted = asserted ? ioapic->asserted | 1u << pin : ioapic->asserted & ~(1u << pin);
    if (asserted && (!was || (ioapic->entry[pin] & ENTRY_LEVEL)))
        pin_send(ioapic, pin);
    pthread_mutex_unlock(&ioapic->lock);
}

static void end_of_interrupt(struct ioapic *ioapic, uint8_t vector)
{
    for (unsigned pin = 0; pin < LAYOUT_PINS; pin++) {
        uint64_t *entry = &ioapic->entry[pin];
        if (!(*entry & ENTRY_LEVEL) || (*entry & ENTRY_VECTOR) != vector)
            continue;
        *entry &= ~ENTRY_REMOTE_IRR;
        if (line_pending(ioapic, pin))
            pin_send(ioapic, pin);
    }
}

void ioapic_end_of_interrupt(struct ioapic *ioapic, uint8_t vector)
{
    pthread_mutex_lock(&ioapic->lock);
    end_of_interrupt(ioapic, vector);
    pthread_mutex_unlock(&ioapic->lock);
}

static uint32_t register_get(const struct ioapic *ioapic, uint32_t index)
{
    switch (index) {
    case INDEX_ID:
    case INDEX_ARB:
        return ioapic->id;
    case INDEX_VER:
        return VERSION | (ioapic->pins - 1) << 16;
    default:
        if (index < INDEX_REDTBL || index >= INDEX_REDTBL + 2 * ioapic->pins)
            return 0;
        index -= INDEX_REDTBL;
        return (uint32_t)(ioapic->entry[index / 2] >> (index % 2 ? 32 : 0));
    }
}

static void entry_set(struct ioapic *ioapic, uint32_t index, uint32_t value)
{
    unsigned pin = index / 2, shift = index % 2 ? 32 : 0;
    uint64_t mask = (0xffffffffull << shift) & ENTRY_WRITABLE;
    uint64_t *entry = &ioapic->entry[pin];
    *entry = (*entry & ~mask) | ((uint64_t)value << shift & mask);
    if (!(*entry & ENTRY_LEVEL))
        *entry &= ~ENTRY_REMOTE_IRR; /* only level-triggered interrupts have it; Linux clears it this way */
    int rc = routes_update(ioapic);
    if (rc < 0)
        log_limited(&ioapic->limit, "ioapic: pin=%u entry=0x%llx route refused error=%d", pin,
                    (unsigned long long)*entry, -rc);
    if (line_pending(ioapic, pin))
        pin_send(ioapic, pin);
}

static void register_set(struct ioapic *ioapic, uint32_t index, uint32_t value)
{
    if (index == INDEX_ID)
        ioapic->id = value & ID_MASK;
    else if (index >= INDEX_REDTBL && index < INDEX_REDTBL + 2 * ioapic->pins)
        entry_set(ioapic, index - INDEX_REDTBL, value);
}

void ioapic_read(struct ioapic *ioapic, uint64_t offset, void *data, uint32_t length)
{
    uint32_t value = 0;
    memset(data, 0, length);
    if (length != sizeof(value))
        return;
    pthread_mutex_lock(&ioapic->lock);
    if (offset == REG_IOREGSEL)
        value = ioapic->select;
    else if (offset == REG_IOWIN)
        value = register_get(ioapic, ioapic->select);
    pthread_mutex_unlock(&ioapic->lock);
    memcpy(data, &value, sizeof(value));
}

void ioapic_write(struct ioapic *ioapic, uint64_t offset, const void *data, uint32_t length)
{
    uint32_t value;
    if (length != sizeof(value))
        return;
    memcpy(&value, data, sizeof(value));
    pthread_mutex_lock(&ioapic->lock);
    if (offset == REG_IOREGSEL)
        ioapic->select = value & 0xff;
    else if (offset == REG_IOWIN)
        register_set(ioapic, ioapic->select, value);
    else if (offset == REG_IOEOIR)
        end_of_interrupt(ioapic, (uint8_t)value);
    pthread_mutex_unlock(&ioapic->lock);
}

int ioapic_save(struct ioapic *ioapic, struct snapshot_writer *writer)
{
    pthread_mutex_lock(&ioapic->lock);
    snapshot_section_begin(writer, SECTION_NAME, 0, SECTION_VERSION);
    snapshot_put_u32(writer, ioapic->id);
    snapshot_put_u32(writer, ioapic->select);
    snapshot_put_u32(writer, ioapic->asserted);
    for (unsigned pin = 0; pin < LAYOUT_PINS; pin++)
        snapshot_put_u64(writer, ioapic->entry[pin]);
    snapshot_section_end(writer);
    pthread_mutex_unlock(&ioapic->lock);
    return 0;
}

int ioapic_restore(struct ioapic *ioapic, struct snapshot_reader *reader)
{
    uint64_t entry[LAYOUT_PINS];
    int rc = snapshot_section_open(reader, SECTION_NAME, 0, SECTION_VERSION, NULL);
    if (rc < 0)
        return rc;
    uint32_t id = snapshot_get_u32(reader);
    uint32_t select = snapshot_get_u32(reader);
    uint32_t asserted = snapshot_get_u32(reader);
    for (unsigned pin = 0; pin < LAYOUT_PINS; pin++)
        entry[pin] = snapshot_get_u64(reader);
    rc = snapshot_section_finish(reader);
    if (rc < 0)
        return rc;
    if ((id & ~ID_MASK) || select > 0xff || asserted >> LAYOUT_PINS)
        return -EPROTO;
    for (unsigned pin = 0; pin < LAYOUT_PINS; pin++) {
        if (entry[pin] & ~(ENTRY_WRITABLE | ENTRY_REMOTE_IRR))
            return -EPROTO;
    }
    pthread_mutex_lock(&ioapic->lock);
    ioapic->id = id;
    ioapic->select = select;
    ioapic->asserted = asserted;
    memcpy(ioapic->entry, entry, sizeof(entry));
    rc = routes_update(ioapic);
    pthread_mutex_unlock(&ioapic->lock);
    return rc;
}
