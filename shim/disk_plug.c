/* Disks of a container that joins a sandbox: see disk_plug.h. */
#include "shim/disk_plug.h"

#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "shim/vmm_control.h"

#include <errno.h>

/* The slot that the disk is in: new there, or found. New reference, or NULL with err filled. */
static json_t *plug_one(const struct sandbox *sandbox, const struct host_disk *disk, int fd,
                        struct error *err)
{
    cleanup_json json_t *params = json_pack("{s:s, s:b}", "serial", disk->serial, "ro", !disk->writable);
    cleanup_json json_t *result = NULL;
    int failed =
        vmm_control_call(sandbox->dir_fd, "blk.attach", params, &fd, 1, VMM_CONTROL_TIMEOUT_MS, &result, err);
    if (failed && err->code == EEXIST)
        failed = vmm_control_call(sandbox->dir_fd, "blk.find", params, NULL, 0, VMM_CONTROL_TIMEOUT_MS,
                                  &result, err);
    json_t *device = failed ? NULL : json_object_get(result, "device");
    if (failed)
        error_wrap(err, "block device %s of the host", disk->serial);
    else if (!json_is_string(device))
        error_set(err, EPROTO, "blk.attach: no device");
    return json_is_string(device) ? json_incref(device) : NULL;
}

json_t *disk_plug(const struct sandbox *sandbox, const struct host_disks *disks, struct error *err)
{
    struct host_disks opened = *disks; /* its mounts stay the caller's */
    int fds[HOST_DISKS_MAX];
    if (host_disks_open(&opened, fds, err) < 0)
        return NULL;
    json_t *list = host_disks_describe(disks);
    bool failed = !list;
    if (failed)
        error_set(err, ENOMEM, "disks");
    for (size_t i = 0; i < opened.count; i++) {
        json_t *device = failed ? NULL : plug_one(sandbox, &opened.disk[i], fds[i], err);
        if (!failed && (!device || json_object_set_new(json_array_get(list, i), "device", device) < 0))
            failed = true;
        fd_close(&fds[i]);
    }
    if (!failed)
        return list;
    json_decref(list);
    disk_unplug(sandbox, disks);
    return NULL;
}

void disk_unplug(const struct sandbox *sandbox, const struct host_disks *disks)
{
    for (size_t i = 0; i < disks->count; i++) {
        struct error err;
        cleanup_json json_t *params = json_pack("{s:s}", "serial", disks->disk[i].serial);
        /* EBUSY: another container's, too. ENODEV: it took it away just now. */
        if (vmm_control_call(sandbox->dir_fd, "blk.detach", params, NULL, 0, VMM_CONTROL_TIMEOUT_MS, NULL,
                             &err) < 0 &&
            err.code != EBUSY && err.code != ENODEV)
            log_warn("block device %s of the host: %s", disks->disk[i].serial, err.text);
    }
}
