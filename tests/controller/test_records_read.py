"""How many records a request reads does not grow with the number of volumes, whatever plugin keeps them."""

import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from csi_plugin.controller.recovery.silent_nodes import forget_silent_nodes
from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.dbms import DBPersistence
from csi_plugin.persistence.dbms.layouts import LAYOUTS
from csi_plugin.persistence.records import NodeRecord, VolumeRecord
from csi_plugin.protocol import csi_pb2
from csi_plugin.storage.backend import Backend
from tests.controller.plugin import Plugin, Serve
from tests.support.csi import GIB, mount
from tests.support.kubernetes_api import KubernetesAPI
from tests.support.polling import wait_until

FEW, MANY = 10, 5_000
MANY_SLOW = {"crd": 1_000, "toy": 100}
"""Each is a request to an API server there, and a file here, of which the plugin with the fewest methods reads all."""
TOY = Path(__file__).parent.parent / "toy_plugin"

pytestmark = pytest.mark.parametrize("serve", ["memory"], indirect=True)  # until the plugin below takes its place


@pytest.fixture(params=["memory", "memory_db", "db", "toy", pytest.param("crd", marks=pytest.mark.kubernetes)])
def persistence(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    if request.param == "db":
        return {"storage": "db", "connection": f"sqlite:///{tmp_path}/records.sqlite", "sqlite_synchronous": False}
    if request.param == "crd":
        kubernetes: KubernetesAPI = request.getfixturevalue("kubernetes")
        return {"storage": "crd", "namespace": kubernetes.new_namespace(), "kubeconfig": str(kubernetes.kubeconfig)}
    if request.param == "toy":
        monkeypatch.syspath_prepend(str(TOY))
        return {"storage": "toy", "location": tmp_path / "toy"}
    return {"storage": request.param}


@pytest.mark.timeout(180)
def test_no_request_reads_more_when_there_are_many_volumes(
    persistence: dict[str, Any], serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve()
    Backend.set_persistence(persistence)
    plugin = serve(driver="tests.controller.drivers.UncountedDriver", directory=tmp_path / "volumes", name="uncounted")
    plugin.add_node("node")
    # An API server ends watches of resources whose definitions are new to it.
    wait_until(plugin.store.is_current, lambda: "the store is not current")
    count = count_records_read(plugin.store, monkeypatch)
    pattern = plugin.store.get(VolumeRecord, plugin.create("pattern").volume_id)
    assert pattern is not None
    add_volumes(plugin.store, pattern, FEW)
    with_few = {name: count(request) for name, request in requests(plugin).items()}
    add_volumes(plugin.store, pattern, MANY_SLOW.get(persistence["storage"], MANY) - FEW)
    with_many = {name: count(request) for name, request in requests(plugin).items()}
    assert with_many == with_few


@pytest.mark.parametrize(
    "persistence", ["memory", "db", pytest.param("crd", marks=pytest.mark.kubernetes)], indirect=True
)
def test_no_request_reads_more_when_there_are_many_nodes(
    persistence: dict[str, Any], serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those with the name of another are found by it."""
    serve()
    Backend.set_persistence(persistence)
    plugin = serve(directory=tmp_path / "volumes")
    plugin.add_node("node", initiator="iqn.2026-11.org.example:node")
    volume_id = plugin.create("pvc").volume_id
    count = count_records_read(plugin.store, monkeypatch)

    def publish() -> None:
        plugin.publish(volume_id, "node")
        plugin.unpublish(volume_id, "node")

    def register() -> None:
        plugin.add_node("node", initiator="iqn.2026-11.org.example:node")

    def add_nodes(numbers: range) -> None:
        for number in numbers:
            connector = {"initiator": f"iqn.2026-11.org.example:{number}", "ip": f"2001:db8:1::{number:x}"}
            plugin.store.create(NodeRecord(id=f"node-{number}", connector=connector))

    context = plugin.service._context
    expiring = replace(context, configuration=replace(context.configuration, node_expiry_seconds=3600))

    def look_for_silent_nodes() -> None:
        forget_silent_nodes(expiring)

    def counts() -> list[int]:
        return [count(request) for request in (publish, register, look_for_silent_nodes)]

    add_nodes(range(FEW))
    with_few = counts()
    add_nodes(range(FEW, 20 * FEW))
    assert counts() == with_few


def requests(plugin: Plugin) -> dict[str, Callable[[], Any]]:
    """One of each kind that a CO sends for a volume's life."""
    volume_id = plugin.create(f"used-{uuid4()}").volume_id
    controller = plugin.controller

    def expand() -> None:
        grown = plugin.create(f"grown-{uuid4()}").volume_id
        capacity = csi_pb2.CapacityRange(required_bytes=2 * GIB)
        controller.ControllerExpandVolume(
            csi_pb2.ControllerExpandVolumeRequest(volume_id=grown, capacity_range=capacity, volume_capability=mount())
        )

    def publish() -> None:
        plugin.publish(volume_id, "node")
        plugin.unpublish(volume_id, "node")

    def snapshot() -> None:
        made = plugin.snapshot(f"snapshot-{uuid4()}", volume_id)
        controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=made.snapshot_id))

    return {
        "CreateVolume": lambda: plugin.create(f"new-{uuid4()}"),
        "DeleteVolume": lambda: plugin.delete(plugin.create(f"deleted-{uuid4()}").volume_id),
        "ControllerExpandVolume": expand,
        "ControllerPublishVolume": publish,
        "CreateSnapshot": snapshot,
        "GetCapacity": lambda: controller.GetCapacity(csi_pb2.GetCapacityRequest()),
        "ListVolumes": lambda: controller.ListVolumes(csi_pb2.ListVolumesRequest(max_entries=FEW)),
        "ControllerGetVolume": lambda: controller.ControllerGetVolume(
            csi_pb2.ControllerGetVolumeRequest(volume_id=volume_id)
        ),
    }


def count_records_read(store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], int]:
    """What counts the records that a store returns while a request is answered."""
    lock = threading.Lock()
    total = 0

    def add(number: int) -> None:
        nonlocal total
        with lock:
            total += number

    def counted(read: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            found = read(*arguments, **keywords)
            add(len(found) if isinstance(found, list) else found is not None)
            return found

        return call

    for name in ("get", "find", "find_any", "nodes_named", "nodes_silent_since"):
        monkeypatch.setattr(store, name, counted(getattr(store, name)))

    def count(request: Callable[[], Any]) -> int:
        counts = []
        for _ in range(3):  # what works in the background may read at the same time, but not each time
            before = total
            request()
            counts.append(total - before)
        return min(counts)

    return count


def add_volumes(store: RecordStore, pattern: VolumeRecord, count: int) -> None:
    assert pattern.intent is not None
    records = [
        replace(pattern, id=str(uuid4()), intent=replace(pattern.intent, name=str(uuid4()))) for _ in range(count)
    ]
    if isinstance(store, DBPersistence):
        _insert(store, records)
        return
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store.create, records))


class _Rows(defaultdict[sa.Table, list[Any]]):
    """What a store would insert, by table: in place of a connection."""

    def execute(self, statement: Any, values: Any) -> None:
        self[statement.table] += values if isinstance(values, list) else [values]


def _insert(store: DBPersistence, records: list[VolumeRecord]) -> None:
    """The rows that creating each record inserts, in one transaction with a statement for each table."""
    rows: Any = _Rows(list)
    for record in records:
        store._insert(rows, LAYOUTS[VolumeRecord], replace(record, revision=1))
    with store._engine.begin() as connection:
        for table, values in rows.items():
            connection.execute(table.insert(), values)
