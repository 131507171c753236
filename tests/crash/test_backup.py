"""Metadata restored from a backup never costs data, whatever the backup was in the middle of."""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from csi_plugin.protocol import csi_pb2
from tests.support.life import DATA, Life
from tests.support.polling import wait_until
from tests.support.serving import QUICK, Served

_BLOCK = 4096
GATED = "tests.crash.drivers.GatedDriver"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    environment = QUICK | {"TEST_GATE": str(tmp_path), "CINDERBOX_UNDO_WINDOW_SECONDS": "1"}
    with closing(Served(tmp_path, driver=GATED, environment=environment)) as served:
        yield served


def data_of(file: Path) -> dict[int, bytes]:
    """The blocks of a sparse file that are not zero, by their position."""
    blocks: dict[int, bytes] = {}
    position, size = 0, file.stat().st_size
    with file.open("rb", buffering=0) as stream:
        while position < size:
            try:
                start = os.lseek(stream.fileno(), position, os.SEEK_DATA)
            except OSError:  # only a hole is left
                break
            position = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
            data = os.pread(stream.fileno(), position - start, start)
            for offset in range(0, len(data), _BLOCK):
                if any(block := data[offset : offset + _BLOCK]):
                    blocks[start + offset] = block
    return blocks


def backup(database: Path, target: Path) -> None:
    source, copy = sqlite3.connect(database), sqlite3.connect(target)
    source.backup(copy)
    source.close()
    copy.close()


def restore(copy: Path, database: Path) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    shutil.copy(copy, database)


@pytest.mark.parametrize("repeated", [True, False], ids=["repeated", "not repeated"])
def test_backup_taken_during_a_create(served: Served, tmp_path: Path, repeated: bool) -> None:
    life = Life(served.start())
    with ThreadPoolExecutor(1) as pool:
        creating = pool.submit(life.create)
        wait_until((tmp_path / "reached").exists, served.log_text)
        backup(served.database, tmp_path / "backup")
        (tmp_path / "open").touch()
        creating.result()
    file = served.volumes / f"volume-{life.volume.volume_id}"
    began = time.monotonic()
    life.run("publish", "stage", "publish_node", "write", "unpublish_node", "unstage")
    assert served.stop() == 0
    content = data_of(file)
    assert any(DATA[:1000] in block for block in content.values())

    restore(tmp_path / "backup", served.database)
    # Within the undo window the storage itself is the only witness; past it nothing is removed at all.
    wait_until(lambda: time.monotonic() - began > 1, lambda: None)
    served.start()
    if repeated:
        life.create()
    wait_until(lambda: held(served.database) != [], lambda: served.log_text())

    assert data_of(file) == content
    names = [entry.volume.volume_id for entry in served.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries]
    assert names == ([life.volume.volume_id] if repeated else [])
    served.stop()
    assert data_of(file) == content


def held(database: Path) -> list[str]:
    """Conditions of the tries that wait for a person."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT intent FROM cinderbox_volume WHERE intent IS NOT NULL").fetchall()
    finally:
        connection.close()
    return [text for (text,) in rows if '"held: ' in text or "a person has to decide" in text]
