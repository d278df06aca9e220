/*
 * The process outside of a hand-started sandbox: it waits for husk-vmm proper, which is pid 1 of the
 * namespace that this process made. The shim does the same for sandboxes of its own.
 */
#ifndef HUSK_VMM_WARDEN_H
#define HUSK_VMM_WARDEN_H

#include <sys/types.h>

struct files;
struct options;

/* Passes SIGTERM, SIGINT and SIGHUP on as SIGTERM, waits for the child, removes the vsock's path, and tells
 * of a child that could not tell itself. Returns the exit status for main. */
int warden_run(pid_t child, struct files *files, const struct options *options);

#endif
