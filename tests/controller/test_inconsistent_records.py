"""Records whose references do not fit together, as a restored backup, a hand's edit or a lost backend leaves them.

No RPC answers INTERNAL for them, which says that the driver failed: the answer names the record and what is wrong.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    Phase,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.protocol import csi_pb2
from tests.controller.plugin import Plugin, Serve
from tests.support.csi import GIB, create_request, fails, mount
from tests.support.project import LOOP_DRIVER

Code = grpc.StatusCode
ELSEWHERE = "00000000-0000-4000-8000-000000000000"
"""No record has this id."""


def named(store: RecordStore, kind: type[Any], name: str) -> Any:
    return next(record for record in store.find(kind) if record.csi_name == name)


def change(store: RecordStore, record: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(record, name, value)
    store.update(record)


def snapshot_on(backend: str) -> Callable[[RecordStore], None]:
    return lambda store: change(store, named(store, SnapshotRecord, "snap"), backend=backend)


def volume_on(host: str) -> Callable[[RecordStore], None]:
    return lambda store: change(store, named(store, VolumeRecord, "pvc"), host=host)


def group_snapshot_on(backend: str) -> Callable[[RecordStore], None]:
    return lambda store: change(store, named(store, GroupSnapshotRecord, "group"), backend=backend)


def group_on(host: str) -> Callable[[RecordStore], None]:
    return lambda store: change(store, store.find(GroupRecord)[0], host=host)


def member(store: RecordStore) -> SnapshotRecord:
    return store.find(SnapshotRecord, group_snapshot_id=named(store, GroupSnapshotRecord, "group").id)[0]


def member_on(backend: str) -> Callable[[RecordStore], None]:
    return lambda store: change(store, member(store), backend=backend)


def lose(kind: type[Any], name: str) -> Callable[[RecordStore], None]:
    return lambda store: store.delete(named(store, kind, name))


DAMAGES: dict[str, Callable[[RecordStore], None]] = {
    "snapshot on another backend": snapshot_on("other"),
    "snapshot on an unknown backend": snapshot_on("gone"),
    "snapshot on no backend": snapshot_on(""),
    "snapshot of a missing volume": lambda store: change(
        store, named(store, SnapshotRecord, "snap"), volume_id=ELSEWHERE
    ),
    "snapshot of a missing group snapshot": lambda store: change(
        store, named(store, SnapshotRecord, "snap"), group_snapshot_id=ELSEWHERE
    ),
    "volume on an unknown backend": volume_on("host@gone#pool"),
    "volume on another backend": volume_on("host@other#other"),
    "volume on no backend": volume_on(""),
    "volume in an unknown pool": volume_on("cinderbox@loop#nothing"),
    "volume in a missing group": lambda store: change(store, named(store, VolumeRecord, "pvc"), group_id=ELSEWHERE),
    "volume of a missing snapshot": lambda store: change(
        store, named(store, VolumeRecord, "pvc"), snapshot_id=ELSEWHERE
    ),
    "missing volume": lose(VolumeRecord, "pvc"),
    "missing member's volume": lose(VolumeRecord, "member-1"),
    "connection of a missing volume": lambda store: change(store, store.find(ConnectionRecord)[0], volume_id=ELSEWHERE),
    "connection to a missing node": lambda store: change(store, store.find(ConnectionRecord)[0], node_id="no-node"),
    "connection without connector": lambda store: change(
        store, store.find(ConnectionRecord)[0], connector=None, connection_info=None
    ),
    "group snapshot on another backend": group_snapshot_on("other"),
    "group snapshot on an unknown backend": group_snapshot_on("gone"),
    "group snapshot of a missing group": lambda store: change(
        store, named(store, GroupSnapshotRecord, "group"), group_id=ELSEWHERE
    ),
    "group on another backend": group_on("host@other#other"),
    "group on an unknown backend": group_on("host@gone#pool"),
    "missing group": lambda store: store.delete(store.find(GroupRecord)[0]),
    "member on another backend": member_on("other"),
    "member on an unknown backend": member_on("gone"),
    "member of a missing volume": lambda store: change(store, member(store), volume_id=ELSEWHERE),
    "member's volume on another backend": lambda store: change(
        store, named(store, VolumeRecord, "member-1"), host="host@other#other"
    ),
    "member's volume in another group": lambda store: change(
        store, named(store, VolumeRecord, "member-1"), group_id=ELSEWHERE
    ),
}


@pytest.fixture
def populated(serve: Serve, tmp_path: Path) -> Iterator[tuple[Plugin, dict[str, str]]]:
    """One object of each kind, and their ids by name."""
    plugin = serve(
        others=[
            {
                "volume_backend_name": "other",
                "volume_driver": LOOP_DRIVER,
                "loop_volumes_dir": str(tmp_path / "other"),
            }
        ]
    )
    plugin.add_node("node-1")
    here = {"backend": "loop"}
    ids = {name: plugin.create(name, parameters=here).volume_id for name in ("pvc", "used", "member-1", "member-2")}
    ids["snap"] = plugin.snapshot("snap", ids["pvc"]).snapshot_id
    plugin.publish(ids["used"], "node-1")
    request = csi_pb2.CreateVolumeGroupSnapshotRequest(
        name="group", source_volume_ids=[ids["member-1"], ids["member-2"]]
    )
    group = plugin.groups.CreateVolumeGroupSnapshot(request).group_snapshot
    ids["group"] = group.group_snapshot_id
    ids |= {f"snap-{number}": snapshot.snapshot_id for number, snapshot in enumerate(group.snapshots, 1)}
    yield plugin, ids


def calls(plugin: Plugin, ids: dict[str, str]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every RPC on every object, those that take something away at the end."""
    controller, groups = plugin.controller, plugin.groups
    grown = csi_pb2.CapacityRange(required_bytes=2 * GIB)
    for name in ("pvc", "used", "member-1", "member-2"):
        volume_id = ids[name]
        copy = csi_pb2.VolumeContentSource(volume=csi_pb2.VolumeContentSource.VolumeSource(volume_id=volume_id))
        yield (
            f"get {name}",
            lambda i=volume_id: controller.ControllerGetVolume(csi_pb2.ControllerGetVolumeRequest(volume_id=i)),
        )
        yield (
            f"validate {name}",
            lambda i=volume_id: controller.ValidateVolumeCapabilities(
                csi_pb2.ValidateVolumeCapabilitiesRequest(volume_id=i, volume_capabilities=[mount()])
            ),
        )
        yield (
            f"health of {name}",
            lambda i=volume_id: controller.ControllerGetVolumeHealth(
                csi_pb2.ControllerGetVolumeHealthRequest(volume_id=i)
            ),
        )
        yield (
            f"create {name} again",
            lambda n=name: controller.CreateVolume(create_request(n, 1, parameters={"backend": "loop"})),
        )
        yield (
            f"clone {name}",
            lambda n=name, c=copy: controller.CreateVolume(create_request(f"clone-of-{n}", 1, volume_content_source=c)),
        )
        yield f"publish {name}", lambda i=volume_id: plugin.publish(i, "node-1")
        yield (
            f"expand {name}",
            lambda i=volume_id: controller.ControllerExpandVolume(
                csi_pb2.ControllerExpandVolumeRequest(volume_id=i, capacity_range=grown)
            ),
        )
        yield (
            f"modify {name}",
            lambda i=volume_id: controller.ControllerModifyVolume(
                csi_pb2.ControllerModifyVolumeRequest(volume_id=i, mutable_parameters={"extra_specs.vendor:a": "1"})
            ),
        )
        yield f"snapshot {name}", lambda n=name, i=volume_id: plugin.snapshot(f"snap-of-{n}", i)
    for name in ("snap", "snap-1", "snap-2"):
        snapshot_id = ids[name]
        copy = csi_pb2.VolumeContentSource(snapshot=csi_pb2.VolumeContentSource.SnapshotSource(snapshot_id=snapshot_id))
        yield f"get {name}", lambda i=snapshot_id: controller.GetSnapshot(csi_pb2.GetSnapshotRequest(snapshot_id=i))
        yield (
            f"restore {name}",
            lambda n=name, c=copy: controller.CreateVolume(create_request(f"copy-of-{n}", 1, volume_content_source=c)),
        )
    yield "snapshot pvc again", lambda: plugin.snapshot("snap", ids["pvc"])
    yield "list volumes", lambda: controller.ListVolumes(csi_pb2.ListVolumesRequest())
    yield "list snapshots", lambda: controller.ListSnapshots(csi_pb2.ListSnapshotsRequest())
    yield "list health", lambda: controller.ControllerListVolumeHealth(csi_pb2.ControllerListVolumeHealthRequest())
    yield "capacity", lambda: controller.GetCapacity(csi_pb2.GetCapacityRequest())
    yield (
        "get group",
        lambda: groups.GetVolumeGroupSnapshot(csi_pb2.GetVolumeGroupSnapshotRequest(group_snapshot_id=ids["group"])),
    )
    for name, members in (("group", ("member-1", "member-2")), ("smaller group", ("member-1",))):
        yield (
            f"snapshot {name}",
            lambda n=name, m=members: groups.CreateVolumeGroupSnapshot(
                csi_pb2.CreateVolumeGroupSnapshotRequest(name=n, source_volume_ids=[ids[one] for one in m])
            ),
        )
    for name in ("snap", "snap-1"):
        yield (
            f"delete {name}",
            lambda n=name: controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=ids[n])),
        )
    yield (
        "delete group",
        lambda: groups.DeleteVolumeGroupSnapshot(
            csi_pb2.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=ids["group"])
        ),
    )
    for name in ("pvc", "used", "member-1", "member-2"):
        yield f"unpublish {name}", lambda n=name: plugin.unpublish(ids[n], "node-1")
        yield f"delete {name}", lambda n=name: plugin.delete(ids[n])


