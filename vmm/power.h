/*
 * How the guest ends itself: pvpanic (panic and power-off) and the keyboard controller's reset line.
 *
 * Trust boundary: registers are the guest's, from any vCPU thread. What it says here is believed: it only
 * ends its own machine.
 */
#ifndef HUSK_VMM_POWER_H
#define HUSK_VMM_POWER_H

#include "vmm/status.h"

#include <stdatomic.h>
#include <stdbool.h>

#define POWER_PVPANIC_BYTES 2u
#define POWER_RESET_PORT    0x64u

struct power {
    /* Ends the machine; any thread, may come several times. */
    void (*end)(void *arg, enum end_reason reason, const char *detail);
    /* The guest panicked: it will reset itself after its last messages, and if it does not soon the machine
     * must be ended for it. Any thread, once. */
    void (*panicked)(void *arg);
    void *arg;
    atomic_bool panic_seen; /* a reset from now on is the end of a panic */
};

/* Bus handlers. The pvpanic register is one byte at offset 0 (docs/specs/pvpanic of QEMU, <misc/pvpanic.h>).
 */
void power_pvpanic_read(void *power, uint64_t offset, void *data, uint32_t length);
void power_pvpanic_write(void *power, uint64_t offset, const void *data, uint32_t length);
void power_reset_read(void *power, uint64_t offset, void *data, uint32_t length);
void power_reset_write(void *power, uint64_t offset, const void *data, uint32_t length);

#endif
