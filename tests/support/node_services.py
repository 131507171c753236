"""The Node service in this process, whose devices are a test's: no server, and nothing is attached."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import grpc

from csi_plugin.node.configuration import NodeConfiguration
from csi_plugin.node.context import NodeContext
from csi_plugin.node.service import NodeService
from csi_plugin.node.volume_state import VolumeState
from csi_plugin.protocol import csi_pb2
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
    def record_filesystem(self, volume_id: str, filesystem: str) -> None:
        pass


def node_service(folder: Path, **tasks: Task) -> tuple[NodeService, NodeContext, Tasks]:
    """A node service with its state below a folder, what its RPCs work with, and its tasks."""
    configuration = NodeConfiguration(node_id="worker-1", state_dir=folder / "state", locks_dir=folder / "locks")
    service = NodeService(configuration, InFlight())
    context = service._context
    given = Tasks(**tasks)
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
