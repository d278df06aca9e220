/*
 * A connection of the host and the guest's stream that stands for it: bytes go both ways, and each direction
 * ends by itself, as those of a connection do. Either side may be hostile; it can only stop its own bytes.
 */
#ifndef HUSK_SHIM_SOCKET_RELAY_H
#define HUSK_SHIM_SOCKET_RELAY_H

/* Works until both directions have ended or one of the two is gone. Neither fd is closed or made
 * non-blocking: a caller may share them. */
void socket_relay_run(int host_fd, int guest_fd);

#endif
