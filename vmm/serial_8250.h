/*
 * A 16550-like port at 0x3f8 for the kernel's early, polled output (earlyprintk=serial). It has no interrupt
 * and no input; hvc0 is the console. Trust boundary: registers are the guest's, from any vCPU thread; output
 * is limited.
 */
#ifndef HUSK_VMM_SERIAL_8250_H
#define HUSK_VMM_SERIAL_8250_H

#include <stdint.h>

#define SERIAL_PORT  0x3f8u
#define SERIAL_PORTS 8u

struct serial;
struct snapshot_writer;
struct snapshot_reader;

/* Writes to output_fd (the caller's, kept open) whole lines where it can, at most limit_bytes in all; the
 * rest is dropped. NULL without memory. */
struct serial *serial_new(int output_fd, uint64_t limit_bytes);
/* Writes what is left of an unfinished line. */
void serial_free(struct serial *serial);
void serial_read(struct serial *serial, uint64_t offset, void *data, uint32_t length);
void serial_write(struct serial *serial, uint64_t offset, const void *data, uint32_t length);
/* The vCPUs are paused. 0 or -errno. */
int serial_save(struct serial *serial, struct snapshot_writer *writer);
int serial_restore(struct serial *serial, struct snapshot_reader *reader);

#endif
