"""The library in this process, on the loop driver, with each of the built-in kinds of persistence."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import csi_plugin as cl
from csi_plugin.persistence.dbms import DBPersistence
from tests.support.project import LOOP_DRIVER

DATABASE = "cinderbox.sqlite"


def configuration(storage: str, directory: Path) -> dict[str, str]:
    """The persistence_config of a kind of persistence."""
    if storage == "db":
        return {"storage": "db", "connection": f"sqlite:///{directory / DATABASE}"}
    return {"storage": storage}


@pytest.fixture(scope="session")
def library() -> None:
    """The library's set-up, which a process does once; another test module may have done it."""
    if not cl.Backend.global_initialization:
        cl.setup()


@pytest.fixture(scope="session")
def empty_database(library: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To be copied, which is quicker than to make all tables again."""
    folder = tmp_path_factory.mktemp("database")
    DBPersistence(configuration("db", folder)["connection"]).close()
    return folder / DATABASE


@pytest.fixture(params=["memory", "memory_db", "db"])
def persistence(request: pytest.FixtureRequest, library: None, empty_database: Path, tmp_path: Path) -> Iterator[Any]:
    """Each kind in turn, empty."""
    if request.param == "db":
        shutil.copy(empty_database, tmp_path / DATABASE)
    cl.Backend.set_persistence(configuration(request.param, tmp_path))
    plugin = cl.Backend.persistence
    yield plugin
    cl.Backend.set_persistence({"storage": "memory"})
    plugin.close()


@pytest.fixture
def memory(library: None) -> None:
    """Memory alone, for what does not depend on where metadata is kept."""
    cl.Backend.set_persistence({"storage": "memory"})


@pytest.fixture
def new_backend(tmp_path: Path) -> Iterator[Any]:
    """Makes backends; they are closed after the test."""
    made = []

    def make(name: str = "loop", **options: Any) -> cl.Backend:
        directory = tmp_path / f"{name}-volumes"
        backend = cl.Backend(
            volume_backend_name=name, volume_driver=LOOP_DRIVER, loop_volumes_dir=str(directory), **options
        )
        made.append(backend)
        return backend

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def backend(persistence: Any, new_backend: Any) -> cl.Backend:
    """A backend on each kind of persistence."""
    found: cl.Backend = new_backend()
    return found


@pytest.fixture
def memory_backend(memory: None, new_backend: Any) -> cl.Backend:
    found: cl.Backend = new_backend()
    return found


@pytest.fixture
def files(tmp_path: Path) -> Any:
    """The names of the files that the storage holds; what is being written and what drivers hide do not count."""

    def names(backend: str = "loop") -> set[str]:
        return {path.name for path in (tmp_path / f"{backend}-volumes").iterdir() if not path.name.startswith(".")}

    return names
