"""The library, set up once for all tests of the storage layer, and backends that end with their test."""

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from csi_plugin.persistence.memory import MemoryPersistence
from csi_plugin.storage.backend import Backend
from tests.support.project import LOOP_DRIVER

sys.path.insert(0, str(Path(__file__).parent))  # where recording_driver is

RECORDING = "recording_driver.RecordingDriver"

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> None:
    if not Backend.global_initialization:
        Backend.global_setup(file_locks_path=str(tmp_path_factory.mktemp("locks")), disable_logs=False)


@pytest.fixture
def store(library: None) -> Iterator[MemoryPersistence]:
    """Empty persistence in memory, which the library uses during the test."""
    before = Backend.persistence
    store = MemoryPersistence()
    Backend.set_persistence({"storage": store})
    yield store
    Backend.set_persistence({"storage": before})


@pytest.fixture
def new_backend(store: MemoryPersistence) -> Iterator[Callable[..., Backend]]:
    """Makes backends of the recording driver, or of another; they are closed after the test."""
    made: list[Backend] = []

    def make(**options: Any) -> Backend:
        name = options.pop("volume_backend_name", f"backend{next(_numbers)}")
        backend = Backend(name, **{"volume_driver": RECORDING, **options})
        made.append(backend)
        return backend

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def loop_backend(new_backend: Callable[..., Backend], tmp_path: Path) -> Backend:
    return new_backend(volume_driver=LOOP_DRIVER, loop_volumes_dir=str(tmp_path / "volumes"))
