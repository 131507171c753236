"""The kernel's tables, in which anybody's names are: any bytes, but for a newline."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csi_plugin.attachment import host_tables

ODD_NAMES = [
    b"\xff\xfe",
    "\u2028".encode(),
    "\x85".encode(),
    b"a\x0cb",
    b"a\x1cb",
    b"a\rb",
    b"a b",
    b"a\nb",
    b"a\\040b",
]
"""Not UTF-8; what Python's splitlines() takes for the end of a line; what the kernel escapes; what looks as if."""


def escape(name: bytes) -> bytes:
    """As the kernel writes a name (fs/seq_file.c, mangle_path)."""
    return b"".join(b"\\%03o" % byte if bytes([byte]) in b" \t\n\\" else bytes([byte]) for byte in name)


def line(target: bytes, source: bytes = b"/dev/sda") -> bytes:
    return b"36 35 8:17 / %b rw,noatime shared:1 - ext4 %b rw\n" % (escape(target), escape(source))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables") / "mountinfo"


def read(table: Path, content: bytes, *, target: str | None = None) -> list[host_tables.Mount]:
    table.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_tables, "_MOUNTS", table)
        return host_tables.mounts(target=target)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(table: Path, name: bytes) -> None:
    found = read(table, line(b"/before") + line(b"/odd/" + name, b"/dev/" + name) + line(b"/after"))
    assert [os.fsencode(mount.target) for mount in found] == [b"/before", b"/odd/" + name, b"/after"]
    assert os.fsencode(found[1].source) == b"/dev/" + name
    at_path = read(table, table.read_bytes(), target=os.fsdecode(b"/odd/" + name))
    assert at_path == [found[1]]


def test_quoted_options(table: Path) -> None:
    label = 'context="system_u:object_r:container_file_t:s0:c15,c25"'
    (found,) = read(table, f'36 35 8:17 / /a rw - xfs /dev/sda ro,{label},x=a"b,nouuid\n'.encode())
    assert found.filesystem_options == {"ro", label, 'x=a"b', "nouuid"}
    assert found.has_filesystem_option("context")
    assert not found.has_filesystem_option("fscontext")


@settings(deadline=None)
@given(names=st.lists(st.binary(min_size=1).filter(lambda name: b"\0" not in name)))
def test_names_are_kept_byte_by_byte(table: Path, names: list[bytes]) -> None:
    found = read(table, b"".join(line(b"/" + name, name) for name in names))
    assert [os.fsencode(mount.target) for mount in found] == [b"/" + name for name in names]
    assert [os.fsencode(mount.source) for mount in found] == names


@settings(deadline=None)
@given(noise=st.lists(st.binary().filter(lambda text: b"\n" not in text)))
def test_lines_that_are_none_are_passed_over(table: Path, noise: list[bytes]) -> None:
    found = read(table, b"\n".join([*noise, line(b"/known")]))
    assert found[-1].target == "/known"


@settings(deadline=None)
@given(name=st.binary(min_size=1, max_size=60).filter(lambda name: not {0, 47} & set(name)))
def test_files_behind_loop_devices(tmp_path_factory: pytest.TempPathFactory, name: bytes) -> None:
    devices = tmp_path_factory.mktemp("block")
    for number, file in enumerate((name, b"known")):
        folder = devices / f"loop{number}" / "loop"
        folder.mkdir(parents=True)
        (folder / "backing_file").write_bytes(b"/folder/" + file + b"\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_tables, "_NAMED_DEVICES", devices)
        names = host_tables.loop_devices_by_file_name()
    assert {os.fsencode(found) for found in names} == {name, b"known"}
