/* Local routes and their replacement: see network_local.h. Called by network.c and network_follow.c. */
#include "shim/network_local.h"

#include "common/json.h"
#include "shim/netlink.h"
#include "shim/network_tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_skbedit.h>

#define HOST_BITS         32
#define IP_DESTINATION_AT 16 /* in the IPv4 header */

static uint32_t source_address(void)
{
    return inet_addr(NETWORK_LOCAL_SOURCE);
}

/* The action: this is for the host's stack, whatever MAC address it was sent to (the router's, by the guest).
 */
static void put_to_host(struct nlmsghdr *message)
{
    const struct tc_skbedit parameters = {.action = TC_ACT_OK};
    struct nlattr *actions = mnl_attr_nest_start(message, TCA_U32_ACT);
    struct nlattr *first = mnl_attr_nest_start(message, 1);
    mnl_attr_put_strz(message, TCA_ACT_KIND, "skbedit");
    struct nlattr *options = mnl_attr_nest_start(message, TCA_ACT_OPTIONS);
    mnl_attr_put(message, TCA_SKBEDIT_PARMS, sizeof(parameters), &parameters);
    mnl_attr_put_u16(message, TCA_SKBEDIT_PTYPE, PACKET_HOST);
    mnl_attr_nest_end(message, options);
    mnl_attr_nest_end(message, first);
    mnl_attr_nest_end(message, actions);
}

/* What the guest sends to the source address, before the redirection sees it. */
int network_local_add_tap(uint32_t tap, struct mnl_socket *socket, struct error *err)
{
    char buffer[NETLINK_REQUEST_BYTES];
    _Alignas(struct tc_u32_sel) char one[sizeof(struct tc_u32_sel) + sizeof(struct tc_u32_key)] = {0};
    struct tc_u32_sel *selector = (void *)one;
    selector->flags = TC_U32_TERMINAL;
    selector->nkeys = 1;
    selector->keys[0] =
        (struct tc_u32_key){.mask = UINT32_MAX, .val = source_address(), .off = IP_DESTINATION_AT};
    struct tcmsg *header = netlink_start(buffer, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, sizeof(*header));
    header->tcm_family = AF_UNSPEC;
    header->tcm_ifindex = (int)tap;
    header->tcm_parent = NETWORK_FILTER_PARENT;
    header->tcm_info = TC_H_MAKE((NETWORK_FILTER_PRIORITY - 1) << 16, htons(ETH_P_IP));
    mnl_attr_put_strz((void *)buffer, TCA_KIND, "u32");
    struct nlattr *options = mnl_attr_nest_start((void *)buffer, TCA_OPTIONS);
    mnl_attr_put((void *)buffer, TCA_U32_SEL, sizeof(one), one);
    put_to_host((void *)buffer);
    mnl_attr_nest_end((void *)buffer, options);
    return netlink_request(socket, buffer, err) == 0 ? 0 : error_wrap(err, "filter");
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
