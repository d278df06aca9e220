/*
 * Ends asked for by the guest: see power.h. There is no state but "panicked", and a panicked machine is not
 * saved.
 *
 * A panicking Linux first writes PANICKED (its notifier has the highest priority), then runs the other
 * notifiers, flushes its consoles and, with panic=-1, resets. So the machine goes on until that reset, or a
 * deadline, and the console has the whole message.
 */
#include "vmm/power.h"

#include <linux/types.h>
#include <misc/pvpanic.h>
#include <string.h>

#ifndef PVPANIC_SHUTDOWN /* since Linux 6.11 */
#define PVPANIC_SHUTDOWN (1 << 2)
#endif

/* Keyboard controller command "pulse output lines": bit 0 clear pulses the reset line (8042 data sheet). */
#define COMMAND_PULSE_MASK  0xf1u
#define COMMAND_PULSE_RESET 0xf0u

void power_pvpanic_read(void *power, uint64_t offset, void *data, uint32_t length)
{
    (void)power;
    memset(data, 0, length);
    if (offset == 0)
        *(uint8_t *)data = PVPANIC_PANICKED | PVPANIC_SHUTDOWN;
}

void power_pvpanic_write(void *power_, uint64_t offset, const void *data, uint32_t length)
{
    struct power *power = power_;
    if (offset != 0 || length == 0)
        return;
    uint8_t events = *(const uint8_t *)data;
    if (events & PVPANIC_SHUTDOWN)
        power->end(power->arg, END_POWER_OFF, "");
    else if ((events & PVPANIC_PANICKED) && !atomic_exchange(&power->panic_seen, true))
        power->panicked(power->arg);
}

/* Status register: both buffers empty, so that a driver waiting to write goes on at once. */
void power_reset_read(void *power, uint64_t offset, void *data, uint32_t length)
{
    (void)power;
    (void)offset;
    memset(data, 0, length);
}

void power_reset_write(void *power_, uint64_t offset, const void *data, uint32_t length)
{
    struct power *power = power_;
    (void)offset;
    if (length == 0 || (*(const uint8_t *)data & COMMAND_PULSE_MASK) != COMMAND_PULSE_RESET)
        return;
    if (atomic_load(&power->panic_seen))
        power->end(power->arg, END_PANIC, "the guest's kernel panicked");
    else
        power->end(power->arg, END_RESET, "");
}
