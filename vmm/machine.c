/*
 * Building and ending the machine: see machine.h. State (pause, save, restore) is in machine_state.c.
 */
#include "vmm/machine_internal.h"

#include "common/fd.h"
#include "common/loop.h"
#include "vmm/boot_x86.h"
#include "vmm/cpuid_x86.h"
#include "vmm/device_tree.h"
#include "vmm/irq_routes.h"
#include "vmm/loader.h"
#include "vmm/nursery.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>

/* hvc0 is the console, the polled serial port until it is there: a kernel that dies early is heard (after
 * quiet, or all that was said before would be printed at once); reboot=k,f resets through port 0x64; the rest
 * keeps the kernel from probing, calibrating and patching what it is told anyway (kernel-config/README.md has
 * each option's reason). */
#define CMDLINE_DEFAULT                                                                                      \
    "console=hvc0 quiet earlycon=uart8250,io,0x3f8 reboot=k,f panic=-1 tsc=reliable no_timer_check "         \
    "noreplace-smp rcupdate.rcu_expedited=1 swiotlb=noforce cgroup_no_v1=all 8250.nr_uarts=0 "               \
    "dummy.numdummies=0 pci=conf1,noearly"

/* How long a panicked guest may take to flush its console and reset. */
#define PANIC_DEADLINE_MS 500

uint64_t machine_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int tell_routes(void *arg, const struct kvm_irq_routing *table)
{
    struct machine *machine = arg;
    return ioctl(machine->kvm.vm_fd, KVM_SET_GSI_ROUTING, table) < 0 ? -errno : 0;
}

static int set_routes(void *arg, const struct kvm_irq_routing *pins)
{
    struct machine *machine = arg;
    return irq_routes_set_pins(machine->routes, pins);
}

static int send_msi(void *arg, const struct kvm_msi *msi)
{
    struct machine *machine = arg;
    return ioctl(machine->kvm.vm_fd, KVM_SIGNAL_MSI, msi) < 0 ? -errno : 0;
}

static const struct ioapic_ops ioapic_ops = {.set_routes = set_routes, .send_msi = send_msi};

void machine_get_exits(const struct machine *machine, struct exit_counts *counts)
{
    memset(counts, 0, sizeof(*counts));
    for (unsigned i = 0; i < machine->cpus; i++) {
        for (unsigned kind = 0; kind < EXIT_KINDS; kind++)
            counts->kind[kind] += atomic_load_explicit(&machine->vcpu[i].exits[kind], memory_order_relaxed);
    }
}

static void take_mark(const struct machine *machine, struct status_mark *mark)
{
    uint64_t now = machine_now_us();
    mark->since_start_us = now - machine->start_us;
    mark->since_run_us = now - machine->run_us;
    machine_get_exits(machine, &mark->exits);
}

void machine_mark_hello(struct machine *machine)
{
    if (!atomic_exchange(&machine->hello_seen, true))
        take_mark(machine, &machine->hello);
}

/* In the loop's thread. */
static void stop_vcpus(void *arg)
{
    struct machine *machine = arg;
    machine_kick_all(machine);
    if (vcpu_gate_all_standing(&machine->gate))
        loop_stop(machine->loop);
}

void machine_end(struct machine *machine, enum end_reason reason, const char *detail)
{
    pthread_mutex_lock(&machine->end_lock);
    bool first = !machine->ended;
    if (first) {
        machine->ended = true;
        machine->reason = reason;
        snprintf(machine->detail, sizeof(machine->detail), "%s", detail);
        take_mark(machine, &machine->end);
    }
    pthread_mutex_unlock(&machine->end_lock);
    if (!first)
        return;
    vcpu_gate_set(&machine->gate, VCPU_STOP);
    if (loop_post(machine->loop, stop_vcpus, machine) < 0)
        loop_stop(machine->loop);
}

static void end_from_guest(void *arg, enum end_reason reason, const char *detail)
{
    struct machine *machine = arg;
    /* A kernel that panics before it has found pvpanic only resets. */
    if (reason == END_RESET && !*detail && !atomic_load(&machine->hello_seen))
        detail = "before the agent was up; the console's log may tell why";
    machine_end(machine, reason, detail);
}

static void panic_deadline(struct watch *watch, uint32_t events)
{
    (void)events;
    machine_end(watch->arg, END_PANIC, "the guest's kernel panicked and did not reset in time");
}

