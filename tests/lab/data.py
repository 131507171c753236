"""Data on devices and in files, whose checksums are known."""

import hashlib
import mmap
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lab.host import iscsi_device_as, run
from tests.support.csi import GIB, MIB
from tests.support.polling import wait_until

SAMPLE = 8 * MIB
_BLOCK = 4096
_BLOCKED_SECONDS = 200
"""Initiators hold back writes for two minutes before they fail."""


def write_block(device: Path, offset: int = 0) -> str:
    """Write random data to a device past the page cache; returns its checksum."""
    data = os.urandom(SAMPLE)
    buffer = mmap.mmap(-1, SAMPLE)
    buffer.write(data)
    descriptor = os.open(device, os.O_WRONLY | os.O_DIRECT)
    try:
        assert os.pwrite(descriptor, buffer, offset) == SAMPLE
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return hashlib.sha256(data).hexdigest()


def read_block(device: Path, offset: int = 0) -> str:
    """The checksum of what a device holds, read past the page cache."""
    buffer = mmap.mmap(-1, SAMPLE)
    descriptor = os.open(device, os.O_RDONLY | os.O_DIRECT)
    try:
        assert os.preadv(descriptor, [buffer], offset) == SAMPLE
    finally:
        os.close(descriptor)
    return hashlib.sha256(buffer).hexdigest()


def write_pattern(device: Path, mib: int) -> None:
    """Write to the beginning of a device, past the page cache, what check_pattern knows."""
    buffer = mmap.mmap(-1, MIB)
    descriptor = os.open(device, os.O_WRONLY | os.O_DIRECT)
    try:
        for number in range(mib):
            buffer[:] = _pattern(number)
            assert os.pwrite(descriptor, buffer, number * MIB) == MIB
    finally:
        os.close(descriptor)


def check_pattern(device: Path, mib: int) -> None:
    """The device begins with what write_pattern wrote."""
    buffer = mmap.mmap(-1, MIB)
    descriptor = os.open(device, os.O_RDONLY | os.O_DIRECT)
    try:
        for number in range(mib):
            assert os.preadv(descriptor, [buffer], number * MIB) == MIB
            assert buffer[:] == _pattern(number), f"MiB {number}"
    finally:
        os.close(descriptor)


def _pattern(number: int) -> bytes:
    return (number + 1).to_bytes(8, "big") * (MIB // 8)


class DirectWriter:
    """Writes one block after the other to a device, past the page cache, for the length of a with block."""

    def __init__(self, device: Path) -> None:
        self.blocks = 0
        self.errors: list[OSError] = []
        self._device = device
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> "DirectWriter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(_BLOCKED_SECONDS)

    def wait_for_more(self, timeout: float = 60) -> None:
        """Wait until a few more blocks are on the device."""
        before = self.blocks
        wait_until(lambda: self.blocks > before + 3 or bool(self.errors), lambda: self.blocks, timeout)
        assert self.errors == []

    def check_what_is_on(self, device: Path) -> None:
        """All that was written is there, and nothing failed."""
        assert not self._thread.is_alive(), "a write does not come back"
        assert self.errors == []
        buffer = mmap.mmap(-1, _BLOCK)
        descriptor = os.open(device, os.O_RDONLY | os.O_DIRECT)
        try:
            for number in range(self.blocks):
                os.preadv(descriptor, [buffer], number * _BLOCK)
                assert buffer[:] == self._content(number), f"block {number} of {self.blocks}"
        finally:
            os.close(descriptor)

    def _write(self) -> None:
        buffer = mmap.mmap(-1, _BLOCK)
        try:
            descriptor = os.open(self._device, os.O_WRONLY | os.O_DIRECT)
            try:
                while not self._done.wait(0.05):
                    buffer[:] = self._content(self.blocks)
                    os.pwrite(descriptor, buffer, self.blocks * _BLOCK)
                    self.blocks += 1
            finally:
                os.close(descriptor)
        except OSError as error:
            self.errors.append(error)

    @staticmethod
    def _content(number: int) -> bytes:
        return number.to_bytes(8, "big") * (_BLOCK // 8)


def write_file(folder: Path, name: str = "data") -> str:
    """Write a file of random data to a mounted volume, down to the storage; returns its checksum."""
    data = os.urandom(SAMPLE)
    with (folder / name).open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def read_file(folder: Path, name: str = "data") -> str:
    return hashlib.sha256((folder / name).read_bytes()).hexdigest()


def size_of(device: Path) -> int:
    """Bytes of a block device."""
    with device.open("rb") as file:
        return file.seek(0, os.SEEK_END)


def filesystem_size(folder: Path) -> float:
    """GiB."""
    counts = os.statvfs(folder)
    return counts.f_blocks * counts.f_frsize / GIB


def device_holds(device: str, text: bytes) -> bool:
    """Whether a text is anywhere on a device."""
    run("blockdev", "--flushbufs", device)
    before = b""
    with Path(device).open("rb", buffering=0) as file:
        while part := file.read(SAMPLE):
            if text in before + part:
                return True
            before = part[-len(text) :]
    return False


def read_over_iscsi_as(connection_data: Mapping[str, Any], initiator: str) -> str:
    """The checksum of what a volume holds, read by an initiator of another name."""
    with iscsi_device_as(connection_data["target_portal"], connection_data["target_iqn"], initiator) as device:
        return read_block(device)
