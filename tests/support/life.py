"""A volume's whole life as a Container Orchestrator leads it: every step is repeated until the plugin says OK."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from csi_plugin.protocol import csi_pb2, csi_pb2_grpc
from tests.support.csi import GIB, MOUNT
from tests.support.serving import Served

DATA = b"written by the pod\n" * 50_000
# What COs answer with a repeat of the same call.
PASSING = {grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
STEPS = (
    "create",
    "publish",
    "stage",
    "publish_node",
    "write",
    "snapshot",
    "group_snapshot",
    "expand",
    "expand_node",
    "modify",
    "read",
    "unpublish_node",
    "unstage",
    "unpublish",
    "delete_snapshot",
    "delete_group_snapshot",
    "delete",
)


class Client:
    """A CO's connection, which outlives the server: calls fail while nobody serves, and are repeated."""

    def __init__(self, served: Served) -> None:
        self.folder = served.folder
        self.channel = grpc.insecure_channel(
            f"unix://{served.socket}",
            options=[("grpc.use_local_subchannel_pool", 1)]
            + [(f"grpc.{name}_reconnect_backoff_ms", 100) for name in ("initial", "min", "max")],
        )
        self.controller = csi_pb2_grpc.ControllerStub(self.channel)
        self.group_controller = csi_pb2_grpc.GroupControllerStub(self.channel)
        self.node = csi_pb2_grpc.NodeStub(self.channel)

    def is_running(self) -> bool:
        """Somebody will start it again."""
        return True


class Life:
    """One volume on one node. Steps are methods named in STEPS; each may be called again."""

    def __init__(self, served: "Served | Client", *, name: str = "1") -> None:
        self.served = served
        self.name = name
        self.staging = served.folder / f"staging-{name}"
        self.target = served.folder / f"pod-{name}" / "mount"
        self.staging.mkdir()
        self.target.parent.mkdir()
        self.volume = csi_pb2.Volume()
        self.snapshot_id = self.group_snapshot_id = ""
        self.context: dict[str, str] = {}

    def call(self, method: Callable[..., Any], request: Any, *, timeout: float = 240) -> Any:
        """The answer to a request that is repeated while the plugin says that it is busy or not up."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return method(request, timeout=30)
            except grpc.RpcError as error:
                if error.code() not in PASSING or time.monotonic() > deadline or not self.served.is_running():
                    raise
                time.sleep(0.05)

    def run(self, *steps: str) -> None:
        for step in steps:
            getattr(self, step)()

    # The controller's part

    def create(self) -> None:
        request = csi_pb2.CreateVolumeRequest(
            name=f"pvc-{self.name}",
            capacity_range=csi_pb2.CapacityRange(required_bytes=GIB),
            volume_capabilities=[MOUNT],
        )
        self.volume = self.call(self.served.controller.CreateVolume, request).volume

    def publish(self) -> None:
        request = csi_pb2.ControllerPublishVolumeRequest(
            volume_id=self.volume.volume_id,
            node_id="test-node",
            volume_capability=MOUNT,
            volume_context=self.volume.volume_context,
        )
        self.context = dict(self.call(self.served.controller.ControllerPublishVolume, request).publish_context)

    def unpublish(self) -> None:
        request = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=self.volume.volume_id, node_id="test-node")
        self.call(self.served.controller.ControllerUnpublishVolume, request)

    def snapshot(self) -> None:
        request = csi_pb2.CreateSnapshotRequest(name=f"snapshot-{self.name}", source_volume_id=self.volume.volume_id)
        self.snapshot_id = self.call(self.served.controller.CreateSnapshot, request).snapshot.snapshot_id

    def delete_snapshot(self) -> None:
        self.call(self.served.controller.DeleteSnapshot, csi_pb2.DeleteSnapshotRequest(snapshot_id=self.snapshot_id))

    def group_snapshot(self) -> None:
        request = csi_pb2.CreateVolumeGroupSnapshotRequest(
            name=f"group-{self.name}", source_volume_ids=[self.volume.volume_id]
        )
        answer = self.call(self.served.group_controller.CreateVolumeGroupSnapshot, request)
        self.group_snapshot_id = answer.group_snapshot.group_snapshot_id

    def delete_group_snapshot(self) -> None:
        request = csi_pb2.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=self.group_snapshot_id)
        self.call(self.served.group_controller.DeleteVolumeGroupSnapshot, request)

    def modify(self) -> None:
        request = csi_pb2.ControllerModifyVolumeRequest(
            volume_id=self.volume.volume_id, mutable_parameters={"extra_specs.test:speed": "fast"}
        )
        self.call(self.served.controller.ControllerModifyVolume, request)

    def expand(self) -> None:
        request = csi_pb2.ControllerExpandVolumeRequest(
            volume_id=self.volume.volume_id,
            capacity_range=csi_pb2.CapacityRange(required_bytes=2 * GIB),
            volume_capability=MOUNT,
        )
        answer = self.call(self.served.controller.ControllerExpandVolume, request)
        assert (answer.capacity_bytes, answer.node_expansion_required) == (2 * GIB, True)

    def delete(self) -> None:
        self.call(self.served.controller.DeleteVolume, csi_pb2.DeleteVolumeRequest(volume_id=self.volume.volume_id))

    # The node's part

    def stage(self) -> None:
        request = csi_pb2.NodeStageVolumeRequest(
            volume_id=self.volume.volume_id,
            publish_context=self.context,
            staging_target_path=str(self.staging),
            volume_capability=MOUNT,
            volume_context=self.volume.volume_context,
        )
        self.call(self.served.node.NodeStageVolume, request)

    def publish_node(self) -> None:
        request = csi_pb2.NodePublishVolumeRequest(
            volume_id=self.volume.volume_id,
            publish_context=self.context,
            staging_target_path=str(self.staging),
            target_path=str(self.target),
            volume_capability=MOUNT,
            volume_context=self.volume.volume_context,
        )
        self.call(self.served.node.NodePublishVolume, request)

    def expand_node(self) -> None:
        request = csi_pb2.NodeExpandVolumeRequest(
            volume_id=self.volume.volume_id,
            volume_path=str(self.target),
            staging_target_path=str(self.staging),
            capacity_range=csi_pb2.CapacityRange(required_bytes=2 * GIB),
        )
        self.call(self.served.node.NodeExpandVolume, request)

    def unpublish_node(self) -> None:
        request = csi_pb2.NodeUnpublishVolumeRequest(volume_id=self.volume.volume_id, target_path=str(self.target))
        self.call(self.served.node.NodeUnpublishVolume, request)

    def unstage(self) -> None:
        request = csi_pb2.NodeUnstageVolumeRequest(
            volume_id=self.volume.volume_id, staging_target_path=str(self.staging)
        )
        self.call(self.served.node.NodeUnstageVolume, request)

    # The pod's part

    def write(self) -> None:
        (self.target / "data").write_bytes(DATA)
        subprocess.run(["sync", "--file-system", str(self.target)], check=True)

    def read(self) -> None:
        assert (self.target / "data").read_bytes() == DATA
        mounts = Path("/proc/self/mounts").read_text().count(f" {self.target} ")
        assert mounts == 1, f"{mounts} mounts at {self.target}"
