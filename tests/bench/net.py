"""Networks to measure: a container's traffic over a bridge, with husk, with crun and in a QEMU VM with vhost-net.

The host has a bridge with an address. husk's and crun's containers are in a network namespace with a veth pair to the bridge,
as engines make it; QEMU's tap is on the bridge itself. All run the same programs, on the same tree.
"""
import fcntl
import json
import os
import struct
import subprocess
import tempfile
import time

BRIDGE = "hbench0"
HOST = "10.89.7.1"
GUEST = "10.89.7.2"
MAC = "02:00:00:89:07:02"
PROGRAMS = ["iperf3", "ping", "redis-server"]
TUNSETIFF, TUNSETVNETHDRSZ, TUNSETOFFLOAD = 0x400454CA, 0x400454D8, 0x400454D0
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 2, 0x1000, 0x4000


def sh(command):
    subprocess.run(["sh", "-ec", command], check=True)


def install(root):
    """Puts the host's programs and their libraries into the tree."""
    for program in PROGRAMS:
        path = subprocess.run(["which", program], stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
        files = subprocess.run(["ldd", path], stdout=subprocess.PIPE, check=True, text=True).stdout.split()
        for file in [path] + [f for f in files if f.startswith("/")]:
            target = root + os.path.realpath(os.path.dirname(file)) + "/" + os.path.basename(file)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            subprocess.run(["cp", "-L", file, target], check=True)


class Bridge:
    def __enter__(self):
        sh(f"ip link add {BRIDGE} type bridge; ip addr add {HOST}/24 dev {BRIDGE}; ip link set {BRIDGE} up")
        self.server = subprocess.Popen(["iperf3", "-s", "-B", HOST], stdout=subprocess.DEVNULL)
        time.sleep(1)
        return self

    def __exit__(self, *_):
        self.server.kill()
        self.server.wait()
        sh(f"ip link del {BRIDGE}")


class Container:
    """A container of an OCI runtime. run(): a program's output; serve(): a program in the background."""

    def __init__(self, runtime, spec, root):
        self.name, self.spec, self.root, self.count = runtime, spec, root, 0
        self.netns = f"hbench-{runtime}"

    def __enter__(self):
        self.state = tempfile.TemporaryDirectory()
        sh(f"ip netns add {self.netns}; ip link add vbench type veth peer name eth0 netns {self.netns} address {MAC}; "
           f"ip link set vbench master {BRIDGE} up; ip -n {self.netns} addr add {GUEST}/24 dev eth0; "
           f"ip -n {self.netns} link set eth0 up; ip -n {self.netns} link set lo up")
        self.start("sleep", "1000")
        return self

    def runtime(self, *args, **options):
        return subprocess.run([self.name, "--root", self.state.name, *args], stdin=subprocess.DEVNULL, check=True, text=True, **options)

    def start(self, *args):
        config = self.spec(*args)
        config["root"]["path"] = self.root
        config["process"]["capabilities"] = {kind: ["CAP_NET_RAW"] for kind in ("bounding", "effective", "permitted")}
        for namespace in config["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = f"/run/netns/{self.netns}"
        bundle = os.path.join(self.state.name, "bundle")
        os.mkdir(bundle)
        with open(os.path.join(bundle, "config.json"), "w") as file:
            json.dump(config, file)
        self.runtime("run", "--detach", "--bundle", bundle, "net", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(self, *args):
        return self.runtime("exec", "net", *args, stdout=subprocess.PIPE).stdout

    def serve(self, *args):
        self.runtime("exec", "--detach", "net", *args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __exit__(self, *_):
        self.runtime("delete", "--force", "net")
        sh(f"ip netns del {self.netns}")
        self.state.cleanup()


class Qemu:
    """The same guest in QEMU's microvm, its virtio-net with vhost-net on a tap of the bridge."""
    name = "qemu+vhost-net"

    def __init__(self, spec, root):
        self.spec, self.root = spec, root

    def __enter__(self):
        from vm import QemuVm
        self.tap = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.tap, TUNSETIFF, struct.pack("16sH22x", b"tbench", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
        vhost = os.open("/dev/vhost-net", os.O_RDWR)
        for fd in self.tap, vhost:
            os.set_inheritable(fd, True)
        sh(f"ip link set tbench master {BRIDGE} up")

        class NetVm(QemuVm):
            def spawn(vm, command):
                with open(vm.path(os.path.basename(command[0]) + ".log"), "ab") as log:
                    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, close_fds=False)
                vm.children.append(child)
                return child

        self.vm = NetVm(cpus=min(2, os.cpu_count()), memory_mib=1024, shared=os.path.dirname(self.root),
                        more=["-netdev", f"tap,id=net,fd={self.tap},vhostfd={vhost},vhost=on",
                              "-device", f"virtio-net-device,netdev=net,mac={MAC}"])
        os.close(vhost)
        self.vm.agent.call("sandbox.network.set", interfaces=[{
            "id": 2, "name": "eth0", "mac": MAC, "mtu": 1500, "up": True, "queue_length": 1000,
            "addresses": [{"address": GUEST, "prefix": 24, "flags": 0}]}],
            routes=[{"destination": "10.89.7.0/24", "interface": 2, "protocol": 2, "scope": 253, "type": 1}])
        return self

    def config(self, *args):
        config = self.spec(*args)
        config["process"]["capabilities"] = {kind: ["CAP_NET_RAW"] for kind in ("bounding", "effective", "permitted")}
        return config

    def run(self, *args):
        return self.vm.agent.run(self.config(*args), "rootfs", f"net{time.monotonic_ns()}")

    def serve(self, *args):
        name = f"net{time.monotonic_ns()}"
        self.vm.agent.call("container.create", container=name, spec=self.config(*args), root="rootfs", terminal=False, owner=False,
                           stdio={"stdin": "null", "stdout": "null", "stderr": "null"})
        self.vm.agent.call("container.start", container=name)

    def __exit__(self, *_):
        self.vm.stop()
        os.close(self.tap)


def iperf(place, seconds, *options):
    """Gbit/s that arrived."""
    end = json.loads(place.run("iperf3", "-J", "-t", str(seconds), "-c", HOST, *options))["end"]
    if "-u" in options:
        total = end["sum"]
        return total["bits_per_second"] * (1 - total["lost_percent"] / 100) / 1e9
    return end["sum_received"]["bits_per_second"] / 1e9


def measure(place, seconds):
    """{(figure, unit): value}; ratios of the first unit are better above 1, of times below."""
    place.run("ping", "-c", "1", "-w", "20", HOST)
    got = {}
    for streams in ("1", "4"):
        got[f"TCP out, {streams} stream", "Gbit/s"] = iperf(place, seconds, "-P", streams)
        got[f"TCP in, {streams} stream", "Gbit/s"] = iperf(place, seconds, "-P", streams, "-R")
        got[f"UDP out, {streams} stream", "Gbit/s"] = iperf(place, seconds, "-u", "-b", "0", "-P", streams)
    ping = place.run("ping", "-q", "-c", "40", "-i", "0.05", HOST)
    got["ping, mean", "ms"] = float(ping.rsplit("= ", 1)[1].split("/")[1])
    place.serve("redis-server", "--bind", GUEST, "--protected-mode", "no", "--save", "", "--dir", "/tmp")
    for _ in range(100):
        if subprocess.run(["redis-cli", "-h", GUEST, "ping"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
            break
        time.sleep(0.2)
    for name, more in (("", []), (", pipelined by 16", ["-P", "16"])):
        text = subprocess.run(["redis-benchmark", "-h", GUEST, "-t", "set,get", "-n", str(2000 * seconds), "-c", "20", "--csv", *more],
                              stdout=subprocess.PIPE, check=True, text=True).stdout
        for line in text.splitlines()[1:]:
            fields = line.replace('"', "").split(",")
            got[f"redis {fields[0]}{name}", "1/s"] = float(fields[1])
    return got


def compare(runs, spec, root, seconds):
    """{(figure, unit): {place: [value of each run]}}"""
    install(root)
    results = {}
    with Bridge():
        for _ in range(runs):
            for place in (Container("husk", spec, root), Container("crun", spec, root), Qemu(spec, root)):
                with place:
                    for figure, value in measure(place, seconds).items():
                        results.setdefault(figure, {}).setdefault(place.name, []).append(value)
    return results
