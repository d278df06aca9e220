/* Unit tests of shim/network*.c: which namespaces are refused, what is read of one, and that its traffic goes
 * to the tap and back. The "host" is a network namespace of the test's own, the pod's is that of a sleeping
 * child. */
#include "shim/network.h"

#include "common/fd.h"
#include "common/json.h"
#include "shim/netlink.h"
#include "shim/network_internal.h"
#include "shim/network_namespace.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_arp.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <cmocka.h>

#define WAIT_MS 5000

struct fixture {
    pid_t pod;
    char path[64]; /* of the pod's namespace */
    char dir[32];
    int host;   /* the host's namespace, kept while the test is in the pod's */
    int dir_fd; /* stands for the container's directory */
    struct network *network;
};

__attribute__((format(printf, 1, 2))) static int run(const char *format, ...)
{
    char command[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    return system(command);
}

#define IN_POD "nsenter -t %d -n "

static int open_fixture(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    int ready[2];
    char byte;
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    assert_int_equal(pipe(ready), 0);
    fixture->pod = fork();
    if (fixture->pod == 0) {
        if (unshare(CLONE_NEWNET) < 0 || write(ready[1], "", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    fixture->host = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    snprintf(fixture->path, sizeof(fixture->path), "/proc/%d/ns/net", (int)fixture->pod);
    snprintf(fixture->dir, sizeof(fixture->dir), "/tmp/husk-test.XXXXXX");
    assert_non_null(mkdtemp(fixture->dir));
    fixture->dir_fd = open(fixture->dir, O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(run("ip link add host0 type veth peer name eth0 netns %d", (int)fixture->pod), 0);
    assert_int_equal(run("ip link set host0 up; ip addr add 10.5.0.1/16 dev host0"), 0);
    assert_int_equal(run(IN_POD "ip addr add 10.5.0.2/16 dev eth0", (int)fixture->pod), 0);
    assert_int_equal(run(IN_POD "ip link set eth0 mtu 1400 up", (int)fixture->pod), 0);
    *state = fixture;
    return 0;
}

static int close_fixture(void **state)
{
    struct fixture *fixture = *state;
    network_close(fixture->network);
    kill(fixture->pod, SIGKILL);
    waitpid(fixture->pod, NULL, 0);
    unlinkat(fixture->dir_fd, "network.json", 0);
    close(fixture->dir_fd);
    close(fixture->host);
    rmdir(fixture->dir);
    free(fixture);
    return 0;
}

static json_t *make_spec(const char *path)
{
    return path ? json_pack("{s:{s:[{s:s}, {s:s, s:s}]}}", "linux", "namespaces", "type", "pid", "type",
                            "network", "path", path)
                : json_pack("{s:{s:[{s:s}]}}", "linux", "namespaces", "type", "network");
}

static struct network *open_network(struct fixture *fixture, struct error *err)
{
    cleanup_json json_t *spec = make_spec(fixture->path);
    fixture->network = network_open(spec, fixture->dir_fd, 2, err);
    return fixture->network;
}

static void expect_refused(struct fixture *fixture, const char *text)
{
    struct error err = {0};
    assert_null(open_network(fixture, &err));
    if (!strstr(err.text, text))
        fail_msg("'%s' has no '%s'", err.text, text);
    /* The monitor that was in the pod's namespace ends; the test goes on in it. */
    assert_int_not_equal(run("ip -o link | grep -q husk"), 0);
    assert_int_not_equal(run("tc qdisc | grep -q ingress"), 0);
}

static void the_hosts_network_is_refused(void **state)
{
    struct error err = {0};
    const char *path;
    (void)state;
    cleanup_json json_t *none = json_pack("{s:{s:[{s:s}]}}", "linux", "namespaces", "type", "pid");
    assert_int_equal(network_namespace_find(none, &path, &err), -1);
    assert_non_null(strstr(err.text, "host's network"));
    assert_int_equal(network_namespace_open("/proc/self/ns/net", &err), -1);
    assert_non_null(strstr(err.text, "host's"));
    assert_int_equal(network_namespace_open("/proc/self/ns/uts", &err), -1);
    assert_int_equal(err.code, EINVAL);
    assert_int_equal(network_namespace_open("/proc/self/ns/nosuch", &err), -1);
    assert_int_equal(err.code, ENOENT);
}

static void a_namespace_entry_must_be_one(void **state)
{
    struct error err = {0};
    const char *path;
    (void)state;
    cleanup_json json_t *number = json_pack("{s:{s:[i]}}", "linux", "namespaces", 7);
    assert_int_equal(network_namespace_find(number, &path, &err), -1);
    cleanup_json json_t *path_is_number =
        json_pack("{s:{s:[{s:s, s:i}]}}", "linux", "namespaces", "type", "network", "path", 7);
    assert_int_equal(network_namespace_find(path_is_number, &path, &err), -1);
    cleanup_json json_t *empty =
        json_pack("{s:{s:[{s:s, s:s}]}}", "linux", "namespaces", "type", "network", "path", "");
    assert_int_equal(network_namespace_find(empty, &path, &err), 0);
    assert_null(path);
}

static void a_namespace_without_path_is_made_with_lo_up(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    unsigned count = 9;
    cleanup_json json_t *spec = make_spec(NULL);
    fixture->network = network_open(spec, fixture->dir_fd, 1, &err);
    assert_non_null(fixture->network);
    network_nics(fixture->network, &count);
    assert_int_equal(count, 0);
    assert_int_equal(run("ip link show lo | grep -q LOOPBACK,UP"), 0);
    assert_int_not_equal(run("ip link show host0 > /dev/null 2>&1"), 0);
    assert_int_equal(faccessat(fixture->dir_fd, "network.json", F_OK, 0), -1);
    assert_int_equal(setns(network_runtime_fd(fixture->network), CLONE_NEWNET), 0);
    assert_int_equal(run("ip link show host0 > /dev/null"), 0);
}

struct packet {
    struct virtio_net_hdr_mrg_rxbuf header;
    unsigned char frame[2048];
};

/* The next ARP frame that comes out of the tap. */
static void read_arp(const struct vmm_net *net, struct packet *packet)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = net->tap[0], .events = POLLIN}, {.fd = net->tap[1], .events = POLLIN}};
        assert_true(poll(fds, 2, WAIT_MS) > 0);
        int from = fds[0].revents & POLLIN ? net->tap[0] : net->tap[1];
        assert_true(read(from, packet, sizeof(*packet)) > (ssize_t)(sizeof(packet->header) + ETH_HLEN));
        if (packet->frame[12] == 0x08 && packet->frame[13] == 0x06)
            return;
    }
}

/* Turns the request for 10.5.0.2 into its answer by `mac`. */
static void answer_arp(const struct vmm_net *net, struct packet *packet, const unsigned char mac[ETH_ALEN])
{
    unsigned char *arp = packet->frame + ETH_HLEN, addresses[10];
    memcpy(addresses, arp + 8, sizeof(addresses)); /* the asker's */
    memcpy(packet->frame, addresses, ETH_ALEN);
    memcpy(packet->frame + ETH_ALEN, mac, ETH_ALEN);
    arp[7] = ARPOP_REPLY;
    memcpy(arp + 8, mac, ETH_ALEN);
    memcpy(arp + 14, arp + 24, 4);
    memcpy(arp + 18, addresses, sizeof(addresses));
    ssize_t length = (ssize_t)sizeof(packet->header) + ETH_HLEN + 28;
    memset(&packet->header, 0, sizeof(packet->header));
    assert_int_equal(write(net->tap[0], packet, (size_t)length), length);
}

static void traffic_goes_to_the_tap_and_back_and_the_hosts_stack_is_silent(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    struct packet packet;
    unsigned count;
    if (!open_network(fixture, &err))
        fail_msg("%s", err.text);
    const struct vmm_net *nets = network_nics(fixture->network, &count);
    assert_int_equal(count, 1);
    assert_int_equal(nets[0].queues, 2);
    assert_int_equal(run("ip -o link show eth0 | grep -q %02x:%02x:%02x:%02x:%02x:%02x", nets[0].mac[0],
                         nets[0].mac[1], nets[0].mac[2], nets[0].mac[3], nets[0].mac[4], nets[0].mac[5]),
                     0);
    assert_int_equal(run("ip -o link show type tun | grep -q 'husk.*mtu 1400'"), 0);
    assert_int_equal(run("ip -6 -o addr show | grep -q husk"), 256); /* the tap has no address of its own */

    assert_int_equal(setns(network_runtime_fd(fixture->network), CLONE_NEWNET), 0);
    assert_int_equal(run("ping -c 1 -W 1 10.5.0.2 > /dev/null"), 256); /* nobody answers but a guest */
    run("(ping -c 1 -W 5 10.5.0.2 > /dev/null 2>&1) &");
    read_arp(&nets[0], &packet);
    answer_arp(&nets[0], &packet, nets[0].mac);
    for (int i = 0; i < 100 && run("ip neigh show 10.5.0.2 | grep -q lladdr") != 0; i++)
        poll(NULL, 0, 20);
    assert_int_equal(run("ip neigh show 10.5.0.2 | grep -q lladdr"), 0);
}

/* The next IPv4 frame that comes out of the tap. */
static size_t read_ipv4(const struct vmm_net *net, struct packet *packet)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = net->tap[0], .events = POLLIN}, {.fd = net->tap[1], .events = POLLIN}};
        assert_true(poll(fds, 2, WAIT_MS) > 0);
        ssize_t got = read(fds[0].revents & POLLIN ? net->tap[0] : net->tap[1], packet, sizeof(*packet));
        assert_true(got > (ssize_t)(sizeof(packet->header) + ETH_HLEN + 28));
        if (packet->frame[12] == 0x08 && packet->frame[13] == 0x00)
            return (size_t)got;
    }
}

