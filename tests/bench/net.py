"""Networks to measure: servers that the host loads over a bridge; in a container of husk and of crun, and in QEMU VMs with vhost-net.

The host has a bridge with an address. husk's and crun's containers are in a network namespace with a veth pair to the bridge,
as engines make it; the VMs' taps are on the bridge itself. All run the same servers of the same tree, the bundle's second one.
Each place has a cgroup of its own, beside the load's: where processors are short, they share them in the same way.

Two VMs: QEMU's microvm with husk's guest kernel, whose virtio-mmio has vhost-net's interrupts go by way of QEMU; and QEMU as it is
mostly used, with virtio-pci and MSI-X, so that they go from kernel to kernel. The latter needs a kernel with PCI: the testbed's.
"""
import fcntl
import json
import os
import struct
import subprocess
import sys
import tempfile
import time

from vm import QemuVm, Vm

BRIDGE = "hbench0"
HOST = "10.89.7.1"
GUEST = "10.89.7.2"
CPUS, MEMORY_MIB = 1, 1024  # of husk's VM, as its defaults are, and of QEMU's
MAC = "02:00:00:89:07:02"
CGROUP = "hbench"  # of a VM
SERVERS = ["sh", "-c", f"iperf3 -s -D && exec redis-server --bind {GUEST} --protected-mode no --save '' --dir /tmp > /dev/null"]
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 2, 0x1000, 0x4000
START_SECONDS = 200
TRIES = 4


def sh(command):
    return subprocess.run(["sh", "-ec", command], check=True, stdout=subprocess.PIPE, text=True).stdout


class Bridge:
    def __enter__(self):
        sh(f"ip link add {BRIDGE} type bridge; ip addr add {HOST}/24 dev {BRIDGE}; ip link set {BRIDGE} up")

    def __exit__(self, *_):
        sh(f"ip link del {BRIDGE}")


