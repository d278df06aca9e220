/* The polled serial port: see serial_8250.h. Registers and bits are those of <linux/serial_reg.h>. */
#include "vmm/serial_8250.h"

#include "common/fd.h"
#include "common/log.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <linux/serial_reg.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 256u

#define SECTION_NAME    "serial"
#define SECTION_VERSION 1u

struct serial {
    int output_fd;
    uint64_t left_bytes;  /* of the limit */
    pthread_mutex_t lock; /* guards all below */
    uint8_t divisor[2], ier, lcr, mcr, scr;
    char line[LINE_MAX_BYTES];
    unsigned line_bytes;
};

struct serial *serial_new(int output_fd, uint64_t limit_bytes)
{
    struct serial *serial = calloc(1, sizeof(*serial));
    if (!serial)
        return NULL;
    serial->output_fd = output_fd;
    serial->left_bytes = limit_bytes;
    pthread_mutex_init(&serial->lock, NULL);
    return serial;
}

/* A console that cannot be written (full disk, closed pipe) costs its output, not the guest. Lock held. */
static void line_flush(struct serial *serial)
{
    size_t length = serial->line_bytes < serial->left_bytes ? serial->line_bytes : serial->left_bytes;
    serial->line_bytes = 0;
    if (length == 0)
        return;
    int rc = fd_write_full(serial->output_fd, serial->line, length);
    serial->left_bytes -= length;
    if (rc < 0 || serial->left_bytes == 0) {
        log_warn("serial: further output is dropped reason=\"%s\"", rc < 0 ? strerror(-rc) : "limit");
        serial->left_bytes = 0;
    }
}

void serial_free(struct serial *serial)
{
    if (!serial)
        return;
    line_flush(serial);
    pthread_mutex_destroy(&serial->lock);
    free(serial);
}

static void transmit(struct serial *serial, uint8_t byte)
{
    serial->line[serial->line_bytes++] = (char)byte;
    if (byte == '\n' || serial->line_bytes == LINE_MAX_BYTES)
        line_flush(serial);
}

static uint8_t register_get(const struct serial *serial, uint64_t offset)
{
    bool dlab = serial->lcr & UART_LCR_DLAB;
    switch (offset) {
    case UART_RX: /* or UART_DLL */
        return dlab ? serial->divisor[0] : 0;
    case UART_IER: /* or UART_DLM */
        return dlab ? serial->divisor[1] : serial->ier;
    case UART_IIR:
        return UART_IIR_NO_INT;
    case UART_LCR:
        return serial->lcr;
    case UART_MCR:
        return serial->mcr;
    case UART_LSR:
        return UART_LSR_TEMT | UART_LSR_THRE;
    case UART_MSR:
        return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
    default:
        return serial->scr;
    }
}

static void register_set(struct serial *serial, uint64_t offset, uint8_t value)
{
    bool dlab = serial->lcr & UART_LCR_DLAB;
    switch (offset) {
    case UART_TX:
        if (dlab)
            serial->divisor[0] = value;
        else
            transmit(serial, value);
        break;
    case UART_IER:
        if (dlab)
            serial->divisor[1] = value;
        else
            serial->ier = value & 0x0f;
        break;
    case UART_LCR:
        serial->lcr = value;
        break;
    case UART_MCR:
        serial->mcr = value & 0x1f;
        break;
    case UART_SCR:
        serial->scr = value;
        break;
    default: /* FCR: no FIFO to control; LSR and MSR are read-only */
        break;
    }
}

/* Registers are bytes; a wider access is several of them in a row, as on the ISA bus. */
void serial_read(struct serial *serial, uint64_t offset, void *data, uint32_t length)
{
    uint8_t *to = data;
    pthread_mutex_lock(&serial->lock);
    for (uint32_t i = 0; i < length; i++)
        to[i] = register_get(serial, offset + i);
    pthread_mutex_unlock(&serial->lock);
}

void serial_write(struct serial *serial, uint64_t offset, const void *data, uint32_t length)
{
    const uint8_t *from = data;
    pthread_mutex_lock(&serial->lock);
    for (uint32_t i = 0; i < length; i++)
        register_set(serial, offset + i, from[i]);
    pthread_mutex_unlock(&serial->lock);
}

int serial_save(struct serial *serial, struct snapshot_writer *writer)
{
    pthread_mutex_lock(&serial->lock);
    line_flush(serial);
    snapshot_section_begin(writer, SECTION_NAME, 0, SECTION_VERSION);
    snapshot_put_u8(writer, serial->divisor[0]);
    snapshot_put_u8(writer, serial->divisor[1]);
    snapshot_put_u8(writer, serial->ier);
    snapshot_put_u8(writer, serial->lcr);
    snapshot_put_u8(writer, serial->mcr);
    snapshot_put_u8(writer, serial->scr);
    snapshot_section_end(writer);
    pthread_mutex_unlock(&serial->lock);
    return 0;
}

int serial_restore(struct serial *serial, struct snapshot_reader *reader)
{
    int rc = snapshot_section_open(reader, SECTION_NAME, 0, SECTION_VERSION, NULL);
    if (rc < 0)
        return rc;
    uint8_t value[6];
    for (unsigned i = 0; i < sizeof(value); i++)
        value[i] = snapshot_get_u8(reader);
    rc = snapshot_section_finish(reader);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&serial->lock);
    serial->divisor[0] = value[0];
    serial->divisor[1] = value[1];
    serial->ier = value[2] & 0x0f;
    serial->lcr = value[3];
    serial->mcr = value[4] & 0x1f;
    serial->scr = value[5];
    pthread_mutex_unlock(&serial->lock);
    return 0;
}
