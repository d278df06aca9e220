"""podman's commands with husk and with crun below: the whole command, as a person waits for it."""
import os
import subprocess
import tempfile
import time

IMAGE = "localhost/husk-test"  # of tests/bundle


class Podman:
    """podman with storage of its own, over the bundle's image store."""

    def __init__(self, images):
        self.images = images

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory()
        place = self.directory.name
        with open(f"{place}/storage.conf", "w") as file:
            file.write(f'[storage]\ndriver = "overlay"\ngraphroot = "{place}/storage"\nrunroot = "{place}/run"\n'
                       f'[storage.options]\nadditionalimagestores = ["{self.images}"]\n')
        with open(f"{place}/containers.conf", "w") as file:
            file.write('[containers]\nlog_driver = "k8s-file"\ndefault_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]\n'
                       f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\ntmp_dir = "{place}/tmp"\n')
        self.environment = {**os.environ, "CONTAINERS_STORAGE_CONF": f"{place}/storage.conf", "CONTAINERS_CONF": f"{place}/containers.conf"}
        return self

    def __call__(self, runtime, *args):
        """Runs a command; the milliseconds that it took."""
        path = subprocess.run(["which", runtime], stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
        start = time.monotonic()
        subprocess.run(["podman", "--runtime", path, *args], env=self.environment, check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL)
        return (time.monotonic() - start) * 1000

    def __exit__(self, *_):
        subprocess.run(["podman", "rm", "--all", "--force", "--time", "0"], env=self.environment, stdout=subprocess.DEVNULL)
        subprocess.run(["umount", "--quiet", f"{self.directory.name}/storage/overlay"])
        self.directory.cleanup()


def compare(runs, images):
    """{figure: {runtime: [milliseconds of each run]}}, after one of each that is not counted."""
    got = {}
    with Podman(images) as podman:
        for runtime in ("husk", "crun"):
            podman(runtime, "run", "-d", "--network", "none", "--name", f"bench-{runtime}", IMAGE, "sleep", "10000")
        for run in range(runs + 1):
            for runtime in ("husk", "crun"):
                for figure, command in (("podman run --rm of true", ["run", "--rm", "--network", "none", IMAGE, "true"]),
                                        ("podman exec of true", ["exec", f"bench-{runtime}", "true"])):
                    took = podman(runtime, *command)
                    if run > 0:
                        got.setdefault(figure, {}).setdefault(runtime, []).append(took)
    return got
