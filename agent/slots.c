/* Slots of the guest's virtio-mmio bus: see slots.h. */
#include "agent/slots.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DRIVER_DIR "/sys/bus/platform/drivers/virtio-mmio"

bool slot_name_is_valid(const char *name)
{
    return *name && strlen(name) < SLOT_NAME_BYTES && !strchr(name, '/') && name[0] != '.';
}

static int driver_write(const char *file, const char *name, struct error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), DRIVER_DIR "/%s", file);
    cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, name, strlen(name)) < 0)
        return error_set(err, errno, "%s %s", file, name);
    return 0;
}

int slot_bind(const char *name, struct error *err)
{
    return driver_write("bind", name, err);
}

int slot_unbind(const char *path, char name[SLOT_NAME_BYTES], struct error *err)
{
    char target[PATH_MAX];
    /* /sys/devices/platform/SLOT/virtioN is the virtio device; the slot is the one above. */
    if (!realpath(path, target))
        return error_set(err, errno, "%s", path);
    char *last = strrchr(target, '/');
    *last = '\0';
    snprintf(name, SLOT_NAME_BYTES, "%.*s", SLOT_NAME_BYTES - 1, strrchr(target, '/') + 1);
    return driver_write("unbind", name, err);
}