static void panicked(void *arg)
{
    struct machine *machine = arg;
    struct itimerspec deadline = {.it_value.tv_nsec = PANIC_DEADLINE_MS * 1000000l};
    log_err("the guest's kernel panicked: its log is in the console's");
    if (timerfd_settime(machine->panic_timer.fd, 0, &deadline, NULL) < 0)
        machine_end(machine, END_PANIC, "the guest's kernel panicked");
}

static void read_ioapic(void *device, uint64_t offset, void *data, uint32_t length)
{
    ioapic_read(device, offset, data, length);
}

static void write_ioapic(void *device, uint64_t offset, const void *data, uint32_t length)
{
    ioapic_write(device, offset, data, length);
}

static void read_serial(void *device, uint64_t offset, void *data, uint32_t length)
{
    serial_read(device, offset, data, length);
}

static void write_serial(void *device, uint64_t offset, const void *data, uint32_t length)
{
    serial_write(device, offset, data, length);
}

/* The busses of every machine; virtio slots are added as their devices come. */
static int build_busses(struct machine *machine)
{
    const struct bus_window mmio[] = {
        {LAYOUT_IOAPIC, LAYOUT_APIC_SIZE, read_ioapic, write_ioapic, machine->ioapic},
        {LAYOUT_PVPANIC, POWER_PVPANIC_BYTES, power_pvpanic_read, power_pvpanic_write, &machine->power},
    };
    const struct bus_window pio[] = {
        {SERIAL_PORT, SERIAL_PORTS, read_serial, write_serial, machine->serial},
        {POWER_RESET_PORT, 1, power_reset_read, power_reset_write, &machine->power},
    };
    int rc = 0;
    for (size_t i = 0; i < sizeof(mmio) / sizeof(mmio[0]) && rc == 0; i++)
        rc = bus_add(&machine->mmio, &mmio[i]);
    for (size_t i = 0; i < sizeof(pio) / sizeof(pio[0]) && rc == 0; i++)
        rc = bus_add(&machine->pio, &pio[i]);
    return rc == 0 ? machine_build_pci(machine) : rc;
}

/* Devices without virtio, and what they need. */
static int build_platform(struct machine *machine, const struct machine_config *config, struct error *err)
{
    machine->power = (struct power){.end = end_from_guest, .panicked = panicked, .arg = machine};
    machine->routes = irq_routes_new(tell_routes, machine);
    machine->ioapic = ioapic_new(&ioapic_ops, machine);
    machine->serial = serial_new(config->console_fd, config->console_limit_bytes);
    if (!machine->routes || !machine->ioapic || !machine->serial)
        return error_set(err, ENOMEM, "machine");
    ioapic_set_pins(machine->ioapic, LAYOUT_PIN_VIRTIO);
    machine->panic_timer = (struct watch){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
                                          .fn = panic_deadline,
                                          .arg = machine};
    if (machine->panic_timer.fd < 0)
        return error_set(err, errno, "machine: timer");
    int rc = loop_add(machine->loop, &machine->panic_timer, EPOLLIN);
    if (rc == 0)
        rc = build_busses(machine);
    return rc < 0 ? error_set(err, -rc, "machine: busses") : 0;
}

static int build_vcpus(struct machine *machine, const struct machine_config *config, struct error *err)
{
    unsigned most = config->cpus_max > config->cpus ? config->cpus_max : config->cpus;
    if (most > machine->kvm.vcpus_max)
        return error_set(err, 0, "KVM: at most %u vCPUs on this host, %u asked for", machine->kvm.vcpus_max,
                         most);
    machine->host = (struct vcpu_host){.mmio = &machine->mmio,
                                       .pio = &machine->pio,
                                       .ioapic = machine->ioapic,
                                       .gate = &machine->gate,
                                       .thread_start = config->vcpu_thread_start,
                                       .thread_start_arg = config->vcpu_thread_start_arg,
                                       .end = end_from_guest,
                                       .end_arg = machine};
    /* The guest is told of all vCPUs there may ever be. */
    machine->cpus_max = most;
    machine->cpuid = cpuid_new(machine->kvm.fd, machine->cpus_max, config->cpu_mask, err);
    return machine->cpuid ? machine_make_vcpus(machine, config->cpus, err) : -1;
}

int machine_make_vcpus(struct machine *machine, unsigned count, struct error *err)
{
    for (unsigned i = machine->cpus; i < count; i++) {
        if (vcpu_init(&machine->vcpu[i], &machine->kvm, &machine->host, i, machine->cpuid, err) < 0)
            return -1;
        machine->cpus = i + 1;
    }
    return 0;
}

