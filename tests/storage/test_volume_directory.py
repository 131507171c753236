"""The loop driver's directory by itself, without any of Cinder's objects."""

from pathlib import Path

import pytest

from csi_plugin.storage.drivers.volume_directory import (
    FileCopy,
    InvalidFileName,
    MissingFile,
    VolumeDirectory,
    source_name,
)

MIB = 1024**2


@pytest.fixture
def directory(tmp_path: Path) -> VolumeDirectory:
    found = VolumeDirectory(tmp_path / "volumes")
    found.prepare()
    return found


def names(directory: VolumeDirectory) -> list[str]:
    return sorted(path.name for path, _ in directory.files())


def test_a_file_is_created_grown_and_removed(directory: VolumeDirectory) -> None:
    directory.create("one", MIB)
    assert directory.has("one")
    assert directory.grow("one", 2 * MIB) == MIB
    assert directory.grow("one", MIB) == 2 * MIB, "it never shrinks"
    directory.round_up("one", 3 * MIB)
    assert directory.path("one").stat().st_size == 3 * MIB
    directory.remove("one")
    directory.remove("one")
    assert names(directory) == []


def test_a_file_is_never_replaced(directory: VolumeDirectory) -> None:
    for name in ("one", "two"):
        directory.create(name, MIB)
    with pytest.raises(FileExistsError):
        directory.create("one", MIB)
    with pytest.raises(FileExistsError):
        directory.rename("one", "two")
    assert names(directory) == ["one", "two"]


def test_copies_appear_all_or_none(directory: VolumeDirectory) -> None:
    directory.create("one", MIB)
    directory.create("taken", MIB)
    directory.path("one").write_bytes(b"data")
    copies = [FileCopy(source="one", target=target, size=2 * MIB) for target in ("copy", "taken")]
    with pytest.raises(FileExistsError):
        directory.copy(copies)
    assert names(directory) == ["one", "taken"]
    directory.copy(copies[:1])
    assert directory.path("copy").read_bytes()[:4] == b"data"
    assert directory.path("copy").stat().st_size == 2 * MIB


def test_a_snapshot_keeps_its_sources_name_where_the_filesystem_can(directory: VolumeDirectory) -> None:
    directory.create("one", MIB)
    directory.copy([FileCopy(source="one", target="snapshot", keeps_source_name=True)])
    assert source_name(directory.path("snapshot")) in ("one", None)
    assert source_name(directory.path("one")) is None


def test_data_is_replaced_at_the_files_size(directory: VolumeDirectory) -> None:
    directory.create("one", 2 * MIB)
    directory.create("other", MIB)
    directory.path("other").write_bytes(b"then")
    directory.replace_data("one", "other")
    assert directory.path("one").read_bytes()[:4] == b"then"
    assert directory.path("one").stat().st_size == 2 * MIB


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../outside", "a\0b"])
def test_names_stay_in_the_directory(directory: VolumeDirectory, name: str) -> None:
    with pytest.raises(InvalidFileName):
        directory.path(name)


def test_a_missing_file_is_told_apart_from_other_errors(directory: VolumeDirectory) -> None:
    with pytest.raises(MissingFile) as caught:
        directory.copy([FileCopy(source="gone", target="copy")])
    assert caught.value.file_name == "gone"
    assert names(directory) == []


def test_a_directory_keeps_the_id_that_it_was_given_first(directory: VolumeDirectory) -> None:
    directory.mark_path.touch()
    assert directory.read_mark() is None
    assert directory.write_mark("first") == directory.write_mark("second") == directory.read_mark() == "first"
    assert [path.name for path in directory.mark_path.parent.iterdir()] == [directory.mark_path.name]
