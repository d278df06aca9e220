/*
 * /dev/kvm and the VM made with it: see kvm.h. Every capability is asked for by name before anything is built
 * on it, so that a host that lacks one is told which, not met with a failing ioctl later.
 */
#include "vmm/kvm.h"

#include "common/fd.h"
#include "vmm/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

struct capability {
    int number;
    int least; /* the smallest answer that will do */
    const char *name;
};

static const struct capability capabilities[] = {
    {KVM_CAP_USER_MEMORY, 1, "KVM_CAP_USER_MEMORY"},
    {KVM_CAP_NR_MEMSLOTS, 8, "KVM_CAP_NR_MEMSLOTS >= 8"},
    {KVM_CAP_SPLIT_IRQCHIP, 1, "KVM_CAP_SPLIT_IRQCHIP"},
    {KVM_CAP_IRQFD, 1, "KVM_CAP_IRQFD"},
    {KVM_CAP_IOEVENTFD, 1, "KVM_CAP_IOEVENTFD"},
    {KVM_CAP_SIGNAL_MSI, 1, "KVM_CAP_SIGNAL_MSI"},
    {KVM_CAP_IMMEDIATE_EXIT, 1, "KVM_CAP_IMMEDIATE_EXIT"},
    {KVM_CAP_EXT_CPUID, 1, "KVM_CAP_EXT_CPUID"},
    {KVM_CAP_TSC_DEADLINE_TIMER, 1, "KVM_CAP_TSC_DEADLINE_TIMER"},
    {KVM_CAP_ADJUST_CLOCK, 1, "KVM_CAP_ADJUST_CLOCK"},
    {KVM_CAP_MP_STATE, 1, "KVM_CAP_MP_STATE"},
    {KVM_CAP_VCPU_EVENTS, 1, "KVM_CAP_VCPU_EVENTS"},
    {KVM_CAP_XSAVE, 1, "KVM_CAP_XSAVE"},
    {KVM_CAP_XCRS, 1, "KVM_CAP_XCRS"},
    {KVM_CAP_SET_TSS_ADDR, 1, "KVM_CAP_SET_TSS_ADDR"},
    {KVM_CAP_SET_IDENTITY_MAP_ADDR, 1, "KVM_CAP_SET_IDENTITY_MAP_ADDR"},
};

static int kvm_check_capabilities(const struct kvm *kvm, struct error *err)
{
    for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++) {
        int answer = ioctl(kvm->fd, KVM_CHECK_EXTENSION, capabilities[i].number);
        if (answer < 0)
            return error_set(err, errno, "/dev/kvm: ask for %s", capabilities[i].name);
        if (answer < capabilities[i].least)
            return error_set(err, 0, "/dev/kvm: this host's KVM lacks %s", capabilities[i].name);
    }
    return 0;
}

int kvm_init(struct kvm *kvm, int fd, struct error *err)
{
    *kvm = (struct kvm){.fd = fd, .vm_fd = -1};
    int version = ioctl(fd, KVM_GET_API_VERSION, 0);
    if (version < 0)
        return error_set(err, errno, "/dev/kvm: ask for the API version (is it a KVM device?)");
    if (version != KVM_API_VERSION)
        return error_set(err, 0, "/dev/kvm: API version %d, expected %d", version, KVM_API_VERSION);
    if (kvm_check_capabilities(kvm, err) < 0)
        return -1;
    int run_bytes = ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_bytes < (int)sizeof(struct kvm_run))
        return error_set(err, errno, "/dev/kvm: size of a vCPU's mapping");
    kvm->run_bytes = (size_t)run_bytes;
    int xsave_bytes = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
    kvm->xsave_bytes = sizeof(struct kvm_xsave);
    if (xsave_bytes > (int)sizeof(struct kvm_xsave))
        kvm->xsave_bytes = (size_t)xsave_bytes;
    int sync_regs = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS);
    kvm->sync_regs = sync_regs > 0 && ((unsigned)sync_regs & KVM_SYNC_X86_REGS);
    int vcpus_max = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
    kvm->vcpus_max = vcpus_max > 0 ? (unsigned)vcpus_max : 1;
    return 0;
}

/* PMU counters of the host's CPU are a side channel and no part of a snapshot: the guest has none. */
static int kvm_disable_pmu(const struct kvm *kvm, struct error *err)
{
    if (ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_PMU_CAPABILITY) <= 0)
        return 0; /* before Linux 5.18: CPUID without leaf 0xa is all there is */
    struct kvm_enable_cap cap = {.cap = KVM_CAP_PMU_CAPABILITY, .args = {KVM_PMU_CAP_DISABLE}};
    if (ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &cap) < 0)
        return error_set(err, errno, "KVM: disable the PMU");
    return 0;
}

int kvm_create_vm(struct kvm *kvm, struct error *err)
{
    do
        kvm->vm_fd = ioctl(kvm->fd, KVM_CREATE_VM, 0);
    while (kvm->vm_fd < 0 && errno == EINTR); /* creating its worker thread may be interrupted */
    if (kvm->vm_fd < 0)
        return error_set(err, errno, "KVM: create the VM");
    return kvm_disable_pmu(kvm, err);
}

int kvm_create_irqchip(const struct kvm *kvm, struct error *err)
{
    __u64 identity_map = LAYOUT_IDENTITY_MAP;
    if (ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0)
        return error_set(err, errno, "KVM: place the identity map page");
    if (ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, (unsigned long)LAYOUT_TSS) < 0)
        return error_set(err, errno, "KVM: place the TSS pages");
    struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {LAYOUT_PINS}};
    if (ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &cap) < 0)
        return error_set(err, errno, "KVM: create the split irqchip");
    return 0;
}

struct kvm_msr_list *kvm_msr_list_new(const struct kvm *kvm)
{
    struct kvm_msr_list count = {.nmsrs = 0};
    if (ioctl(kvm->fd, KVM_GET_MSR_INDEX_LIST, &count) < 0 && errno != E2BIG)
        return NULL;
    struct kvm_msr_list *list = calloc(1, sizeof(*list) + count.nmsrs * sizeof(list->indices[0]));
    if (!list)
        return NULL;
    list->nmsrs = count.nmsrs;
    if (ioctl(kvm->fd, KVM_GET_MSR_INDEX_LIST, list) < 0) {
        free(list);
        return NULL;
    }
    return list;
}

void kvm_fini(struct kvm *kvm)
{
    fd_close(&kvm->vm_fd);
    fd_close(&kvm->fd);
}
