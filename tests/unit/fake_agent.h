/*
 * A stand-in for husk-vmm, its guest and its agent, for tests of the shim: it serves the vsock socket and
 * speaks the protocol, but no VM runs. What a container's "program" does is told by its args:
 *
 *   ["exit", "N"]    writes "out\n" and "err\n" and exits with N
 *   ["cat"]          copies stdin to stdout and exits with 0
 *   ["sleep"]        runs until a signal comes, and ends by it
 *   ["missing"]      cannot be executed: container.start fails with ENOENT
 *   ["vanish"]       the VMM exits under the running container
 *   ["mute"]         the agent never answers container.start
 *   ["lie"]          the end is reported with a status that no process can have
 */
#ifndef HUSK_TESTS_FAKE_AGENT_H
#define HUSK_TESTS_FAKE_AGENT_H

/* Serves connections until the sandbox is shut down, then returns; exits the process on "vanish". */
void fake_agent_serve(int listen_fd);

#endif
