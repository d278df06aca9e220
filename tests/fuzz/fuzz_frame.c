/* Fuzz target: what a peer may send where frames are expected. Each frame that is taken must survive being
 * sent. */
#include "common/fd.h"
#include "common/json.h"
#include "protocol/frame.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cleanup_fd int fd = memfd_create("input", MFD_CLOEXEC);
    if (fd < 0 || fd_write_full(fd, data, size) || lseek(fd, 0, SEEK_SET) < 0)
        return 0;
    struct frame_parser *parser = frame_parser_new();
    struct error err;
    json_t *message = NULL;
    while (frame_parser_fill(parser, fd, &err) > 0) {
        int got;
        while ((got = frame_parser_next(parser, &message, &err)) == 1) {
            size_t length = 0;
            char *frame = frame_encode(message, &length, NULL);
            cleanup_json json_t *again =
                frame ? json_parse_object(frame + FRAME_HEADER_BYTES, length - FRAME_HEADER_BYTES, NULL)
                      : NULL;
            if (frame && !json_equal(message, again))
                abort();
            free(frame);
            json_decref(message);
        }
        if (got < 0)
            break;
    }
    frame_parser_free(parser);
    return 0;
}
