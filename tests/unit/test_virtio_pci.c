/* Unit tests of the virtio-pci transport: configuration space and registers. */
#include "tests/unit/pci_fixture.h"

#define SPACE VIRTIO_PCI_CONFIG_BYTES

/* --- Configuration space ------------------------------------------------------------------------------- */

static void a_driver_finds_the_function(void **state)
{
    struct pci_fixture *f = *state;
    const struct fake_pci *fake = &f->fake;
    assert_int_equal(fake_pci_config_get(fake, PCI_VENDOR_ID, 2), 0x1af4);
    assert_int_equal(fake_pci_config_get(fake, PCI_DEVICE_ID, 2), 0x1040 + DEVICE_ID);
    assert_int_equal(fake_pci_config_get(fake, PCI_REVISION_ID, 1), 1);
    assert_int_equal(fake_pci_config_get(fake, PCI_HEADER_TYPE, 1), PCI_HEADER_TYPE_NORMAL);
    assert_int_equal(fake_pci_config_get(fake, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST, PCI_STATUS_CAP_LIST);
    assert_int_equal(fake_pci_config_get(fake, PCI_COMMAND, 2), 0);
    assert_int_equal(fake_pci_config_get(fake, PCI_INTERRUPT_PIN, 1), 0); /* MSI-X only */
    for (uint32_t bar = PCI_BASE_ADDRESS_0; bar <= PCI_BASE_ADDRESS_5; bar += 4) {
        assert_int_equal(fake_pci_config_get(fake, bar, 4), 0);
        fake_pci_config_set(fake, bar, 4, UINT32_MAX);
        assert_int_equal(fake_pci_config_get(fake, bar, 4), 0);
    }
    assert_true(fake->msix_at && fake->ea_at && fake->common_at && fake->isr_at && fake->notify_at &&
                fake->device_at && fake->access_at);
}

static void interrupts_have_a_table_entry_each(void **state)
{
    struct pci_fixture *f = *state;
    const struct fake_pci *fake = &f->fake;
    assert_int_equal(virtio_pci_interrupts(fake->pci), INTERRUPTS);
    assert_int_equal(fake_pci_config_get(fake, fake->msix_at + PCI_MSIX_FLAGS, 2), INTERRUPTS - 1);
    uint32_t table = fake_pci_config_get(fake, fake->msix_at + PCI_MSIX_TABLE, 4);
    uint32_t pba = fake_pci_config_get(fake, fake->msix_at + PCI_MSIX_PBA, 4);
    assert_int_equal(table & PCI_MSIX_TABLE_BIR, 0);
    assert_int_equal(pba & PCI_MSIX_PBA_BIR, 0);
    assert_true(table + INTERRUPTS * PCI_MSIX_ENTRY_SIZE <= pba);
    assert_true(pba + 8 <= VIRTIO_PCI_MEMORY_BYTES);
    fake_pci_decode(fake);
    for (unsigned i = 0; i < INTERRUPTS; i++)
        assert_int_equal(fake_pci_get(fake, table + i * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL, 4),
                         PCI_MSIX_ENTRY_CTRL_MASKBIT);
    assert_int_equal(fake_pci_get(fake, pba, 4), 0);
}

/* As Linux reads an entry: pci_ea_read. */
static void check_region(const struct fake_pci *fake, uint32_t at, uint32_t bei, uint32_t kind, uint32_t base,
                         uint32_t bytes)
{
    uint32_t head = fake_pci_config_get(fake, at, 4);
    assert_int_equal(head & PCI_EA_ES, 2); /* words that follow */
    assert_int_equal((head & PCI_EA_BEI) >> 4, bei);
    assert_int_equal((head & PCI_EA_PP) >> 8, kind);
    assert_int_equal(head & PCI_EA_ENABLE, PCI_EA_ENABLE);
    assert_int_equal(head & PCI_EA_WRITABLE, 0);
    assert_int_equal(fake_pci_config_get(fake, at + PCI_EA_BASE, 4), base);
    uint32_t last = fake_pci_config_get(fake, at + PCI_EA_MAX_OFFSET, 4);
    assert_int_equal(last & PCI_EA_IS_64, 0);
    assert_int_equal((last & PCI_EA_FIELD_MASK) + 3, bytes - 1);
}

static void regions_are_told_by_enhanced_allocation(void **state)
{
    struct pci_fixture *f = *state;
    uint32_t at = f->fake.ea_at;
    assert_int_equal(fake_pci_config_get(&f->fake, at + PCI_EA_NUM_ENT, 1) & PCI_EA_NUM_ENT_MASK, 2);
    check_region(&f->fake, at + PCI_EA_FIRST_ENT, PCI_EA_BEI_BAR0, PCI_EA_P_MEM, PLACE,
                 VIRTIO_PCI_MEMORY_BYTES);
    check_region(&f->fake, at + PCI_EA_FIRST_ENT + 12, PCI_EA_BEI_BAR0 + 1, PCI_EA_P_IO, PLACE_PORTS,
                 VIRTIO_PCI_PORTS);
}

static void check_structure(const struct fake_pci *fake, uint32_t at, uint8_t type, uint8_t region,
                            uint32_t least, uint32_t own)
{
    uint32_t offset = fake_pci_config_get(fake, at + VIRTIO_PCI_CAP_OFFSET, 4);
    uint32_t length = fake_pci_config_get(fake, at + VIRTIO_PCI_CAP_LENGTH, 4);
    uint32_t bytes = region == 0 ? VIRTIO_PCI_MEMORY_BYTES : VIRTIO_PCI_PORTS;
    assert_int_equal(fake_pci_config_get(fake, at, 1), PCI_CAP_ID_VNDR);
    assert_int_equal(fake_pci_config_get(fake, at + VIRTIO_PCI_CAP_LEN, 1), own);
    assert_int_equal(fake_pci_config_get(fake, at + VIRTIO_PCI_CAP_CFG_TYPE, 1), type);
    assert_int_equal(fake_pci_config_get(fake, at + VIRTIO_PCI_CAP_BAR, 1), region);
    assert_true(length >= least && length <= bytes && offset <= bytes - length);
    assert_true(at + own <= SPACE);
}

static void structures_lie_in_their_regions(void **state)
{
    struct pci_fixture *f = *state;
    const struct fake_pci *fake = &f->fake;
    uint32_t plain = sizeof(struct virtio_pci_cap), longer = plain + 4;
    check_structure(fake, fake->common_at, VIRTIO_PCI_CAP_COMMON_CFG, 0, sizeof(struct virtio_pci_common_cfg),
                    plain);
    check_structure(fake, fake->isr_at, VIRTIO_PCI_CAP_ISR_CFG, 0, 1, plain);
    check_structure(fake, fake->notify_at, VIRTIO_PCI_CAP_NOTIFY_CFG, 1, 2, longer);
    check_structure(fake, fake->device_at, VIRTIO_PCI_CAP_DEVICE_CFG, 0, sizeof(f->recorder->config), plain);
    check_structure(fake, fake->access_at, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, longer);
    assert_int_equal(fake_pci_config_get(fake, fake->notify_at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4), 0);
    fake_pci_decode(fake);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_NOFF), 0);
}

