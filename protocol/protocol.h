/*
 * What shim and agent say to each other: ports, limits, and every message.
 *
 * Transport: a vsock stream to AGENT_PORT of the guest, always opened by the host. A frame (frame.h) is a
 * little-endian u32 length and that many bytes of JSON, an object. Both sides are hostile to each other:
 * lengths are capped before anything is allocated, unknown methods and missing or mistyped members are errors
 * that name them.
 *
 * The first frame of a connection, from the host, says what it is to be:
 *
 *   {"husk": PROTOCOL_VERSION, "open": "control"}
 *   {"husk": PROTOCOL_VERSION, "open": "stream", "container": ID, "process": NAME,
 *    "stream": "stdin"|"stdout"|"stderr"|"terminal"|"fd<number>", "await": bool, "local": ADDRESS,
 *    "peer": PEER}
 *
 * The answer is {"husk": VERSION, "ok": true}, or {"husk": VERSION, "error": {"code": ERRNO, "text": "..."}}
 * and a close. After it a stream connection carries raw bytes: the host half-closes stdin at its end of
 * input, and the agent half-closes stdout and stderr when the last writer is gone, or when the process has
 * ended and what it wrote was handed over. The host's half-close of a terminal hangs it up. A stream is
 * opened once. With await, a stream whose process is not there yet is waited for: the host can ask for a
 * process and open its streams in one go. The stream of a listening socket is opened for each connection to
 * it, with the connection's two ends; EAGAIN means that its backlog is full, ECONNREFUSED that nobody listens
 * any more. A socket's halves end one by one.
 *
 *   ADDRESS: {"family": "ipv4"|"ipv6", "address": TEXT, "port": N} or {"family": "unix"}
 *   PEER: an ADDRESS, of a Unix socket with "uid" and "gid": what SO_PEERCRED tells of it
 *
 * On a control connection the host sends requests {"id": N, "method": "...", "params": {...}} and the agent
 * answers each, in any order, with {"id": N, "result": {...}} or {"id": N, "error": {"code": ERRNO,
 * "text": "..."}}. Events carry no id: {"event": "...", "params": {...}}.
 *
 * Methods (params -> result), "process" being "init" where it is left out:
 *
 *   agent.info        {} -> {"version", "kernel", "cpus", "memory_bytes"}
 *
 *   container.create  {"container": ID, "spec": config.json's object as it came,
 *                      "root": path below SHARED_DIR, "mounts": {"<index in spec.mounts>": path below it},
 *                      "submounts": {"root" or "<index in spec.mounts>": [path below that tree ...]},
 *                      directories that the host has other file systems mounted on, outer ones first,
 *                      "hooks": {"<index in spec.hooks.createContainer>": path of the program below it},
 *                      "namespaces": {"<index in spec.linux.namespaces>": ID of the container that has it},
 *                      "bundle": its path on the host,
 *                      "disks": [{"serial": TEXT, "major": N, "minor": N of the host, "mounts": [index in
 *                      spec.mounts ...], "mode", "uid", "gid": N of the host's device file,
 *                      "device": the slot it is in, when the VMM has just put it there}],
 *                      "terminal": bool, default spec.process.terminal; "owner": bool,
 *                      "stdio": {"stdin", "stdout", "stderr": "stream" (default), "null" or, of stderr,
 *                      "stdout"}, "fds": {"<number>": "input"|"output"|"null"|
 *                      {"listen": ADDRESS, "ipv6_only": bool}|{"socket": ADDRESS, "peer": PEER}},
 *                      "activation": {"fds": N, "names": TEXT}, "notify": NAME}
 *                     -> {"pid": guest pid}
 *                     Sets up everything but the program; the process "init" waits for container.start.
 *                     Its streams are opened by the host before that: "terminal" alone, or stdin, stdout,
 *                     stderr. With owner, the loss of this control connection kills the container, and
 *                     powers the guest off when it was the last one. With stdio (which may be empty) the
 *                     host promises to open the streams: what is written before, even by a process that
 *                     has ended, waits for it. "null" is /dev/null, "stdout" the same file as stdout:
 *                     neither has a stream. fds are further ones, pipes from or to the host, each with the
 *                     stream "fd<number>", or /dev/null, or stream sockets with the addresses of the
 *                     host's. With activation the process is told that the first N are sockets it was
 *                     activated with (sd_listen_fds(3)). notify is the name of an abstract datagram socket,
 *                     made for container.notify.
 *   container.start   {"container", "process"} -> {"pid": guest pid}
 *                     Runs the program; an exec failure is this request's error.
 *   container.state   {"container"} -> {"status": "creating"|"created"|"running"|"stopped", "pid"}
 *   container.kill    {"container", "process", "signal": N, "all": bool} -> {}
 *                     ESRCH when the process has ended. With all, every process of the container.
 *   container.notify  {"container"} -> {"message": TEXT}
 *                     The next datagram to the container's notify socket (sd_notify(3)), when it comes.
 *   container.delete  {"container", "force": bool} -> {}
 *                     Frees what is left of it in the guest. EBUSY while it runs, unless forced.
 *   container.pause   {"container"} -> {}
 *                     Answered when every process stands still. ESRCH unless it is created or running.
 *   container.resume  {"container"} -> {}
 *                     Also of one that is not paused; a pause that is under way fails with ECANCELED.
 *   container.processes {"container", "details": bool} -> {"pids": [guest pid...]}, ascending, or with
 *                     details {"processes": [{"pid", "own_pid" (in the container's pid namespace), "ppid",
 *                     "pgid", "sid", "tty" (proc(5) tty_nr), "uid", "gid", "state" (a letter), "threads",
 *                     "nice", "priority", "cpu_ms", "age_ms", "virtual_kib", "resident_kib", "comm",
 *                     "args"}], "memory_kib": of the guest}
 *   container.proc    {"container", "path": "" | NAME | PID/NAME | PID/ns/NAME}
 *                     -> {"pids": [N...]} | {"hex": TEXT} | {"link": TEXT}
 *                     The processes, a file or what a link says, of the /proc that belongs to the pid
 *                     namespace of the container's init. ESRCH when the container has ended, ENOENT,
 *                     EINVAL (no such name, or no file), or what reading gives.
 *   container.update  {"container", "resources": linux.resources} -> {}
 *                     Writes the values that are there, all or none. Device rules are left as they are.
 *   container.stats   {"container"} -> {"cpu": cpu.stat, "memory": {"current", "max", "peak",
 *                     "swap_current", "swap_max", "events": memory.events, "stat": memory.stat},
 *                     "pids": {"current", "max"},
 *                     "io": [{"major", "minor", "rbytes", "wbytes", "rios", "wios", ...}],
 *                     "hugetlb": {SIZE: {"current", "max", "events"}}}
 *                     From the cgroup's files; a limit of "max", and what the kernel lacks, is absent.
 *   container.events  {"container"} -> {}
 *                     Answered when the container has ended. Until then the connection gets an event
 *                     "oom", params {"container"}, when processes were killed for want of memory.
 *
 *   process.create    {"container", "process": NAME, "spec": OCI process object, "terminal": bool,
 *                      "stdio", "fds", "activation", "start": bool, "owner": bool, "cgroup": path below the
 * container's}
 *                     -> {"pid": guest pid}
 *                     A further process (exec) of a container, to be started by container.start, or with
 *                     start at once: then it is answered when the program runs, or with why it can't.
 *                     With owner, the loss of this control connection kills the process.
 *   process.wait      {"container", "process"} -> {"status": 0..255} or {"signal": N, "core": bool}
 *                     Answered when the process has ended and what it wrote was handed to its streams.
 *   process.resize    {"container", "process", "rows": N, "columns": N} -> {}
 *
 *   sandbox.network.set
 *                     {"interfaces": [{"id": the host's index, "name", "mac": "aa:bb:..", "mtu",
 *                       "up": bool, "noarp": bool, "queue_length",
 *                       "loopback": true for lo (which has no MAC),
 *                       "device": platform device to bind first, for a NIC attached later,
 *                       "addresses": [{"address", "prefix", "scope", "flags", "peer", "broadcast",
 *                                      "label", "metric", "valid_s", "preferred_s"}],
 *                       "neighbours": [{"address", "mac", "flags"}],
 *                       "sysctls": {"ipv4": {NAME: N}, "ipv6": {NAME: N}}}],
 *                      "routes": [{"destination": "10.0.0.0/8", "table", "protocol", "scope", "type",
 *                       "tos", "flags", "interface": id, "gateway", "source", "from", "metric",
 *                       "preference", "expires_s", "metrics": [[RTAX_*, N]],
 *                       "nexthops": [{"interface": id, "gateway", "weight", "flags"}]}],
 *                      "rules": [{"family": 4|6, "action", "priority", "table", "from", "to", "input",
 *                       "output", "mark", "mask", "tos", "flags", "goto", "suppress_prefix", "protocol",
 *                       "ip_protocol", "source_ports": [N, N], "destination_ports": [N, N]}]}
 *                     -> {"removed": [platform device of a NIC that was taken away]}
 *                     The whole network of the pod, as it is to be; numbers are rtnetlink's. NICs are
 *                     found by their MAC. What an earlier request had and this one lacks is removed; what
 *                     the container made itself stays.
 *   sandbox.resize    {"cpus": N} -> {"cpus": online}
 *                     The first N processors are online, no others. ERANGE when there are not that many.
 *   sandbox.shutdown  {} -> {}
 *                     Kills what runs; the guest syncs and powers off after the answer.
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
#define SHARED_TAG    "husk"
#define SHARED_DIR    "/run/husk/shared"
#define SHARED_ROOTFS "rootfs"  /* the name of a container's root filesystem in its directory */
#define SHARED_MAPPED "mapped-" /* and of a mount that is to be id-mapped, followed by its index */

#define SUBMOUNTS_MAX       4096 /* listed below one tree; the rest appear when they are first used */
#define FRAME_BYTES_MAX     (8u << 20)
#define PROC_FILE_BYTES_MAX 65536 /* of a file of container.proc; the rest is left out */
#define CONTAINER_ID_MAX    128   /* characters */
#define PROCESS_NAME_MAX    128
/* Further fds of a process, from PROCESS_FDS_FIRST on (sd_listen_fds(3)'s SD_LISTEN_FDS_START). */
#define PROCESS_FDS_FIRST 3
#define PROCESS_FDS_MAX   32
#define CONNECTIONS_MAX   4096 /* per sandbox */

/* The process that a container.create makes. */
#define PROCESS_INIT "init"

#endif