class Container:
    """A container of an OCI runtime."""

    def __init__(self, runtime, spec, root):
        self.name, self.spec, self.root = runtime, spec, root
        self.netns = f"hbench-{runtime}"

    def __enter__(self):
        self.state = tempfile.TemporaryDirectory()
        sh(f"ip netns add {self.netns}; ip link add vbench type veth peer name eth0 netns {self.netns} address {MAC}; "
           f"ip link set vbench master {BRIDGE} up; ip -n {self.netns} addr add {GUEST}/24 dev eth0; "
           f"ip -n {self.netns} link set eth0 up; ip -n {self.netns} link set lo up")
        config = self.spec(*SERVERS)
        config["root"]["path"] = self.root
        config["annotations"] = {"io.husk.vcpus": str(CPUS), "io.husk.memory_mib": str(MEMORY_MIB)}
        for namespace in config["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = f"/run/netns/{self.netns}"
        bundle = os.path.join(self.state.name, "bundle")
        os.mkdir(bundle)
        with open(os.path.join(bundle, "config.json"), "w") as file:
            json.dump(config, file)
        self.runtime("run", "--detach", "--bundle", bundle, "net")
        return self

    def runtime(self, *args):
        subprocess.run([self.name, "--root", self.state.name, *args], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __exit__(self, *_):
        self.runtime("delete", "--force", "net")
        sh(f"ip netns del {self.netns}")
        self.state.cleanup()


class Tap:
    """A tap on the bridge and an open vhost-net, both for a QEMU to inherit."""

    def __enter__(self):
        self.tap = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.tap, TUNSETIFF, struct.pack("16sH22x", b"tbench", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
        self.vhost = os.open("/dev/vhost-net", os.O_RDWR)
        for fd in self.tap, self.vhost:
            os.set_inheritable(fd, True)
        sh(f"ip link set tbench master {BRIDGE} up")
        return self

    def arguments(self, device):
        return ["-netdev", f"tap,id=net,fd={self.tap},vhostfd={self.vhost},vhost=on", "-device", f"{device},netdev=net,mac={MAC}"]

    def __exit__(self, *_):
        os.close(self.tap)
        os.close(self.vhost)


class MicroVm:
    """husk's guest kernel and agent in QEMU's microvm."""
    name = "qemu-microvm+vhost-net"

    def __init__(self, spec, root):
        self.spec, (self.shared, self.tree) = spec, os.path.split(root)

    def __enter__(self):
        with Tap() as tap:
            self.vm = QemuVm(cpus=CPUS, memory_mib=MEMORY_MIB, shared=self.shared, more=tap.arguments("virtio-net-device"),
                             fds=[tap.tap, tap.vhost], cgroup=CGROUP)
        call = self.vm.agent.call
        call("sandbox.network.set", interfaces=[{
            "id": 2, "name": "eth0", "mac": MAC, "mtu": 1500, "up": True, "queue_length": 1000,
            "addresses": [{"address": GUEST, "prefix": 24, "flags": 0}]}],
            routes=[{"destination": "10.89.7.0/24", "interface": 2, "protocol": 2, "scope": 253, "type": 1}])
        call("container.create", container="net", spec=self.spec(*SERVERS), root=self.tree, terminal=False, owner=False,
             stdio={"stdin": "null", "stdout": "null", "stderr": "null"})
        call("container.start", container="net")
        return self

    def __exit__(self, *_):
        self.vm.stop()


class PciVm(Vm):
    """The testbed's kernel (Debian's cloud kernel) in QEMU's machine `pc`; a shell on the same tree starts the servers."""
    name = "qemu-pci+vhost-net"
    MODULES = ["virtio_pci", "virtio_net", "virtiofs"]

    def __init__(self, _spec, root):
        self.root = root

    def __enter__(self):
        with Tap() as tap:
            super().__init__(cpus=CPUS, memory_mib=MEMORY_MIB, shared=self.root, more=tap.arguments("virtio-net-pci"),
                             fds=[tap.tap, tap.vhost], cgroup=CGROUP)
        return self

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
        servers = SERVERS[2].replace("'", "'\\''")
        with open(os.path.join(initramfs, "init"), "w") as file:
            file.write("#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\n")
            file.writelines(f"/bin/busybox insmod /{os.path.basename(f)}\n" for f in files)
            file.write(f"/bin/busybox mount -t virtiofs husk /root\n/bin/busybox mount -t devtmpfs dev /root/dev\n"
                       f"/bin/busybox ip addr add {GUEST}/24 dev eth0\n/bin/busybox ip link set eth0 up\n"
                       f"/bin/busybox ip link set lo up\nexec /bin/busybox chroot /root /bin/sh -c '{servers}'\n")
        sh(f"chmod +x {initramfs}/init; cd {initramfs}; find . | cpio --quiet -o -H newc > ../initramfs")
        self.initramfs = self.path("initramfs")
        self.start_virtiofsd()

    def command(self):
        return ["qemu-system-x86_64", "-M", "pc", "-accel", "kvm", "-cpu", "host", "-smp", str(self.cpus), "-m", f"{self.memory_mib}M",
                "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot", "-kernel", self.kernel, "-initrd", self.initramfs,
                "-append", "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check cryptomgr.notests",
                "-serial", f"file:{self.path('console.log')}", *self.shared_arguments("vhost-user-fs-pci"), *self.more]

    def hello(self):
        wait_for_servers()


def iperf(seconds, *options):
    """Gbit/s that arrived. A flood of datagrams can keep out the connection that ends the measurement: then once more."""
    for _ in range(TRIES):
        got = subprocess.run(["iperf3", "-J", "-t", str(seconds), "-c", GUEST, *options], stdout=subprocess.PIPE, text=True)
        if got.returncode == 0:
            break
        print(f"# iperf3 {' '.join(options)}: {json.loads(got.stdout).get('error')}", file=sys.stderr, flush=True)
        time.sleep(2)
    else:
        raise RuntimeError(f"iperf3 {' '.join(options)} failed {TRIES} times")
    # By bytes: what iperf3 calls lost leaves out datagrams that were under way when the receiver stopped counting.
    return json.loads(got.stdout)["end"]["sum_received"]["bytes"] * 8 / seconds / 1e9


def kvm_count(name):
    """A counter of KVM's over all VMs; 0 where debugfs is not mounted."""
    try:
        with open(f"/sys/kernel/debug/kvm/{name}") as file:
            return int(file.read())
    except FileNotFoundError:
        return 0


def counted_iperf(got, figure, seconds, *options):
    """iperf's figure, and what it cost."""
    names = {"exits": "VM exits", "irq_injections": "interrupts"}
    before = {name: kvm_count(name) for name in names}
    got[figure, "Gbit/s"] = value = iperf(seconds, *options)
    for name, text in names.items():
        got[f"{figure}: {text} for each MiB that arrived", "1"] = (kvm_count(name) - before[name]) / (value * seconds * 1e9 / 8 / 2**20)


def wait_for_servers():
    deadline = time.monotonic() + START_SECONDS
    while subprocess.run(["redis-cli", "-h", GUEST, "ping"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        if time.monotonic() > deadline:
            raise TimeoutError("the servers do not answer")
        time.sleep(0.2)


def measure(seconds):
    """{(figure, unit): value}; "in" is to the guest, "out" from it."""
    wait_for_servers()
    got = {}
    for way, direction in (("in", []), ("out", ["-R"])):
        for streams in ("1", "4"):
            name = f"{way}, {streams} stream{'s' * (streams != '1')}"
            counted_iperf(got, f"TCP {name}", seconds, "-P", streams, *direction)
            counted_iperf(got, f"UDP {name}", seconds, "-u", "-b", "0", "-P", streams, *direction)
    ping = subprocess.run(["ping", "-q", "-c", "40", "-i", "0.05", GUEST], stdout=subprocess.PIPE, check=True, text=True).stdout
    got["ping, mean", "ms"] = float(ping.rsplit("= ", 1)[1].split("/")[1])
    for name, requests, more in (("", 1000, []), (", pipelined by 16", 8000, ["-P", "16"])):
        text = subprocess.run(["redis-benchmark", "-h", GUEST, "-t", "set,get", "-n", str(requests * seconds), "-c", "20", "--csv", *more],
                              stdout=subprocess.PIPE, check=True, text=True).stdout
        for line in text.splitlines()[1:]:
            fields = line.replace('"', "").split(",")
            got[f"redis {fields[0]}{name}", "requests/s"] = float(fields[1])
    return got


def compare(runs, spec, root, seconds):
    """{(figure, unit): {place: [value of each run]}}"""
    results = {}
    with Bridge():
        for run in range(runs):
            for place in (Container("husk", spec, root), Container("crun", spec, root), MicroVm(spec, root), PciVm(spec, root)):
                with place:
                    got = measure(seconds)
                print(f"# run {run + 1}, {place.name}: {[round(v, 4) for v in got.values()]}", file=sys.stderr, flush=True)
                for figure, value in got.items():
                    results.setdefault(figure, {}).setdefault(place.name, []).append(value)
    return results
