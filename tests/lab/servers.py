"""The lab's controller and its node: two processes, since a node restarts in a second and loading Cinder takes long."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from csi_plugin.protocol import csi_pb2
from tests.conformance import csi_sanity
from tests.lab import ceph, storage
from tests.lab.backends import LabBackend, python_path
from tests.lab.data import GIB
from tests.support.polling import wait_until
from tests.support.serving import Served

NODE = "test-node"
REGISTERED = "the node is registered"
BACKEND_READY = " is ready after "
READY_SECONDS = 900
"""Emulation is slow, and slower where others work."""


class LabServer:
    """A controller with the backends, and a node. ``folder`` has their logs and state."""

    def __init__(self, folder: Path, backends: Sequence[LabBackend], **environment: str) -> None:
        with ThreadPoolExecutor() as pool:  # the guest has two processors
            list(pool.map(lambda backend: backend.make(), backends))
        self.folder = folder
        self.number_of_backends = len(backends)
        self.multipath = False
        self.volumes = folder / "volumes"
        shared = {
            "CINDERBOX_REGISTRY_ENDPOINT": f"unix://{folder}/registry.sock",
            "CINDERBOX_LOG_LEVEL": "info",
            "CINDERBOX_LEASE_SECONDS": "120",  # emulated processes may stand still for long, where others work
            "PYTHONPATH": ":".join([*python_path(), str(Path(__file__).parents[2])]),
            **csi_sanity.ENVIRONMENT,
            **environment,
        }
        # By which Ceph's blocklist knows the node.
        network = {"CINDERBOX_STORAGE_NETWORK_IP": ceph.ADDRESS}
        settings = {"X_CSI_BACKEND_CONFIG": json.dumps([backend.settings for backend in backends])}
        self.controller_process = Served(folder, mode="controller", name="controller", environment=shared | settings)
        self.node_process = Served(folder, mode="node", name="node", environment=shared | network)

    def start(self) -> "LabServer":
        before = _count(REGISTERED, self.node_process)
        self._launch_node()  # it loads while the controller does
        self.start_controller()
        self._wait_for_node(before)
        return self

    def start_controller(self, **environment: str) -> None:
        """Start the controller, with more environment variables if given, and wait until all its backends are ready."""
        process = self.controller_process
        wanted = _count(BACKEND_READY, process) + self.number_of_backends
        process.start(wait=False, **environment)
        process.wait_until_ready(READY_SECONDS, pause=1)
        wait_until(lambda: _count(BACKEND_READY, process) >= wanted, process.log_text, timeout=READY_SECONDS)

    def start_node(self, **environment: str) -> None:
        """Start the node anew, with more environment variables if given, and wait until the controller knows it."""
        if self.node_process.is_running():
            self.node_process.kill()
        before = _count(REGISTERED, self.node_process)
        self._launch_node(**environment)
        self._wait_for_node(before)

    def _launch_node(self, **environment: str) -> None:
        multipath = {"CINDERBOX_REQUEST_MULTIPATH": str(self.multipath).lower()}
        self.node_process.start(wait=False, **multipath, **environment)

    def _wait_for_node(self, before: int) -> None:
        """``before``: how often it has registered."""
        process = self.node_process
        process.wait_until_ready(READY_SECONDS, pause=1)
        wait_until(lambda: _count(REGISTERED, process) > before, process.log_text, timeout=READY_SECONDS)

    def prepare(self, *, multipath: bool) -> None:
        """Have both run, whatever a test before did to them, and the node attach over all paths or over one."""
        if not self.controller_process.is_running():
            self.start_controller()
        if multipath:
            storage.multipath_daemon()
        if self.multipath != multipath or not self.node_process.is_running():
            self.multipath = multipath
            self.start_node()

    @property
    def controller(self) -> Any:
        return self.controller_process.controller

    @property
    def node(self) -> Any:
        return self.node_process.node

    def room(self, backend: LabBackend) -> float:
        """GiB that a backend has for new volumes, as the controller says."""
        request = csi_pb2.GetCapacityRequest(parameters={"backend": backend.name})
        return float(self.controller.GetCapacity(request).available_capacity) / GIB

    def close(self) -> None:
        self.node_process.close()
        self.controller_process.close()


def _count(words: str, process: Served) -> int:
    """How often they are in a process's log."""
    return process.log.read_text().count(words) if process.log.exists() else 0
