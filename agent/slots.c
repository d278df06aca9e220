/* Slots of the guest's busses: see slots.h. */
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
#define PCI_DIR    "/sys/bus/pci"

bool slot_name_is_valid(const char *name)
{
    return *name && strlen(name) < SLOT_NAME_BYTES && !strchr(name, '/') && name[0] != '.';
}

/* DOMAIN:BUS:DEVICE.FUNCTION; platform devices' names have no colon. */
static bool is_on_pci(const char *name)
{
    return strchr(name, ':') != NULL;
}

static int sysfs_write(const char *path, const char *text, struct error *err)
{
    cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        return error_set(err, errno, "%s %s", path, text);
    return 0;
}

static int pci_bind(const char *name, struct error *err)
{
    char driver[PATH_MAX];
    snprintf(driver, sizeof(driver), PCI_DIR "/devices/%s/driver", name);
    if (access(driver, F_OK) == 0)
        return error_set(err, EBUSY, "%s", name);
    if (sysfs_write(PCI_DIR "/rescan", "1", err) < 0)
        return -1;
    return access(driver, F_OK) == 0 ? 0 : error_set(err, ENODEV, "%s", name);
}

int slot_bind(const char *name, struct error *err)
{
    return is_on_pci(name) ? pci_bind(name, err) : sysfs_write(DRIVER_DIR "/bind", name, err);
}

int slot_unbind(const char *path, char name[SLOT_NAME_BYTES], struct error *err)
{
    char target[PATH_MAX], removal[PATH_MAX];
    /* /sys/devices/BUS/SLOT/virtioN is the virtio device; the slot is the one above. */
    if (!realpath(path, target))
        return error_set(err, errno, "%s", path);
    char *last = strrchr(target, '/');
    *last = '\0';
    snprintf(name, SLOT_NAME_BYTES, "%.*s", SLOT_NAME_BYTES - 1, strrchr(target, '/') + 1);
    if (!is_on_pci(name))
        return sysfs_write(DRIVER_DIR "/unbind", name, err);
    /* An empty slot is not there: the kernel forgets the device. */
    snprintf(removal, sizeof(removal), PCI_DIR "/devices/%s/remove", name);
    return sysfs_write(removal, "1", err);
}