/* Turns an echo request into its answer, sent to a router as a guest does it. */
static void answer_ping(const struct vmm_net *net, struct packet *packet, size_t length)
{
    static const unsigned char router[ETH_ALEN] = {0x02, 0, 0, 0, 0, 0x01};
    unsigned char *ip = packet->frame + ETH_HLEN, source[4];
    memcpy(packet->frame, router, ETH_ALEN);
    memcpy(packet->frame + ETH_ALEN, net->mac, ETH_ALEN);
    memcpy(source, ip + 12, sizeof(source));
    memcpy(ip + 12, ip + 16, sizeof(source));
    memcpy(ip + 16, source, sizeof(source));
    ip[20] = 0; /* type 0, echo reply: the sum (RFC 1624) grows by what the word lost */
    unsigned sum = (unsigned)ip[22] << 8 | ip[23];
    sum += 0x0800;
    sum = (sum & 0xffff) + (sum >> 16);
    ip[22] = (unsigned char)(sum >> 8);
    ip[23] = (unsigned char)sum;
    memset(&packet->header, 0, sizeof(packet->header));
    assert_int_equal(write(net->tap[0], packet, length), length);
}

/* Kernels without the action skbedit do without this. */
static void connections_from_within_reach_the_guest(void **state)
{
    struct fixture *fixture = *state;
    static const unsigned char wanted[] = {169, 254, 104, 117, 10, 5, 0, 2};
    struct error err = {0};
    struct packet packet;
    unsigned count;
    const struct network *network = open_network(fixture, &err);
    assert_non_null(network);
    if (!network->nics[0].local)
        skip();
    const struct vmm_net *net = network_nics(network, &count);
    FILE *ping = popen("ping -c 1 -W 5 10.5.0.2 > /dev/null", "r");
    assert_non_null(ping);
    size_t length = read_ipv4(net, &packet);
    assert_memory_equal(packet.frame, net->mac, ETH_ALEN);
    assert_memory_equal(packet.frame + ETH_HLEN + 12, wanted, sizeof(wanted));
    answer_ping(net, &packet, length);
    assert_int_equal(pclose(ping), 0);
}

