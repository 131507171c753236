"""CSI requests as tests make them, and the errors that they expect."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from csi_plugin.protocol import csi_pb2

MIB = 1024**2
GIB = 1024**3
Mode = csi_pb2.VolumeCapability.AccessMode


def capability(
    filesystem: str = "", *, mode: int = Mode.SINGLE_NODE_WRITER, block: bool = False, flags: tuple[str, ...] = ()
) -> csi_pb2.VolumeCapability:
    made = csi_pb2.VolumeCapability(access_mode=Mode(mode=mode))
    if block:
        made.block.SetInParent()
    else:
        made.mount.CopyFrom(csi_pb2.VolumeCapability.MountVolume(fs_type=filesystem, mount_flags=flags))
    return made


def mount(mode: int = Mode.SINGLE_NODE_WRITER) -> csi_pb2.VolumeCapability:
    return capability(mode=mode)


def block(mode: int = Mode.SINGLE_NODE_WRITER) -> csi_pb2.VolumeCapability:
    return capability(mode=mode, block=True)


MOUNT = capability("xfs")


def create_request(name: str, size: int = 1, **fields: Any) -> csi_pb2.CreateVolumeRequest:
    """``size`` in GiB."""
    fields.setdefault("volume_capabilities", [mount()])
    fields.setdefault("capacity_range", csi_pb2.CapacityRange(required_bytes=size * GIB))
    return csi_pb2.CreateVolumeRequest(name=name, **fields)


def from_snapshot(snapshot_id: str) -> csi_pb2.VolumeContentSource:
    source = csi_pb2.VolumeContentSource()
    source.snapshot.snapshot_id = snapshot_id
    return source


def from_volume(volume_id: str) -> csi_pb2.VolumeContentSource:
    source = csi_pb2.VolumeContentSource()
    source.volume.volume_id = volume_id
    return source


@contextmanager
def fails(code: grpc.StatusCode, *words: str) -> Iterator[None]:
    """The block's call ends with a status and a message that has all the words."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error: Any = caught.value
    assert error.code() is code, error.details()
    for word in words:
        assert word in error.details()


def in_time(call: Callable[[float], Any]) -> Any:
    """What a call with a timeout (seconds) answers. One that a busy machine gives no answer within is made again with a
    longer one, as callers do."""
    for timeout in (1, 2, 4, 8, 16):
        try:
            return call(timeout)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
    return call(32)


def unless_refused(call: Callable[[], Any]) -> bool:
    """Make a call; False while it is FAILED_PRECONDITION, as until a process has heard of what another one did."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION, error
        return False
    return True


def unless_busy(call: Callable[[], None]) -> bool:
    """Make a call; False when another operation on its volume has not ended, as callers may find at any time."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.ABORTED, error
        return False
    return True
