/*
 * Frames: length-prefixed JSON objects over a stream socket, as protocol.h describes them.
 *
 * The other end is hostile: a length is checked before memory follows it, memory grows with the bytes that
 * really came, and content that is no JSON object ends the connection. Shim and agent both link this; the
 * blocking pair (send, receive) is for a caller who waits, the parser and frame_encode are for event loops.
 */
#ifndef HUSK_PROTOCOL_FRAME_H
#define HUSK_PROTOCOL_FRAME_H

#include "common/error.h"

#include <jansson.h>
#include <stddef.h>

/* Bytes of the little-endian length in front of each frame. */
#define FRAME_HEADER_BYTES 4

/* The frame's bytes, header included, in a heap buffer that the caller frees; their number in *length. NULL
 * with err filled: E2BIG when the content is over FRAME_BYTES_MAX, ENOMEM. */
char *frame_encode(const json_t *message, size_t *length, struct error *err);

/* Sends one frame, waiting as needed. 0, or -1 with err filled (E2BIG when larger than FRAME_BYTES_MAX, EPIPE
 * when the peer is gone; SIGPIPE is not raised). The fd must be a socket. */
int frame_send(int fd, const json_t *message, struct error *err);

/* Waits for one frame and reads not one byte more, so that raw bytes may follow it. New reference, or NULL
 * with err filled: EPIPE at end of stream, EMSGSIZE when the length is over FRAME_BYTES_MAX, EPROTO when the
 * content is no JSON object. */
json_t *frame_receive(int fd, struct error *err);

/* For event loops: bytes go in as they come, frames come out. Belongs to one thread. */
struct frame_parser;

/* A new parser, or NULL (ENOMEM). */
struct frame_parser *frame_parser_new(void);

/* NULL is fine. */
void frame_parser_free(struct frame_parser *parser);

/* Reads once from fd (non-blocking or readable), and never past the end of the frame under way. Bytes read
 * (> 0), 0 when nothing is there now, or -1 with err filled (EPIPE: end of stream, EMSGSIZE, ENOMEM, or the
 * read's own errno). After an error the parser is of no further use. */
int frame_parser_fill(struct frame_parser *parser, int fd, struct error *err);

/* The next whole frame: 1 and a new reference in *message, 0 when more bytes are needed, -1 with err filled
 * (EMSGSIZE, EPROTO). */
int frame_parser_next(struct frame_parser *parser, json_t **message, struct error *err);

#endif
