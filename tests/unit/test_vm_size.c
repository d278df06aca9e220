/* Unit tests of shim/vm_size.c, shim/host_resources.c and the arithmetic of shim/cgroup_limits.c: from a
 * config.json's limits to the VM and to the host's limits. */
#include "common/json.h"
#include "shim/cgroup_limits.h"
#include "shim/vm_size.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define MIB (1ll << 20)

static const struct vm_host host = {.cpus = 4, .memory_mib = 16384};

static struct config defaults(void)
{
    return (struct config){.vcpus = 1,
                           .memory_mib = 1024,
                           .memory_min_mib = 128,
                           .guest_overhead_mib = 96,
                           .vmm_overhead_mib = 64,
                           .vmm_overhead_cpu = 25};
}

/* The resources stay valid as long as *object. */
static struct host_resources read_resources(const char *text, json_t **object)
{
    struct host_resources resources = {0};
    struct error err;
    *object = json_parse_object(text, strlen(text), &err);
    if (!*object || host_resources_read(&resources, *object, "linux.resources", &err) < 0)
        fail_msg("%s: %s", text, err.text);
    return resources;
}

static struct vm_size plan(const struct config *config, const char *text)
{
    json_t *object;
    struct error err;
    struct vm_size size = {0};
    struct host_resources resources = read_resources(text, &object);
    if (vm_size_plan(&size, config, &resources, &host, &err) < 0)
        fail_msg("%s", err.text);
    host_resources_fini(&resources);
    json_decref(object);
    return size;
}

static void without_limits_the_default_holds(void **state)
{
    (void)state;
    struct config config = defaults();
    struct vm_size size = plan(&config, "{}");
    assert_int_equal(size.vcpus, 1);
    assert_int_equal(size.vcpus_max, 4);
    assert_int_equal(size.memory_mib, 1024);
    assert_int_equal(size.memory_boot_mib, 1024);
    assert_int_equal(size.memory_max_mib, 16384);
}

static void vcpus_follow_quota_and_cpuset(void **state)
{
    (void)state;
    static const struct {
        const char *cpu;
        unsigned vcpus;
    } cases[] = {{"{\"cpu\": {\"quota\": 50000, \"period\": 100000}}", 1},
                 {"{\"cpu\": {\"quota\": 100000}}", 1},
                 {"{\"cpu\": {\"quota\": 100001}}", 2},
                 {"{\"cpu\": {\"quota\": 30000, \"period\": 10000}}", 3},
                 {"{\"cpu\": {\"cpus\": \"0,2\"}}", 2},
                 {"{\"cpu\": {\"cpus\": \"0-3\", \"quota\": 150000}}", 2},
                 {"{\"cpu\": {\"cpus\": \"1\", \"quota\": 350000}}", 1},
                 {"{\"cpu\": {\"quota\": -1}}", 1},
                 {"{\"cpu\": {\"quota\": 6400000}}", 4}, /* the host has four */
                 {"{\"unified\": {\"cpu.max\": \"250000 100000\"}}", 3}};
    struct config config = defaults();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (plan(&config, cases[i].cpu).vcpus != cases[i].vcpus)
            fail_msg("%s: %u", cases[i].cpu, (unsigned)plan(&config, cases[i].cpu).vcpus);
    }
}

static void memory_holds_limit_and_kernel(void **state)
{
    (void)state;
    struct config config = defaults();
    /* 512 and 96 and 512 / 64 */
    assert_int_equal(plan(&config, "{\"memory\": {\"limit\": 536870912}}").memory_mib, 616);
    assert_int_equal(plan(&config, "{\"unified\": {\"memory.max\": \"536870912\"}}").memory_mib, 616);
    /* rounded up: a byte more is a MiB more, and sizes are even */
    assert_int_equal(plan(&config, "{\"memory\": {\"limit\": 536870913}}").memory_mib, 618);
    assert_int_equal(plan(&config, "{\"memory\": {\"limit\": 1}}").memory_mib, 128);
    assert_int_equal(plan(&config, "{\"memory\": {\"limit\": -1}}").memory_mib, 1024);
    assert_int_equal(plan(&config, "{\"memory\": {\"limit\": 9223372036854775807}}").memory_mib, 16384);
}

static void stated_sizes_win_within_their_ceilings(void **state)
{
    (void)state;
    struct config config = defaults();
    struct host_resources none = {.cpu_burst = -1, .cpu_idle = -1};
    struct vm_size size;
    struct error err;
    config.vcpus = 6;
    config.vcpus_stated = config.memory_stated = true;
    config.memory_mib = 300;
    size = plan(&config, "{\"memory\": {\"limit\": 536870912}, \"cpu\": {\"quota\": 100000}}");
    assert_int_equal(size.vcpus, 6);
    assert_int_equal(size.vcpus_max, 6); /* more than the host has: but no more than that */
    assert_int_equal(size.memory_mib, 300);
    config.vcpus_max = 4;
    assert_int_equal(vm_size_plan(&size, &config, &none, &host, &err), -1);
    assert_string_equal(err.text, "vcpus: 6 is above vcpus_max, which is 4");
    config.vcpus_max = 0;
    config.memory_max_mib = 256;
    assert_int_equal(vm_size_plan(&size, &config, &none, &host, &err), -1);
    assert_non_null(strstr(err.text, "memory_max_mib"));
}

