"""Volumes as block devices of this host: a file-backed volume is attached as a loop device."""

import os
from pathlib import Path
from typing import Any

import pytest

import csi_plugin as cl
from tests.support.csi import GIB
from tests.support.devices import backing_file

pytestmark = pytest.mark.root


@pytest.fixture
def volume(memory_backend: cl.Backend) -> Any:
    made = memory_backend.create_volume(1)
    yield made
    fresh = cl.Volume.get_by_id(made.id)
    fresh.cleanup()
    fresh.delete()


def write(path: str, data: bytes, offset: int = 0) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.pwrite(descriptor, data, offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def test_attach_and_detach(volume: cl.Volume, tmp_path: Path) -> None:
    connection = volume.attach()

    assert volume.local_attach is connection
    assert connection.attached
    assert connection.path is not None
    assert Path(connection.path).is_block_device()
    assert connection.path == connection.device["path"]
    assert volume.status == "in-use"
    write(connection.path, b"through the device")
    stored = cl.Connection.get_by_id(connection.id)
    assert stored.path == connection.path

    volume.detach()

    with (tmp_path / "loop-volumes" / volume.name_in_storage).open("rb") as file:
        assert file.read(18) == b"through the device"
    assert volume.local_attach is None
    assert volume.connections == []
    assert volume.status == "available"
    with pytest.raises(cl.exception.NotLocal):
        volume.detach()
    with pytest.raises(cl.exception.ConnectionNotFound):
        cl.Connection.get_by_id(connection.id)


def test_extension_while_attached(volume: cl.Volume) -> None:
    connection = volume.attach()
    assert volume.extend(2) == 2 * GIB
    with Path(connection.path).open("rb") as device:
        assert device.seek(0, os.SEEK_END) == 2 * GIB
    write(connection.path, b"end", offset=2 * GIB - 512)
    volume.detach()


def test_an_attached_volume_is_refused_to_others(volume: cl.Volume) -> None:
    volume.attach()
    with pytest.raises(cl.exception.InvalidVolume, match="connected"):
        cl.Volume.get_by_id(volume.id).delete()
    with pytest.raises(cl.exception.InvalidVolume, match="must be available"):
        volume.revert(volume.create_snapshot("s"))
    with pytest.raises(cl.exception.InvalidVolume, match="not multiattach"):
        volume.attach()
    volume.snapshots[0].delete()


def test_a_read_only_connection(volume: cl.Volume) -> None:
    connection = volume.connect({"host": "here", "multipath": False}, attach_mode="ro")
    connection.attach()
    with pytest.raises(OSError, match=r"not permitted|Read-only"):
        write(connection.path, b"x")
    connection.detach()
    assert not connection.attached
    assert connection.connected
    connection.disconnect()
    assert not connection.connected


def test_another_process_detaches(volume: cl.Volume) -> None:
    """What a program knows after a restart: the store."""
    path = volume.attach().path
    connection = cl.Volume.get_by_id(volume.id).connections[0]
    assert connection.path == path
    file = backing_file(path)
    connection.detach()
    connection.disconnect()
    assert backing_file(path) != file
    volume.refresh()
    assert volume.status == "available"


def test_what_cannot_be_attached_is_not_left_connected(volume: cl.Volume, tmp_path: Path) -> None:
    path = tmp_path / "loop-volumes" / volume.name_in_storage
    made = volume.backend.driver.initialize_connection

    def gone(found: Any, connector: Any, **kwargs: Any) -> Any:
        info = made(found, connector, **kwargs)
        info["data"]["device_path"] += "-elsewhere"
        return info

    volume.backend.driver.initialize_connection = gone
    try:
        with pytest.raises(Exception, match="elsewhere"):
            volume.attach()
    finally:
        del volume.backend.driver.initialize_connection
    assert path.exists()
    assert volume.connections == []
    assert volume.status == "available"
    assert cl.Volume.get_by_id(volume.id).connections == []


def test_cleanup(volume: cl.Volume) -> None:
    volume.attach()
    again = cl.Volume.get_by_id(volume.id)
    again.cleanup()
    assert again.connections == []
    assert again.status == "available"
