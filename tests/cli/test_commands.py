"""The ``cinderbox`` command, with a server's metadata."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from csi_plugin.protocol import csi_pb2
from tests.support.life import Life
from tests.support.polling import wait_until
from tests.support.serving import QUICK, Served

pytestmark = pytest.mark.root


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with closing(Served(tmp_path, environment=QUICK)) as served:
        yield served


def test_volumes(served: Served) -> None:
    life = Life(served.start())
    assert served.command("volumes", "list") == ""
    life.run("create", "publish", "snapshot")

    (row,) = json.loads(served.command("volumes", "list", "--output", "json"))
    assert row["id"] == life.volume.volume_id
    assert (row["name"], row["gib"], row["backend"], row["nodes"]) == ("pvc-1", 1, "loop", "test-node")
    table = served.command("volumes", "list").splitlines()
    assert table[0].split() == ["ID", "NAME", "STATUS", "GIB", "BACKEND", "POOL", "NODES", "CREATED"]
    assert life.volume.volume_id in table[1]
    (node,) = json.loads(served.command("nodes", "--output", "json"))
    assert (node["id"], node["volumes"], node["limit"]) == ("test-node", 1, 0)
    shown = json.loads(served.command("volumes", "show", life.volume.volume_id))
    assert shown["id"] == life.volume.volume_id
    assert [snapshot["id"] for snapshot in shown["snapshots"]] == [life.snapshot_id]
    assert [connection["node_id"] for connection in shown["connections"]] == ["test-node"]
    assert "connection_info" not in shown["connections"][0]
    served.command("volumes", "show", "nothing", expect=1)
    life.run("unpublish", "delete_snapshot", "delete")


def test_leftovers_are_listed_and_forgotten(tmp_path: Path) -> None:
    served = Served(tmp_path, environment=QUICK | {"CINDERBOX_UNDO_WINDOW_SECONDS": "0"})
    try:
        life = Life(served.start(CINDERBOX_FAILPOINT="create.driver_done"))
        with pytest.raises(grpc.RpcError):
            life.create()
        served.wait_for_exit()
        served.start()
        life.create()
        wait_until(lambda: "held: " in served.command("volumes", "orphans"), served.log_text)
        (leftover,) = json.loads(served.command("volumes", "orphans", "-o", "json"))
        assert leftover["name"] == "pvc-1"
        served.command("volumes", "forget", life.volume.volume_id, expect=1)  # not a leftover
        assert leftover["id"] in served.command("volumes", "forget", "--yes", leftover["id"])
        assert json.loads(served.command("volumes", "leftovers", "-o", "json")) == []
        assert f"volume-{leftover['id']}" in served.files()
        listed = served.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries
        assert [entry.volume.volume_id for entry in listed] == [life.volume.volume_id]
    finally:
        served.close()


def test_migration(served: Served, tmp_path: Path) -> None:
    life = Life(served.start())
    life.run("create", "snapshot")
    assert served.stop() == 0
    target = {"storage": "db", "connection": f"sqlite:///{tmp_path}/other.sqlite"}
    for _ in range(2):
        served.command("migrate", json.dumps(target), X_CSI_BACKEND_CONFIG="[]")  # which only a server needs
    assert life.volume.volume_id in served.command("volumes", "list", X_CSI_BACKEND_CONFIG="[]")
    served.start(X_CSI_PERSISTENCE_CONFIG=json.dumps(target))
    listed = served.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries
    assert [entry.volume.volume_id for entry in listed] == [life.volume.volume_id]
    created_again = life.volume.volume_id
    life.create()
    assert life.volume.volume_id == created_again
    life.run("delete_snapshot", "delete")
    assert served.files() == []


@pytest.mark.parametrize(
    "target",
    [
        "{",
        "[]",
        "{}",
        '{"storage": "memory"}',
        '{"storage": "memory_db"}',
        '{"storage": "telepathy"}',
        '{"storage": "db", "connection": "x"}',
    ],
)
def test_migration_to_nowhere(served: Served, target: str) -> None:
    served.command("migrate", target, expect=2)


def test_a_user_who_may_not_read_the_servers_files_is_told_so(tmp_path: Path) -> None:
    program = str(Path(sys.executable).parent / "cinderbox")
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    run = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program, "volumes", "list"],
        env={
            "PATH": os.environ["PATH"],
            "CINDERBOX_STATE_DIR": str(state),
            "CINDERBOX_PERSISTENCE": '{"storage": "db", "connection": "sqlite:////nowhere/x"}',
        },
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert run.stderr.startswith(f"cinderbox: {state}") and "this user may not read or write it" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_sealing_keys(served: Served, tmp_path: Path) -> None:
    old, new = served.command("generate-key").strip(), served.command("generate-key").strip()
    keys = tmp_path / "keys"
    keys.write_text(f"{old}\n")
    keys.chmod(0o600)
    sealed = {"CINDERBOX_SEALING_KEYS_FILE": str(keys)}
    life = Life(served.start(**sealed))
    life.run("create", "publish")
    assert served.stop() == 0
    served.command("reseal", expect=2)  # no keys in these settings
    keys.write_text(f"{new}\n{old}\n")
    assert served.command("reseal", **sealed).startswith("1 records")
    keys.write_text(f"{new}\n")
    served.start(**sealed)
    life.run("publish", "unpublish", "delete")
    with sqlite3.connect(served.database) as database:
        assert database.execute("SELECT count(*) FROM volumes WHERE NOT deleted").fetchone() == (0,)


def test_config(served: Served) -> None:
    printed = served.command("config", "--connect", X_CSI_EMBER_CONFIG='{"san_password": "hunter2"}')
    assert "loop_volumes_dir" in printed
    assert "hunter2" not in printed
    # It looks, and leaves the storage to the one that serves: no id is put into a directory that may be a mount point.
    assert not list(served.volumes.glob(".*"))
    printed = served.command(
        "config",
        X_CSI_PERSISTENCE_CONFIG='{"storage": "db", "connection": "mysql+pymysql://cinder:planted/1@db.example/cinder"}',
        X_CSI_BACKEND_CONFIG='{"name": "x", "driver": "tests.server.talkative_driver.TalkativeDriver", '
        '"talkative_phrase": "planted", '
        '"talkative_devices": [{"san_password": "planted"}, "x:y,san_password:planted"]}',
        CINDERBOX_CINDER_OPTIONS='{"database.connection": "planted://", "fc-zone-manager.fc_fabric_names": "a", '
        '"a.fc_fabric_password": "planted", "glance_core_properties": "kept"}',
    )
    assert "planted" not in printed
    assert "mysql+pymysql://cinder:***@db.example/cinder" in printed
    assert "glance_core_properties: kept" in printed
    served.command("config", X_CSI_BACKEND_CONFIG="{", expect=2)
    wrong = '{"name":"loop","driver":"loop","loop_volumes_dir":"relative"}'
    served.command("config", X_CSI_BACKEND_CONFIG=wrong)
    served.command("config", "--connect", X_CSI_BACKEND_CONFIG=wrong, expect=2)


def test_drivers(served: Served) -> None:
    drivers = json.loads(served.command("drivers", "-o", "json"))
    assert len(drivers) == 103
    options = json.loads(served.command("drivers", "RBD", "-o", "json"))
    assert {"rbd_pool", "rbd_ceph_conf", "rbd_keyring_conf"} <= {option["option"] for option in options}
    served.command("drivers", "telepathy", expect=1)


def test_metadata_in_a_servers_memory_cannot_be_read(served: Served) -> None:
    served.command("volumes", "list", X_CSI_PERSISTENCE_CONFIG='{"storage": "memory"}', expect=2)


def test_version(served: Served) -> None:
    assert served.command("version").strip() == "0.1.0"


@pytest.mark.parametrize("point", ["adopt.recorded", "adopt.driver_done"])
def test_an_interrupted_adoption_is_listed_and_repeated(served: Served, point: str) -> None:
    served.start()
    (served.volumes / "old-disk").write_bytes(b"precious".ljust(1024**2, b"\0"))
    adopt = ("volumes", "adopt", "loop", "old-disk", "--name", "orders")
    served.command(*adopt, expect=-signal.SIGKILL, CINDERBOX_FAILPOINT=point)

    (orphan,) = json.loads(served.command("volumes", "orphans", "-o", "json"))
    assert (orphan["kind"], orphan["name"], orphan["phase"]) == ("volume", "orders", "managing")
    assert orphan["condition"].startswith('its adoption of {"source-name": "old-disk"} runs or was interrupted: adopt')
    assert list(served.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries) == []

    volume_id = served.command(*adopt).strip()
    assert json.loads(served.command("volumes", "orphans", "-o", "json")) == []
    assert [row["id"] for row in json.loads(served.command("volumes", "list", "-o", "json"))] == [volume_id]
    assert served.files() == [f"volume-{volume_id}"]
    assert (served.volumes / f"volume-{volume_id}").read_bytes()[:8] == b"precious"
    served.command(*adopt, expect=1)  # it has ended: there is no such volume any more
    served.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume_id))
    assert served.files() == []


def test_an_interrupted_adoption_that_nobody_wants_is_forgotten(served: Served) -> None:
    served.start()
    (served.volumes / "old-disk").write_bytes(b"precious".ljust(1024**2, b"\0"))
    adopt = ("volumes", "adopt", "loop", "old-disk")
    served.command(*adopt, expect=-signal.SIGKILL, CINDERBOX_FAILPOINT="adopt.driver_done")
    (orphan,) = json.loads(served.command("volumes", "orphans", "-o", "json"))

    served.command("volumes", "forget", "--yes", orphan["id"])

    assert json.loads(served.command("volumes", "list", "-o", "json")) == []
    assert served.files() == [f"volume-{orphan['id']}"]
    volume_id = served.command(*adopt).strip()  # another day
    assert served.files() == [f"volume-{volume_id}"]


def test_a_volume_that_the_storage_has_is_adopted(served: Served) -> None:
    served.start()
    (served.volumes / "old-disk").write_bytes(b"precious".ljust(1024**2, b"\0"))
    (row,) = json.loads(served.command("volumes", "manageable", "loop", "-o", "json"))
    assert (json.loads(row["reference"]), row["gib"], row["adoptable"]) == ({"source-name": "old-disk"}, 1, True)
    volume_id = served.command("volumes", "adopt", "loop", row["reference"], "--name", "orders").strip()
    assert served.files() == [f"volume-{volume_id}"]
    assert (served.volumes / f"volume-{volume_id}").stat().st_size == 1024**3

    listed = served.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries
    assert [entry.volume.volume_id for entry in listed] == [volume_id]
    assert json.loads(served.command("volumes", "show", volume_id))["display_name"] == "orders"
    served.command("volumes", "adopt", "loop", "nothing", expect=1)
    served.command("volumes", "adopt", "loop", '{"source-name"', expect=2)
    served.command("volumes", "manageable", "elsewhere", expect=2)
    served.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume_id))
    assert served.files() == []
