/* Fuzzes what the host may put into sandbox.network.set: a JSON object, read as each kind of entry. Nothing
 * is sent. */
#include "agent/network_link.h"
#include "agent/network_message.h"
#include "common/json.h"

#include <linux/if_addr.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t find_index(void *arg, int64_t id)
{
    (void)arg;
    return id == 7 ? 3 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct network_indices indices = {.find = find_index};
    struct netlink_message message;
    struct network_wish wish;
    struct error err;
    char text[64];
    cleanup_json json_t *entry = json_parse_object((const char *)data, size, &err);
    if (!entry)
        return 0;
    network_wish_read(&wish, entry, &err);
    network_message_address(&message, RTM_NEWADDR, 3, entry, IFA_F_NODAD, &err);
    network_message_connected(entry, text, sizeof(text), &err);
    network_message_neighbour(&message, RTM_NEWNEIGH, 3, entry, &err);
    network_message_route(&message, RTM_NEWROUTE, entry, &indices, &err);
    network_message_rule(&message, RTM_NEWRULE, entry, &err);
    return 0;
}
