#!/bin/bash
# The pid of a container and of an exec is a process of the host: distinct, adopted by the caller's subreaper, its start time
# constant, its end that of the guest's process. It takes every signal there is, real-time ones too, and its SIGKILL is the
# process's.
# limit: 300
. "${0%/*}/lib.sh"
long

bundle_make "$bundle" '.process.args = ["python3", "-c", $script]' --arg script 'import time; time.sleep(1000)'
cat > monitor.py << 'PY'
import ctypes, os, signal, subprocess, sys, time
husk = sys.argv[1:]
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
libc = ctypes.CDLL(None, use_errno=True)
start_time = lambda pid: open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[19]

def detached(*args):
    subprocess.run([*husk, "exec", "--detach", "--pid-file", "pid", "m", *args], check=True, stdin=subprocess.DEVNULL)
    text = open("pid").read()
    assert text.isdigit(), text
    pid = int(text)
    assert open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1] == str(os.getpid()), "not adopted"
    return pid

def end(pid):
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)

# Every signal that can be caught reaches the process, in the order sent one by one.
catcher = r'''
import os, signal
os.mkfifo("/srv/told")
signals = [s for s in range(1, 65) if s not in (9, 19, 32, 33)]
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
told = open("/srv/told", "w", buffering=1)
print("ready", file=told)
while True:
    number = signal.sigwaitinfo(signals).si_signo
    print(number, file=told)
    if number == 64:
        os._exit(64)
'''
try:
    os.unlink("/run/husk-bundle/rootfs/srv/told")
except FileNotFoundError:
    pass
pid = detached("python3", "-c", catcher)
reader = subprocess.Popen([*husk, "exec", "m", "sh", "-c", "until [ -p /srv/told ]; do sleep 0.1; done; cat /srv/told"],
                          stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
assert reader.stdout.readline() == "ready\n"
began = start_time(pid)
for number in [s for s in range(1, 65) if s not in (9, 19, 32, 33)]:
    os.kill(pid, number)
    got = reader.stdout.readline()
    assert got == f"{number}\n", (number, got)
assert end(pid) == -64
assert reader.wait() == 0
print("signals", flush=True)

# Real-time signals of the C library's own end what does not know them, and so their monitor.
for number in (6, 15, 33, 64):
    pid = detached("sleep", "1000")
    assert start_time(pid) == start_time(pid)
    assert libc.kill(pid, number) == 0
    got = end(pid)
    assert got == number, (number, got)
print("ends", flush=True)

# A killed monitor takes its process along; a stopped process is not an ended one.
pid = detached("sleep", "4711")
os.kill(pid, signal.SIGKILL)
assert end(pid) == 9
alive = [*husk, "exec", "m", "pgrep", "-f", "sleep 4711"]
deadline = time.monotonic() + 10
while subprocess.run(alive, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL).returncode == 0:
    assert time.monotonic() < deadline, "the process of a killed monitor lives"
pid = detached("sh", "-c", "kill -STOP $$; exec sleep 4712")  # SIGTSTP is nothing to a session without a parent in it
state = [*husk, "exec", "m", "sh", "-c", "cut -d' ' -f3 /proc/$(pgrep -f '^sh -c kill')/stat"]
while subprocess.run(state, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True).stdout.strip() != "T":
    assert time.monotonic() < deadline + 10, "the process does not stop"
os.kill(pid, signal.SIGCONT)
os.kill(pid, signal.SIGTERM)
assert end(pid) == 15
print("stops", flush=True)

# With the container its further processes end.
pid = detached("sleep", "1000")
subprocess.run([*husk, "kill", "m", "KILL"], check=True)
assert end(pid) == 9
print("together")
PY
husk run --detach --bundle "$bundle" m < /dev/null > /dev/null 2>&1
equal "monitors" "$(python3 monitor.py husk --root "$state" --log "$log" | paste -sd' ')" "signals ends stops together"
wait_for 10 stopped m
husk delete m
rm -f "$rootfs/srv/told"
