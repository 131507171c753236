"""Claims on the lab's backends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from csi_plugin.protocol import csi_pb2
from tests.lab.backends import LabBackend
from tests.lab.servers import LabServer
from tests.support.claims import Claim
from tests.support.devices import mounts_below

MakeClaim = Callable[..., "LabClaim"]


def is_created(claim: MakeClaim, name: str = "fits-now", **arguments: Any) -> bool:
    """Whether there is room for a claim now; if so, it is made."""
    try:
        claim(name, block=True, **arguments)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        return False
    return True


class LabClaim(Claim):
    """A volume of one backend, as tests/node knows it."""

    def __init__(self, served: LabServer, backend: LabBackend, folder: Path, **arguments: Any) -> None:
        self.snapshots: list[str] = []
        super().__init__(served, folder, backend=backend.name, **arguments)

    def snapshot(self, name: str) -> str:
        request = csi_pb2.CreateSnapshotRequest(source_volume_id=self.id, name=f"{self.folder.parent.name}-{name}")
        made = self.served.controller.CreateSnapshot(request).snapshot
        assert made.ready_to_use
        self.snapshots.append(made.snapshot_id)
        return str(made.snapshot_id)

    def delete_snapshot(self, snapshot_id: str) -> None:
        self.served.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot_id))
        self.snapshots.remove(snapshot_id)

    def modify(self, parameters: dict[str, str]) -> None:
        request = csi_pb2.ControllerModifyVolumeRequest(volume_id=self.id, mutable_parameters=parameters)
        self.served.controller.ControllerModifyVolume(request)

    def take_away(self, *, controller: bool = True) -> None:
        """Unpublish and unstage it; from the controller too, unless told not to."""
        for target in [path for path in mounts_below(self.folder) if path != str(self.staging)]:
            self.unpublish(str(Path(target).relative_to(self.folder)))
        self.unstage()
        if controller:
            self.unpublish_controller()

    def unpublish_controller(self) -> None:
        request = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=self.id, node_id="test-node")
        self.served.controller.ControllerUnpublishVolume(request)
        self.context = {}

    def remove(self) -> None:
        for snapshot_id in list(self.snapshots):
            self.delete_snapshot(snapshot_id)
        super().remove()
