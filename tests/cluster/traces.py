"""What a cluster leaves on the machine that it ran on."""

import os
import subprocess
from pathlib import Path

from tests.support.project import PROJECT

_FOLDERS = [Path(name) for name in ("/etc", "/opt", "/run", "/usr/libexec", "/var/lib", "/var/log")]
_WORDS = ("cinderbox-volumes", "cni", "containerd", "etcd", "kube", "netns")
"""Of what a cluster may make there. Not what other tests may make beside it."""
_SEARCHED = ("cni", "kubelet")
DIRECTORY = Path(os.environ.get("CLUSTER_DIR", PROJECT / ".tools/cluster"))


class Traces:
    """Compares the machine before a cluster ran with the machine afterwards.

    Other clusters may run beside it: only what is new counts, and of processes those of its own namespace.
    """

    def __init__(self) -> None:
        self._before = _seen()
        self._namespace = ""

    def of_running_cluster(self) -> None:
        """Remember which processes are the cluster's."""
        parent = (DIRECTORY / "pid").read_text().strip()
        (first,) = subprocess.run(["pgrep", "-P", parent], capture_output=True, text=True, check=True).stdout.split()
        self._namespace = _pid_namespace(Path("/proc") / first)

    def left(self) -> list[str]:
        """One line for each thing that is still there."""
        processes = [f"process {path.name}" for path in _processes() if _pid_namespace(path) == self._namespace]
        return processes + sorted(_seen() - self._before)


def _seen() -> set[str]:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    devices = subprocess.run(
        ["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return {
        # Those of other tests, which run beside this, are in /tmp.
        *(f"mount {mount}" for mount in mounts if not mount.startswith("/tmp/")),
        *(f"loop device {device}" for device in devices if " /tmp/" not in device),
        *(f"interface {path.name}" for path in Path("/sys/class/net").iterdir()),
        *(f"control group {path}" for path in _empty_control_groups()),
        *(f"file or folder {path}" for folder in _FOLDERS for path in _of_clusters(folder)),
    }


def _of_clusters(folder: Path) -> list[Path]:
    """What a cluster may have made in a folder of the machine, or in such a one that was there before."""
    found = [path for path in folder.iterdir() if any(word in path.name for word in _WORDS)] if folder.is_dir() else []
    return [*found, *(below for path in found if path.name in _SEARCHED for below in path.rglob("*"))]


def _empty_control_groups() -> list[Path]:
    """Those of containers that have ended: such have no processes, and nobody else removes them."""
    found = [*Path("/sys/fs/cgroup").glob("k8s.io/*"), *Path("/sys/fs/cgroup").glob("*/k8s.io/*")]
    return [path for path in found if path.is_dir() and not (path / "cgroup.procs").read_text()]


def _processes() -> list[Path]:
    return [path for path in Path("/proc").iterdir() if path.name.isdigit()]


def _pid_namespace(process: Path) -> str:
    try:
        return str((process / "ns/pid").readlink())
    except OSError:  # it has ended
        return ""
