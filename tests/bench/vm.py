"""Virtual machines to measure: husk-vmm and its peer, QEMU's microvm, with the same kernel, initramfs and shared tree.

Both are started by hand, not by `husk`, and both are told of by the guest's agent: a VM's `agent` answers requests.
Whether the agent is there is asked in the same way: by an answer to the first frame.
"""
import atexit
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from agent import Agent

GUEST_CID = 3
AGENT_PORT = KNOCK_PORT = 1024
COMMAND_LINE = ("console=hvc0 quiet reboot=k tsc=reliable no_timer_check noreplace-smp rcupdate.rcu_expedited=1 "
                "swiotlb=noforce cgroup_no_v1=all 8250.nr_uarts=0 dummy.numdummies=0")
HELLO_SECONDS = 60


@functools.cache
def local_files():
    """husk-vmm, kernel and initramfs, found as `husk` finds them, and copied to where an installation has them: a local disk. The
    testbed shares the build directory without a cache, and each start would read 25 MiB of it again."""
    which = next(p for p in os.environ["PATH"].split(":") if os.access(os.path.join(p, "husk-vmm"), os.X_OK))
    guest = os.path.join(os.path.dirname(os.path.realpath(os.path.join(which, "husk-vmm"))), "../guest")
    local = tempfile.mkdtemp(prefix="husk-bench-files-")
    atexit.register(shutil.rmtree, local)
    return [shutil.copy(os.path.realpath(file), local)
            for file in (os.path.join(which, "husk-vmm"), os.path.join(guest, "vmlinux"), os.path.join(guest, "initramfs.cpio"))]


class Vm:
    """A running VM. hello_seconds: from just before the VMM's start to the agent's first answer."""

    def __init__(self, cpus=1, memory_mib=256, shared=None, cache="auto", more=(), fds=(), cgroup=None):
        """more: further arguments of the VMM; fds: descriptors that it inherits; cgroup: the name of one to be made for it."""
        self.cpus, self.memory_mib, self.shared, self.cache = cpus, memory_mib, shared, cache
        self.more, self.fds = list(more), list(fds)
        self.directory = tempfile.mkdtemp(prefix="husk-bench-")
        self.children = []
        self.cgroup = cgroup and os.path.join("/sys/fs/cgroup", cgroup)
        if cgroup:
            os.mkdir(self.cgroup)
        self.husk_vmm, self.kernel, self.initramfs = local_files()
        try:
            self.prepare()
            start = time.monotonic()
            self.vmm = self.spawn(self.command())
            self.hello()
            self.hello_seconds = time.monotonic() - start
        except BaseException as error:
            error.add_note(self.logs())
            self.stop()
            raise

    def hello(self):
        """Waits for what the VM is there for."""
        self.agent = Agent(self.connect)

    def __enter__(self):
        return self

    def __exit__(self, _kind, error, _trace):
        if error:
            time.sleep(1)  # a VMM that is about to end says why
            print(f"{self.name}: exit status {self.vmm.poll()}\n{self.logs()}", file=sys.stderr, flush=True)
        self.stop()

    def path(self, name):
        return os.path.join(self.directory, name)

    def in_cgroup(self, command):
        return ["sh", "-c", f'echo $$ > {self.cgroup}/cgroup.procs && exec "$@"', "sh", *command] if self.cgroup else command

    def spawn(self, command):
        with open(self.path(os.path.basename(command[0]) + ".log"), "ab") as log:
            child = subprocess.Popen(self.in_cgroup(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=self.fds)
        self.children.append(child)
        return child

    def start_virtiofsd(self):
        self.spawn(["/usr/lib/qemu/virtiofsd", f"--socket-path={self.path('fs')}", "-o",
                    f"source={self.shared},cache={self.cache},xattr,flock,posix_lock,sandbox=chroot"])
        while not os.path.exists(self.path("fs")):
            time.sleep(0.01)

    def shared_arguments(self, device):
        """QEMU's, for a shared tree by virtiofsd."""
        return ["-object", f"memory-backend-memfd,id=memory,size={self.memory_mib}M,share=on",
                "-M", "memory-backend=memory", "-chardev", f"socket,id=fs,path={self.path('fs')}",
                "-device", f"{device},queue-size=1024,chardev=fs,tag=husk"]

    def logs(self):
        text = ""
        for name in sorted(os.listdir(self.directory)):
            if name.endswith(".log") or name == "status":
                with open(self.path(name), errors="replace") as log:
                    text += f"--- {name}\n{log.read()[-2000:]}\n"
        return text

    def check_alive(self):
        if self.vmm.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.vmm.returncode}\n{self.logs()}")

    def stop(self):
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                try:
                    child.wait(10)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        subprocess.run(["rm", "-rf", self.directory], check=True)
        if self.cgroup:
            os.rmdir(self.cgroup)

    def vmm_pid(self):
        """The process with the guest's memory: the VMM that was started, or its child in its own pid namespace."""
        pids = [self.vmm.pid]
        for pid in pids:
            with open(f"/proc/{pid}/task/{pid}/children") as children:
                pids += map(int, children.read().split())
        return max(pids, key=resident_kib)

    def memory(self):
        """(PSS of the VMM without the guest's memory, guest memory that is resident), in KiB.

        The guest's memory is what ends where the largest mapping ends and is as long as the guest's memory; parts of it
        may be mapped from the kernel's file.
        """
        mappings = []
        with open(f"/proc/{self.vmm_pid()}/smaps") as smaps:
            for line in smaps:
                first, *rest = line.split()
                if "-" in first and not first.endswith(":"):
                    start, end = (int(n, 16) for n in first.split("-"))
                    mappings.append({"start": start, "end": end})
                elif first in ("Pss:", "Rss:"):
                    mappings[-1][first] = int(rest[0])
        top = max(mappings, key=lambda m: m["end"] - m["start"])["end"]
        bottom = top - (self.memory_mib << 20)
        guest = [m for m in mappings if bottom <= m["start"] and m["end"] <= top]
        own = [m for m in mappings if m not in guest]
        return sum(m["Pss:"] for m in own), sum(m["Rss:"] for m in guest)


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next((int(line.split()[1]) for line in status if line.startswith("VmRSS:")), 0)


