"""Files as block devices of this host."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from csi_plugin import attachment
from csi_plugin.attachment import devices, host_tables, loop_devices
from csi_plugin.attachment.errors import AttachmentError
from csi_plugin.attachment.programs import ProgramFailed
from tests.support.csi import MIB
from tests.support.devices import backing_file, clean_up


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "volume"
    with path.open("wb") as content:
        content.truncate(64 * MIB)
    yield path
    clean_up(tmp_path)


def connection(path: Path, **data: Any) -> dict[str, Any]:
    return {"driver_volume_type": "local", "data": {"device_path": str(path), **data}}


def linked(path: Path) -> Path:
    link = path.with_name("link")
    link.symlink_to(path)
    return link


@pytest.mark.root
def test_local_files_are_in_folders_for_volumes(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node's own key is none of them, whatever storage says."""
    monkeypatch.setenv("CINDERBOX_ATTACHMENT_NODE_FOLDER", str(tmp_path))
    with pytest.raises(AttachmentError, match=f"is in {tmp_path}, where no volumes are"):
        devices.attach(connection(file))
    for folders in ("", f"{tmp_path}/other", f"{tmp_path}/vol"):
        monkeypatch.setenv("CINDERBOX_ATTACHMENT_LOCAL_FOLDERS", folders)
        with pytest.raises(AttachmentError, match="in none of the folders in local_folders"):
            devices.attach(connection(file))
    monkeypatch.setenv("CINDERBOX_ATTACHMENT_LOCAL_FOLDERS", f"/nowhere:{tmp_path.parent}")
    devices.detach(connection(file), devices.attach(connection(file)))


@pytest.mark.root
def test_attach_and_detach_can_be_repeated(file: Path) -> None:
    first = devices.attach(connection(file))
    assert devices.attach(connection(file)) == first
    assert host_tables.device_size(first["path"]) == 64 * MIB
    for _ in range(2):
        devices.detach(connection(file), first)
    assert loop_devices.find(str(file)) is None
    devices.detach(connection(file), None)


@pytest.mark.root
@pytest.mark.parametrize("is_file", [True, False])
def test_device_that_was_attached_for_readers_is_attached_for_a_writer(file: Path, is_file: bool) -> None:
    """An attach that was cut off has left it, or it stays: a block device that the storage has on this host itself."""
    wanted = connection(file)
    if not is_file:
        with file.open("r+b") as opened:
            wanted = connection(Path(loop_devices.attach(opened.fileno(), file.name)))
    for read_only in (True, False):
        path = Path(devices.attach(wanted, read_only=read_only)["path"])
        assert host_tables.is_write_protected(str(path)) is read_only
        if not read_only:
            path.write_bytes(b"data")


@pytest.mark.root
def test_loop_device_that_was_write_protected_for_another_file(file: Path) -> None:
    """The kernel keeps that with the device, whatever file it shows next."""
    first = devices.attach(connection(file))
    subprocess.run(["blockdev", "--setro", first["path"]], check=True)
    loop_devices.detach(str(file))
    second = devices.attach(connection(file))
    try:
        assert not host_tables.is_write_protected(second["path"])
    finally:
        subprocess.run(["blockdev", "--setrw", first["path"]], check=True)


@pytest.mark.root
def test_detach_writes_everything(file: Path) -> None:
    device = devices.attach(connection(file))
    with Path(device["path"]).open("r+b") as opened:
        opened.write(b"data")
    devices.detach(connection(file), device)
    assert file.read_bytes()[:4] == b"data"


@pytest.mark.root
def test_many_at_once(tmp_path: Path, file: Path) -> None:
    files = [tmp_path / f"volume-{number}" for number in range(8)]
    for path in files:
        path.write_bytes(bytes(MIB))
    with ThreadPoolExecutor(8) as pool:
        attached = list(pool.map(lambda path: devices.attach(connection(path)), files))
        assert len({device["path"] for device in attached}) == 8
        list(pool.map(lambda pair: devices.detach(connection(pair[0]), pair[1]), zip(files, attached, strict=True)))
    assert all(loop_devices.find(str(path)) is None for path in files)


@pytest.mark.root
def test_device_outlives_the_container_that_made_it(file: Path, tmp_path: Path) -> None:
    """Its mount namespace ends with it, and the kernel then tells another path of the file."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = f"mount --bind {tmp_path} {elsewhere} && losetup --find --show {elsewhere}/volume"
    made = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=True)
    identity = host_tables.device_identity(made.stdout.strip())
    shown = backing_file(made.stdout.strip())
    device = devices.attach(connection(file))
    assert device["path"] == made.stdout.strip()
    assert host_tables.device_identity(device["path"]) == identity
    devices.detach(connection(file), device)
    assert backing_file(device["path"]) != shown


@pytest.mark.root
def test_extend(file: Path) -> None:
    device = devices.attach(connection(file))
    os.truncate(file, 128 * MIB)
    assert devices.extend(connection(file), device) == 128 * MIB


@pytest.mark.root
def test_device_in_use_is_not_detached_silently(file: Path) -> None:
    device = devices.attach(connection(file))
    with Path(device["path"]).open("rb"), pytest.raises(ProgramFailed, match="in use"):
        devices.detach(connection(file), device)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: connection(path.with_name("nothing")), "no file"),
        (lambda path: connection(path, format="qcow2"), "qcow2"),
        (lambda path: connection(path.parent), "is a folder"),
        (lambda path: connection(linked(path)), "is a symbolic link"),
        (lambda path: connection(Path("/etc/passwd")), "is in /etc, where no volumes are"),
        (lambda path: connection(Path("/dev/../etc/passwd")), "data.device_path must be an absolute path"),
    ],
)
def test_what_cannot_be_attached(file: Path, make: Any, words: str) -> None:
    with pytest.raises(AttachmentError, match=words):
        devices.attach(make(file))


@pytest.mark.root
def test_identity_of_this_host() -> None:
    properties = attachment.connector_properties()
    assert properties["host"] == os.uname().nodename
    assert properties["os_type"] == "linux"
    assert properties["ip"]


def test_task_answers_in_json_whatever_happens() -> None:
    ours, process_s = socket.socketpair(type=socket.SOCK_SEQPACKET)
    connection, task_s = socket.socketpair()
    with ours, connection:
        with process_s:
            process = subprocess.Popen([sys.executable, "-W", "ignore", "-m", "csi_plugin.attachment"], stdin=process_s)
        with task_s:
            socket.send_fds(ours, [b"1"], [task_s.fileno()])
        connection.sendall(
            b'{"task": "attach", "key_file": "/nothing", "sealed": "", "publication": "", "multipath": false, '
            b'"root_helper": "sudo", "read_only": false, "secrets": {"passphrase": "hunter2"}, "used_before": false}'
        )
        connection.shutdown(socket.SHUT_WR)
        output = connection.makefile("rb").read()
    assert b'"kind": "FileNotFoundError"' in output
    assert b"hunter2" not in output
    assert process.wait(timeout=30) == 0
