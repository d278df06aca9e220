/*
 * The time of day as text, for logs and state files.
 */
#ifndef HUSK_COMMON_TIME_TEXT_H
#define HUSK_COMMON_TIME_TEXT_H

/* "2026-01-31T12:59:59.123456789Z" and its NUL; years of up to six digits fit. */
#define TIME_TEXT_SIZE 40

/* Writes the present time as RFC 3339 with nanoseconds, in UTC, as runc writes it. Any thread. */
void time_text_now(char text[TIME_TEXT_SIZE]);

#endif