/* Guest memory exists; what is read into it is not waited for before machine_load. */
static int start_loading(struct machine *machine, const struct machine_boot *boot, struct error *err)
{
    if (!boot)
        return 0;
    struct loader_config config = {.kernel_fd = boot->kernel_fd,
                                   .initrd_fd = boot->initrd_fd,
                                   .map_kernel = boot->map_kernel,
                                   .thread_start = boot->load_thread_start};
    machine->map_kernel = boot->map_kernel;
    machine->loader = loader_new(&config, &machine->memory.map, err);
    return machine->loader ? 0 : -1;
}

struct machine *machine_new(const struct machine_config *config, struct loop *loop, struct error *err)
{
    struct machine *machine = calloc(1, sizeof(*machine));
    if (!machine) {
        error_set(err, ENOMEM, "machine");
        close(config->kvm_fd);
        return NULL;
    }
    machine->loop = loop;
    machine->start_us = config->start_us;
    machine->memory_options = config->memory;
    machine->panic_timer.fd = -1;
    machine->ack_fd = -1;
    vcpu_gate_init(&machine->gate, machine_all_standing, machine);
    pthread_mutex_init(&machine->end_lock, NULL);
    /* The order is KVM's: see machine.h. */
    if (kvm_init(&machine->kvm, config->kvm_fd, err) < 0 ||
        memory_init(&machine->memory, &config->memory, err) < 0 ||
        start_loading(machine, config->boot, err) < 0 || kvm_create_vm(&machine->kvm, err) < 0 ||
        memory_register(&machine->memory, machine->kvm.vm_fd, err) < 0 ||
        machine_map_windows(machine, err) < 0 || kvm_create_irqchip(&machine->kvm, err) < 0 ||
        build_platform(machine, config, err) < 0 || build_vcpus(machine, config, err) < 0) {
        machine_free(machine);
        return NULL;
    }
    return machine;
}

const struct memory *machine_get_memory(const struct machine *machine)
{
    return &machine->memory;
}

/* What the kernel is told besides: `more` is the caller's, or NULL. */
static int cmdline_make(const struct machine *machine, const char *more, char *cmdline, size_t size,
                        struct error *err)
{
    size_t used = (size_t)snprintf(cmdline, size, "%s", CMDLINE_DEFAULT);
    if (machine->cpus < machine->cpus_max) /* the rest come when the agent asks for them */
        used += (size_t)snprintf(cmdline + used, size - used, " maxcpus=%u", machine->cpus);
    /* What is plugged is kept movable as far as that is sane, so that it can be unplugged again. */
    if (machine->memory.pluggable_bytes > 0)
        used += (size_t)snprintf(cmdline + used, size - used, " memory_hotplug.online_policy=auto-movable");
    if (more && strlen(more) >= size - used - 1)
        return error_set(err, 0, "--cmdline: longer than %zu bytes", size - used - 2);
    if (more)
        snprintf(cmdline + used, size - used, " %s", more);
    return 0;
}

int machine_load(struct machine *machine, const char *cmdline, struct error *err)
{
    struct loaded loaded;
    char text[LAYOUT_CMDLINE_MAX];
    if (loader_finish(take_ptr(&machine->loader), &loaded, err) < 0 ||
        cmdline_make(machine, cmdline, text, sizeof(text), err) < 0)
        return -1;
    gpa_t kernel_end = loaded.kernel.end;
    if (machine->map_kernel)
        guest_memory_set_file(&machine->memory.map, LAYOUT_KERNEL_MIN, kernel_end - LAYOUT_KERNEL_MIN);
    struct boot_config config = {
        .cmdline = text, .initrd = loaded.initrd, .regions = machine->memory.boot_regions};
    _Alignas(8) uint8_t tree[DEVICE_TREE_BYTES_MAX];
    struct device_tree_config tree_config = {.cpus = machine->cpus_max, .virtio_slots = machine->slots};
    int tree_bytes = device_tree_build(&tree_config, tree, sizeof(tree));
    if (tree_bytes < 0)
        return error_set(err, -tree_bytes, "boot: device tree");
    config.device_tree = tree;
    config.device_tree_bytes = (size_t)tree_bytes;
    if (boot_structures_write(&machine->memory.map, &config, err) < 0)
        return -1;
    int rc = boot_vcpu_set_entry(machine->vcpu[0].fd, loaded.kernel.entry);
    if (rc < 0)
        return error_set(err, -rc, "boot: set the boot vCPU's registers");
    return memory_prefault(&machine->memory, &machine->memory_options, err);
}