static uint32_t writable(const struct fake_pci *fake, uint32_t offset)
{
    if (offset == PCI_COMMAND)
        return 0x407;
    if (offset == PCI_INTERRUPT_LINE)
        return 0xff;
    if (offset == fake->msix_at)
        return (uint32_t)(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) << 16;
    if (offset == fake->access_at + VIRTIO_PCI_CAP_BAR)
        return 0xff;
    return offset > fake->access_at + VIRTIO_PCI_CAP_BAR && offset <= fake->access_at + 16 ? UINT32_MAX : 0;
}

static void only_some_bits_can_be_written(void **state)
{
    struct pci_fixture *f = *state;
    const struct fake_pci *fake = &f->fake;
    uint32_t before[SPACE / 4];
    for (uint32_t i = 0; i < SPACE; i += 4)
        before[i / 4] = fake_pci_config_get(fake, i, 4);
    for (uint32_t width = 1; width <= 4; width *= 2) {
        for (uint32_t i = 0; i < SPACE; i += width)
            fake_pci_config_set(fake, i, width, UINT32_MAX);
        for (uint32_t i = 0; i < SPACE; i += 4)
            assert_int_equal(fake_pci_config_get(fake, i, 4), before[i / 4] | writable(fake, i));
        for (uint32_t i = 0; i < SPACE; i += width)
            fake_pci_config_set(fake, i, width, 0);
        for (uint32_t i = 0; i < SPACE; i += 4)
            assert_int_equal(fake_pci_config_get(fake, i, 4), before[i / 4]);
    }
}

/* --- Common configuration ------------------------------------------------------------------------------ */

