/*
 * A sandbox: one microVM with its VMM process and its directory sandboxes/ID/.
 *
 *   vsock.sock    where the agent is reached      vmm.json      the VMM's pid and start time, the VM's size
 *   vmm.log       the VMM's log and stderr        console.log   the guest's kernel log
 *   status.json   how the VM ended (by the VMM)   monitor.log   the monitor's log
 *   vmm.sock      where the VMM takes requests (vmm_control.h)
 *
 * The monitor that starts a sandbox is the VMM's parent; commands open it later by its directory.
 */
#ifndef HUSK_SHIM_SANDBOX_H
#define HUSK_SHIM_SANDBOX_H

#include "common/error.h"
#include "shim/agent_client.h"
#include "shim/bundle.h"
#include "shim/config.h"
#include "shim/process_id.h"
#include "shim/store.h"
#include "shim/vm_size.h"

struct network;

struct sandbox {
    char *id;
    int dir_fd;
    int vmm_pidfd; /* -1: the VMM has ended */
    struct process_id vmm;
    struct vm_size size; /* as the VM is now */
    char *path;          /* of the directory, for messages */
};

/* Makes the directory and starts a VMM with the network's NICs; does not wait for the guest. 0, or -1 with
 * err filled: then nothing is left. The caller is single-threaded and ends it with sandbox_stop. */
int sandbox_start(struct sandbox *sandbox, const struct store *store, const char *id,
                  const struct config *config, const struct bundle *bundle, const struct vm_size *size,
                  const struct network *network, struct error *err);

/* Notes a size that the VM was brought to while it runs. 0, or -1 with err filled. */
int sandbox_set_size(struct sandbox *sandbox, const struct vm_size *size, struct error *err);

/* Opens a sandbox that exists; its VMM may have ended (vmm_pidfd -1). 0, or -1 with err filled. */
int sandbox_open(struct sandbox *sandbox, const struct store *store, const char *id, struct error *err);

/* Frees what the struct holds; neither ends the VMM nor removes files. Reaps the VMM if it was our child and
 * has ended. */
void sandbox_fini(struct sandbox *sandbox);

/* For agent_connect and agent_begin_stream. */
struct agent_address sandbox_agent_address(const struct sandbox *sandbox);

/* Waits at most grace_ms for the VMM's end, then kills it and waits. Safe without a VMM. */
void sandbox_stop(const struct sandbox *sandbox, int grace_ms);

/* Writes how the VM ended into `text`: the VMM's own word ("panic: ..."), or by what its process died; and
 * the last line of its log when it gave no reason. The VMM has ended. */
void sandbox_describe_end(const struct sandbox *sandbox, char *text, size_t size);

#endif
