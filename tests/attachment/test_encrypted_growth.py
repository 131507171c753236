"""Growing an encrypted volume: the device first, then what cryptsetup has opened on it, with a copy of its header.

This kernel may have no device-mapper, so that functions stand for what needs it; tests/lab has the real one.
"""

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from csi_plugin.attachment import devices, encryption, storage_networks, tasks
from csi_plugin.protocol.sealed_box import generate_private_key, public_key_of, seal_to_node

PUBLICATION = "node/volume"
CONNECTION = {"driver_volume_type": "local", "data": {"device_path": "/dev/mapper/x"}, "volume_id": "volume", "size": 2}


def test_there_is_room_for_the_copy_of_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    def resize(**_: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            seen.append(Path(folder).parent)

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(
        storage_networks, "keep_out_of", lambda _: None
    )  # it changes the environment of a task's process
    monkeypatch.setattr(devices, "extend", lambda *_, **__: 2)
    monkeypatch.setattr(encryption, "resize_device", resize)
    monkeypatch.setattr(tasks, "device_size", lambda _: 3)
    private_key = generate_private_key()
    key_file = tmp_path / "key"
    key_file.write_bytes(private_key)
    box = seal_to_node(
        public_key_of(private_key), json.dumps(CONNECTION).encode(), associated_data=PUBLICATION.encode()
    )
    size = tasks.extend(
        key_file=str(key_file),
        sealed=base64.b64encode(box).decode(),
        publication=PUBLICATION,
        multipath=False,
        root_helper="",
        device_info={"path": "/dev/mapper/x"},
        encrypted=True,
        secrets={"passphrase": "open"},
    )
    assert size == 3
    (folder,) = seen
    assert folder.parent == tmp_path  # the volume's own
    assert list(tmp_path.iterdir()) == [key_file]
