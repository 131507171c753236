"""The example programs of the library do what they say."""

from pathlib import Path

import pytest

from tests.support.processes import run_programs
from tests.support.project import PROJECT


def run(name: str, directory: Path) -> list[str]:
    (printed,) = run_programs((PROJECT / "examples" / f"{name}.py", directory), folder=directory)
    return printed.splitlines()


@pytest.mark.root
def test_a_volume(tmp_path: Path) -> None:
    lines = run("library_volume", tmp_path)
    assert lines[1].startswith("letters is /dev/loop")
    assert lines[2:5] == [
        "restored: dear reader",
        f"grown to {2 * 1024**3} bytes while attached",
        "volumes: ['copy', 'letters', 'letters again']",
    ]
    assert lines[5].startswith("refused: ")
    assert lines[6:] == ["left: []"]
    assert list((tmp_path / "volumes").glob("volume-*")) == []


def test_adoption(tmp_path: Path) -> None:
    assert run("library_adopt", tmp_path) == [
        "{'source-name': 'old-data'} 3 GiB free to take",
        "adopted is of 3 GiB and called volume in the storage",
        "snapshots of: ['adopted', 'new']",
        "known: ['new']",
        "in the storage: 2 files",
    ]


def test_migration(tmp_path: Path) -> None:
    assert run("library_migrate", tmp_path) == [
        "in the new database: []",
        "first 1 GiB ['of the first']",
        "second 2 GiB []",
    ]
