/* Unit tests of agent/network*.c: what a request makes of a network namespace, and what a hostile host may
 * ask for. In a namespace of the test's own, where taps stand for NICs. */
#include "agent/network.h"

#include "agent/network_link.h"
#include "common/fd.h"
#include "common/json.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <cmocka.h>

#define MAC_0 "02:00:00:00:00:10"
#define MAC_1 "02:00:00:00:00:11"

struct fixture {
    int nics[2];
    struct network *network;
};

static void run(const char *command)
{
    if (system(command) != 0)
        fail_msg("%s", command);
}

/* A tap called `name` with a MAC, carrier on. */
static int make_nic(const char *name, const char *mac)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    char command[128];
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
    snprintf(command, sizeof(command), "ip link set %s address %s", name, mac);
    run(command);
    return fd;
}

static int open_fixture(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    /* /sys and /proc/sys are of the namespace that they are looked at from; /sys by the mount. */
    fixture->nics[0] = make_nic("eth0", MAC_0);
    fixture->nics[1] = make_nic("eth1", MAC_1);
    *state = fixture;
    return 0;
}

static int close_fixture(void **state)
{
    struct fixture *fixture = *state;
    network_free(fixture->network);
    close(fixture->nics[0]);
    close(fixture->nics[1]);
    free(fixture);
    return 0;
}

/* Applies a request, which must succeed. */
static void set(struct fixture *fixture, const char *text)
{
    struct error err = {0};
    json_t *removed = NULL;
    cleanup_json json_t *params = json_parse_object(text, strlen(text), &err);
    if (!params || network_set(&fixture->network, params, &removed, &err) < 0)
        fail_msg("%s", err.text);
    json_decref(removed);
}

/* Applies a request, which must fail with that text in its error. */
static void set_fails(struct fixture *fixture, const char *text, const char *expected)
{
    struct error err = {0};
    json_t *removed = NULL;
    cleanup_json json_t *params = json_parse_object(text, strlen(text), &err);
    assert_non_null(params);
    if (network_set(&fixture->network, params, &removed, &err) == 0)
        fail_msg("done, '%s' was due: %s", expected, text);
    assert_null(removed);
    if (!strstr(err.text, expected))
        fail_msg("'%s' has no '%s'", err.text, expected);
}

/* The output of a command has, or has not, that text. */
static bool shows(const char *command, const char *text)
{
    char output[16384];
    FILE *pipe = popen(command, "re");
    assert_non_null(pipe);
    size_t length = fread(output, 1, sizeof(output) - 1, pipe);
    output[length] = '\0';
    pclose(pipe);
    return strstr(output, text) != NULL;
}

static void expect(const char *command, const char *text)
{
    if (!shows(command, text)) {
        run(command);
        fail_msg("%s: no '%s'", command, text);
    }
}

static void expect_not(const char *command, const char *text)
{
    if (shows(command, text))
        fail_msg("%s: '%s'", command, text);
}

#define INTERFACE_HEAD "{\"id\": 7, \"name\": \"net0\", \"mac\": \"" MAC_1 "\", \"up\": true, "

