/*
 * The functions of sd-bus (libsystemd) that shim/cgroup_systemd.c uses, loaded when they are needed.
 *
 * husk is not linked with libsystemd: every monitor, and each of the hundreds of short commands an engine
 * runs, would pay for it and its own libraries (measured: 1 MB resident, 150 KB of it private, for each
 * process).
 */
#ifndef HUSK_SHIM_SD_BUS_LIBRARY_H
#define HUSK_SHIM_SD_BUS_LIBRARY_H

#include "common/error.h"

#include <systemd/sd-bus.h>

#define SD_BUS_FUNCTIONS(X)                                                                                  \
    X(sd_bus_open_system)                                                                                    \
    X(sd_bus_open_user)                                                                                      \
    X(sd_bus_new)                                                                                            \
    X(sd_bus_set_address)                                                                                    \
    X(sd_bus_start)                                                                                          \
    X(sd_bus_flush_close_unref)                                                                              \
    X(sd_bus_is_bus_client)                                                                                  \
    X(sd_bus_match_signal)                                                                                   \
    X(sd_bus_process)                                                                                        \
    X(sd_bus_wait)                                                                                           \
    X(sd_bus_call)                                                                                           \
    X(sd_bus_call_method)                                                                                    \
    X(sd_bus_get_property_string)                                                                            \
    X(sd_bus_message_new_method_call)                                                                        \
    X(sd_bus_message_append)                                                                                 \
    X(sd_bus_message_append_array)                                                                           \
    X(sd_bus_message_open_container)                                                                         \
    X(sd_bus_message_close_container)                                                                        \
    X(sd_bus_message_read)                                                                                   \
    X(sd_bus_message_unref)                                                                                  \
    X(sd_bus_error_free)

struct sd_bus_library {
#define SD_BUS_FIELD(name) __typeof__(name) *(name);
    SD_BUS_FUNCTIONS(SD_BUS_FIELD)
#undef SD_BUS_FIELD
};

/* Loads the library, for the rest of the process's life. 0, or -1 with err. */
int sd_bus_library_load(struct sd_bus_library *library, struct error *err);

#endif
