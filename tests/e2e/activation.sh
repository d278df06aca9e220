#!/bin/bash
# Sockets handed over: listening ones as a service manager does it (LISTEN_FDS), and a connection (--preserve-fds). The process
# sees the same addresses and peers as under crun, bytes go both ways, each half ends by itself, and nothing is left.
. "${0%/*}/lib.sh"

# The service, in the container: tells what sd_listen_fds(3) reads and what it got, then answers each connection in capitals after
# its input has ended, with who it thinks is there; ends after as many as are to come.
cat > "$work/service.py" << 'PYTHON'
import os, socket, struct, sys
count = int(os.environ["LISTEN_FDS"])
print("fds", count, "pid", os.environ["LISTEN_PID"] == str(os.getpid()), "names", os.environ.get("LISTEN_FDNAMES"), flush=True)
listeners = [socket.socket(fileno=3 + i) for i in range(count)]
for s in listeners:
    print(s.family.name, s.getsockname() if s.family != socket.AF_UNIX else "", s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), flush=True)
for s in listeners + listeners[:1]:
    c, peer = s.accept()
    if s.family == socket.AF_UNIX:
        peer = struct.unpack("3i", c.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:]
    data = b""
    while True:
        got = c.recv(65536)
        if not got:
            break
        data += got
    c.sendall(repr((c.getsockname() if s.family != socket.AF_UNIX else "", peer)).encode() + b"\n" + data.upper())
    c.close()
PYTHON

# The service manager: opens what is to be handed over, runs the runtime, and is each of the clients in turn.
cat > "$work/manager.py" << 'PYTHON'
import os, socket, sys, time
path = sys.argv[1]
unix = socket.socket(socket.AF_UNIX); unix.bind(path); os.chmod(path, 0o777)
ipv4 = socket.socket(); ipv4.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); ipv4.bind(("0.0.0.0", 7431))
ipv6 = socket.socket(socket.AF_INET6); ipv6.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); ipv6.bind(("::1", 7432))
for s in (unix, ipv4, ipv6):
    s.listen(5)
child = os.fork()
if child == 0:
    saved = [os.dup(s.fileno()) for s in (unix, ipv4, ipv6)]
    for n, fd in enumerate(saved):
        os.dup2(fd, 30 + n)
    os.closerange(3, 30)
    for n in range(3):
        os.dup2(30 + n, 3 + n)
    os.closerange(6, 100)
    for n in range(3):
        os.set_inheritable(3 + n, True)
    os.environ.update(LISTEN_FDS="3", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="a:b:c")
    os.execvp(sys.argv[2], sys.argv[2:])

def ask(connection, data):
    connection.settimeout(60)
    answer = b""
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
    while True:
        got = connection.recv(65536)
        if not got:
            break
        answer += got
    who, _, rest = answer.partition(b"\n")
    print(who.decode(), len(rest), rest == data.upper(), flush=True)

c = socket.socket(socket.AF_UNIX)
os.setegid(65533); os.seteuid(65534); c.connect(path); os.seteuid(0); os.setegid(0)
ask(c, b"by the path")
c = socket.socket(); c.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); c.bind(("127.0.0.2", 7441)); c.connect(("127.0.0.3", 7431))
ask(c, b"x" * 3000000)
c = socket.socket(socket.AF_INET6); c.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); c.bind(("::1", 7442)); c.connect(("::1", 7432))
ask(c, b"six")
c = socket.socket(socket.AF_UNIX); c.connect(path)
ask(c, b"")
print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
PYTHON

pod_start ""
cp "$work/service.py" "$rootfs/root/service.py"
bundle_make "$bundle" '.process.args = ["python3", "/root/service.py"] '"$pod_join"
activated() { # activated RUNTIME...
  local runtime=$1
  shift
  python3 "$work/manager.py" "$work/$runtime.socket" "$@" < /dev/null
}
chmod 755 "$work"
ours=$(activated husk "$(type -P husk)" --root "$state" run --bundle "$bundle" a1)
# crun 1.8 hands the fds over, but tells the process nothing of them unless the spec does, and never their names.
bundle_make "$bundle" '.process.args = ["python3", "/root/service.py"] | .process.env += ["LISTEN_FDS=3"]'
theirs=$(activated crun crun --root "$work/crun" run --bundle "$bundle" a1)
equal "sockets of activation, as crun has them" "$ours" "${theirs/names None/names a:b:c}"
matches "all of them" "$ours" 'status 0$'

# A connection, of either family; and one that is still open when the process ends, and idle: its peer hears of the end.
cat > "$rootfs/root/connected.py" << 'PYTHON'
import socket, sys
c = socket.socket(fileno=3)
print(c.family.name, (c.getsockname(), c.getpeername()) if c.family != socket.AF_UNIX else "", file=sys.stderr, flush=True)
if sys.argv[1] == "answer":
    data = b"".join(iter(lambda: c.recv(65536), b""))
    c.sendall(data.upper())
PYTHON
cat > "$work/connect.py" << 'PYTHON'
import os, socket, sys
def pair(family):
    if family == "unix":
        return socket.socketpair()
    listener = socket.socket(); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.3", 7433)); listener.listen()
    ours = socket.socket(); ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ours.bind(("127.0.0.2", 7443)); ours.connect(("127.0.0.3", 7433))
    return ours, listener.accept()[0]
ours, theirs = pair(sys.argv[1])
child = os.fork()
if child == 0:
    os.dup2(theirs.fileno(), 3)
    os.closerange(4, 100)
    os.set_inheritable(3, True)
    os.execvp(sys.argv[3], sys.argv[3:])
theirs.close()
ours.settimeout(60)
if sys.argv[2] == "answer":
    ours.sendall(b"y" * 1000000)
    ours.shutdown(socket.SHUT_WR)
got = b"".join(iter(lambda: ours.recv(65536), b""))
print(len(got), got == b"Y" * len(got), "status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
PYTHON
bundle_make "$bundle" '.process.args = ["sleep", "1000"]'
crun --root "$work/crun" run --detach --bundle "$bundle" a2 < /dev/null > /dev/null 2>&1
for what in 'unix answer' 'unix idle' 'inet answer' 'inet idle'; do
  # shellcheck disable=SC2086 # two words
  ours=$(python3 "$work/connect.py" $what "$(type -P husk)" --root "$state" exec --preserve-fds 1 pod python3 /root/connected.py "${what#* }" 2>&1)
  # shellcheck disable=SC2086
  theirs=$(python3 "$work/connect.py" $what crun --root "$work/crun" exec --preserve-fds 1 a2 python3 /root/connected.py "${what#* }" 2>&1)
  equal "a connection handed over: $what" "$ours" "$theirs"
done
crun --root "$work/crun" delete --force a2
husk delete --force pod
