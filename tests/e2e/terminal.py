#!/usr/bin/env python3
"""A person at a terminal: holds a dialog with the shell that COMMAND starts, and prints what came back.

terminal.py pty COMMAND...                          COMMAND has a pseudo-terminal as its standard streams
terminal.py console SOCKET PIDFILE COMMAND...       COMMAND (run or exec, detached) sends the master to SOCKET
terminal.py hang-up SOCKET PIDFILE COMMAND...       the same, and then the person goes away
terminal.py restored SIGNAL COMMAND...              COMMAND is killed by SIGNAL; is its terminal as it was before?

The shell's prompt is "@@ ". The last line is the exit status of the process (128 + N for signal N), which for the second
and third is that of the pid in PIDFILE: this is a subreaper, as conmon is.
"""
import array
import ctypes
import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

PROMPT = "@@ "
PATIENCE = 60
PR_SET_CHILD_SUBREAPER = 36


class Terminal:
    def __init__(self, fd):
        self.fd, self.seen = fd, ""

    def read(self, timeout):
        if not select.select([self.fd], [], [], timeout)[0]:
            sys.exit(f"no answer; so far: {self.seen!r}")
        try:
            got = os.read(self.fd, 65536)
        except OSError:  # EIO: the other side has gone
            got = b""
        self.seen += got.decode(errors="replace")
        return got

    def until(self, text):
        """What came up to and without `text`."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            if not self.read(max(0, deadline - time.monotonic())):
                sys.exit(f"ended before {text!r}; so far: {self.seen!r}")
        before, self.seen = self.seen.split(text, 1)
        return before

    def until_end(self):
        while self.read(PATIENCE):
            pass
        return self.seen

    def type(self, text):
        os.write(self.fd, text.encode())

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def ask(self, command):
        self.type(command + "\n")
        answer = self.until(PROMPT).replace("\r\n", "\n")
        print(answer, end="")
        return answer


def dialog(terminal):
    terminal.until(PROMPT)
    for command in ("tty", "stty size", "stty -a", "test -t 0 -a -t 1 -a -t 2; echo $?", "ps -o tty= -p $$"):
        terminal.ask(command)

    terminal.resize(41, 123)
    deadline = time.monotonic() + PATIENCE
    terminal.type("until [ \"$(stty size)\" = '41 123' ]; do sleep 0.1; done; echo resized\n")
    terminal.until("resized\r\n")
    terminal.until("resized\r\n")
    terminal.until(PROMPT)
    print("resized")
    terminal.type("sh -c 'trap \"echo winch; exit\" WINCH; echo re''ady; while :; do sleep 0.1; done'\n")
    terminal.until("ready")
    terminal.resize(42, 124)
    terminal.until("winch\r\n" + PROMPT)
    print("SIGWINCH")
    assert time.monotonic() < deadline + PATIENCE

    # Ctrl-C ends the program, not the shell.
    terminal.type("sh -c 'echo re''ady; exec sleep 1000'\n")
    terminal.until("ready")
    terminal.type("\x03")
    terminal.until(PROMPT)
    terminal.ask("echo $?")

    # Ctrl-Z and job control.
    terminal.type("sh -c 'echo re''ady; exec sleep 1000'\n")
    terminal.until("ready")
    terminal.type("\x1a")
    terminal.until("Stopped")
    terminal.until(PROMPT)
    terminal.ask("jobs | grep -c Stopped")
    terminal.ask("bg >/dev/null; jobs | grep -c Running")
    terminal.ask("kill %1; wait %1 2>/dev/null; echo $?")

    # Ctrl-D is the end of input.
    terminal.type("cat\n")
    terminal.until("cat\r\n")
    terminal.type("line\n")
    terminal.until("line\r\nline\r\n")
    terminal.type("\x04")
    terminal.until(PROMPT)
    terminal.ask("echo $?")

    # Much output, and none of it is lost at the end.
    terminal.type("seq 20000; exit 7\n")
    numbers = re.findall(r"^\d+", terminal.until_end(), re.M)
    print("numbers", len(numbers), numbers[-1:])


def receive_master(listener):
    listener.settimeout(PATIENCE)
    peer = listener.accept()[0]
    name, control, _, _ = peer.recvmsg(4096, socket.CMSG_SPACE(4 * 4))
    fds = array.array("i")
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data)
    if len(fds) != 1 or not os.isatty(fds[0]):
        sys.exit(f"no terminal came: {list(fds)}")
    if not re.fullmatch(rb"/dev/(pts/[0-9]+|ptmx|pts/ptmx)| ", name):  # runc's way; crun sends a blank
        sys.exit(f"the terminal's name: {name!r}")
    # As conmon: what it sets here must not add carriage returns a second time.
    mode = termios.tcgetattr(fds[0])
    mode[1] |= termios.ONLCR
    termios.tcsetattr(fds[0], termios.TCSANOW, mode)
    return fds[0]


def wait_for(pid):
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def by_console(path, pid_file, command, talk):
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    terminal = Terminal(receive_master(listener))
    if child.wait() != 0:
        sys.exit(f"{command} ended with {child.returncode}")
    os.unlink(path)
    talk(terminal)
    pid = open(pid_file).read()
    if not pid.isdigit():
        sys.exit(f"pid file: {pid!r}")
    print("status", wait_for(int(pid)))


def go_away(terminal):
    terminal.until("ready")
    os.close(terminal.fd)


def by_pty(command):
    pid, master = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        os.execvp(command[0], command)
    terminal = Terminal(master)
    dialog(terminal)
    print("status", wait_for(pid))


def restored(number, command):
    """The terminal lives on here, by a slave of our own."""
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)

    def take():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=take)
    terminal = Terminal(master)
    terminal.until(PROMPT)
    raw = termios.tcgetattr(slave)
    if raw[3] & (termios.ICANON | termios.ECHO | termios.ISIG):
        sys.exit("the terminal is not raw")
    child.send_signal(number)
    child.wait()
    deadline = time.monotonic() + 5
    while termios.tcgetattr(slave) != before:
        if time.monotonic() > deadline:
            sys.exit(f"the terminal stays as it was in use: {termios.tcgetattr(slave)}, before: {before}")
        time.sleep(0.02)


def main():
    what = sys.argv[1]
    if what == "pty":
        by_pty(sys.argv[2:])
    elif what == "restored":
        restored(int(sys.argv[2]), sys.argv[3:])
    else:
        by_console(sys.argv[2], sys.argv[3], sys.argv[4:], dialog if what == "console" else go_away)


signal.alarm(600)
main()
