"""Names as the CO gives them, with metadata on real database servers: told apart by every byte, or refused at once."""

from pathlib import Path

import grpc
import pytest

from csi_plugin.persistence.records import KeyValueRecord
from csi_plugin.protocol import csi_pb2
from csi_plugin.storage.backend import Backend
from tests.controller.plugin import Plugin, Serve
from tests.support.csi import fails

Code = grpc.StatusCode
CLAIM = "csi.storage.k8s.io/pvc/name"

pytestmark = pytest.mark.parametrize("serve", ["memory"], indirect=True)  # until the database takes its place


@pytest.fixture(params=["mariadb", "postgresql"])
def on_database(request: pytest.FixtureRequest, serve: Serve, tmp_path: Path) -> Plugin:
    serve()
    server = request.getfixturevalue(request.param)
    # As Cinder's installation guide creates it.
    url = server.create_database(*(["CHARACTER SET utf8mb3"] if request.param == "mariadb" else []))
    Backend.set_persistence({"storage": "db", "connection": url})
    return serve(directory=tmp_path / "volumes")


def test_names_differ_by_blanks_and_case(on_database: Plugin) -> None:
    names = ["name", "name ", "name  ", " name", "Name", "namé"]
    volumes = {name: on_database.create(name).volume_id for name in names}
    assert len(set(volumes.values())) == len(names)
    assert {name: on_database.create(name).volume_id for name in names} == volumes
    snapshots = {on_database.snapshot(name, volumes["name"]).snapshot_id for name in names}
    assert len(snapshots) == len(names)
    for key in names:
        on_database.store.create(KeyValueRecord(id=key, value=key))
    for key in names:
        found = on_database.store.get(KeyValueRecord, key)
        assert found and found.value == key


def test_what_the_database_cannot_hold_is_refused_at_once(on_database: Plugin, request: pytest.FixtureRequest) -> None:
    if "postgresql" in request.node.name:
        with fails(Code.INVALID_ARGUMENT, "U+0000"):
            on_database.create("pvc-1", parameters={CLAIM: "a\0b"})
    else:
        for arguments in ({"name": "pvc-\U0001f4a5"}, {"name": "pvc-1", "parameters": {CLAIM: "\U0001f4a5"}}):
            with fails(Code.INVALID_ARGUMENT, "characters beyond U+FFFF"):
                on_database.create(**arguments)
    assert on_database.files() == []
    assert on_database.list() == []
    volume = on_database.create("pvc-1")
    on_database.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume.volume_id))
