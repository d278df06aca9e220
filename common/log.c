/*
 * Logs: see log.h. The only global state of common/: a process has one log, set before its threads start.
 */
#include "common/log.h"

#include "common/time_text.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

static struct {
    const char *role;
    int fd;
    enum log_format format;
    enum log_level most;
} log_state = {.role = "husk", .fd = STDERR_FILENO, .format = LOG_FORMAT_TEXT, .most = LOG_LEVEL_WARN};

static const char *const level_names[] = {"error", "warning", "info", "debug"};

void log_init(const char *role, int fd, enum log_format format, enum log_level most)
{
    log_state.role = role;
    log_state.fd = fd;
    log_state.format = format;
    log_state.most = most;
}

enum log_level log_level_get(void)
{
    return log_state.most;
}

/* A line is written whole or, where the disk is full or the reader gone, lost: there is nobody to tell. */
static void log_put(const char *line, size_t length)
{
    while (write(log_state.fd, line, length) < 0 && errno == EINTR)
        ;
}

static void log_put_text(enum log_level level, const char *message)
{
    char line[LINE_MAX_BYTES + 64];
    int length = snprintf(line, sizeof(line), "%s: %s: ", log_state.role, level_names[level]);
    if (length < 0)
        return;
    size_t at = (size_t)length;
    for (const char *c = message; *c && at < sizeof(line) - 5; c++) {
        unsigned char byte = (unsigned char)*c;
        if (byte < 0x20 || byte == 0x7f)
            at += (size_t)snprintf(line + at, sizeof(line) - at, "\\x%02x", byte);
        else
            line[at++] = *c;
    }
    line[at++] = '\n';
    log_put(line, at);
}

static void log_put_json(enum log_level level, const char *message)
{
    char when[TIME_TEXT_SIZE];
    time_text_now(when);

    /* A message that is no UTF-8 still has to be told: jansson refuses it, so its odd bytes are replaced. */
    char ascii[LINE_MAX_BYTES];
    json_t *text = json_string(message);
    if (!text) {
        size_t at = 0;
        for (; message[at] && at < sizeof(ascii) - 1; at++)
            ascii[at] = (unsigned char)message[at] < 0x80 ? message[at] : '?';
        ascii[at] = '\0';
        text = json_string(ascii);
    }
    json_t *object = json_pack("{s:s, s:o, s:s}", "level", level_names[level], "msg", text, "time", when);
    char *line = object ? json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    json_decref(object);
    if (!line)
        return;
    size_t line_length = strlen(line);
    line[line_length] = '\n'; /* the NUL's place: the line goes out in one write */
    log_put(line, line_length + 1);
    free(line);
}

static void log_vwrite(enum log_level level, const char *format, va_list args)
{
    if (level > log_state.most || log_state.fd < 0)
        return;
    int saved = errno;
    char message[LINE_MAX_BYTES];
    vsnprintf(message, sizeof(message), format, args);
    if (log_state.format == LOG_FORMAT_JSON)
        log_put_json(level, message);
    else
        log_put_text(level, message);
    errno = saved;
}

void log_write(enum log_level level, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_vwrite(level, format, args);
    va_end(args);
}

void log_limited(struct log_limit *limit, const char *format, ...)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    if (limit->window_start_ms == 0 || now_ms - limit->window_start_ms >= LOG_LIMIT_MS) {
        if (limit->suppressed)
            log_warn("log: left out lines=%u", limit->suppressed);
        *limit = (struct log_limit){.window_start_ms = now_ms};
    }
    if (limit->in_window >= LOG_LIMIT_BURST) {
        limit->suppressed++;
        return;
    }
    limit->in_window++;
    va_list args;
    va_start(args, format);
    log_vwrite(LOG_LEVEL_WARN, format, args);
    va_end(args);
}