static void an_interface_gets_its_name_mtu_addresses_and_routes(void **state)
{
    struct fixture *fixture = *state;
    set(fixture,
        "{\"interfaces\": [" INTERFACE_HEAD "\"mtu\": 1400, \"queue_length\": 77,"
        "  \"sysctls\": {\"ipv4\": {\"rp_filter\": 2, \"of_a_newer_kernel\": 1}, \"ipv6\": {\"accept_ra\": "
        "0}},"
        "  \"addresses\": [{\"address\": \"10.5.0.2\", \"prefix\": 16, \"scope\": 0, \"flags\": 0, "
        "\"label\": \"net0\","
        "                   \"broadcast\": \"10.5.255.255\"},"
        "                  {\"address\": \"fd05::2\", \"prefix\": 64, \"scope\": 0, \"flags\": 0},"
        "                  {\"address\": \"10.6.0.1\", \"peer\": \"10.6.0.2\", \"prefix\": 32}],"
        "  \"neighbours\": [{\"address\": \"10.5.0.9\", \"mac\": \"02:00:00:00:00:99\", \"flags\": 0}]}],"
        " \"routes\": [{\"destination\": \"0.0.0.0/0\", \"gateway\": \"10.5.0.1\", \"interface\": 7, "
        "\"table\": 254, \"type\": 1},"
        "   {\"destination\": \"10.5.0.0/16\", \"interface\": 7, \"protocol\": 2, \"scope\": 253, \"type\": "
        "1, \"source\": \"10.5.0.2\"},"
        "   {\"destination\": \"fd05::/64\", \"interface\": 7, \"protocol\": 2, \"metric\": 256, \"type\": "
        "1},"
        "   {\"destination\": \"10.7.0.0/16\", \"interface\": 7, \"table\": 1000, \"protocol\": 3, "
        "\"metric\": 50, \"type\": "
        "1, \"scope\": 253,"
        "    \"metrics\": [[2, 1300]]},"
        "   {\"destination\": \"10.8.0.0/16\", \"type\": 1, \"nexthops\": [{\"interface\": 7, \"gateway\": "
        "\"10.5.0.3\", \"weight\": 2},"
        "    {\"interface\": 7, \"gateway\": \"10.5.0.4\", \"weight\": 1}]},"
        "   {\"destination\": \"10.9.0.0/16\", \"gateway\": \"fd05::1\", \"interface\": 7, \"type\": 1},"
        "   {\"destination\": \"192.0.2.0/24\", \"type\": 6}],"
        " \"rules\": [{\"family\": 4, \"action\": 1, \"priority\": 100, \"table\": 1000, \"from\": "
        "\"10.5.0.2/32\"}]}");
    expect("ip link show net0", "mtu 1400");
    expect("ip link show net0", "qlen 77");
    expect("ip link show net0", MAC_1);
    expect("ip addr show net0", "inet 10.5.0.2/16 brd 10.5.255.255 scope global net0");
    expect("ip addr show net0", "inet 10.6.0.1 peer 10.6.0.2/32");
    expect("ip addr show net0", "inet6 fd05::2/64 scope global \n"); /* neither tentative nor nodad */
    expect_not("ip addr show net0", "fe80::");                       /* none was asked for */
    expect("ip route", "default via 10.5.0.1 dev net0");
    expect("ip route show table 1000", "10.7.0.0/16 dev net0 scope link metric 50 ");
    expect("ip route show table 1000", "mtu 1300");
    expect("ip route", "nexthop via 10.5.0.3 dev net0 weight 2");
    expect("ip route", "10.9.0.0/16 via inet6 fd05::1 dev net0");
    expect("ip route", "blackhole 192.0.2.0/24");
    expect("ip -6 route", "fd05::/64 dev net0 proto kernel metric 256");
    expect("ip rule", "100:\tfrom 10.5.0.2 lookup 1000");
    expect("ip neigh", "10.5.0.9 dev net0 lladdr 02:00:00:00:00:99 PERMANENT");
    expect("cat /proc/sys/net/ipv4/conf/net0/rp_filter", "2");
    expect("cat /proc/sys/net/ipv6/conf/net0/accept_ra", "0");
}