static void features_are_read_in_halves(void **state)
{
    struct pci_fixture *f = *state;
    const uint32_t halves[] = {(uint32_t)(DEVICE_FEATURE | RING_FEATURES), 1u << (VIRTIO_F_VERSION_1 - 32),
                               0};
    fake_pci_decode(&f->fake);
    for (uint32_t half = 0; half < 3; half++) {
        fake_pci_common_set(&f->fake, VIRTIO_PCI_COMMON_DFSELECT, half);
        assert_int_equal(fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_DFSELECT), half);
        assert_int_equal(fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_DF), halves[half]);
    }
    fake_pci_start(&f->fake, DEVICE_FEATURE, f->queue, QUEUES);
    for (uint32_t half = 0; half < 3; half++) {
        uint64_t taken = DEVICE_FEATURE | 1ULL << VIRTIO_F_VERSION_1;
        fake_pci_common_set(&f->fake, VIRTIO_PCI_COMMON_GFSELECT, half);
        assert_int_equal(fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_GF),
                         half < 2 ? (uint32_t)(taken >> (32 * half)) : 0);
    }
    assert_int_equal(f->recorder->features, DEVICE_FEATURE | 1ULL << VIRTIO_F_VERSION_1);
}

static void unknown_features_are_refused(void **state)
{
    struct pci_fixture *f = *state;
    fake_pci_decode(&f->fake);
    uint32_t status = fake_pci_start(&f->fake, 1ULL << VIRTIO_F_RING_PACKED, f->queue, QUEUES);
    assert_int_equal(status, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    assert_int_equal(f->recorder->activated, 0);
}

static void driver_brings_the_device_up(void **state)
{
    struct pci_fixture *f = *state;
    const struct fake_pci *fake = &f->fake;
    assert_int_equal(pci_start(f), STATUS_RUNNING);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_NUMQ), QUEUES);
    assert_int_equal(f->recorder->activated, 1);
    assert_int_equal(f->recorder->kicks[0], 1); /* each started queue once */
    assert_int_equal(pci_all_raised(f), 0);
    f->recorder->echo = true;
    for (unsigned i = 0; i < QUEUES; i++) {
        fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_SELECT, i);
        assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_SELECT), i);
        assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_ENABLE), 1);
        assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_SIZE), QUEUE_SIZE_MAX);
        assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_MSIX), i);
        assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_DESCLO), f->queue[i].config.desc);
        assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_AVAILLO), f->queue[i].config.avail);
        assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_USEDLO), f->queue[i].config.used);
        pci_offer(f, i);
        fake_pci_notify(fake, (uint16_t)i);
        assert_true(pci_used(f, i));
        assert_int_equal(pci_all_raised(f), 1u << i); /* that queue's interrupt only */
        assert_int_equal(f->recorder->device.call_fd[i], virtio_pci_interrupt_fd(fake->pci, i)); /* vhost's */
    }
    pci_offer(f, 1);
    assert_int_equal(eventfd_write(virtio_transport_queue_fd(f->transport, 1), 1), 0); /* as KVM does */
    assert_true(pci_used(f, 1));
    assert_int_equal(pci_all_raised(f), 1u << 1);
}

static void notifications_are_a_queue_in_two_bytes(void **state)
{
    struct pci_fixture *f = *state;
    uint32_t queue = htole32(1);
    fake_pci_decode(&f->fake);
    fake_pci_notify(&f->fake, 0); /* before there is a driver */
    assert_int_equal(pci_start(f), STATUS_RUNNING);
    unsigned kicks = f->recorder->kicks[1];
    virtio_pci_notify(f->fake.pci, 0, &queue, 1);
    virtio_pci_notify(f->fake.pci, 0, &queue, 4);
    virtio_pci_notify(f->fake.pci, 2, &queue, 2);
    fake_pci_notify(&f->fake, QUEUES); /* no such queue */
    fake_pci_notify(&f->fake, UINT16_MAX);
    fake_loop_settle(f->loop);
    assert_int_equal(f->recorder->kicks[1], kicks);
    virtio_pci_notify(f->fake.pci, 0, &queue, 2);
    fake_loop_settle(f->loop);
    assert_int_equal(f->recorder->kicks[1], kicks + 1);
}

