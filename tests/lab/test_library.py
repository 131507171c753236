"""A volume's life through the library, which attaches it to this host itself."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import host
from tests.lab.backends import LabBackend, python_path
from tests.lab.volumes import read_block, size_of, write_block
from tests.node.conftest import GIB


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
    settings = {name: value for name, value in backend.settings.items() if name not in ("name", "driver")}
    made = library.Backend(
        volume_backend_name=backend.name,
        volume_driver=backend.driver,
        use_multipath_for_image_xfer=backend.multipath,
        **settings,
    )
    yield made
    made.close()


def test_library(opened: Any, backend: LabBackend, shows: Callable[[str], None]) -> None:
    before = host.traces()
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
    assert host.traces() == before
    assert backend.objects() == []
    assert not any(host.exports().values())
    shows("library")
