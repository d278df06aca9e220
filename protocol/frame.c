/*
 * Frames: see frame.h. This file is the trust boundary between host and guest for everything that is not
 * payload: neither end believes the other's lengths, and JSON is parsed by jansson alone.
 *
 * The parser reads the header, then exactly the content it announces. It never reads ahead: the bytes after a
 * connection's first frame may be a stream's, which are not frames.
 */
#include "protocol/frame.h"

#include "common/fd.h"
#include "common/json.h"
#include "protocol/protocol.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

/* What is allocated at first for a frame; it grows as bytes come, so an announced length costs nothing. */
#define BUFFER_BYTES_FIRST 4096u

struct frame_parser {
    unsigned char header[FRAME_HEADER_BYTES];
    size_t header_bytes;  /* of the header, received */
    size_t content_bytes; /* announced by the header, known once it is whole */
    char *content;
    size_t received; /* bytes of the content */
    size_t capacity;
};

static uint32_t frame_length(const unsigned char *header)
{
    uint32_t little;
    memcpy(&little, header, sizeof(little));
    return le32toh(little);
}

static int frame_check_length(size_t length, struct error *err)
{
    if (length > FRAME_BYTES_MAX)
        return error_set(err, EMSGSIZE, "frame of %zu bytes, %u are allowed", length, FRAME_BYTES_MAX);
    return 0;
}

static json_t *frame_parse(const char *content, size_t length, struct error *err)
{
    json_t *message = json_parse_object(content, length, err);
    if (!message) {
        error_wrap(err, "frame");
        if (err)
            err->code = EPROTO;
    }
    return message;
}

char *frame_encode(const json_t *message, size_t *length, struct error *err)
{
    size_t content = json_dumpb(message, NULL, 0, JSON_COMPACT);
    if (content == 0) {
        error_set(err, EINVAL, "frame: the message can't be written as JSON");
        return NULL;
    }
    if (content > FRAME_BYTES_MAX) {
        error_set(err, E2BIG, "frame of %zu bytes, %u are allowed", content, FRAME_BYTES_MAX);
        return NULL;
    }
    char *frame = malloc(FRAME_HEADER_BYTES + content);
    if (!frame) {
        error_set(err, ENOMEM, "frame");
        return NULL;
    }
    uint32_t little = htole32((uint32_t)content);
    memcpy(frame, &little, sizeof(little));
    json_dumpb(message, frame + FRAME_HEADER_BYTES, content, JSON_COMPACT);
    *length = FRAME_HEADER_BYTES + content;
    return frame;
}

int frame_send(int fd, const json_t *message, struct error *err)
{
    size_t left = 0;
    cleanup_free char *frame = frame_encode(message, &left, err);
    if (!frame)
        return -1;
    for (const char *at = frame; left > 0;) {
        ssize_t put = send(fd, at, left, MSG_NOSIGNAL);
        if (put >= 0) {
            at += put;
            left -= (size_t)put;
        } else if (errno == EAGAIN) {
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
        } else if (errno != EINTR) {
            return error_set(err, errno, "send frame");
        }
    }
    return 0;
}

json_t *frame_receive(int fd, struct error *err)
{
    struct frame_parser *parser = frame_parser_new();
    json_t *message = NULL;
    if (!parser) {
        error_set(err, ENOMEM, "frame");
        return NULL;
    }
    while (frame_parser_next(parser, &message, err) == 0) {
        int got = frame_parser_fill(parser, fd, err);
        if (got < 0)
            break;
        if (got == 0)
            poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, -1);
    }
    frame_parser_free(parser);
    return message;
}

struct frame_parser *frame_parser_new(void)
{
    return calloc(1, sizeof(struct frame_parser));
}

void frame_parser_free(struct frame_parser *parser)
{
    if (!parser)
        return;
    free(parser->content);
    free(parser);
}

/* Makes room for at least one more byte of the content. */
static int frame_parser_grow(struct frame_parser *parser, struct error *err)
{
    if (parser->received < parser->capacity)
        return 0;
    size_t wanted = parser->capacity ? 2 * parser->capacity : BUFFER_BYTES_FIRST;
    if (wanted > parser->content_bytes)
        wanted = parser->content_bytes;
    char *grown = realloc(parser->content, wanted);
    if (!grown)
        return error_set(err, ENOMEM, "frame");
    parser->content = grown;
    parser->capacity = wanted;
    return 0;
}

int frame_parser_fill(struct frame_parser *parser, int fd, struct error *err)
{
    bool in_header = parser->header_bytes < FRAME_HEADER_BYTES;
    if (!in_header && parser->received == parser->content_bytes)
        return error_set(err, EINVAL, "frame: the one before was not taken"); /* the caller's mistake */
    if (!in_header && frame_parser_grow(parser, err))
        return -1;
    char *to = in_header ? (char *)parser->header + parser->header_bytes : parser->content + parser->received;
    size_t room = in_header ? FRAME_HEADER_BYTES - parser->header_bytes : parser->capacity - parser->received;

    ssize_t got = read(fd, to, room);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got < 0)
        return error_set(err, errno, "receive frame");
    if (got == 0)
        return error_set(err, EPIPE, "receive frame: end of stream");
    if (!in_header) {
        parser->received += (size_t)got;
        return (int)got;
    }
    parser->header_bytes += (size_t)got;
    if (parser->header_bytes == FRAME_HEADER_BYTES) {
        parser->content_bytes = frame_length(parser->header);
        if (frame_check_length(parser->content_bytes, err))
            return -1;
    }
    return (int)got;
}

int frame_parser_next(struct frame_parser *parser, json_t **message, struct error *err)
{
    if (parser->header_bytes < FRAME_HEADER_BYTES)
        return 0;
    if (frame_check_length(parser->content_bytes, err))
        return -1;
    if (parser->received < parser->content_bytes)
        return 0;
    json_t *parsed = frame_parse(parser->content ? parser->content : "", parser->received, err);
    /* Each frame starts small again: one large request must not keep its memory for the connection's life. */
    free(parser->content);
    *parser = (struct frame_parser){0};
    if (!parsed)
        return -1;
    *message = parsed;
    return 1;
}