static void ceilings_cut_what_limits_ask_for(void **state)
{
    (void)state;
    struct config config = defaults();
    config.vcpus_max = 2;
    config.memory_max_mib = 512;
    struct vm_size size =
        plan(&config, "{\"memory\": {\"limit\": 1073741824}, \"cpu\": {\"quota\": 400000}}");
    assert_int_equal(size.vcpus, 2);
    assert_int_equal(size.memory_mib, 512);
}

static void a_running_vm_adapts_within_its_ceilings(void **state)
{
    (void)state;
    struct config config = defaults();
    json_t *object;
    struct vm_size size;
    const struct vm_size present = {
        .vcpus = 1, .vcpus_max = 4, .memory_mib = 616, .memory_max_mib = 2048, .memory_boot_mib = 616};
    struct host_resources more =
        read_resources("{\"memory\": {\"limit\": 1073741824}, \"cpu\": {\"quota\": 300000}}", &object);
    vm_size_adapt(&size, &present, &config, &more);
    assert_int_equal(size.vcpus, 3);
    assert_int_equal(size.memory_mib, 1024 + 96 + 16);
    more.memory_limit = 8192 * MIB;
    more.cpu_quota = 900000;
    vm_size_adapt(&size, &present, &config, &more);
    assert_int_equal(size.vcpus, 4);
    assert_int_equal(size.memory_mib, 2048);
    /* never below what it was made with; unset values change nothing */
    more.memory_limit = 100 * MIB;
    more.cpu_quota = 0;
    vm_size_adapt(&size, &present, &config, &more);
    assert_int_equal(size.vcpus, 1);
    assert_int_equal(size.memory_mib, 616);
    config.memory_stated = config.vcpus_stated = true;
    more.memory_limit = 1024 * MIB;
    more.cpu_quota = 300000;
    vm_size_adapt(&size, &present, &config, &more);
    assert_memory_equal(&size, &present, sizeof(size));
    host_resources_fini(&more);
    json_decref(object);
}

static void sizes_survive_json(void **state)
{
    (void)state;
    struct error err;
    const struct vm_size size = {1, 2, 300, 400, 300};
    struct vm_size back;
    json_t *object = vm_size_to_json(&size);
    assert_int_equal(vm_size_from_json(object, &back, &err), 0);
    assert_memory_equal(&size, &back, sizeof(size));
    json_object_del(object, "vcpus_max");
    assert_int_equal(vm_size_from_json(object, &back, &err), -1);
    assert_non_null(strstr(err.text, "vcpus_max"));
    json_decref(object);
}

static void host_limits_leave_room(void **state)
{
    (void)state;
    struct config config = defaults();
    json_t *object;
    struct host_resources limits;
    struct host_resources resources =
        read_resources("{\"memory\": {\"limit\": 536870912, \"swap\": 805306368, \"reservation\": 104857600},"
                       " \"cpu\": {\"quota\": 50000, \"period\": 100000, \"shares\": 512, \"cpus\": \"0\"}}",
                       &object);
    struct vm_size size = {.memory_mib = 616};
    cgroup_limits_plan(&limits, &config, &resources, &size);
    /* the VM, the VMM's 64 and KVM's 1/256 */
    assert_int_equal(limits.memory_limit, (616 + 64 + 2) * MIB);
    assert_int_equal(limits.memory_swap, limits.memory_limit + 256 * MIB);
    assert_int_equal(limits.memory_reservation, (100 + 96 + 64) * MIB);
    assert_int_equal(limits.cpu_quota, 75000);
    assert_int_equal(limits.cpu_shares, 512);
    assert_string_equal(limits.cpus, "0");
    /* a VM larger than its container's limit may hold all of itself */
    size.memory_mib = 4096;
    cgroup_limits_plan(&limits, &config, &resources, &size);
    assert_int_equal(limits.memory_limit, (4096 + 64 + 16) * MIB);
    resources.memory_limit = resources.memory_swap = INT64_MAX;
    cgroup_limits_plan(&limits, &config, &resources, &size);
    assert_int_equal(limits.memory_limit, INT64_MAX);
    host_resources_fini(&resources);
    json_decref(object);
}

