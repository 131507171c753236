"""oVirt's client of cinderlib: one process for each command, which finds everything through the database, and a virtual
machine that moves from one host to another."""

import json
from typing import Any

import pytest
from os_brick.initiator import connector

import csi_plugin as cl
from tests.support.csi import GIB


class Engine:
    """The client's commands. What is in memory between two of them is the backend alone, and that is read anew."""

    def __init__(self, backend: cl.Backend) -> None:
        self.backend = backend

    def volume(self, volume_id: str) -> Any:
        self.backend.refresh()
        return self.backend.volumes_filtered(volume_id=volume_id)[0]

    def create_volume(self, volume_id: str, size: str) -> None:
        self.backend.create_volume(int(size), id=volume_id)

    def connect_volume(self, volume_id: str, connector: str) -> str:
        properties = json.loads(connector)
        volume = self.volume(volume_id)
        for connection in volume.connections:
            if connection.connector_info["host"] == properties["host"]:
                return json.dumps(connection.conn_info)
        return json.dumps(volume.connect(properties, attached_host=properties["host"]).conn_info)

    def save_device(self, volume_id: str, host: str, device: str) -> None:
        self.connection(volume_id, host).device_attached(json.loads(device))

    def get_connection_info(self, volume_id: str) -> list[tuple[str, str | None]]:
        return [(found.attached_host, found.path) for found in self.volume(volume_id).connections]

    def disconnect_volume(self, volume_id: str, host: str) -> None:
        self.connection(volume_id, host).disconnect()

    def connection(self, volume_id: str, host: str) -> Any:
        return next(found for found in self.volume(volume_id).connections if found.attached_host == host)


class Host:
    """vdsm's helper on a host: os-brick alone, which gets JSON and gives JSON; the library is elsewhere."""

    def __init__(self) -> None:
        # The helper wants multipath; what it says of it then is this machine's.
        self._properties = connector.get_connector_properties(
            root_helper=None, my_ip=None, multipath=False, enforce_multipath=False
        )

    def connector_info(self, host: str) -> str:
        return json.dumps(self._properties | {"host": host})

    def attach(self, connection: str) -> str:
        return json.dumps(self._brick(connection).connect_volume(json.loads(connection)["data"]))

    def detach(self, connection: str, attachment: str) -> None:
        data = json.loads(connection)["data"]
        self._brick(connection).disconnect_volume(data, json.loads(attachment), force=False, ignore_errors=False)

    def _brick(self, connection: str) -> Any:
        information = json.loads(connection)
        return connector.InitiatorConnector.factory(
            information["driver_volume_type"],
            None,
            use_multipath=self._properties["multipath"],
            device_scan_attempts=information.get("scan_attempts", 3),
            conn=self._properties,
        )


@pytest.mark.root
@pytest.mark.parametrize("persistence", ["db"], indirect=True)
def test_ovirts_commands(backend: cl.Backend, files: Any) -> None:
    engine, host = Engine(backend), Host()
    disk, copy = cl.Volume.new_uuid(), cl.Volume.new_uuid()
    connectors = [host.connector_info(name) for name in "ab"]

    assert json.loads(json.dumps(backend.stats(refresh=True)))["pools"]
    engine.create_volume(disk, "1")
    first = engine.connect_volume(disk, connectors[0])
    assert engine.connect_volume(disk, connectors[0]) == first
    attachment = host.attach(first)
    path = json.loads(attachment)["path"]
    engine.save_device(disk, "a", attachment)
    assert engine.volume(disk).extend(2) == 2 * GIB
    engine.connect_volume(disk, connectors[1])  # live migration
    engine.save_device(disk, "b", '{"path": "/dev/mapper/two", "type": "block"}')
    assert engine.get_connection_info(disk) == [("a", path), ("b", "/dev/mapper/two")]
    host.detach(first, attachment)
    engine.disconnect_volume(disk, "a")
    assert engine.get_connection_info(disk) == [("b", "/dev/mapper/two")]
    assert engine.volume(disk).status == "in-use"
    engine.disconnect_volume(disk, "b")

    snapshot = engine.volume(disk).create_snapshot()
    engine.volume(disk).clone(id=copy)
    restored = next(found for found in engine.volume(disk).snapshots if found.id == snapshot.id).create_volume()
    assert {found.id for found in backend.volumes} == {disk, copy, restored.id}
    next(found for found in engine.volume(disk).snapshots if found.id == snapshot.id).delete()
    for volume_id in (disk, copy, restored.id):
        engine.volume(volume_id).delete()
    assert backend.volumes == []
    assert files() == set()