# The id of a name's first attempt is computed, so the storage has an object of it: the driver's error, and the next
# attempt has another id.
DRIVERS_OWN = {("missing volume", "create pvc again"), ("missing member's volume", "create member-1 again")}


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_call_is_internal(populated: tuple[Plugin, dict[str, str]], damage: str) -> None:
    plugin, ids = populated
    DAMAGES[damage](plugin.store)

    wrong = []
    for what, call in calls(plugin, ids):
        try:
            call()
        except grpc.RpcError as error:
            if error.code() in (Code.INTERNAL, Code.UNKNOWN) and (damage, what) not in DRIVERS_OWN:
                wrong.append(f"{what}: {error.details()}")
    assert not wrong


@pytest.mark.parametrize("backend", ["other", "gone", ""])
def test_a_snapshot_on_another_backend_than_its_volume_is_not_touched(
    populated: tuple[Plugin, dict[str, str]], backend: str
) -> None:
    """The driver of the other backend finds nothing, which is a deletion that has been done."""
    plugin, ids = populated
    snapshot_on(backend)(plugin.store)
    files, before = plugin.files(), plugin.store.get(SnapshotRecord, ids["snap"])
    words = (f"snapshot {ids['snap']} names backend {backend!r}", f"its volume {ids['pvc']} backend 'loop'")

    with fails(Code.FAILED_PRECONDITION, *words):
        plugin.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=ids["snap"]))
    source = csi_pb2.VolumeContentSource.SnapshotSource(snapshot_id=ids["snap"])
    with fails(Code.FAILED_PRECONDITION, "volume_content_source", *words):
        plugin.create("copy", volume_content_source=csi_pb2.VolumeContentSource(snapshot=source))
    assert (plugin.files(), plugin.store.get(SnapshotRecord, ids["snap"])) == (files, before)

    snapshot_on("loop")(plugin.store)
    plugin.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=ids["snap"]))
    assert len(plugin.files()) == len(files) - 1


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (group_snapshot_on("other"), ("names backend 'other'", "its group", "backend 'loop'")),
        (group_snapshot_on("gone"), ("names backend 'gone'", "its group", "backend 'loop'")),
        (group_on("host@other#other"), ("names backend 'loop'", "its group", "backend 'other'")),
        (member_on("other"), ("names backend 'loop'", "its snapshot", "backend 'other'")),
        (member_on("gone"), ("names backend 'loop'", "its snapshot", "backend 'gone'")),
        (DAMAGES["member's volume on another backend"], ("backend 'loop'", "its volume", "backend 'other'")),
        (DAMAGES["missing group"], ("no record",)),
        (DAMAGES["missing member's volume"], ("is of volume", "no record")),
    ],
)
def test_a_group_snapshot_with_parts_elsewhere_is_not_touched(
    populated: tuple[Plugin, dict[str, str]], damage: Callable[[RecordStore], None], words: tuple[str, ...]
) -> None:
    plugin, ids = populated
    damage(plugin.store)
    files, before = plugin.files(), plugin.store.find(SnapshotRecord)

    with fails(Code.FAILED_PRECONDITION, *words):
        plugin.groups.DeleteVolumeGroupSnapshot(
            csi_pb2.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=ids["group"])
        )
    with fails(Code.FAILED_PRECONDITION, *words):
        plugin.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=ids["snap-1"]))
    assert (plugin.files(), plugin.store.find(SnapshotRecord)) == (files, before)


