/*
 * Asking a running VMM for changes: the client of its control socket (vmm/control.h, vmm/control_methods.h).
 *
 * The socket is SOCKET in the sandbox's directory. One call is one connection. Trust boundary: the VMM is not
 * trusted with more than the answer to what was asked: lengths are capped and types checked.
 */
#ifndef HUSK_SHIM_VMM_CONTROL_H
#define HUSK_SHIM_VMM_CONTROL_H

#include "common/error.h"
#include "shim/vmm_net.h"

#include <jansson.h>
#include <stddef.h>

#define VMM_CONTROL_SOCKET     "vmm.sock"
#define VMM_CONTROL_TIMEOUT_MS 10000
#define VMM_DEVICE_NAME_BYTES  32

/* Binds and listens in the sandbox's directory. The fd, or -1 with err filled. */
int vmm_control_listen(int sandbox_fd, struct error *err);

/* Sends a request with descriptors (at most 64, the caller's) and waits for its answer. params (may be NULL)
 * is borrowed. 0 with *result, a new reference to an object (result may be NULL); -1 with err filled: the
 * VMM's own error, ETIMEDOUT, or what became of the connection (ECONNREFUSED, ENOENT: no VMM listens). */
int vmm_control_call(int sandbox_fd, const char *method, json_t *params, const int *fds, size_t fd_count,
                     int timeout_ms, json_t **result, struct error *err);

/* Gives the guest a network device. Its guest looks for it when told to bind the platform device `device` to
 * the driver "virtio-mmio" (sysfs). 0, or -1 with err filled: EEXIST, ENOSPC. */
int vmm_control_attach_net(int sandbox_fd, const struct vmm_net *net, char device[VMM_DEVICE_NAME_BYTES],
                           struct error *err);
/* The guest's name of a network device. 0, or -1 with err filled: ENODEV. */
int vmm_control_find_net(int sandbox_fd, uint32_t id, char device[VMM_DEVICE_NAME_BYTES], struct error *err);
/* Takes it away, after the guest has unbound it; EBUSY when it has not, unless `force`. 0, or -1 with err
 * filled. */
int vmm_control_detach_net(int sandbox_fd, uint32_t id, bool force, struct error *err);

#endif
