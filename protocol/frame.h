/*
 * Frames: length-prefixed JSON objects over a stream socket. See protocol.h.
 */
#ifndef HUSK_PROTOCOL_FRAME_H
#define HUSK_PROTOCOL_FRAME_H

#include "common/error.h"

#include <jansson.h>
#include <stddef.h>

/* Sends one frame, waiting as needed. 0, or -1 with err filled (E2BIG when larger than FRAME_BYTES_MAX). */
int frame_send(int fd, const json_t *message, struct error *err);

/* Waits for one frame. New reference, or NULL with err filled: EPIPE at end of stream, EMSGSIZE when the
 * length is over FRAME_BYTES_MAX, EPROTO when the content is no JSON object. */
json_t *frame_receive(int fd, struct error *err);

/* For event loops: bytes go in as they come, frames come out. */
struct frame_parser;
struct frame_parser *frame_parser_new(void);
void frame_parser_free(struct frame_parser *parser);
/* Reads once from fd (non-blocking or readable). Bytes read (> 0), 0 when nothing is there now, or -1 with
 * err filled (EPIPE: end). */
int frame_parser_fill(struct frame_parser *parser, int fd, struct error *err);
/* The next whole frame: 1 and a new reference in *message, 0 when more bytes are needed, -1 with err filled.
 */
int frame_parser_next(struct frame_parser *parser, json_t **message, struct error *err);

#endif
