"""A volume's life through the library, which attaches it to this host itself."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import host, storage
from tests.lab.backends import LabBackend, python_path
from tests.lab.data import GIB, read_block, size_of, write_block

Shows = Callable[[str], None]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import csi_plugin

    sys.path[:0] = python_path()
    csi_plugin.setup(file_locks_path=str(tmp_path_factory.mktemp("locks")))
    return csi_plugin


@pytest.fixture
def opened(library: Any, backend: LabBackend) -> Iterator[Any]:
    """The backend in this process."""
    backend.make()
    if backend.multipath:
        storage.multipath_daemon()
    settings = {name: value for name, value in backend.settings.items() if name not in ("name", "driver")}
    made = library.Backend(
        volume_backend_name=backend.name,
        volume_driver=backend.driver,
        use_multipath_for_image_xfer=backend.multipath,
        **settings,
    )
    yield made
    for volume in list(made.volumes):  # a test has failed, and the next one is not to suffer
        with contextlib.suppress(Exception):
            remove(volume)
    made.close()


def remove(volume: Any) -> None:
    for connection in list(volume.connections):
        connection.detach() if connection.attached else connection.disconnect()
    for snapshot in list(volume.snapshots):
        snapshot.delete()
    volume.delete()


@pytest.fixture(autouse=True)
def nothing_left(backend: LabBackend, opened: Any) -> Iterator[None]:
    """No test leaves anything on this host, in the storage, or in the targets."""
    before = host.traces()
    yield
    host.nothing_is_left(before, backend.objects())


def test_library(opened: Any, backend: LabBackend, shows: Shows) -> None:
    volume = opened.create_volume(1, name="through the library")
    device = Path(volume.attach().path)
    assert size_of(device) == GIB
    written = write_block(device)
    if not backend.can("expand online"):
        volume.detach()
    assert volume.extend(2) == 2 * GIB
    if not backend.can("expand online"):
        device = Path(volume.attach().path)
    assert size_of(device) == 2 * GIB
    assert read_block(device) == written
    volume.detach()

    snapshot = volume.create_snapshot("then")
    restored = snapshot.create_volume(size=3)
    device = Path(restored.attach().path)
    assert size_of(device) == 3 * GIB
    assert read_block(device) == written
    restored.detach()

    restored.delete()
    snapshot.delete()
    volume.delete()
    shows("library")


def test_revert(opened: Any, backend: LabBackend, shows: Shows) -> None:
    volume = opened.create_volume(1)
    then = write_block(Path(volume.attach().path))
    volume.detach()
    snapshot = volume.create_snapshot("then")
    if backend.can("copies in use"):
        write_block(Path(volume.attach().path))
        volume.detach()

    volume.revert(snapshot)

    snapshot.delete()
    assert read_block(Path(volume.attach().path)) == then
    volume.detach()
    volume.delete()
    shows("revert")


def test_manage(opened: Any, backend: LabBackend, shows: Shows) -> None:
    assert backend.make_volume is not None
    written = backend.make_volume("by-hand")
    reference = {"source-name": "by-hand"}
    (listed,) = [found for found in opened.manageable_volumes() if found["reference"] == reference]
    assert (listed["size"], listed["safe_to_manage"]) == (1, True)

    volume = opened.manage_existing(reference, name="adopted")

    (listed,) = [found for found in opened.manageable_volumes() if found["cinder_id"]]
    assert (listed["cinder_id"], listed["safe_to_manage"]) == (volume.id, False)
    assert read_block(Path(volume.attach().path)) == written
    volume.detach()
    volume.delete()
    shows("manage")


def test_several_nodes(opened: Any, library: Any, backend: LabBackend, shows: Shows) -> None:
    """Another node comes and goes, and the first one notices nothing."""
    volume = opened.create_volume(1, multiattach=True)
    device = Path(volume.attach().path)
    written = write_block(device)
    other_node = {
        **volume.local_attach.connector_info,
        "host": "other-node",
        "ip": "127.0.0.2",
        "initiator": "iqn.2026-11.io.cinderbox.lab:other",
        "nqn": "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001",
    }
    connection = volume.connect(other_node)
    if backend.read_as is not None:
        assert backend.read_as(connection.conn_info["data"], other_node["initiator"]) == written

    connection.disconnect()

    assert read_block(device) == written
    written = write_block(device)
    assert read_block(device) == written
    volume.detach()
    volume.delete()
    shows("several nodes")
