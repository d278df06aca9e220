/* See pci_fixture.h. */
#include "tests/unit/pci_fixture.h"

int pci_route(void *arg, unsigned first, unsigned count, struct irq_message *messages)
{
    struct pci_fixture *f = arg;
    assert_true(first <= INTERRUPTS && count <= INTERRUPTS - first);
    f->routed++;
    for (unsigned i = 0; i < count && f->route_result == 0; i++) {
        struct irq_message before = f->route[first + i];
        f->route[first + i] = messages[i];
        messages[i] = before;
    }
    return f->route_result;
}

void pci_make(struct pci_fixture *f)
{
    const struct virtio_pci_place place = {
        .memory = PLACE, .port = PLACE_PORTS, .route = pci_route, .arg = f};
    struct virtio_pci *pci = virtio_pci_new(recorder_make(f->recorder, f->loop), &f->memory.map, &place);
    assert_non_null(pci);
    f->transport = virtio_pci_transport(pci);
    fake_pci_find(&f->fake, pci);
}

int pci_set_up(void **state)
{
    struct pci_fixture *f = calloc(1, sizeof(*f));
    if (!f)
        return -1;
    fake_memory_init(&f->memory, 1 << 20);
    f->loop = loop_new();
    f->recorder = calloc(1, sizeof(*f->recorder));
    for (unsigned i = 0; i < QUEUES; i++)
        fake_queue_init(&f->queue[i], &f->memory, QUEUE_SIZE_MAX);
    pci_make(f);
    *state = f;
    return 0;
}

int pci_tear_down(void **state)
{
    struct pci_fixture *f = *state;
    virtio_transport_free(f->transport);
    bool clean = f->recorder->freed == 1;
    for (unsigned i = 0; i < INTERRUPTS; i++)
        clean = clean && f->route[i].address == 0; /* the place is as it was */
    loop_free(f->loop);
    fake_memory_fini(&f->memory);
    free(f->recorder);
    free(f);
    return clean ? 0 : -1;
}

uint32_t pci_start(struct pci_fixture *f)
{
    fake_pci_decode(&f->fake);
    uint32_t status = fake_pci_start(&f->fake, 0, f->queue, QUEUES);
    fake_loop_settle(f->loop);
    return status;
}

void pci_offer(struct pci_fixture *f, unsigned queue)
{
    struct fake_segment segment = {f->queue[queue].config.desc, 4, false};
    fake_queue_add(&f->queue[queue], &segment, 1);
}

bool pci_used(struct pci_fixture *f, unsigned queue)
{
    fake_loop_settle(f->loop);
    return fake_queue_used(&f->queue[queue], NULL, NULL);
}

uint64_t pci_raised(struct pci_fixture *f, unsigned interrupt)
{
    return fake_interrupts(virtio_pci_interrupt_fd(f->fake.pci, interrupt));
}

unsigned pci_all_raised(struct pci_fixture *f)
{
    unsigned raised = 0;
    for (unsigned i = 0; i < INTERRUPTS; i++)
        raised |= (pci_raised(f, i) > 0 ? 1u : 0u) << i;
    return raised;
}