static void pods_state_their_size_in_annotations(void **state)
{
    (void)state;
    static const char containerd[] = "{\"io.kubernetes.cri.container-type\": \"sandbox\", "
                                     "\"io.kubernetes.cri.sandbox-memory\": \"1048576\","
                                     " \"io.kubernetes.cri.sandbox-cpu-quota\": \"250000\", "
                                     "\"io.kubernetes.cri.sandbox-cpu-period\": \"100000\"}";
    static const char crio[] =
        "{\"io.kubernetes.cri-o.ContainerType\": \"sandbox\", \"io.kubernetes.cri-o.PodLinuxResources\":"
        " \"{\\\"cpu_period\\\":100000,\\\"cpu_quota\\\":250000,\\\"memory_limit_in_bytes\\\":1048576}\"}";
    static const char container[] = "{\"io.kubernetes.cri.container-type\": \"container\", "
                                    "\"io.kubernetes.cri.sandbox-memory\": \"1048576\"}";
    static const char *const texts[] = {containerd, crio};
    struct error err;
    for (size_t i = 0; i < 2; i++) {
        struct host_resources resources = {.cpu_burst = -1, .cpu_idle = -1};
        json_t *annotations = json_parse_object(texts[i], strlen(texts[i]), &err);
        assert_non_null(annotations);
        assert_int_equal(host_resources_read_sandbox(&resources, annotations, &err), 0);
        assert_int_equal(resources.memory_limit, 1048576);
        assert_int_equal(resources.cpu_quota, 250000);
        assert_int_equal(resources.cpu_period, 100000);
        json_decref(annotations);
    }
    struct host_resources resources = {.cpu_burst = -1, .cpu_idle = -1};
    json_t *annotations = json_parse_object(container, strlen(container), &err);
    assert_int_equal(host_resources_read_sandbox(&resources, annotations, &err), 0);
    assert_false(host_resources_are_set(&resources));
    json_object_set_new(annotations, "io.kubernetes.cri.container-type", json_string("sandbox"));
    json_object_set_new(annotations, "io.kubernetes.cri.sandbox-memory", json_string("1G"));
    assert_int_equal(host_resources_read_sandbox(&resources, annotations, &err), -1);
    assert_string_equal(err.text, "annotation io.kubernetes.cri.sandbox-memory: \"1G\" is no number");
    json_decref(annotations);
}

static void wrong_resources_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"{\"memory\": {\"limit\": \"1G\"}}", "linux.resources.memory.limit"},
        {"{\"memory\": {\"limit\": -2}}", "linux.resources.memory.limit"},
        {"{\"cpu\": {\"period\": 1000001}}", "linux.resources.cpu.period"},
        {"{\"cpu\": {\"cpus\": \"0-\"}}", "linux.resources.cpu.cpus"},
        {"{\"cpu\": {\"mems\": \"a\"}}", "linux.resources.cpu.mems"},
        {"{\"blockIO\": {\"weight\": 5}}", "linux.resources.blockIO.weight"},
        {"{\"blockIO\": {\"throttleReadBpsDevice\": [{\"major\": 8}]}}",
         "linux.resources.blockIO.throttleReadBpsDevice[0].minor"},
        {"{\"unified\": {\"cpuset.cpus\": \"x\"}}", "linux.resources.unified.cpuset.cpus"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct host_resources resources;
        struct error err = {0};
        json_t *object = json_parse_object(cases[i].text, strlen(cases[i].text), &err);
        assert_non_null(object);
        if (host_resources_read(&resources, object, "linux.resources", &err) != -1 ||
            !strstr(err.text, cases[i].error))
            fail_msg("%s: %s", cases[i].text, err.text);
        host_resources_fini(&resources);
        json_decref(object);
    }
}

static void lists_of_numbers(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", ",", "1,", "-1", "3-1", "1-2-3", "9000", "0 1"};
    uint8_t bits[2] = {0};
    assert_int_equal(host_resources_count_list("0", NULL, 0), 1);
    assert_int_equal(host_resources_count_list("0-2,9,1", bits, 16), 4);
    assert_int_equal(bits[0], 7);
    assert_int_equal(bits[1], 2);
    assert_int_equal(host_resources_count_list("8191", bits, 16), 1);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(host_resources_count_list(wrong[i], NULL, 0), -1);
}

static void weights_are_converted_as_by_the_peers(void **state)
{
    (void)state;
    assert_int_equal(cgroup_limits_cpu_weight(2), 1);
    assert_int_equal(cgroup_limits_cpu_weight(1024), 39);
    assert_int_equal(cgroup_limits_cpu_weight(262144), 10000);
    assert_int_equal(cgroup_limits_io_weight(10), 1);
    assert_int_equal(cgroup_limits_io_weight(1000), 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_limits_the_default_holds),
        cmocka_unit_test(vcpus_follow_quota_and_cpuset),
        cmocka_unit_test(memory_holds_limit_and_kernel),
        cmocka_unit_test(stated_sizes_win_within_their_ceilings),
        cmocka_unit_test(ceilings_cut_what_limits_ask_for),
        cmocka_unit_test(a_running_vm_adapts_within_its_ceilings),
        cmocka_unit_test(sizes_survive_json),
        cmocka_unit_test(host_limits_leave_room),
        cmocka_unit_test(pods_state_their_size_in_annotations),
        cmocka_unit_test(wrong_resources_are_named),
        cmocka_unit_test(lists_of_numbers),
        cmocka_unit_test(weights_are_converted_as_by_the_peers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
