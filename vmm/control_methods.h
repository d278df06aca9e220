/*
 * The methods of the control socket (control.h), and what they work on.
 *
 *   status        {} -> {"id", "exits": {"total", "io", "mmio", ...}, "devices": [{"device": NAME, "type",
 *                 "queues", "in_use", "interrupts", "statistics": {...}}], "free_slots": N}
 *   net.attach    {"id": N, "mac": "aa:bb:cc:dd:ee:ff", "mtu": N (0 or absent: not told), "queues": N,
 *                 "vhost": bool} with `queues` tap descriptors, then as many of /dev/vhost-net if "vhost"
 *                 -> {"device": the guest's name of the slot, "d0005000.virtio"}
 *                 EEXIST when there is a network device with this id, ENOSPC when no slot is free.
 *   net.detach    {"id": N, "force": bool} -> {}
 *                 EBUSY while the guest's driver holds it, unless forced. ENODEV as below when there is none.
 *   net.find      {"id": N} -> {"device": NAME, "in_use": bool}
 *   net.link      {"id": N, "up": bool} -> {}
 *   net.announce  {"id": N} -> {}
 *                 The guest tells its neighbours where it is.
 *   blk.attach    {"serial": TEXT, "ro", "direct": bool, "queues", "threads": N, "bps", "iops": N}
 *                 with the disk's descriptor -> {"device": the guest's name of the slot}
 *                 bps and iops: 0 is no limit. EEXIST when there is a disk with this serial, ENOSPC when no
 *                 slot is free.
 *   blk.detach    {"serial", "force": bool} -> {}
 *                 EBUSY while the guest's driver holds it, unless forced. ENODEV as below when there is none.
 *   blk.find      {"serial"} -> {"device": NAME, "in_use": bool}
 *   blk.refresh   {"serial"} -> {"bytes": N}
 *                 Looks at the file's size again; the guest is told if it changed.
 *   blk.limit     {"serial", "bps", "iops": N (0 or absent: none)} -> {}
 *
 *   cpus.resize   {"cpus": N} -> {"cpus": vCPUs there are}
 *                 At least N vCPUs exist, for the guest to bring online. ERANGE beyond --cpus-max.
 *   memory.resize {"mib": N, "timeout_ms": N (5000)} -> {"mib": plugged, boot memory included}
 *                 Asks the guest for N MiB in all (at least its boot memory), and answers once it is there or
 *                 the time is over. ERANGE beyond --memory-max, ENOTSUP without it.
 *   memory.balloon {"mib": N} -> {}
 *                 Asks the guest to hold N MiB back.
 *   memory.info   {} -> {"boot_mib", "max_mib", "requested_mib", "mib", "balloon_mib", "returned_bytes",
 *                 "statistics": {"free-memory": bytes, ...}}; the last three only with a balloon
 */
#ifndef HUSK_VMM_CONTROL_METHODS_H
#define HUSK_VMM_CONTROL_METHODS_H

#include "vmm/control.h"

struct io_threads;
struct machine;
struct memory_control;
struct nursery;

/* The `arg` of all handlers. */
struct control_target {
    const char *id; /* of the sandbox; may be NULL */
    struct loop *loop;
    struct machine *machine;
    struct io_threads *net_threads; /* NULL: this VM cannot have network devices */
    struct memory_control *memory;
    struct nursery *nursery; /* NULL: this VM cannot have further threads */
    int (*blk_thread_start)(void *arg);
};

extern const struct control_method control_methods[];
extern const size_t control_methods_count;

/* What every kind of device has in common: the ends of *.detach and *.find for the device in `slot`. */
int control_slot_detach(struct control_target *target, unsigned slot, const struct control_request *request,
                        struct error *err);
json_t *control_slot_describe(const struct control_target *target, unsigned slot);

/* Handlers: control_net.c. */
int control_net_attach(void *arg, struct control_request *request, json_t **result, struct error *err);
int control_net_detach(void *arg, struct control_request *request, json_t **result, struct error *err);
int control_net_find(void *arg, struct control_request *request, json_t **result, struct error *err);
int control_net_link(void *arg, struct control_request *request, json_t **result, struct error *err);
int control_net_announce(void *arg, struct control_request *request, json_t **result, struct error *err);

/* Handlers: control_blk.c. */
int control_blk_attach(void *arg, struct control_request *request, json_t **result, struct error *err);
int control_blk_detach(void *arg, struct control_request *request, json_t **result, struct error *err);
int control_blk_find(void *arg, struct control_request *request, json_t **result, struct error *err);
int control_blk_refresh(void *arg, struct control_request *request, json_t **result, struct error *err);
int control_blk_limit(void *arg, struct control_request *request, json_t **result, struct error *err);

/* Handlers: control_memory.c. */
int control_cpus_resize(void *arg, struct control_request *request, json_t **result, struct error *err);
int control_memory_resize(void *arg, struct control_request *request, json_t **result, struct error *err);
int control_memory_balloon(void *arg, struct control_request *request, json_t **result, struct error *err);
int control_memory_info(void *arg, struct control_request *request, json_t **result, struct error *err);

#endif
