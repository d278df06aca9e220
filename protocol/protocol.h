/*
 * What shim and agent say to each other: ports, limits, and every message.
 *
 * Transport: a vsock stream to AGENT_PORT of the guest, always opened by the host. A frame is a little-endian
 * u32 length and that many bytes of JSON (an object). Both sides are hostile to each other: lengths are
 * capped before anything is allocated, unknown methods and missing or mistyped members are errors that name
 * them.
 *
 * The first frame of a connection, from the host, decides what it is:
 *   {"husk": PROTOCOL_VERSION, "open": "control"}
 *   {"husk": PROTOCOL_VERSION, "open": "stream", "container": ID, "process": PID_NAME, "stream":
 * "stdin"|"stdout"|"stderr"|"terminal"} answered by {"husk": VERSION, "ok": true} or {"husk": VERSION,
 * "error": {"code": ERRNO, "text": "..."}} and a close. After the answer a stream connection carries raw
 * bytes: the host half-closes stdin at its end of input; the agent half-closes stdout and stderr when the
 * last writer is gone.
 *
 * On a control connection the host sends requests {"id": N, "method": "...", "params": {...}} and the agent
 * answers each, in any order, with {"id": N, "result": {...}} or {"id": N, "error": {"code": ERRNO, "text":
 * "..."}}. Events carry no id: {"event": "...", "params": {...}}.
 *
 * Methods (params -> result):
 *   agent.info       {} -> {"version", "kernel", "cpus", "memory_bytes"}
 *   container.create {"container", "spec": config.json's object as it came, "root": path below SHARED_DIR,
 *                     "mounts": {"<index in spec.mounts>": path below SHARED_DIR}, "terminal": bool, "owner":
 * bool}
 *                    -> {"pid": guest pid}
 *                    Everything but the program is set up; the process "init" waits for start. Its streams
 * must be opened by the host before container.start ("terminal" alone, or stdin, stdout and stderr). With
 * owner, the loss of this control connection kills the container, and the sandbox when it was its last.
 *   container.start  {"container"} -> {}         runs the program; an exec failure is this request's error
 *   container.state  {"container"} -> {"status": "created"|"running"|"stopped", "pid"}
 *   container.kill   {"container", "process": optional (default "init"), "signal": N, "all": bool} -> {};
 * ESRCH when it has ended container.delete {"container", "force": bool} -> {}  frees what is left in the
 * guest process.wait     {"container", "process"} -> {"status": 0..255} or {"signal": N, "core": bool};
 * answered when it ends and its output streams were drained into their connections sandbox.shutdown {} -> {}
 * the guest syncs and powers off
 */
#ifndef HUSK_PROTOCOL_PROTOCOL_H
#define HUSK_PROTOCOL_PROTOCOL_H

#define PROTOCOL_VERSION 1

/* AF_VSOCK ports. The agent, once it listens, knocks at the host: see vmm/virtio/vsock.h. */
#define AGENT_PORT 1024
#define KNOCK_PORT 1024

/* The guest's context id: each sandbox has a vsock of its own, so one value serves all. */
#define GUEST_CID 3

/* The virtio-fs tag, and where the agent mounts it. Containers' files are at SHARED_DIR/<container>/rootfs
 * and .../mounts/<n>. */
#define SHARED_TAG "husk"
#define SHARED_DIR "/run/husk/shared"

#define FRAME_BYTES_MAX  (8u << 20)
#define CONTAINER_ID_MAX 128  /* characters */
#define CONNECTIONS_MAX  4096 /* per sandbox */

#endif