static void only_what_the_host_made_is_changed(void **state)
{
    struct fixture *fixture = *state;
    set(fixture,
        "{\"interfaces\": [" INTERFACE_HEAD
        "\"mtu\": 1500, \"addresses\": [{\"address\": \"10.5.0.2\", \"prefix\": 16}]}],"
        " \"routes\": [{\"destination\": \"10.5.0.0/16\", \"interface\": 7, \"protocol\": 2, \"scope\": 253, "
        "\"type\": 1},"
        "  {\"destination\": \"0.0.0.0/0\", \"gateway\": \"10.5.0.1\", \"interface\": 7, \"type\": 1}]}");
    run("ip addr add 10.44.0.1/24 dev net0"); /* by the container itself */
    run("ip route add 10.45.0.0/16 via 10.5.0.77");
    set(fixture,
        "{\"interfaces\": [" INTERFACE_HEAD
        "\"mtu\": 1480, \"addresses\": [{\"address\": \"10.5.0.3\", \"prefix\": 16}]}],"
        " \"routes\": [{\"destination\": \"10.5.0.0/16\", \"interface\": 7, \"protocol\": 2, \"scope\": 253, "
        "\"type\": 1},"
        "  {\"destination\": \"0.0.0.0/0\", \"gateway\": \"10.5.0.254\", \"interface\": 7, \"type\": 1}]}");
    expect("ip link show net0", "mtu 1480");
    expect("ip addr", "10.5.0.3/16");
    expect_not("ip addr", "10.5.0.2/16");
    expect("ip route", "default via 10.5.0.254");
    expect_not("ip route", "default via 10.5.0.1 ");
    expect("ip addr", "10.44.0.1/24");
}

static void the_kernels_own_route_goes_when_the_host_has_it_not(void **state)
{
    struct fixture *fixture = *state;
    set(fixture, "{\"interfaces\": [" INTERFACE_HEAD
                 "\"mtu\": 1500, \"addresses\": [{\"address\": \"10.5.0.2\", \"prefix\": 16},"
                 "{\"address\": \"fd05::2\", \"prefix\": 64}]}], \"routes\": []}");
    expect("ip addr", "10.5.0.2/16");
    expect_not("ip route", "10.5.0.0/16");
    expect_not("ip -6 route", "fd05::/64");
}

static void names_may_be_exchanged(void **state)
{
    struct fixture *fixture = *state;
    set(fixture, "{\"interfaces\": [{\"id\": 1, \"name\": \"eth1\", \"mac\": \"" MAC_0
                 "\", \"mtu\": 1500, \"up\": true},"
                 "{\"id\": 2, \"name\": \"eth0\", \"mac\": \"" MAC_1 "\", \"mtu\": 1500, \"up\": false}]}");
    expect("ip link show eth1", MAC_0);
    expect("ip link show eth0", MAC_1);
    expect("ip link show eth1", ",UP");
    expect_not("ip link show eth0", ",UP");
}

static void lo_takes_addresses_and_stays_up(void **state)
{
    struct fixture *fixture = *state;
    run("ip link set lo up");
    set(fixture,
        "{\"interfaces\": [{\"id\": 1, \"name\": \"lo\", \"loopback\": true, \"mtu\": 65536, \"up\": false,"
        "\"addresses\": [{\"address\": \"10.99.0.1\", \"prefix\": 32}]}]}");
    expect("ip addr show lo", "10.99.0.1/32");
    expect("ip link show lo", ",UP");
}

static void a_failure_names_its_thing_and_the_rest_is_done(void **state)
{
    struct fixture *fixture = *state;
    set_fails(fixture,
              "{\"interfaces\": [{\"id\": 3, \"name\": \"gone\", \"mac\": \"02:00:00:00:00:55\", \"mtu\": "
              "1500}," INTERFACE_HEAD "\"mtu\": 1500}]}",
              "interface gone: no NIC has its MAC");
    expect("ip link show net0", MAC_1);
    set_fails(fixture,
              "{\"interfaces\": [" INTERFACE_HEAD
              "\"mtu\": 1500}], \"routes\": [{\"destination\": \"10.1.0.0/16\","
              " \"gateway\": \"10.200.0.1\", \"interface\": 7, \"type\": 1}]}",
              "route 10.1.0.0/16");
}

