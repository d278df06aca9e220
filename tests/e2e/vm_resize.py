#!/usr/bin/env python3
"""vm_resize.py SHARED: resizes a VM through the VMM's control socket; SHARED/rootfs is a Debian tree. Ends with 0 if all holds."""
import json
import os
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(HERE, "../bench"))
from vm import HuskVm, resident_kib  # noqa: E402

CPUS_MAX, BOOT_MIB, MAX_MIB = 4, 256, 1024
ONLINE = "/sys/devices/system/cpu/online"


def check(what, holds, got=""):
    print(f"{what}: {got}", file=sys.stderr)
    if not holds:
        sys.exit(f"FAILED: {what}: {got}")


def wait_for(seconds, holds):
    deadline = time.monotonic() + seconds
    while not (result := holds()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return result


def threads(vm):
    names = []
    for task in os.listdir(f"/proc/{vm.vmm_pid()}/task"):
        with open(f"/proc/{vm.vmm_pid()}/task/{task}/comm") as comm:
            names.append(comm.read().strip())
    return names


class Guest:
    def __init__(self, vm):
        self.vm = vm
        with open(os.path.join(HERE, "../bundle/config.json")) as file:
            self.config = json.load(file)
        for mount in self.config["mounts"]:  # so that the container may bring vCPUs online
            if mount["destination"] == "/sys":
                mount["options"].remove("ro")

    def run(self, *args):
        self.config["process"]["args"] = list(args)
        return self.vm.agent.run(self.config, "rootfs", "resize").strip()

    def memory_mib(self):
        return int(self.run("awk", '/^MemTotal:/ { print int($2 / 1024) }', "/proc/meminfo"))


def check_cpus(vm, guest):
    check("vCPU threads at the start", threads(vm).count("vcpu0") == 1 and "vcpu1" not in threads(vm), threads(vm))
    check("vCPUs online", (got := guest.run("cat", ONLINE)) == "0", got)
    check("vCPUs the guest knows", (got := guest.run("cat", "/sys/devices/system/cpu/present")) == "0-3", got)
    try:
        vm.control("cpus.resize", cpus=CPUS_MAX + 1)
        check("more vCPUs than there can be", False)
    except RuntimeError as error:
        check("more vCPUs than there can be", "built for 1 to 4" in str(error), error)
    start = time.monotonic()
    for cpu in (1, 2):  # each made and started alone: KVM must know the last one as well
        check("vCPUs made", vm.control("cpus.resize", cpus=cpu + 1) == {"cpus": cpu + 1})
        guest.run("sh", "-c", f"echo 1 > /sys/devices/system/cpu/cpu{cpu}/online")
    check("vCPU threads", {"vcpu1", "vcpu2"} <= set(threads(vm)) and "vcpu3" not in threads(vm), threads(vm))
    check("vCPUs online", (got := guest.run("cat", ONLINE)) == "0-2", f"{got} after {time.monotonic() - start:.2f} s")
    busy = "import os; [os.sched_setaffinity(0, {c}) or sum(range(100000)) for c in range(3)]; print(os.cpu_count())"
    check("work on each", (got := guest.run("python3", "-c", busy)) == "3", got)
    guest.run("sh", "-c", "echo 0 > /sys/devices/system/cpu/cpu1/online")
    check("one vCPU offline again", (got := guest.run("cat", ONLINE)) == "0,2", got)


def check_memory(vm, guest):
    before = guest.memory_mib()
    info = vm.control("memory.info")
    check("memory at the start", info["mib"] == BOOT_MIB and info["max_mib"] == MAX_MIB, info)
    check("the guest's statistics", info["statistics"]["total-memory"] > 100 << 20, info["statistics"])
    start = time.monotonic()
    got = vm.control("memory.resize", mib=768, timeout_ms=60000)
    check("plugged", got["mib"] == 768, f"{got} after {time.monotonic() - start:.2f} s")
    check("the guest's total", (got := guest.memory_mib()) >= before + 480, f"{before} -> {got} MiB")
    fill = "b = b'x' * (400 << 20); print(len(b))"
    idle = resident_kib(vm.vmm_pid())
    check("use of it", (got := guest.run("python3", "-c", fill)) == str(400 << 20), got)
    start = time.monotonic()
    got = vm.control("memory.resize", mib=BOOT_MIB, timeout_ms=60000)
    check("unplugged", got["mib"] < 400, f"{got} after {time.monotonic() - start:.2f} s")
    left = wait_for(30, lambda: (now := resident_kib(vm.vmm_pid())) < idle + (100 << 10) and now)
    check("the VMM's memory", left, f"{idle >> 10} MiB before, {resident_kib(vm.vmm_pid()) >> 10} MiB now")
    try:
        vm.control("memory.resize", mib=MAX_MIB + 2)
        check("more memory than there can be", False)
    except RuntimeError as error:
        check("more memory than there can be", "1026 MiB" in str(error), error)


def check_balloon(vm, guest):
    free = lambda: int(guest.run("awk", '/^MemAvailable:/ { print int($2 / 1024) }', "/proc/meminfo"))  # noqa: E731
    before = free()
    vm.control("memory.balloon", mib=64)
    got = wait_for(30, lambda: (i := vm.control("memory.info"))["balloon_mib"] == 64 and i)
    check("balloon", got, got)
    check("the guest's free memory", (got := free()) < before - 40, f"{before} -> {got} MiB")
    vm.control("memory.balloon", mib=0)
    check("balloon empty", wait_for(30, lambda: vm.control("memory.info")["balloon_mib"] == 0))


def main():
    more = ["--cpus-max", str(CPUS_MAX), "--memory-max", str(MAX_MIB)]
    with HuskVm(cpus=1, memory_mib=BOOT_MIB, shared=sys.argv[1], more=more) as vm:
        guest = Guest(vm)
        check_cpus(vm, guest)
        check_memory(vm, guest)
        check_balloon(vm, guest)


main()
