"""What fake hosts show: devices that can be opened, and a portal that answers."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.csi import MIB


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """A loop device, whose number a fake host's device or map has."""
    yield from _loop_device(tmp_path / "disk")


@pytest.fixture
def path_device(tmp_path: Path) -> Iterator[str]:
    """The same for a path that is opened by itself."""
    yield from _loop_device(tmp_path / "path")


@pytest.fixture
def portal() -> Iterator[str]:
    """A portal that answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def _loop_device(file: Path) -> Iterator[str]:
    file.write_bytes(bytes(MIB))
    done = subprocess.run(["losetup", "--find", "--show", file], capture_output=True, text=True, check=True)
    yield done.stdout.strip()
    subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)
