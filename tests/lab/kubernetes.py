"""Kubernetes with the guest as its node, and releases of the chart on it. The control plane is beside the guest."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.cluster import CHART, Cluster, Object
from tests.lab.host import run
from tests.lab.storage import disk
from tests.support.devices import mounts_below
from tests.support.polling import wait_until
from tests.support.project import PROJECT

NODE = "storage-lab"
SECONDS = 600
"""How long a step may take: emulation is slow, and slower where others work."""
_BIN = PROJECT / ".tools/kubernetes/bin"
_PROCESSES = Path("/sys/fs/cgroup/cluster")
_CONTAINERS = Path("/sys/fs/cgroup/k8s.io")
_FOLDERS = ("/var/lib/kubelet", "/var/lib/cinderbox", "/var/log", "/run/containerd", "/run/netns", "/etc/cni")


class LabCluster(Cluster):
    """kubectl and helm in a namespace of it. ``folder``: where the cluster runs."""

    def __init__(self, namespace: str, folder: Path) -> None:
        super().__init__(namespace)
        self.folder = folder

    def command(self, *arguments: str) -> list[str]:
        return ["env", f"PATH={_BIN}:/usr/bin", f"KUBECONFIG={self.folder}/kubeconfig", *arguments]

    def run(self, *arguments: str, input_text: str | None = None, check: bool = True, timeout: float = 0) -> str:
        """``timeout`` counts only if it is longer than what anything may take here."""
        return super().run(*arguments, input_text=input_text, check=check, timeout=max(timeout, SECONDS + 60))

    def create(self) -> None:
        """Make the namespace."""
        self.run("kubectl", "create", "namespace", self.namespace)
        # Pods are refused before it is there.
        self.wait("serviceaccount/default", "create", SECONDS)

    def install(self, values: Object) -> None:
        """Install the chart as a release of the namespace's name, and wait until it serves."""
        self.run(
            *("helm", "install", self.namespace, str(CHART), "--namespace", self.namespace, "--values", "-"),
            input_text=json.dumps(values),
        )

        for workload in ("daemonset/{}-cinderbox-node", "deployment/{}-cinderbox-controller"):
            self.kubectl("rollout", "status", workload.format(self.namespace), f"--timeout={SECONDS}s")
        self.kubectl("wait", "cbackend", "--all", "--for=condition=Ready", f"--timeout={SECONDS}s")


@contextlib.contextmanager
def node(folder: Path) -> Iterator[None]:
    """This machine as a node of the cluster: what pods attach is attached to it."""
    for path in (folder / "state" / NODE / "containerd", folder / "logs", _PROCESSES):
        path.mkdir(parents=True, exist_ok=True)
    run("mount", disk("containerd"), str(folder / "state" / NODE / "containerd"))
    shutil.copy(Path(os.environ["STORAGE_LAB_RESULTS"]).parent / "state/kubernetes/kubeconfig", folder)
    start = [str(PROJECT / "scripts/cluster_parts/node"), str(folder), str(_BIN), NODE, "1"]
    log_file = folder / "logs/node"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", f'echo $$ >{_PROCESSES}/cgroup.procs; exec "$@"', "sh", *start],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        written_when_the_network_is_up = folder / "state" / NODE / "kubelet.yaml"
        wait_until(
            lambda: written_when_the_network_is_up.exists() or process.poll() is not None, log_file.read_text, SECONDS
        )
        assert process.poll() is None, log_file.read_text()
        cluster = LabCluster("default", folder)
        for condition in ("create", "condition=Ready"):
            cluster.wait(f"node/{NODE}", condition, SECONDS)
        yield
    finally:
        for group in (_PROCESSES, _CONTAINERS):
            if group.exists():
                (group / "cgroup.kill").write_text("1")
        process.wait()
        for path in (*_FOLDERS, str(folder)):
            _unmount_all(path)


def _unmount_all(path: str) -> None:
    for target in reversed(mounts_below(Path(path).parent)):
        if f"{target}/".startswith(f"{path}/"):
            run("umount", "--lazy", target, check=False)
