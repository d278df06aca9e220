/*
 * Signal names: see signal_name.h. Names are libc's own (sigabbrev_np); real-time ones count from the numbers
 * that programs see, SIGRTMIN being 34 with glibc, as kill(1) and runc count them.
 */
#include "shim/signal_name.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SIGNAL_MAX 64

static int signal_parse_offset(const char *text, int base, int sign)
{
    char *end;
    if (!*text)
        return base;
    if (*text != (sign > 0 ? '+' : '-') || text[1] < '0' || text[1] > '9')
        return -1;
    long offset = strtol(text + 1, &end, 10);
    if (*end || offset > SIGRTMAX - SIGRTMIN)
        return -1;
    return base + sign * (int)offset;
}

static int signal_parse_name(const char *name)
{
    if (strncasecmp(name, "SIG", 3) == 0)
        name += 3;
    if (strncasecmp(name, "RTMIN", 5) == 0)
        return signal_parse_offset(name + 5, SIGRTMIN, 1);
    if (strncasecmp(name, "RTMAX", 5) == 0)
        return signal_parse_offset(name + 5, SIGRTMAX, -1);
    for (int number = 1; number < SIGRTMIN; number++) {
        const char *known = sigabbrev_np(number);
        if (known && strcasecmp(known, name) == 0)
            return number;
    }
    /* Old names that kill(1) knows as well. */
    if (strcasecmp(name, "IOT") == 0)
        return SIGIOT;
    return strcasecmp(name, "CLD") == 0 ? SIGCHLD : -1;
}

int signal_parse(const char *text, struct error *err)
{
    int number;
    if (*text >= '0' && *text <= '9') {
        char *end;
        unsigned long value = strtoul(text, &end, 10);
        number = *end || value > SIGNAL_MAX ? -1 : (int)value;
    } else {
        number = signal_parse_name(text);
    }
    return number < 0 ? error_set(err, 0, "unknown signal \"%s\"", text) : number;
}
