"""Networks to measure: servers that the host loads over a bridge; in a container of husk and of crun, and in QEMU VMs with vhost-net.

The host has a bridge with an address. husk's and crun's containers are in a network namespace with a veth pair to the bridge,
as engines make it; the VMs' taps are on the bridge itself. All run the same servers of the same tree, the bundle's second one.
Each place has a cgroup of its own, beside the load's: where processors are short, they share them in the same way. All places
are there at the same time, and take turns figure by figure: what else the machine does then meets all of them.

Two VMs: QEMU's microvm with husk's guest kernel, whose virtio-mmio has vhost-net's interrupts go by way of QEMU; and QEMU as it is
mostly used, with virtio-pci and MSI-X, so that they go from kernel to kernel. The latter needs a kernel with PCI: the testbed's.
"""
import contextlib
import fcntl
import glob
import json
import os
import struct
import subprocess
import sys
import tempfile
import time

from vm import QemuVm, Vm

COUNTERS = "/sys/kernel/debug/kvm"
BRIDGE = "hbench0"
HOST = "10.89.7.1"
CPUS, MEMORY_MIB = 1, 1024  # of husk's VM, as its defaults are, and of QEMU's
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 2, 0x1000, 0x4000
START_SECONDS = 200
TRIES = 4
PATIENCE_SECONDS = 60


def sh(command):
    return subprocess.run(["sh", "-ec", command], check=True, stdout=subprocess.PIPE, text=True).stdout


class Bridge:
    def __enter__(self):
        sh(f"ip link add {BRIDGE} type bridge; ip addr add {HOST}/24 dev {BRIDGE}; ip link set {BRIDGE} up")

    def __exit__(self, *_):
        sh(f"ip link del {BRIDGE}")