/* "dev NAME" of the way to an address. */
static bool goes_through(const char *address, const char *device)
{
    return run("ip route get %s | grep -q 'dev %s'", address, device) == 0;
}

static void connections_from_within_follow_the_addresses(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    json_t *params = NULL;
    struct network *network = open_network(fixture, &err);
    assert_non_null(network);
    if (!network->nics[0].local)
        skip();
    assert_true(goes_through("10.5.0.2", "husk0"));
    assert_int_equal(run("ip addr add 10.5.0.3/16 dev eth0"), 0);
    for (int i = 0; i < 2; i++) { /* a second time without effect */
        assert_int_equal(network_update(network, -1, &params, &err), 0);
        json_decref(params);
        assert_true(goes_through("10.5.0.3", "husk0"));
    }
    assert_int_equal(run("ip addr del 10.5.0.3/16 dev eth0"), 0);
    assert_int_equal(network_update(network, -1, &params, &err), 0);
    json_decref(params);
    assert_true(goes_through("10.5.0.3", "eth0"));
    assert_true(goes_through("10.5.0.2", "husk0"));
    network_close(take_ptr(&fixture->network));
    assert_true(goes_through("10.5.0.2", "lo"));
    assert_int_equal(
        run("ip route show table local | grep -q 'local 10.5.0.2 dev eth0 proto kernel scope host "
            "src 10.5.0.2'"),
        0);
}

