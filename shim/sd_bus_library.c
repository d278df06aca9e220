/*
 * Loading sd-bus: see sd_bus_library.h.
 */
#include "shim/sd_bus_library.h"

#include <dlfcn.h>
#include <errno.h>

#define LIBRARY "libsystemd.so.0"

int sd_bus_library_load(struct sd_bus_library *library, struct error *err)
{
    void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return error_set(err, 0, "systemd's library: %s", dlerror());
#define SD_BUS_LOAD(name)                                                                                    \
    if (!(library->name = (__typeof__(name) *)dlsym(handle, #name)))                                         \
        return error_set(err, ENOSYS, LIBRARY ": " #name);
    SD_BUS_FUNCTIONS(SD_BUS_LOAD)
#undef SD_BUS_LOAD
    return 0;
}