static void queue_registers(void **state)
{
    struct pci_fixture *f = *state;
    const struct fake_pci *fake = &f->fake;
    fake_pci_decode(fake);
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_SELECT, QUEUES - 1);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_SIZE), QUEUE_SIZE_MAX);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_MSIX), VIRTIO_MSI_NO_VECTOR);
    /* Before FEATURES_OK a queue cannot be set up. */
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_SIZE, 2);
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_ENABLE, 1);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_SIZE), QUEUE_SIZE_MAX);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_ENABLE), 0);
    fake_pci_start(fake, 0, f->queue, 1);
    const uint32_t beyond[] = {QUEUES, UINT16_MAX};
    for (unsigned i = 0; i < 2; i++) {
        fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_SELECT, beyond[i]);
        fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_SIZE, 2);
        fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_MSIX, 0);
        fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_ENABLE, 1);
        assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_SIZE), 0);
        assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_MSIX), VIRTIO_MSI_NO_VECTOR);
        assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_ENABLE), 0);
        assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_DESCLO), 0);
    }
}

/* Writes another size and other addresses to the selected queue: none of it takes. */
static void check_frozen(const struct fake_pci *fake, const struct virtqueue_config *config)
{
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_SIZE, 2);
    for (uint32_t field = VIRTIO_PCI_COMMON_Q_DESCLO; field <= VIRTIO_PCI_COMMON_Q_USEDHI; field += 4)
        fake_pci_common_set(fake, field, 0x1000);
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_ENABLE, 0);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_SIZE), config->size);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_DESCLO), config->desc);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_DESCHI), 0);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_AVAILLO), config->avail);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_AVAILHI), 0);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_USEDLO), config->used);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_USEDHI), 0);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_ENABLE), 1);
}

static void queues_are_frozen_while_the_device_runs(void **state)
{
    struct pci_fixture *f = *state;
    const struct fake_pci *fake = &f->fake;
    fake_pci_decode(fake);
    assert_int_equal(fake_pci_start(fake, 0, f->queue, QUEUES - 1), STATUS_RUNNING);
    f->recorder->echo = true;
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_SELECT, 0);
    check_frozen(fake, &f->queue[0].config);
    pci_offer(f, 0);
    fake_pci_notify(fake, 0);
    assert_true(pci_used(f, 0));
    fake_pci_set_queue(fake, QUEUES - 1,
                       &f->queue[QUEUES - 1].config); /* one that was not enabled stays so */
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_ENABLE), 0);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_DESCLO), 0);
}

static void to_features_ok(const struct fake_pci *fake)
{
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_GFSELECT, 1);
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_GF, 1);
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_STATUS, STATUS_RUNNING & ~VIRTIO_CONFIG_S_DRIVER_OK);
}

static void enabled_queue_keeps_its_configuration(void **state)
{
    struct pci_fixture *f = *state;
    fake_pci_decode(&f->fake);
    to_features_ok(&f->fake);
    fake_pci_set_queue(&f->fake, 0, &f->queue[0].config);
    check_frozen(&f->fake, &f->queue[0].config);
    fake_pci_common_set(&f->fake, VIRTIO_PCI_COMMON_STATUS, STATUS_RUNNING);
    assert_int_equal(fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_STATUS), STATUS_RUNNING);
}

/* Addresses beyond 4 GiB come in halves. */
static void addresses_have_a_high_half(void **state)
{
    struct pci_fixture *f = *state;
    struct virtqueue_config high = {.size = 4, .desc = 1ULL << 32, .avail = 3ULL << 32, .used = 5ULL << 32};
    fake_pci_decode(&f->fake);
    to_features_ok(&f->fake);
    fake_pci_set_queue(&f->fake, 1, &high);
    assert_int_equal(fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_Q_SIZE), 4);
    assert_int_equal(fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_Q_DESCHI), 1);
    assert_int_equal(fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_Q_AVAILHI), 3);
    assert_int_equal(fake_pci_common_get(&f->fake, VIRTIO_PCI_COMMON_Q_USEDHI), 5);
}

static void queue_that_cannot_start_needs_reset(void **state)
{
    struct pci_fixture *f = *state;
    const struct fake_pci *fake = &f->fake;
    struct fake_queue bad[QUEUES];
    memcpy(bad, f->queue, sizeof(bad));
    bad[1].config.size = QUEUE_SIZE_MAX * 2; /* beyond what queue_size read as */
    fake_pci_decode(fake);
    assert_int_equal(fake_pci_start(fake, 0, bad, QUEUES), STATUS_RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_int_equal(f->recorder->activated, 0);
    assert_int_equal(pci_all_raised(f), 1u << CONFIG);
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_STATUS, 0);
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_Q_SELECT, 1);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_Q_SIZE), QUEUE_SIZE_MAX);
    assert_int_equal(pci_start(f), STATUS_RUNNING);
}

