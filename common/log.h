/*
 * Logs: one event a line, `key=value` pairs, a role set once.
 *
 * Three outputs: plain text on an fd (the VMM, the agent: "husk-vmm: warn: ..."), text to a file, or JSON
 * objects
 * {"level","msg","time"} as runc writes them, because containerd and podman parse those. What a guest can
 * trigger goes through log_limited so that a hostile guest cannot fill the host's disk. Thread-safe: a line
 * is one write().
 */
#ifndef HUSK_COMMON_LOG_H
#define HUSK_COMMON_LOG_H

#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* Sets role (static string, put before each line), fd (kept open by the caller; -1 drops everything), format
 * and the most talkative level written. Call once before the threads start. */
void log_init(const char *role, int fd, enum log_format format, enum log_level most);

/* The level set by log_init, for handing on to a child. */
enum log_level log_level_get(void);

/* Writes one line. Control characters in it are escaped. */
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_err(...)   log_write(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* At most `LOG_LIMIT_BURST` lines in `LOG_LIMIT_MS` per limiter; the next line that gets through tells how
 * many were left out. */
#define LOG_LIMIT_BURST 10
#define LOG_LIMIT_MS    5000

struct log_limit {
    uint64_t window_start_ms;
    unsigned in_window;
    unsigned suppressed;
};

/* As log_write at LOG_LEVEL_WARN, under the limiter, which belongs to the calling thread's object (not
 * thread-safe). */
void log_limited(struct log_limit *limit, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