static void nothing_stays_when_it_is_closed(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    assert_non_null(open_network(fixture, &err));
    assert_int_equal(run("tc qdisc show dev eth0 | grep -q ingress"), 0);
    network_close(take_ptr(&fixture->network));
    assert_int_not_equal(run("tc qdisc | grep -q ingress"), 0);
    assert_int_not_equal(run("ip -o link | grep -q husk"), 0);
    assert_int_equal(run("ip addr show eth0 | grep -q 10.5.0.2"), 0);
}

/* A later command cleans up after a monitor that was killed; someone else's filter on the same hook stays. */
static void what_a_killed_monitor_left_is_cleaned(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    assert_int_equal(run(IN_POD "tc qdisc add dev eth0 clsact", (int)fixture->pod), 0);
    assert_int_equal(run(IN_POD
                         "tc filter add dev eth0 ingress prio 5 u32 match ip dport 9 0xffff flowid 1:1",
                         (int)fixture->pod),
                     0);
    assert_non_null(open_network(fixture, &err));
    int home = network_runtime_fd(fixture->network);
    assert_int_equal(run("tc filter show dev eth0 ingress | grep -q mirred"), 0);
    assert_int_equal(setns(home, CLONE_NEWNET), 0);
    network_clean(fixture->dir_fd);
    assert_int_not_equal(run(IN_POD "tc filter show dev eth0 ingress | grep -q mirred", (int)fixture->pod),
                         0);
    assert_int_equal(run(IN_POD "ip route get 10.5.0.2 | grep -q 'dev lo'", (int)fixture->pod), 0);
    assert_int_equal(run(IN_POD "tc filter show dev eth0 ingress | grep -q flowid", (int)fixture->pod), 0);
    assert_int_equal(run("ip link show host0 > /dev/null"), 0); /* back in its own namespace */
}

static void two_sandboxes_can_not_share_a_namespace(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    assert_int_equal(run(IN_POD "ip tuntap add husk0 mode tap", (int)fixture->pod), 0);
    assert_null(open_network(fixture, &err));
    assert_int_equal(err.code, EBUSY);
}

static void an_interface_that_can_not_be_carried_over_is_named(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(run(IN_POD "ip tuntap add tun5 mode tun", (int)fixture->pod), 0);
    assert_int_equal(run(IN_POD "ip link set tun5 up", (int)fixture->pod), 0);
    expect_refused(fixture, "interface tun5: only Ethernet");
}

static const json_t *find_by(const json_t *list, const char *key, const char *value)
{
    const json_t *entry;
    for (size_t i = 0; (entry = json_array_get(list, i)) != NULL; i++) {
        const char *text = json_string_value(json_object_get(entry, key));
        if (text && strcmp(text, value) == 0)
            return entry;
    }
    fail_msg("nothing has %s %s", key, value);
    return NULL;
}

static json_int_t number(const json_t *entry, const char *key)
{
    return json_integer_value(json_object_get(entry, key));
}

