/*
 * Terminals on the host's side. The pseudo-terminal that a program sees is the guest's; what stands for it
 * here is either the caller's own terminal (run and exec in the foreground) or a pseudo-terminal made for a
 * caller who wants its master by a console socket. Both are raw: editing, echo and the keys that make signals
 * belong to the guest's terminal, and bytes pass here as they are.
 */
#ifndef HUSK_SHIM_TERMINAL_H
#define HUSK_SHIM_TERMINAL_H

#include "common/error.h"

#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <termios.h>

/* runc's two rules on where a terminal may go (its utils_linux.go, checkTerminal). 0, or -1 with err filled.
 */
int terminal_check_options(bool terminal, bool detach, const char *console_socket, struct error *err);

/* Connects to a Unix stream socket by its path, however long. fd, the caller's, or -1 with err filled. */
int terminal_connect_socket(const char *path, struct error *err);

/* Sends an fd over the socket with its name as the data, as runc does for a terminal's master (its
 * docs/terminals.md, "Pass-Through"). 0, or -1 with err filled. */
int terminal_send_fd(int socket_fd, int fd, const char *name, struct error *err);

/* Makes a raw pseudo-terminal of that size (0, 0: left alone), sends its master over the console socket and
 * makes the slave the controlling terminal of the calling session leader. The slave, the caller's, or -1 with
 * err filled. The master's end hangs the slave up. */
int terminal_make(int console_fd, const struct winsize *size, struct error *err);

/* The caller's terminal: the first of standard error, output and input that is one, else /dev/tty. A new fd,
 * the caller's, or -1 with err filled. */
int terminal_find(struct error *err);

/* A terminal in raw mode. While it is, a guard process waits beside this one: should this one be killed, the
 * guard sets the terminal back. */
struct terminal_raw {
    int fd; /* -1: not raw */
    struct termios saved;
    int guard_fd;
    pid_t guard;
};

/* Makes the terminal raw; keeps a copy of tty_fd. Single-threaded callers only. 0, or -1 with err filled. */
int terminal_raw_enter(struct terminal_raw *raw, int tty_fd, struct error *err);

/* Sets the terminal back as it was and ends the guard. Does nothing when it is not raw. */
void terminal_raw_leave(struct terminal_raw *raw);

#endif