int machine_start(struct machine *machine, struct error *err)
{
    struct sigaction nothing = {.sa_handler = vcpu_kick_handler}; /* no SA_RESTART: KVM_RUN must return */
    if (sigaction(VCPU_KICK_SIGNAL, &nothing, NULL) < 0)
        return error_set(err, errno, "machine: signal handler");
    for (unsigned i = 0; i < machine->cpus; i++) {
        int rc = vcpu_start(&machine->vcpu[i]);
        if (rc < 0)
            return error_set(err, -rc, "machine: start vCPU %u", i);
    }
    return 0;
}

void machine_set_nursery(struct machine *machine, struct nursery *nursery)
{
    machine->nursery = nursery;
}

/* In the nursery's thread, whose filter the new threads narrow. */
static int grow(void *arg)
{
    struct machine_growth *growth = arg;
    struct machine *machine = growth->machine;
    while (machine->cpus < growth->cpus) {
        struct vcpu *vcpu = &machine->vcpu[machine->cpus];
        if (vcpu_init(vcpu, &machine->kvm, &machine->host, machine->cpus, machine->cpuid, growth->err) < 0)
            return -1;
        int rc = vcpu_start(vcpu);
        if (rc < 0) {
            vcpu_fini(vcpu);
            return error_set(growth->err, -rc, "machine: start vCPU %u", vcpu->index);
        }
        machine->cpus++;
    }
    return 0;
}

const struct guest_memory *machine_memory(const struct machine *machine)
{
    return &machine->memory.map;
}

int machine_set_cpus(struct machine *machine, unsigned cpus, struct error *err)
{
    struct machine_growth growth = {.machine = machine, .cpus = cpus, .err = err};
    if (cpus == 0 || cpus > machine->cpus_max)
        return error_set(err, ERANGE, "machine: %u vCPUs, it was built for 1 to %u", cpus, machine->cpus_max);
    if (cpus <= machine->cpus)
        return 0;
    if (machine->paused || machine->pause_done || machine_has_ended(machine) || !machine->nursery)
        return error_set(err, EBUSY, "machine: more vCPUs");
    return nursery_call(machine->nursery, grow, &growth);
}

unsigned machine_get_cpus(const struct machine *machine)
{
    return machine->cpus;
}

void machine_kick_all(struct machine *machine)
{
    for (unsigned i = 0; i < machine->cpus; i++)
        vcpu_kick(&machine->vcpu[i]);
}

void machine_stop(struct machine *machine)
{
    vcpu_gate_set(&machine->gate, VCPU_STOP);
    machine_kick_all(machine);
    for (unsigned i = 0; i < machine->cpus; i++)
        vcpu_join(&machine->vcpu[i]);
}

void machine_log_end(const struct machine *machine)
{
    switch (machine->reason) {
    case END_RESET:
    case END_PANIC:
    case END_TRIPLE_FAULT:
    case END_INTERNAL_ERROR:
        for (unsigned i = 0; i < machine->cpus; i++)
            vcpu_log_state(&machine->vcpu[i]);
        break;
    default:
        break;
    }
}

bool machine_has_ended(struct machine *machine)
{
    pthread_mutex_lock(&machine->end_lock);
    bool ended = machine->ended;
    pthread_mutex_unlock(&machine->end_lock);
    return ended;
}

void machine_get_status(const struct machine *machine, bool statistics, struct status *status)
{
    *status = (struct status){.reason = machine->ended ? machine->reason : END_VMM_ERROR,
                              .detail = machine->ended ? machine->detail : "the event loop ended"};
    if (!statistics)
        return;
    status->hello = atomic_load(&machine->hello_seen) ? &machine->hello : NULL;
    status->end = machine->ended ? &machine->end : NULL;
}

void machine_free(struct machine *machine)
{
    if (!machine)
        return;
    loader_free(machine->loader);
    machine_stop(machine);
    if (machine->routes)
        irq_routes_close(machine->routes);
    machine_free_slots(machine);
    for (unsigned i = 0; i < machine->cpus; i++)
        vcpu_fini(&machine->vcpu[i]);
    free(machine->cpuid);
    if (machine->panic_timer.fd >= 0)
        loop_del(machine->loop, &machine->panic_timer);
    fd_close(&machine->panic_timer.fd);
    serial_free(machine->serial);
    ioapic_free(machine->ioapic);
    irq_routes_free(machine->routes);
    kvm_fini(&machine->kvm);
    memory_fini(&machine->memory);
    pthread_mutex_destroy(&machine->end_lock);
    free(machine);
}
