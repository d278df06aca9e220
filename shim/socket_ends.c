/*
 * Ends of sockets: see socket_ends.h. All is asked of the host's kernel.
 */
#include "shim/socket_ends.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

static json_t *address_describe(const struct sockaddr_storage *address)
{
    const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)address;
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)address;
    char text[INET6_ADDRSTRLEN];
    switch (address->ss_family) {
    case AF_UNIX:
        return json_pack("{s:s}", "family", "unix");
    case AF_INET:
        inet_ntop(AF_INET, &ipv4->sin_addr, text, sizeof(text));
        return json_pack("{s:s, s:s, s:i}", "family", "ipv4", "address", text, "port", ntohs(ipv4->sin_port));
    case AF_INET6:
        inet_ntop(AF_INET6, &ipv6->sin6_addr, text, sizeof(text));
        return json_pack("{s:s, s:s, s:i}", "family", "ipv6", "address", text, "port",
                         ntohs(ipv6->sin6_port));
    default:
        errno = EAFNOSUPPORT;
        return NULL;
    }
}

json_t *socket_ends_local(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof(address);
    return getsockname(fd, (struct sockaddr *)&address, &length) < 0 ? NULL : address_describe(&address);
}

json_t *socket_ends_peer(int fd)
{
    struct sockaddr_storage address = {0};
    struct ucred credentials;
    socklen_t length = sizeof(address), credentials_length = sizeof(credentials);
    if (getpeername(fd, (struct sockaddr *)&address, &length) < 0)
        return NULL;
    if (address.ss_family != AF_UNIX)
        return address_describe(&address);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &credentials_length) < 0)
        return NULL;
    return json_pack("{s:s, s:I, s:I}", "family", "unix", "uid", (json_int_t)credentials.uid, "gid",
                     (json_int_t)credentials.gid);
}