@pytest.mark.parametrize("host", ["host@other#other", "host@gone#pool"])
def test_a_volume_whose_group_is_elsewhere_is_not_deleted(populated: tuple[Plugin, dict[str, str]], host: str) -> None:
    plugin, ids = populated
    plugin.groups.DeleteVolumeGroupSnapshot(csi_pb2.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=ids["group"]))
    group_on(host)(plugin.store)
    with fails(Code.FAILED_PRECONDITION, "names backend 'loop'", "its group"):
        plugin.delete(ids["member-1"])
    assert plugin.store.get(VolumeRecord, ids["member-1"]) is not None


@pytest.mark.parametrize("backend", ["other", "gone"])
def test_what_waits_for_a_clone_is_no_business_of_the_clones_owner(
    populated: tuple[Plugin, dict[str, str]], backend: str
) -> None:
    plugin, ids = populated
    source = csi_pb2.VolumeContentSource.SnapshotSource(snapshot_id=ids["snap"])
    clone = plugin.create("clone", volume_content_source=csi_pb2.VolumeContentSource(snapshot=source)).volume_id
    snapshot = plugin.store.get(SnapshotRecord, ids["snap"])
    assert snapshot is not None and snapshot.intent is not None
    snapshot.intent.phase = Phase.DEFERRED
    change(plugin.store, snapshot, backend=backend)

    plugin.delete(clone)

    assert plugin.store.get(VolumeRecord, clone) is None
    assert plugin.store.get(SnapshotRecord, ids["snap"]) is not None
