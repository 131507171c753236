"""The Node service in this process, whose devices are a test's: no server, and nothing is attached."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import grpc

from csi_plugin.attachment.host_tables import device_identity
from csi_plugin.node.configuration import NodeConfiguration
from csi_plugin.node.context import NodeContext
from csi_plugin.node.reconnection import Reconnection
from csi_plugin.node.service import NodeService
from csi_plugin.node.volume_state import VolumeState
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import RpcError, not_found
from csi_plugin.protocol.inflight import InFlight
from tests.support.csi import capability

Task = Callable[..., Any]


class Call:
    """What a handler asks of its gRPC call."""

    def time_remaining(self) -> float | None:
        return None


CALL = cast(grpc.ServicerContext, Call())


class Tasks:
    """In place of the attachment process: functions by the names of its tasks, and what they were called with."""

    def __init__(self, **tasks: Task) -> None:
        self.tasks = tasks
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def run(self, task: str, **arguments: Any) -> Any:
        self.calls.append((task, arguments))
        return self.tasks[task](**arguments)

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


class _Registration:
    """What the node asks of the controller; ``connection_error``: why that has no connection of a volume."""

    def __init__(self, connection_error: RpcError | None = None) -> None:
        self._connection_error = connection_error

    def record_filesystem(self, volume_id: str, filesystem: str) -> None:
        pass

    def connector(self) -> dict[str, Any]:
        return {}

    def was_taken_away(self, volume_id: str) -> bool:
        return self._connection_error is not None

    def connection(self, volume_id: str) -> str:
        if self._connection_error is not None:
            raise self._connection_error
        return "c2VhbGVk"


def unstage_mounted(folder: str, device: str, *, is_published: bool) -> None:
    """Runs on a fake host (tests.support.fake_host): mount a device there, and unstage it as a volume that the
    controller has published to the node, or has not."""
    staging = Path(folder, "staging")
    staging.mkdir()
    subprocess.run(["/usr/bin/mount", device, str(staging)], check=True)
    service, context, _ = node_service(Path(folder, "node"), detach=lambda **_: None)
    context.registration = cast(Any, _Registration(None if is_published else not_found("volume_id: not published")))
    context.states.save(staged(staging, device, device_identity(device)))
    service.NodeUnstageVolume(
        csi_pb2.NodeUnstageVolumeRequest(volume_id="volume-1", staging_target_path=str(staging)), CALL
    )


def look_at_waiting(folder: str, device: str, *, is_published: bool) -> None:
    """Runs on a fake host: look once after a raw volume of one path, which the controller has published to the node, or
    has not."""
    _, context, _ = node_service(Path(folder, "node"), heal=lambda **_: None)
    context.registration = cast(Any, _Registration(None if is_published else not_found("volume_id: not published")))
    identity = device_identity(device)
    context.states.save(staged(Path(folder), device, identity, access_type="block", path_count=1))
    Reconnection(context).look(0.0)


def health_of(folder: str, device: str, *, path_count: int) -> list[tuple[str, str]]:
    """Runs on a fake host: status and reason of all that is wrong with a raw volume."""
    service, context, _ = node_service(Path(folder, "node"))
    identity = device_identity(device)
    context.states.save(staged(Path(folder), device, identity, access_type="block", path_count=path_count))
    answer = service.NodeGetVolumeHealth(csi_pb2.NodeGetVolumeHealthRequest(volume_id="volume-1"), CALL)
    return [
        (csi_pb2.VolumeHealthErrorType.Name(entry.status), entry.reason)
        for entry in answer.volume_health.health_statuses
    ]


def node_service(folder: Path, **tasks: Task) -> tuple[NodeService, NodeContext, Tasks]:
    """A node service with its state below a folder, what its RPCs work with, and its tasks."""
    configuration = NodeConfiguration(node_id="worker-1", state_dir=folder / "state", locks_dir=folder / "locks")
    service = NodeService(configuration, InFlight())
    context = service._context
    given = Tasks(**{"check": lambda **_: None} | tasks)
    context.attachment_process = cast(Any, given)
    context.registration = cast(Any, _Registration())
    return service, context, given


def attached(device: str, **changes: Any) -> dict[str, Any]:
    """What the task ``attach`` returns of a device."""
    return {
        "device_info": {"type": "block", "path": device},
        "device_path": device,
        "size": 0,
        "expected_size": 0,
        "encrypted": False,
        "write_protected": False,
        "formatted": False,
        "path_count": 1,
        **changes,
    }


def stage_request(staging: Path, *, block: bool = False, filesystem: str = "ext4") -> csi_pb2.NodeStageVolumeRequest:
    return csi_pb2.NodeStageVolumeRequest(
        volume_id="volume-1",
        staging_target_path=str(staging),
        publish_context={"connection": "c2VhbGVk"},
        volume_capability=capability("" if block else filesystem, block=block),
    )


def staged(staging: Path, device: str, identity: str, **changes: Any) -> VolumeState:
    """The state of a staged volume."""
    values: dict[str, Any] = {
        "volume_id": "volume-1",
        "staging_path": str(staging),
        "access_type": "mount",
        "access_mode": "SINGLE_NODE_WRITER",
        "filesystem": "ext4",
        "device_info": {"type": "block", "path": device},
        "device_path": device,
        "device_identity": identity,
        "attached_identity": identity,
        "staged": True,
    }
    return VolumeState(**(values | changes))