class HuskVm(Vm):
    name = "husk"

    def prepare(self):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path("vsock"))
        self.listener.listen(16)
        os.set_inheritable(self.listener.fileno(), True)

    def spawn(self, command):
        with open(self.path("husk-vmm.log"), "ab") as log:
            child = subprocess.Popen(self.in_cgroup(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     pass_fds=[self.listener.fileno(), *self.fds])
        self.listener.close()  # a connection ends with the VMM
        self.children.append(child)
        return child

    def command(self):
        for name in ("console.log", "status"):
            open(self.path(name), "w").close()
        command = [self.husk_vmm, "--id", "bench", "--cpus", str(self.cpus), "--memory", str(self.memory_mib),
                   "--kernel", self.kernel, "--initrd", self.initramfs, "--vsock", f"fd:{self.listener.fileno()}",
                   "--console", self.path("console.log"), "--status", self.path("status"), "--stats",
                   "--fs-cache", self.cache, "--control", self.path("control"), *self.more]
        return command + (["--shared", self.shared] if self.shared else [])

    def control(self, method, fds=(), **params):
        """A request to the VMM's control socket (vmm/control_methods.h); its result."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(self.path("control"))
            socket.send_fds(sock, [json.dumps({"method": method, "params": params}).encode()], fds)
            text = sock.recv(128 << 10)
        if not text:
            raise RuntimeError(f"{method}: the VMM hung up\n{self.logs()}")
        answer = json.loads(text)
        if "error" in answer:
            raise RuntimeError(answer["error"]["text"])
        return answer["result"]

    def connect(self):
        """The VMM keeps connections until the guest listens, so the first one waits for the agent."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(HELLO_SECONDS)
        sock.connect(self.path("vsock"))
        sock.sendall(b"CONNECT %d\n" % AGENT_PORT)
        answer = b""
        while not answer.endswith(b"\n"):
            byte = sock.recv(1)
            if not byte:
                self.check_alive()
                raise ConnectionError(f"CONNECT was refused\n{self.logs()}")
            answer += byte
        sock.settimeout(None)
        return sock

    def end_status(self):
        """Ends the VM; what the VMM wrote about it (vmm/status.h)."""
        self.vmm.send_signal(signal.SIGTERM)
        self.vmm.wait(10)
        with open(self.path("status")) as status:
            return json.load(status)


class QemuVm(Vm):
    name = "qemu-microvm"
    BALLOON = ("-device", "virtio-balloon-device,free-page-reporting=on")

    def prepare(self):
        self.knocks = None
        if self.shared:
            self.start_virtiofsd()
        self.knocks = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        self.knocks.settimeout(HELLO_SECONDS)
        self.knocks.bind((socket.VMADDR_CID_ANY, KNOCK_PORT))
        self.knocks.listen()
        self.knocked = False

    def command(self):
        command = ["qemu-system-x86_64", "-M", "microvm,acpi=off,pic=off,pit=off,rtc=off,isa-serial=off",
                   "-accel", "kvm", "-cpu", "host", "-smp", str(self.cpus), "-m", f"{self.memory_mib}M",
                   "-global", "virtio-mmio.force-legacy=false", "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
                   "-kernel", self.kernel, "-initrd", self.initramfs, "-append", COMMAND_LINE,
                   "-device", "virtio-serial-device",
                   "-chardev", f"file,id=console,path={self.path('console.log')}", "-device", "virtconsole,chardev=console",
                   "-device", "virtio-rng-device", "-device", f"vhost-vsock-device,guest-cid={GUEST_CID}"]
        if self.shared:
            command += self.shared_arguments("vhost-user-fs-device")
        return command + self.more

    def connect(self):
        if not self.knocked:
            try:
                self.knocks.accept()[0].close()
            except TimeoutError:
                self.check_alive()
                raise RuntimeError(f"no knock of the agent\n{self.logs()}") from None
            self.knocked = True
        sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        sock.connect((GUEST_CID, AGENT_PORT))
        return sock

    def stop(self):
        super().stop()
        if self.knocks:
            self.knocks.close()
