/* Address windows: see bus.h. A machine has a dozen, so a search in order is all it takes. */
#include "vmm/bus.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

int bus_add(struct bus *bus, const struct bus_window *window)
{
    uint64_t end;
    if (window->bytes == 0 || __builtin_add_overflow(window->base, window->bytes, &end))
        return -EINVAL;
    for (unsigned i = 0; i < bus->windows; i++) {
        const struct bus_window *other = &bus->window[i];
        if (window->base < other->base + other->bytes && other->base < end)
            return -EEXIST;
    }
    if (bus->windows == BUS_WINDOWS_MAX)
        return -ENOSPC;
    bus->window[bus->windows++] = *window;
    return 0;
}

static const struct bus_window *bus_find(const struct bus *bus, uint64_t address, uint32_t length)
{
    for (unsigned i = 0; i < bus->windows; i++) {
        const struct bus_window *window = &bus->window[i];
        if (address >= window->base && address - window->base < window->bytes)
            return length <= window->bytes - (address - window->base) ? window : NULL;
    }
    return NULL;
}

bool bus_read(const struct bus *bus, uint64_t address, void *data, uint32_t length)
{
    const struct bus_window *window = bus_find(bus, address, length);
    if (window)
        window->read(window->device, address - window->base, data, length);
    else
        memset(data, 0xff, length);
    return window != NULL;
}

bool bus_write(const struct bus *bus, uint64_t address, const void *data, uint32_t length)
{
    const struct bus_window *window = bus_find(bus, address, length);
    if (window)
        window->write(window->device, address - window->base, data, length);
    return window != NULL;
}
