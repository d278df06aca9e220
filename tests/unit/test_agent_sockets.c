/* Unit tests of agent/sockets.c: sockets with the host's addresses, in a network namespace that nobody else
 * has. */
#include "agent/sockets.h"
#include "common/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

static struct socket_peer end_of(const char *json)
{
    struct socket_peer peer;
    struct error err = {0};
    json_t *object = json_loads(json, 0, NULL);
    assert_non_null(object);
    if (socket_peer_parse(object, "peer", &peer, &err) < 0)
        fail_msg("%s", err.text);
    json_decref(object);
    return peer;
}

static ino_t own_namespace(void)
{
    struct stat status;
    assert_int_equal(stat("/proc/thread-self/ns/net", &status), 0);
    return status.st_ino;
}

static void expect_address(int fd, int (*ask)(int, struct sockaddr *, socklen_t *), const char *text)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    char ip[INET6_ADDRSTRLEN], got[INET6_ADDRSTRLEN + 8];
    assert_int_equal(ask(fd, (struct sockaddr *)&address, &length), 0);
    bool is_ipv4 = address.ss_family == AF_INET;
    const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)&address;
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)&address;
    inet_ntop(address.ss_family, is_ipv4 ? (const void *)&ipv4->sin_addr : &ipv6->sin6_addr, ip, sizeof(ip));
    snprintf(got, sizeof(got), "%s %d", ip, ntohs(is_ipv4 ? ipv4->sin_port : ipv6->sin6_port));
    assert_string_equal(got, text);
}

/* At once, or when the kernel comes to it. */
static void expect_refused(const struct socket_address *address, const struct socket_peer *peer)
{
    struct error err = {0};
    socklen_t length = sizeof(err.code);
    cleanup_fd int fd = sockets_connect(address, peer, &err);
    if (fd >= 0) {
        poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 10000);
        assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &err.code, &length), 0);
    }
    assert_int_equal(err.code, ECONNREFUSED);
}

/* Who accepts sees the host's addresses; none of them is this machine's. */
static void a_connection_has_the_hosts_addresses(void **state)
{
    static const struct {
        const char *listen, *local, *peer, *name, *peer_name;
    } cases[] = {
        {"{\"family\": \"ipv4\", \"address\": \"0.0.0.0\", \"port\": 80}",
         "{\"family\": \"ipv4\", \"address\": \"192.0.2.1\", \"port\": 80}",
         "{\"family\": \"ipv4\", \"address\": \"198.51.100.7\", \"port\": 4000}", "192.0.2.1 80",
         "198.51.100.7 4000"},
        {"{\"family\": \"ipv6\", \"address\": \"2001:db8::1\", \"port\": 81}",
         "{\"family\": \"ipv6\", \"address\": \"2001:db8::1\", \"port\": 81}",
         "{\"family\": \"ipv6\", \"address\": \"2001:db8::2\", \"port\": 4001}", "2001:db8::1 81",
         "2001:db8::2 4001"},
        {"{\"family\": \"ipv6\", \"address\": \"::\", \"port\": 82}",
         "{\"family\": \"ipv6\", \"address\": \"::ffff:192.0.2.1\", \"port\": 82}",
         "{\"family\": \"ipv6\", \"address\": \"::ffff:198.51.100.7\", \"port\": 4002}",
         "::ffff:192.0.2.1 82", "::ffff:198.51.100.7 4002"},
    };
    (void)state;
    ino_t own = own_namespace();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};
        struct socket_peer at = end_of(cases[i].listen), local = end_of(cases[i].local),
                           peer = end_of(cases[i].peer);
        cleanup_fd int listener = sockets_listen(&at.address, false, &err);
        cleanup_fd int ours = listener < 0 ? -1 : sockets_connect(&local.address, &peer, &err);
        if (ours < 0)
            fail_msg("case %zu: %s", i, err.text);
        cleanup_fd int theirs = accept(listener, NULL, NULL);
        assert_true(theirs >= 0);
        expect_address(theirs, getsockname, cases[i].name);
        expect_address(theirs, getpeername, cases[i].peer_name);
        /* The same peer again, while that one lives: a port of its own, but a connection. */
        cleanup_fd int again = sockets_connect(&local.address, &peer, &err);
        assert_true(again >= 0);
        fd_close(&listener);
        fd_close(&again);
        expect_refused(&local.address, &peer);
    }
    assert_true(own_namespace() == own);
}

static void a_unix_peer_is_who_the_host_says(void **state)
{
    struct error err = {0};
    struct ucred credentials;
    socklen_t length = sizeof(credentials);
    struct socket_peer peer = end_of("{\"family\": \"unix\", \"uid\": 1234, \"gid\": 4321}");
    int theirs = -1;
    (void)state;
    cleanup_fd int ours = sockets_pair(&peer.address, &peer, &theirs, &err);
    assert_true(ours >= 0);
    assert_int_equal(getsockopt(theirs, SOL_SOCKET, SO_PEERCRED, &credentials, &length), 0);
    assert_true(credentials.uid == 1234 && credentials.gid == 4321);
    assert_true(geteuid() == 0 && getegid() == 0);
    assert_int_equal(send(ours, "x", 1, 0), 1);
    char byte;
    assert_int_equal(recv(theirs, &byte, 1, 0), 1);
    close(theirs);
}

static void what_is_no_address_is_refused(void **state)
{
    static const char *const bad[][2] = {
        {"{}", "peer.family"},
        {"{\"family\": \"vsock\"}", "'vsock' is not known"},
        {"{\"family\": \"ipv4\", \"address\": \"::1\", \"port\": 1}", "peer.address: '::1' is none"},
        {"{\"family\": \"ipv4\", \"address\": \"127.0.0.1\", \"port\": 65536}", "peer.port"},
        {"{\"family\": \"ipv6\", \"address\": \"::1\"}", "peer.port"},
        {"{\"family\": \"unix\", \"uid\": -1, \"gid\": 0}", "peer.uid"},
        {"{\"family\": \"unix\", \"uid\": 4294967295, \"gid\": 0}", "peer.uid"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct socket_peer peer;
        struct error err = {0};
        json_t *object = json_loads(bad[i][0], 0, NULL);
        assert_int_equal(socket_peer_parse(object, "peer", &peer, &err), -1);
        if (!strstr(err.text, bad[i][1]))
            fail_msg("'%s' does not say '%s'", err.text, bad[i][1]);
        json_decref(object);
    }
    struct error err = {0};
    struct socket_peer ipv4 = end_of("{\"family\": \"ipv4\", \"address\": \"127.0.0.1\", \"port\": 1}"),
                       unix_ = end_of("{\"family\": \"unix\", \"uid\": 0, \"gid\": 0}");
    assert_int_equal(sockets_connect(&ipv4.address, &unix_, &err), -1);
    assert_int_equal(err.code, EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_has_the_hosts_addresses),
        cmocka_unit_test(a_unix_peer_is_who_the_host_says),
        cmocka_unit_test(what_is_no_address_is_refused),
    };
    if (geteuid() != 0 || access("/proc/self/ns/net", R_OK) < 0)
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
