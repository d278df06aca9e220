/* The time of day as text: see time_text.h. */
#include "common/time_text.h"

#include <stdio.h>
#include <time.h>

void time_text_now(char text[TIME_TEXT_SIZE])
{
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t length = strftime(text, TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + length, TIME_TEXT_SIZE - length, ".%09ldZ", now.tv_nsec);
}
