/* Local routes and their replacement: see network_local.h. Called by network.c and network_follow.c. */
#include "shim/network_local.h"

#include "common/json.h"
#include "shim/netlink.h"
#include "shim/network_tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>

#define HOST_BITS 32

static uint32_t source_address(void)
{
    return inet_addr(NETWORK_LOCAL_SOURCE);
}

int network_local_add_tap(uint32_t tap, struct mnl_socket *socket, struct error *err)
{
    return network_redirect_except(tap, source_address(), socket, err);
}

/* A request about an address's route in the local table: the kernel's own (RTN_LOCAL) through the interface,
 * or ours (RTN_UNICAST) through the tap. */
static void route_start(void *buffer, uint16_t request, uint16_t flags, uint8_t type, uint32_t address)
{
    struct rtmsg *header = netlink_start(buffer, request, flags, sizeof(*header));
    header->rtm_family = AF_INET;
    header->rtm_dst_len = HOST_BITS;
    header->rtm_table = RT_TABLE_LOCAL;
    header->rtm_type = type;
    header->rtm_scope = request == RTM_DELROUTE ? RT_SCOPE_NOWHERE /* any */
                        : type == RTN_LOCAL     ? RT_SCOPE_HOST
                                                : RT_SCOPE_LINK;
    mnl_attr_put_u32(buffer, RTA_DST, address);
}

static void route_remove(uint8_t type, uint32_t address, struct mnl_socket *socket)
{
    char buffer[NETLINK_REQUEST_BYTES];
    route_start(buffer, RTM_DELROUTE, 0, type, address);
    netlink_request(socket, buffer, NULL);
}

static int route_add(uint8_t type, uint32_t address, uint32_t device, struct mnl_socket *socket,
                     struct error *err)
{
    char buffer[NETLINK_REQUEST_BYTES];
    route_start(buffer, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, type, address);
    struct rtmsg *header = mnl_nlmsg_get_payload((void *)buffer);
    header->rtm_protocol = type == RTN_LOCAL ? RTPROT_KERNEL : RTPROT_STATIC;
    mnl_attr_put_u32((void *)buffer, RTA_OIF, device);
    mnl_attr_put_u32((void *)buffer, RTA_PREFSRC, type == RTN_LOCAL ? address : source_address());
    return netlink_request(socket, buffer, err);
}

/* The kernel takes only one of the two. */
static int set_one(uint32_t address, uint32_t interface, uint32_t tap, struct mnl_socket *socket,
                   struct error *err)
{
    struct error own = {0};
    route_remove(RTN_LOCAL, address, socket);
    if (route_add(RTN_UNICAST, address, tap, socket, &own) == 0 || own.code == EEXIST)
        return 0;
    route_add(RTN_LOCAL, address, interface, socket, NULL);
    return error_say(err, own.code, "route to an address of the namespace's own: %s", own.text);
}

/* Whether an interface's address is one of IPv4, and which. */
static bool read_address(const json_t *object, uint32_t *address)
{
    const char *text = json_string_value(json_object_get(object, "address"));
    return text && inet_pton(AF_INET, text, address) == 1;
}

static bool has_address(const json_t *addresses, uint32_t wanted)
{
    const json_t *object;
    uint32_t address;
    size_t i;
    json_array_foreach(addresses, i, object)
    {
        if (read_address(object, &address) && address == wanted)
            return true;
    }
    return false;
}

int network_local_set(const struct network_interface *link, const json_t *before, uint32_t tap,
                      struct mnl_socket *socket, struct error *err)
{
    const json_t *object;
    uint32_t address;
    size_t i;
    int result = 0;
    /* An address of the namespace's, by this route alone. Any route of this type that was not the kernel's
     * own doing also has it look for a packet's source in the routes, not only among the interfaces'
     * addresses, where the guest's is still to be seen (fib_validate_source). */
    route_add(RTN_LOCAL, source_address(), tap, socket, NULL);
    json_array_foreach(before, i, object)
    {
        if (read_address(object, &address) && !has_address(link->addresses, address))
            route_remove(RTN_UNICAST, address, socket);
    }
    json_array_foreach(link->addresses, i, object)
    {
        if (read_address(object, &address) &&
            set_one(address, link->index, tap, socket, result == 0 ? err : NULL) < 0)
            result = -1;
    }
    return result;
}

void network_local_restore(uint32_t interface, const json_t *addresses, struct mnl_socket *socket)
{
    const json_t *object;
    uint32_t address;
    size_t i;
    json_array_foreach(addresses, i, object)
    {
        if (!read_address(object, &address))
            continue;
        route_remove(RTN_UNICAST, address, socket);
        route_add(RTN_LOCAL, address, interface, socket, NULL);
    }
}
