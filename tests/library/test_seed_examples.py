"""The examples of the document that Cinderbox began with, as programs: with ``cinderlib`` and with our own name.

They differ from the document's in what the library page lists: print is a function, LVM is the loop driver, a file is
read under the name under which it was written (and what one backend dumped loads as that backend, not as a list).
"""

import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import csi_plugin
from tests.support.mariadb import MariaDB
from tests.support.processes import run_programs
from tests.support.project import PROJECT

PROGRAMS = Path(__file__).parent / "seed_examples"

Run = Callable[..., str]


@pytest.fixture(params=["cinderlib", "csi_plugin"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs an example under one of the library's names, all of a test in one directory; returns what it printed."""
    search = [str(PROJECT / "compat"), str(PROJECT)] if request.param == "cinderlib" else [str(PROJECT)]

    def run_example(name: str, *arguments: str) -> str:
        source = (PROGRAMS / f"{name}.py").read_text()
        program = tmp_path / f"{name}.py"
        program.write_text(source.replace("cinderlib", request.param) if request.param != "cinderlib" else source)
        (printed,) = run_programs((program, *arguments), folder=tmp_path, environment={"PYTHONPATH": ":".join(search)})
        return printed

    return run_example


def one_volume(printed: str) -> bool:
    return printed.startswith("[<cinderbox.Volume object ") and printed.count("Volume object") == 1


def test_memory(run: Run) -> None:
    run("memory_save")
    assert one_volume(run("memory_load"))


def test_memory_all_backends(run: Run) -> None:
    run("memory_save_all")
    assert one_volume(run("memory_load_all"))


def test_database(run: Run, tmp_path: Path) -> None:
    run("database_create")
    assert (tmp_path / "cl.sqlite").exists()
    assert one_volume(run("database_read"))


def test_custom_plugin(run: Run) -> None:
    printed = run("custom_plugin")
    assert printed.startswith("plugin at 127.0.0.1 for admin with a password of 13\n")
    assert " on backend lvm_iscsi>] 2 MyPlugin" in printed


def test_migration_from_sqlite_to_mysql(run: Run, mariadb: MariaDB) -> None:
    assert one_volume(run("migrate", mariadb.create_database("CHARACTER SET utf8mb3")))


def test_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """The alias package declares cinderlib's names of the plugins, and they lead to ours."""
    from csi_plugin.persistence import dbms, memory

    csi_plugin.install_as_cinderlib()
    project = tomllib.loads((PROJECT / "compat/pyproject.toml").read_text())["project"]
    declared = project["entry-points"]["cinderlib.persistence.storage"]
    loaded = {name: EntryPoint(name, value, "cinderlib.persistence.storage").load() for name, value in declared.items()}
    assert loaded == {
        "memory": memory.MemoryPersistence,
        "memory_db": dbms.MemoryDBPersistence,
        "db": dbms.DBPersistence,
    }