class Place:
    """Where the servers run; `number` tells it from the others on the bridge."""

    def __init__(self, number, name, spec, root):
        self.number, self.name, self.spec, self.root = number, name, spec, root
        self.address, self.mac = f"10.89.7.{number}", f"02:00:00:89:07:{number:02x}"
        self.servers = ["sh", "-c", f"iperf3 -s -D && exec redis-server --bind {self.address} --protected-mode no --save '' "
                                    f"--dir /tmp > /dev/null"]

    def wait_for_servers(self):
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(["redis-cli", "-h", self.address, "ping"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL).returncode:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: the servers do not answer")
            time.sleep(0.2)


class Container(Place):
    """A container of an OCI runtime."""

    def __init__(self, number, runtime, spec, root):
        super().__init__(number, runtime, spec, root)
        self.netns = f"hbench-{runtime}"

    def __enter__(self):
        self.state = tempfile.TemporaryDirectory()
        sh(f"ip netns add {self.netns}; ip link add vbench{self.number} type veth peer name eth0 netns {self.netns} address {self.mac}; "
           f"ip link set vbench{self.number} master {BRIDGE} up; ip -n {self.netns} addr add {self.address}/24 dev eth0; "
           f"ip -n {self.netns} link set eth0 up; ip -n {self.netns} link set lo up")
        config = self.spec(*self.servers)
        config["root"]["path"] = self.root
        config["annotations"] = {"io.husk.vcpus": str(CPUS), "io.husk.memory_mib": str(MEMORY_MIB)}
        for namespace in config["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = f"/run/netns/{self.netns}"
        bundle = os.path.join(self.state.name, "bundle")
        os.mkdir(bundle)
        with open(os.path.join(bundle, "config.json"), "w") as file:
            json.dump(config, file)
        self.runtime("run", "--detach", "--bundle", bundle, f"net-{self.number}")
        return self

    def runtime(self, *args):
        subprocess.run([self.name, "--root", self.state.name, *args], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __exit__(self, *_):
        self.runtime("delete", "--force", f"net-{self.number}")
        sh(f"ip netns del {self.netns}")
        self.state.cleanup()


class Tap:
    """A tap on the bridge and an open vhost-net, both for a QEMU to inherit."""

    def __init__(self, place):
        self.place, self.name = place, f"tbench{place.number}"

    def __enter__(self):
        self.tap = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.tap, TUNSETIFF, struct.pack("16sH22x", self.name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
        self.vhost = os.open("/dev/vhost-net", os.O_RDWR)
        for fd in self.tap, self.vhost:
            os.set_inheritable(fd, True)
        sh(f"ip link set {self.name} master {BRIDGE} up")
        return self

    def arguments(self, device):
        return ["-netdev", f"tap,id=net,fd={self.tap},vhostfd={self.vhost},vhost=on",
                "-device", f"{device},netdev=net,mac={self.place.mac}"]

    def __exit__(self, *_):
        os.close(self.tap)
        os.close(self.vhost)


class MicroVm(Place):
    """husk's guest kernel and agent in QEMU's microvm."""

    def __init__(self, number, spec, root):
        super().__init__(number, "qemu-microvm+vhost-net", spec, root)

    def __enter__(self):
        shared, tree = os.path.split(self.root)
        with Tap(self) as tap:
            self.vm = QemuVm(cpus=CPUS, memory_mib=MEMORY_MIB, shared=shared, more=tap.arguments("virtio-net-device"),
                             fds=[tap.tap, tap.vhost], cgroup="hbench-microvm")
        call = self.vm.agent.call
        call("sandbox.network.set", interfaces=[{
            "id": 2, "name": "eth0", "mac": self.mac, "mtu": 1500, "up": True, "queue_length": 1000,
            "addresses": [{"address": self.address, "prefix": 24, "flags": 0}]}],
            routes=[{"destination": "10.89.7.0/24", "interface": 2, "protocol": 2, "scope": 253, "type": 1}])
        call("container.create", container="net", spec=self.spec(*self.servers), root=tree, terminal=False, owner=False,
             stdio={"stdin": "null", "stdout": "null", "stderr": "null"})
        call("container.start", container="net")
        return self

    def __exit__(self, *_):
        self.vm.stop()


class PciPlace(Place):
    """Debian's kernel in QEMU's usual machine."""

    def __init__(self, number, spec, root):
        super().__init__(number, "qemu-pci+vhost-net", spec, root)

    def __enter__(self):
        with Tap(self) as tap:
            self.vm = PciVm(self, tap)
        return self

    def __exit__(self, *_):
        self.vm.stop()


class PciVm(Vm):
    """The testbed's kernel (Debian's cloud kernel) in QEMU's machine `pc`; a shell on the same tree starts the servers."""
    name = "qemu-pci"
    MODULES = ["virtio_pci", "virtio_net", "virtiofs"]

    def __init__(self, place, tap):
        self.place = place
        super().__init__(cpus=CPUS, memory_mib=MEMORY_MIB, shared=place.root, more=tap.arguments("virtio-net-pci"),
                         fds=[tap.tap, tap.vhost], cgroup="hbench-pci")

    def prepare(self):
        image = sh(os.path.join(os.path.dirname(os.path.realpath(__file__)), "../testbed/image")).strip()
        self.kernel = os.path.join(image, "vmlinux")
        with open(os.path.join(image, "modules")) as file:
            modules = file.read().strip()  # .../lib/modules/VERSION
        files = []
        for module in self.MODULES:
            text = sh(f"modprobe --show-depends -d {modules}/../../.. -S {os.path.basename(modules)} {module}")
            files += [w[1] for line in text.splitlines() if (w := line.split())[0] == "insmod" and w[1] not in files]
        initramfs = self.path("root")
        sh(f"mkdir -p {initramfs}/bin {initramfs}/proc {initramfs}/root; cp /bin/busybox {initramfs}/bin; cp {' '.join(files)} {initramfs}")
        servers = self.place.servers[2].replace("'", "'\\''")
        with open(os.path.join(initramfs, "init"), "w") as file:
            file.write("#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\n")
            file.writelines(f"/bin/busybox insmod /{os.path.basename(f)}\n" for f in files)
            file.write(f"/bin/busybox mount -t virtiofs husk /root\n/bin/busybox mount -t devtmpfs dev /root/dev\n"
                       f"/bin/busybox ip addr add {self.place.address}/24 dev eth0\n/bin/busybox ip link set eth0 up\n"
                       f"/bin/busybox ip link set lo up\nexec /bin/busybox chroot /root /bin/sh -c '{servers}'\n")
        sh(f"chmod +x {initramfs}/init; cd {initramfs}; find . | cpio --quiet -o -H newc > ../initramfs")
        self.initramfs = self.path("initramfs")
        self.start_virtiofsd()

    def command(self):
        return ["qemu-system-x86_64", "-M", "pc", "-accel", "kvm", "-cpu", "host", "-smp", str(self.cpus), "-m", f"{self.memory_mib}M",
                "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot", "-kernel", self.kernel, "-initrd", self.initramfs,
                "-append", "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check cryptomgr.notests",
                "-serial", f"file:{self.path('console.log')}", *self.shared_arguments("vhost-user-fs-pci"), *self.more]

    def hello(self):
        self.place.wait_for_servers()


def iperf(place, seconds, *options):
    """Gbit/s that arrived. A flood of datagrams can keep out the connection that ends the measurement: then once more."""
    for _ in range(TRIES):
        got = subprocess.run(["iperf3", "-J", "-t", str(seconds), "-c", place.address, *options], stdout=subprocess.PIPE, text=True,
                             timeout=seconds + PATIENCE_SECONDS)
        said = json.loads(got.stdout)
        # By bytes: what iperf3 calls lost leaves out datagrams that were under way when the receiver stopped counting.
        if got.returncode == 0 and "sum_received" in said["end"]:
            return said["end"]["sum_received"]["bytes"] * 8 / seconds / 1e9
        print(f"# {place.name}, iperf3 {' '.join(options)}: {said.get('error', 'nothing was received')}", file=sys.stderr, flush=True)
        time.sleep(2)
    raise RuntimeError(f"iperf3 {' '.join(options)} failed {TRIES} times")


def vms():
    """KVM's directories of counters, one a VM; none where debugfs can't be mounted."""
    if not os.path.exists(COUNTERS):
        subprocess.run(["mount", "-t", "debugfs", "debugfs", "/sys/kernel/debug"], check=False)
    return set(glob.glob(f"{COUNTERS}/*-*/"))


def kvm_count(place, name):
    """A counter of KVM's over the VMs of a place."""
    total = 0
    for vm in place.vms:
        with open(os.path.join(vm, name)) as file:
            total += int(file.read())
    return total


def counted_iperf(place, figure, seconds, *options):
    """iperf's figure, and what it cost."""
    names = {"exits": "VM exits", "irq_injections": "interrupts"}
    before = {name: kvm_count(place, name) for name in names}
    value = iperf(place, seconds, *options)
    got = {(figure, "Gbit/s"): value}
    for name, text in names.items():
        got[f"{figure}: {text} for each MiB that arrived", "1"] = (kvm_count(place, name) - before[name]) / (value * seconds * 1e9 / 8 / 2**20)
    return got


def ping(place, _seconds):
    text = subprocess.run(["ping", "-q", "-c", "40", "-i", "0.05", place.address], stdout=subprocess.PIPE, check=True, text=True,
                          timeout=PATIENCE_SECONDS).stdout
    return {("ping, mean", "ms"): float(text.rsplit("= ", 1)[1].split("/")[1])}


def redis(place, seconds, name, requests, *options):
    text = subprocess.run(["redis-benchmark", "-h", place.address, "-t", "set,get", "-n", str(requests * seconds), "-c", "20", "--csv",
                           *options], stdout=subprocess.PIPE, check=True, text=True, timeout=PATIENCE_SECONDS).stdout
    rows = [line.replace('"', "").split(",") for line in text.splitlines()[1:]]
    return {(f"redis {row[0]}{name}", "requests/s"): float(row[1]) for row in rows}


def steps():
    """What is measured, one after the other: functions of a place and seconds. "in" is to the guest, "out" from it."""
    for way, direction in (("in", []), ("out", ["-R"])):
        for streams in ("1", "4"):
            name = f"{way}, {streams} stream{'s' * (streams != '1')}"
            for protocol, options in (("TCP", []), ("UDP", ["-u", "-b", "0"])):
                yield lambda place, seconds, figure=f"{protocol} {name}", all_options=(*options, "-P", streams, *direction): \
                    counted_iperf(place, figure, seconds, *all_options)
    yield ping
    yield lambda place, seconds: redis(place, seconds, "", 1000)
    yield lambda place, seconds: redis(place, seconds, ", pipelined by 16", 8000, "-P", "16")


def start(place, enter):
    """Starts a place by `enter`; it answers then."""
    others = vms()
    enter(place)
    place.wait_for_servers()
    place.vms = vms() - others


def compare(runs, spec, root, seconds):
    """{(figure, unit): {place: [value of each run]}}"""
    results = {}
    with Bridge(), contextlib.ExitStack() as stack:
        places = [Container(2, "husk", spec, root), Container(3, "crun", spec, root), MicroVm(4, spec, root), PciPlace(5, spec, root)]
        for place in places:
            start(place, stack.enter_context)
        for run in range(runs):
            for step in steps():
                for place in places:
                    try:
                        got = step(place, seconds)
                    except (RuntimeError, OSError, subprocess.SubprocessError) as error:  # a guest that died or hangs
                        print(f"# run {run + 1}, {place.name}: {error}; started anew", file=sys.stderr, flush=True)
                        place.__exit__(None, None, None)
                        start(place, type(place).__enter__)
                        got = step(place, seconds)
                    print(f"# run {run + 1}, {place.name}: {', '.join(f'{f} {v:.4g}' for (f, _), v in got.items())}",
                          file=sys.stderr, flush=True)
                    for figure, value in got.items():
                        results.setdefault(figure, {}).setdefault(place.name, []).append(value)
    return results