static void registers_take_their_own_width(void **state)
{
    struct pci_fixture *f = *state;
    const struct fake_pci *fake = &f->fake;
    const uint64_t ones = UINT64_MAX;
    uint8_t before[sizeof(struct virtio_pci_common_cfg)], after[sizeof(before)];
    assert_int_equal(pci_start(f), STATUS_RUNNING);
    for (uint32_t pass = 0; pass < 2; pass++) {
        uint8_t *copy = pass == 0 ? before : after;
        memset(copy, 0, sizeof(before));
        for (uint32_t field = 0, bytes; field < sizeof(before); field += bytes) {
            bytes = fake_pci_field_bytes(field);
            virtio_pci_read(fake->pci, fake->common + field, copy + field, bytes);
        }
        for (uint32_t offset = 0, next = 0; offset < sizeof(before) + 16 && pass == 0; offset++) {
            bool field = offset == next && offset < sizeof(before);
            if (field)
                next += fake_pci_field_bytes(offset);
            for (uint32_t width = 1; width <= 8; width *= 2) {
                uint64_t value = UINT64_MAX >> (64 - 8 * width);
                if (field && width == fake_pci_field_bytes(offset))
                    continue;
                virtio_pci_write(fake->pci, fake->common + offset, &ones, width);
                virtio_pci_read(fake->pci, fake->common + offset, &value, width);
                assert_int_equal(value, 0);
            }
        }
    }
    assert_memory_equal(before, after, sizeof(before));
    for (uint32_t width = 1; width <= 8; width *= 2) {
        uint64_t value = UINT64_MAX >> (64 - 8 * width);
        if (width == 4)
            continue;
        virtio_pci_write(fake->pci, fake->table + PCI_MSIX_ENTRY_DATA, &ones, width);
        virtio_pci_read(fake->pci, fake->table + PCI_MSIX_ENTRY_DATA, &value, width);
        assert_int_equal(value, 0);
    }
    assert_int_equal(fake_pci_get(fake, fake->table + PCI_MSIX_ENTRY_DATA, 4), 0);
    assert_int_equal(fake_pci_get(fake, fake->table + INTERRUPTS * PCI_MSIX_ENTRY_SIZE, 4), 0);
    assert_int_equal(fake_pci_get(fake, VIRTIO_PCI_MEMORY_BYTES - 4, 4), 0);
}

static void nothing_answers_while_memory_is_not_decoded(void **state)
{
    struct pci_fixture *f = *state;
    const struct fake_pci *fake = &f->fake;
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_STATUS), 0xff);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_DF), UINT32_MAX);
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    fake_pci_decode(fake);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_STATUS), 0);
    assert_int_equal(pci_start(f), STATUS_RUNNING);
    fake_pci_config_set(fake, PCI_COMMAND, 2, 0x405); /* all but memory */
    fake_pci_common_set(fake, VIRTIO_PCI_COMMON_STATUS, 0);
    fake_pci_mask_entry(fake, 0, false);
    assert_int_equal(fake_pci_get(fake, fake->device, 1), 0xff);
    fake_pci_decode(fake);
    assert_int_equal(fake_pci_common_get(fake, VIRTIO_PCI_COMMON_STATUS), STATUS_RUNNING);
    assert_int_equal(fake_pci_get(fake, fake->table + PCI_MSIX_ENTRY_VECTOR_CTRL, 4),
                     PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        pci_test(a_driver_finds_the_function),
        pci_test(interrupts_have_a_table_entry_each),
        pci_test(regions_are_told_by_enhanced_allocation),
        pci_test(structures_lie_in_their_regions),
        pci_test(only_some_bits_can_be_written),
        pci_test(features_are_read_in_halves),
        pci_test(unknown_features_are_refused),
        pci_test(driver_brings_the_device_up),
        pci_test(notifications_are_a_queue_in_two_bytes),
        pci_test(queue_registers),
        pci_test(queues_are_frozen_while_the_device_runs),
        pci_test(enabled_queue_keeps_its_configuration),
        pci_test(addresses_have_a_high_half),
        pci_test(queue_that_cannot_start_needs_reset),
        pci_test(registers_take_their_own_width),
        pci_test(nothing_answers_while_memory_is_not_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