static void what_a_hostile_host_asks_for_is_refused(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *params, *error;
    } cases[] = {
        {"{\"interfaces\": {}}", "interfaces"},
        {"{\"interfaces\": [1]}", "interfaces[0]"},
        {"{\"interfaces\": [{\"id\": 0, \"name\": \"a\", \"mac\": \"" MAC_0 "\"}]}", "interface.id"},
        {"{\"interfaces\": [{\"id\": 9, \"name\": \"../../x\", \"mac\": \"" MAC_0 "\"}]}", "interface.name"},
        {"{\"interfaces\": [{\"id\": 9, \"name\": \"seventeen-letters\", \"mac\": \"" MAC_0 "\"}]}",
         "interface.name"},
        {"{\"interfaces\": [{\"id\": 9, \"name\": \"a\", \"mac\": \"nothing\"}]}", "interface.mac"},
        {"{\"interfaces\": [{\"id\": 9, \"name\": \"a\", \"mac\": \"" MAC_0 "\", \"device\": \"../x\"}]}",
         "interface.device"},
        {"{\"interfaces\": [{\"id\": 9, \"name\": \"a\", \"mac\": \"" MAC_0
         "\", \"sysctls\": {\"ipv4\": {\"../../../../kernel/core_pattern\": 1}}}]}",
         "sysctls.ipv4"},
        {"{\"interfaces\": [{\"id\": 9, \"name\": \"a\", \"mac\": \"" MAC_0
         "\", \"addresses\": [{\"address\": \"10.0.0.0.0\"}]}]}",
         "address.address"},
        {"{\"routes\": [{\"destination\": \"10.0.0.0/33\"}]}", "route.destination"},
        {"{\"routes\": [{\"destination\": \"10.0.0.0\"}]}", "route.destination"},
        {"{\"routes\": [{\"destination\": \"10.0.0.0/8\", \"interface\": 1234}]}", "route.interface"},
        {"{\"routes\": [{\"destination\": \"10.0.0.0/8\", \"metrics\": [[99, 1]]}]}", "route.metrics[0]"},
        {"{\"routes\": [{\"destination\": \"10.0.0.0/8\", \"nexthops\": [7]}]}", "route.nexthops"},
        {"{\"routes\": [{\"destination\": \"fd00::/8\", \"source\": \"10.0.0.1\"}]}",
         "route.source: wrong family"},
        {"{\"rules\": [{\"family\": 5}]}", "rule"},
        {"{\"rules\": [{\"family\": 4, \"source_ports\": [9, 1]}]}", "rule.source_ports"},
        {"{\"rules\": [{\"family\": 4, \"from\": \"fd00::/64\"}]}", "rule.from"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        set_fails(fixture, cases[i].params, cases[i].error);
        network_free(take_ptr(&fixture->network)); /* a tap can't be unplugged as a NIC can */
    }
}

static void a_message_that_would_not_fit_is_not_sent(void **state)
{
    struct fixture *fixture = *state;
    cleanup_json json_t *hops = json_array();
    for (int i = 0; i < 65; i++)
        json_array_append_new(hops, json_pack("{s:s}", "gateway", "10.5.0.1"));
    cleanup_json json_t *params =
        json_pack("{s:[{s:s, s:O}]}", "routes", "destination", "10.0.0.0/8", "nexthops", hops);
    struct error err;
    json_t *removed = NULL;
    assert_int_equal(network_set(&fixture->network, params, &removed, &err), -1);
    assert_int_equal(err.code, E2BIG);
}

int main(void)
{
    if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) < 0 || system("ip -V > /dev/null 2>&1") != 0)
        return 77;
#define NETWORK_TEST(function) cmocka_unit_test_setup_teardown(function, open_fixture, close_fixture)
    const struct CMUnitTest tests[] = {
        NETWORK_TEST(an_interface_gets_its_name_mtu_addresses_and_routes),
        NETWORK_TEST(only_what_the_host_made_is_changed),
        NETWORK_TEST(the_kernels_own_route_goes_when_the_host_has_it_not),
        NETWORK_TEST(names_may_be_exchanged),
        NETWORK_TEST(lo_takes_addresses_and_stays_up),
        NETWORK_TEST(a_failure_names_its_thing_and_the_rest_is_done),
        NETWORK_TEST(what_a_hostile_host_asks_for_is_refused),
        NETWORK_TEST(a_message_that_would_not_fit_is_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