static void what_the_agent_is_told_is_what_the_namespace_has(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    struct network_snapshot snapshot;
    int pod = (int)fixture->pod;
    run(IN_POD "ip addr add 10.6.0.1 peer 10.6.0.9/32 dev eth0", pod);
    run(IN_POD "ip -6 addr add fd05::2/64 dev eth0 nodad", pod);
    run(IN_POD "ip route add default via 10.5.0.1", pod);
    run(IN_POD "ip route add 10.7.0.0/16 via 10.5.0.3 metric 5 mtu 1300 table 1000", pod);
    run(IN_POD "ip route add 10.8.0.0/16 nexthop via 10.5.0.3 weight 2 nexthop via 10.5.0.4", pod);
    run(IN_POD "ip route add blackhole 192.0.2.0/24", pod);
    run(IN_POD "ip route add 10.9.0.0/16 via inet6 fd05::9 dev eth0", pod);
    run(IN_POD "ip -6 route add fd09::/64 from fd05::/64 via fd05::3 dev eth0", pod);
    run(IN_POD "ip rule add from 10.5.0.2/31 fwmark 0x10/0xf0 dport 80-90 table 1000 priority 100", pod);
    run(IN_POD "ip rule add table local priority 7", pod);
    run(IN_POD "ip neigh add 10.5.0.9 lladdr 02:00:00:00:00:99 nud permanent dev eth0", pod);
    assert_non_null(open_network(fixture, &err));
    assert_int_equal(network_snapshot_take(&snapshot, fixture->network->socket, &err), 0);
    cleanup_json json_t *params = network_describe_snapshot(fixture->network, &snapshot, &err);
    network_snapshot_fini(&snapshot);

    const json_t *eth0 = find_by(json_object_get(params, "interfaces"), "name", "eth0");
    const json_t *addresses = json_object_get(eth0, "addresses"), *routes = json_object_get(params, "routes");
    assert_int_equal(number(eth0, "mtu"), 1400);
    assert_true(json_is_true(json_object_get(eth0, "up")));
    assert_int_equal(number(find_by(addresses, "address", "10.5.0.2"), "prefix"), 16);
    find_by(addresses, "peer", "10.6.0.9");
    find_by(addresses, "address", "fd05::2");
    find_by(json_object_get(eth0, "neighbours"), "mac", "02:00:00:00:00:99");
    assert_string_equal(
        json_string_value(json_object_get(find_by(routes, "destination", "0.0.0.0/0"), "gateway")),
        "10.5.0.1");
    const json_t *policy = find_by(routes, "destination", "10.7.0.0/16");
    assert_int_equal(number(policy, "table"), 1000);
    assert_int_equal(number(policy, "metric"), 5);
    const json_t *hops = json_object_get(find_by(routes, "destination", "10.8.0.0/16"), "nexthops");
    assert_int_equal(json_array_size(hops), 2);
    assert_int_equal(number(find_by(hops, "gateway", "10.5.0.3"), "weight"), 2);
    assert_int_equal(number(find_by(hops, "gateway", "10.5.0.4"), "weight"), 1);
    assert_string_equal(
        json_string_value(json_object_get(find_by(routes, "destination", "10.9.0.0/16"), "gateway")),
        "fd05::9");
    assert_string_equal(
        json_string_value(json_object_get(find_by(routes, "destination", "fd09::/64"), "from")), "fd05::/64");
    assert_int_equal(number(find_by(routes, "destination", "192.0.2.0/24"), "type"), RTN_BLACKHOLE);
    const json_t *rules = json_object_get(params, "rules"), *rule = find_by(rules, "from", "10.5.0.2/31");
    assert_int_equal(json_array_size(rules), 2);
    assert_int_equal(number(rule, "priority"), 100);
    assert_int_equal(number(rule, "mark"), 0x10);
    assert_int_equal(number(rule, "mask"), 0xf0);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(rule, "destination_ports"), 1)), 90);
    /* The local table a second time is not one of the rules that every namespace has. */
    assert_int_equal(
        number(json_array_get(rules, 0), "priority") + number(json_array_get(rules, 1), "priority"), 107);
    /* Of its own there are none: local routes and taps are not the guest's. */
    for (size_t i = 0; i < json_array_size(routes); i++)
        assert_int_not_equal(number(json_array_get(routes, i), "table"), RT_TABLE_LOCAL);
    assert_int_equal(json_array_size(json_object_get(params, "interfaces")), 2);
}

int main(void)
{
    if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) < 0 ||
        system("ip -V > /dev/null 2>&1 && tc -V > /dev/null 2>&1 && ping -V > /dev/null 2>&1") != 0 ||
        unshare(CLONE_NEWNET) < 0 || system("ip link add test0 type veth peer name test1 2> /dev/null") != 0)
        return 77;
#define NETWORK_TEST(function) cmocka_unit_test_setup_teardown(function, open_fixture, close_fixture)
    const struct CMUnitTest tests[] = {
        NETWORK_TEST(the_hosts_network_is_refused),
        NETWORK_TEST(a_namespace_entry_must_be_one),
        NETWORK_TEST(a_namespace_without_path_is_made_with_lo_up),
        NETWORK_TEST(traffic_goes_to_the_tap_and_back_and_the_hosts_stack_is_silent),
        NETWORK_TEST(connections_from_within_reach_the_guest),
        NETWORK_TEST(connections_from_within_follow_the_addresses),
        NETWORK_TEST(nothing_stays_when_it_is_closed),
        NETWORK_TEST(what_a_killed_monitor_left_is_cleaned),
        NETWORK_TEST(two_sandboxes_can_not_share_a_namespace),
        NETWORK_TEST(an_interface_that_can_not_be_carried_over_is_named),
        NETWORK_TEST(what_the_agent_is_told_is_what_the_namespace_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
