"""Cinder's database calls: all that drivers reach are answered, and from records as Cinder's own layer would."""

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from cinder import db, exception, objects
from cinder.db import api, models
from cinder.volume import group_types, qos_specs, volume_types, volume_utils
from sqlalchemy.orm.exc import DetachedInstanceError

from csi_plugin.persistence.dbms import MemoryDBPersistence
from csi_plugin.persistence.memory import MemoryPersistence
from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    KeyValueRecord,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.storage import database
from csi_plugin.storage.backend import Backend
from csi_plugin.storage.cinder.runtime import CONTEXT
from csi_plugin.storage.database.rows import DEFAULT_TYPE_ID
from csi_plugin.storage.database.store_database import StoreDatabase
from csi_plugin.storage.database.unreached_functions import NOT_REACHED_BY_DRIVERS
from tests.support.project import PROJECT

sys.path.insert(0, str(PROJECT / "scripts/generate"))

import database_calls_page
from database_calls_page import ANSWERED, Source

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PLAIN = "10000000-0000-4000-8000-000000000000"
TYPED = "20000000-0000-4000-8000-000000000000"
GROUPED = "30000000-0000-4000-8000-000000000000"
SNAPSHOT = "40000000-0000-4000-8000-000000000000"
LATER = "50000000-0000-4000-8000-000000000000"
CONNECTION = "60000000-0000-4000-8000-000000000000"
GROUP = "70000000-0000-4000-8000-000000000000"
GROUP_SNAPSHOT = "80000000-0000-4000-8000-000000000000"
NEW = "90000000-0000-4000-8000-000000000000"
GONE = "a0000000-0000-4000-8000-000000000000"
HOST = "host@backend#pool"
DEFAULT_TYPE = "each side's default volume type"
OWNER = {"user_id": "user", "project_id": "project"}


def content() -> list[Record]:
    """One of everything."""
    common = {"host": HOST, "status": "available", "created_at": WHEN, **OWNER}
    return [
        GroupRecord(
            id=GROUP, name="group", host=HOST, group_specs={"consistent_group_snapshot_enabled": "<is> True"},
            group_type_id=GROUP, status="available", created_at=WHEN, **OWNER,
        ),
        VolumeRecord(
            id=PLAIN, size=2, display_name="plain", provider_auth="CHAP user secret", metadata={"a": "b"},
            admin_metadata={"readonly": "False"}, attach_status="attached", **common,
        ),
        VolumeRecord(
            id=TYPED, size=3, display_name="typed", extra_specs={"thick": "yes"}, glance_metadata={"image": "i"},
            qos_specs={"iops": "5", "consumer": "both"}, volume_type_id=TYPED, source_volid=PLAIN, **common,
        ),
        VolumeRecord(id=GROUPED, size=4, group_id=GROUP, **{**common, "host": "host@other#pool"}),
        GroupSnapshotRecord(
            id=GROUP_SNAPSHOT, group_id=GROUP, name="gs", group_type_id=GROUP, status="available", created_at=WHEN,
            **OWNER,
        ),
        SnapshotRecord(
            id=SNAPSHOT, volume_id=PLAIN, volume_size=2, backend="backend", metadata={"c": "d"}, provider_id="p",
            status="available", created_at=WHEN, **OWNER,
        ),
        SnapshotRecord(
            id=LATER, volume_id=GROUPED, volume_size=4, backend="other", group_snapshot_id=GROUP_SNAPSHOT,
            status="available", created_at=WHEN.replace(year=2027), **OWNER,
        ),
        ConnectionRecord(
            id=CONNECTION, volume_id=PLAIN, attach_status="attached", attached_host="node", attach_mode="rw",
            connection_info={"conn": {"data": {}}}, connector={"host": "node"}, created_at=WHEN,
        ),
    ]  # fmt: skip


@pytest.fixture
def stores(library: None) -> Iterator[tuple[StoreDatabase, MemoryPersistence]]:
    """Records in memory with the functions over them, and the same content in Cinder's own layer, which is active."""
    before = Backend.persistence
    real, memory = MemoryDBPersistence(), MemoryPersistence()
    Backend.set_persistence({"storage": real})
    for record in content():
        real.create(record)
        memory.create(record)
    yield StoreDatabase(memory), memory
    Backend.set_persistence({"storage": before})
    real.close()


@pytest.fixture(scope="module")
def driver_sources() -> dict[str, Source]:
    return database_calls_page.driver_sources()


@pytest.fixture(scope="module")
def database_sources() -> dict[str, Source]:
    return database_calls_page.database_sources()


Call = tuple[Any, ...]

# Name and arguments. Later calls see what earlier ones wrote.
CALLS: list[Call] = [
    ("get_by_id", models.Volume, PLAIN),
    ("get_by_id", models.Snapshot, SNAPSHOT),
    ("get_by_id", models.VolumeAttachment, CONNECTION),
    ("get_by_id", models.VolumeType, TYPED),
    ("get_by_id", models.QualityOfServiceSpecs, TYPED),
    ("get_by_id", models.Group, GROUP),
    ("get_by_id", models.GroupSnapshot, GROUP_SNAPSHOT),
    ("get_by_id", models.Volume, GONE),
    ("get_by_id", models.Snapshot, GONE),
    ("get_by_id", models.VolumeAttachment, GONE),
    ("get_by_id", models.VolumeType, GONE),
    ("get_by_id", models.QualityOfServiceSpecs, GONE),
    ("get_by_id", models.Group, GONE),
    ("get_by_id", models.GroupSnapshot, GONE),
    ("get_by_id", models.ConsistencyGroup, GONE),
    ("get_by_id", models.CGSnapshot, GONE),
    ("resource_exists", models.Volume, PLAIN),
    ("resource_exists", models.Volume, GONE),
    ("resource_exists", models.Snapshot, SNAPSHOT),
    ("group_type_get", GROUP),
    ("group_type_get", GONE),
    ("group_type_get_all",),
    ("group_type_get_by_name", GROUP),
    ("group_type_specs_get", GROUP),
    ("volume_get", TYPED),
    ("volume_get", GONE),
    ("volume_get_all",),
    ("volume_get_all", None, 2),
    ("volume_get_all", PLAIN, None, ["id"], ["asc"]),
    ("volume_get_all", None, None, ["size"], ["desc"], {"host": "host@backend"}),
    ("volume_get_all", None, None, None, None, {"metadata": {"a": "b"}}),
    ("volume_get_all", None, None, ["id"], ["asc"], {"id": [PLAIN, TYPED]}, 1),
    ("volume_get_all_by_host", "host@backend"),
    ("volume_get_all_by_host", HOST),
    ("volume_get_all_by_host", "host@back"),
    ("volume_get_all_by_host", None),
    ("volume_get_all_by_host", "host@backend", {"size": 2}),
    ("volume_get_all_by_group", GROUP),
    ("volume_get_all_by_generic_group", GROUP),
    ("volume_get_all_by_project", "project", None, None, ["id"], ["asc"]),
    ("volume_get_all_by_project", "other", None, None),
    ("get_volume_summary", False),
    ("volume_metadata_get", PLAIN),
    ("volume_admin_metadata_get", PLAIN),
    ("volume_glance_metadata_get", TYPED),
    ("volume_glance_metadata_get", PLAIN),
    ("volume_encryption_metadata_get", PLAIN),
    ("snapshot_get", SNAPSHOT),
    ("snapshot_get", GONE),
    ("snapshot_get_all",),
    ("snapshot_get_all", {"volume_id": PLAIN}),
    ("snapshot_get_all_for_volume", PLAIN),
    ("snapshot_get_all_by_host", "host@other"),
    ("snapshot_get_all_by_project", "project"),
    ("snapshot_get_latest_for_volume", GROUPED),
    ("snapshot_get_latest_for_volume", TYPED),
    ("snapshot_get_all_for_group_snapshot", GROUP_SNAPSHOT),
    ("snapshot_get_all_for_cgsnapshot", GROUP_SNAPSHOT),
    ("get_snapshot_summary", False),
    ("volume_attachment_get", CONNECTION),
    ("volume_attachment_get_all",),
    ("volume_attachment_get_all_by_volume_id", PLAIN),
    ("volume_attachment_get_all_by_volume_id", TYPED),
    ("volume_attachment_get_all_by_host", "node"),
    ("volume_attachment_get_all_by_instance_uuid", GONE),
    ("attachment_specs_get", CONNECTION),
    ("volume_type_get", TYPED),
    ("volume_type_get", GONE),
    ("volume_type_get_by_name", TYPED),
    ("volume_type_get_by_name", "no such"),
    ("volume_type_extra_specs_get", TYPED),
    ("volume_type_qos_specs_get", TYPED),
    ("volume_type_access_get_all", TYPED),
    ("volume_type_encryption_get", TYPED),
    ("volume_type_get_all_by_group", GROUP),
    ("project_default_volume_type_get", "project"),
    ("get_all_projects_with_default_type", TYPED),
    ("qos_specs_get", TYPED),
    ("qos_specs_get", GONE),
    ("qos_specs_get_all",),
    ("qos_specs_associations_get", TYPED),
    ("group_get", GROUP),
    ("group_get", GONE),
    ("group_get_all",),
    ("group_get_all_by_project", "project"),
    ("group_snapshot_get", GROUP_SNAPSHOT),
    ("group_snapshot_get_all",),
    ("group_snapshot_get_all_by_group", GROUP),
    ("group_snapshot_get_all_by_project", "other"),
    ("consistencygroup_get", GONE),
    ("consistencygroup_get_all",),
    ("cgsnapshot_get", GONE),
    ("cgsnapshot_get_all",),
    ("service_get", 1),
    ("service_get_by_uuid", GONE),
    ("service_get_all",),
    ("is_backend_frozen", "host@backend", None),
    ("image_volume_cache_get_by_volume_id", PLAIN),
    ("image_volume_cache_get_all",),
    # writes
    ("driver_initiator_data_get", "iqn", "space"),
    ("driver_initiator_data_insert_by_key", "iqn", "space", "key", "value"),
    ("driver_initiator_data_insert_by_key", "iqn", "space", "key", "value"),
    ("driver_initiator_data_insert_by_key", "iqn.other", "space", "key2", "value"),
    ("driver_initiator_data_get", "iqn", "space"),
    ("conditional_update", models.Volume, {"status": "deleting"}, {"id": PLAIN, "status": ["available", "error"]}),
    ("conditional_update", models.Volume, {"status": "deleting"}, {"id": PLAIN, "status": "available"}),
    ("conditional_update", models.Volume, {"status": "deleting"}, {"id": GONE, "status": "available"}),
    ("volume_update", PLAIN, {"provider_id": "changed", "status": "available", "metadata": {"only": "this"}}),
    ("volume_update", GONE, {"status": "available"}),
    ("volumes_update", [{"id": TYPED, "provider_id": "many"}]),
    ("volume_get", PLAIN),
    ("volume_metadata_update", PLAIN, {"new": "entry"}, False),
    ("volume_metadata_update", PLAIN, {"last": "entry"}, True),
    ("volume_metadata_delete", PLAIN, "last"),
    ("volume_metadata_get", PLAIN),
    ("volume_admin_metadata_update", PLAIN, {"readonly": "True", "more": "x"}, False),
    ("volume_admin_metadata_update", PLAIN, {"readonly": "False", "unknown": "x"}, False, False, True),
    ("volume_admin_metadata_delete", PLAIN, "more"),
    ("volume_admin_metadata_get", PLAIN),
    ("volume_glance_metadata_create", PLAIN, "k", "v"),
    ("volume_glance_metadata_bulk_create", PLAIN, {"k2": "v2"}),
    ("volume_glance_metadata_get", PLAIN),
    ("volume_glance_metadata_delete_by_volume", PLAIN),
    ("volume_glance_metadata_delete_by_snapshot", SNAPSHOT),
    ("volume_glance_metadata_get", PLAIN),
    ("snapshot_update", SNAPSHOT, {"provider_location": "there"}),
    ("snapshot_metadata_update", SNAPSHOT, {"x": "y"}, False),
    ("snapshot_metadata_delete", SNAPSHOT, "c"),
    ("snapshot_metadata_get", SNAPSHOT),
    ("snapshot_get", SNAPSHOT),
    ("volume_attachment_update", CONNECTION, {"mountpoint": "/dev/x"}),
    ("attachment_specs_delete", CONNECTION, "none"),
    ("volume_attach", {"id": NEW, "volume_id": TYPED, "attach_status": "attaching"}),
    ("volume_attached", NEW, None, "node2", "/dev/y"),
    ("volume_get", TYPED),
    ("volume_detached", TYPED, NEW),
    ("volume_get", TYPED),
    ("attachment_destroy", CONNECTION),
    ("volume_attachment_get_all",),
    ("group_update", GROUP, {"name": "renamed"}),
    ("group_get", GROUP),
    ("group_snapshot_update", GROUP_SNAPSHOT, {"status": "error"}),
    ("group_snapshot_get", GROUP_SNAPSHOT),
    (
        "snapshot_create",
        {"id": NEW, "volume_id": PLAIN, "volume_size": 2, "volume_type_id": DEFAULT_TYPE, "status": "x", **OWNER},
    ),
    ("snapshot_destroy", NEW),
    ("snapshot_get", NEW),
    ("snapshot_destroy", LATER),
    ("group_snapshot_destroy", GROUP_SNAPSHOT),
    ("group_snapshot_get", GROUP_SNAPSHOT),
    (
        "volume_create",
        {
            "id": NEW,
            "host": HOST,
            "size": 1,
            "metadata": {"m": "n"},
            "volume_type_id": DEFAULT_TYPE,
            "status": "x",
            "attach_status": "detached",
            **OWNER,
        },
    ),
    ("volume_metadata_get", NEW),
    ("volume_destroy", NEW),
    ("volume_get", NEW),
    ("group_destroy", GROUP),
    ("group_get", GROUP),
]

DIFFER = {
    "qos_specs_get_by_name": "Cinder's answers with a list of rows that nothing reads",
    "volume_has_snapshots": "not one of Cinder's",
    "volume_type_get_all": "Cinder's has its default type under a random id",
}
"""Answered, and checked by tests of their own or not at all, for the reason given."""

NO_ANSWER = {"volumes_update", "group_snapshot_update"}
"""Nothing reads what Cinder's functions return there; the calls after them show what was written."""

NOT_COMPARED = {"created_at", "updated_at", "deleted_at", "attach_time", "service_uuid", "progress", "description"}
"""Times of writes, and what Cinder's tables fill by themselves."""


def ask(function: Callable[..., Any], arguments: list[Any], *, default_type: str) -> Any:
    # Cinder's functions take values out of the dictionaries that they are given.
    copies = [
        json.loads(json.dumps(value).replace(DEFAULT_TYPE, default_type)) if isinstance(value, dict | list) else value
        for value in arguments
    ]
    try:
        return function(CONTEXT, *copies)
    except exception.CinderException as error:
        return type(error).__name__


def assert_same(ours: Any, cinders: Any, path: str) -> None:
    if path.rpartition(".")[2] in NOT_COMPARED:
        return
    if cinders is None and not isinstance(ours, str | int | None):
        return  # a relationship that Cinder's layer leaves out here
    if isinstance(ours, dict) and isinstance(cinders, list):  # Cinder's objects take both forms of a dictionary
        cinders = {row.key: row.value for row in cinders}
    if isinstance(ours, list | tuple):
        assert len(ours) == len(cinders), path
        for number, (one, other) in enumerate(zip(ours, cinders, strict=True)):
            assert_same(one, other, f"{path}.{number}")
    elif hasattr(ours, "keys"):
        for key in ours:
            try:
                other = cinders.get(key) if isinstance(cinders, dict) else getattr(cinders, key, None)
            except DetachedInstanceError:
                continue  # more than Cinder's layer gives
            assert_same(ours[key], other, f"{path}.{key}")
    else:
        if path.endswith("volume_type_id") and ours in (None, DEFAULT_TYPE_ID):
            return  # Cinder's tables cannot hold a volume without a type
        if path.endswith(("connector", "connection_info")) and ours:
            ours, cinders = json.loads(ours), json.loads(cinders)
        assert ours == cinders, path


def test_answers_are_those_of_cinders_own_layer(stores: tuple[StoreDatabase, MemoryPersistence]) -> None:
    database, _ = stores
    default_type = volume_types.get_default_volume_type()["id"]
    differences = []
    for name, *arguments in CALLS:
        ours = ask(getattr(database, name), arguments, default_type=DEFAULT_TYPE_ID)
        cinders = ask(getattr(api, name), arguments, default_type=default_type)
        try:
            if name in NO_ANSWER:
                assert isinstance(ours, str) == isinstance(cinders, str)
            elif isinstance(ours, str | bool | None) or isinstance(cinders, str | None):
                assert (ours or None) == (cinders or None)
            else:
                assert_same(ours, cinders, "")
        except (AssertionError, AttributeError, KeyError, TypeError) as error:  # all are shown, not the first alone
            differences.append(f"{name}{tuple(arguments)}: {error}")
    assert not differences, "\n".join(differences)


def test_the_page_is_fresh(driver_sources: dict[str, Source], database_sources: dict[str, Source]) -> None:
    page = (PROJECT / "docs/backends/database-calls.md").read_text()
    assert page == database_calls_page.page(driver_sources, database_sources), "run `make docs`"


def test_every_answered_call_is_compared() -> None:
    assert {name for name, *_ in CALLS} | set(DIFFER) == ANSWERED
    assert not {name for name, *_ in CALLS} & set(DIFFER)


def test_all_that_drivers_call_is_answered(driver_sources: dict[str, Source]) -> None:
    called = set().union(*(source.functions for source in driver_sources.values()))
    assert called > {"volume_get", "snapshot_get", "driver_initiator_data_get"}
    assert called <= ANSWERED


def test_all_that_versioned_objects_call_is_answered_or_out_of_drivers_reach(
    database_sources: dict[str, Source],
) -> None:
    called = set().union(*(source.functions for source in database_sources.values()))
    assert called <= ANSWERED | set(NOT_REACHED_BY_DRIVERS)
    assert set(NOT_REACHED_BY_DRIVERS) <= called, "entries that Cinder no longer has"
    assert not set(NOT_REACHED_BY_DRIVERS) & ANSWERED


OBJECT_CALLS: dict[str, Callable[[], Any]] = {
    "group_types.get_group_type_specs": lambda: group_types.get_group_type_specs(
        objects.Group.get_by_id(CONTEXT, GROUP).group_type_id
    ),
    "objects.GroupList.get_all": lambda: ids(
        objects.GroupList.get_all(CONTEXT, filters={"host": HOST, "status": "available"})
    ),
    "objects.GroupSnapshotList.get_all_by_group": lambda: ids(
        objects.GroupSnapshotList.get_all_by_group(CONTEXT, GROUP)
    ),
    "objects.GroupType.get_by_id": lambda: (
        objects.GroupType.get_by_id(CONTEXT, objects.Group.get_by_id(CONTEXT, GROUP).group_type_id).group_specs
    ),
    "objects.Service.get_by_args": lambda: objects.Service.get_by_args(CONTEXT, "host@backend", "cinder-volume"),
    "objects.Snapshot": lambda: made_and_gone(
        objects.Snapshot(CONTEXT, volume_id=PLAIN, volume_size=2, status="creating", volume_type_id=TYPED, **OWNER)
    ),
    "objects.Snapshot.exists": lambda: [objects.Snapshot.exists(CONTEXT, found) for found in (SNAPSHOT, GONE)],
    "objects.Snapshot.get_by_id": lambda: objects.Snapshot.get_by_id(CONTEXT, SNAPSHOT).volume.name,
    "objects.SnapshotList": lambda: ids(objects.SnapshotList().get_all_for_group_snapshot(CONTEXT, GROUP_SNAPSHOT)),
    "objects.SnapshotList.get_all_for_group_snapshot": lambda: ids(
        objects.SnapshotList.get_all_for_group_snapshot(CONTEXT, GROUP_SNAPSHOT)
    ),
    "objects.SnapshotList.get_all_for_volume": lambda: ids(objects.SnapshotList.get_all_for_volume(CONTEXT, PLAIN)),
    "objects.Volume": lambda: made_and_gone(
        objects.Volume(CONTEXT, size=1, host=HOST, status="creating", volume_type_id=TYPED, **OWNER)
    ),
    "objects.Volume.exists": lambda: [objects.Volume.exists(CONTEXT, found) for found in (PLAIN, GONE)],
    "objects.Volume.get_by_id": lambda: objects.Volume.get_by_id(CONTEXT, TYPED).volume_type.extra_specs,
    "objects.VolumeList.get_all": lambda: ids(objects.VolumeList.get_all(CONTEXT, filters={"host": HOST})),
    "objects.VolumeList.get_all_by_host": lambda: ids(objects.VolumeList.get_all_by_host(CONTEXT, "host@backend")),
    "objects.VolumeType.get_by_name_or_id": lambda: [
        objects.VolumeType.get_by_name_or_id(CONTEXT, found).extra_specs for found in (TYPED, name_of_type())
    ],
    "qos_specs.get_qos_specs": lambda: qos_specs.get_qos_specs(CONTEXT, type_with_qos()["qos_specs_id"])["specs"],
    "volume_types.get_volume_type": lambda: type_with_qos()["extra_specs"],
    "volume_types.get_volume_type_encryption": lambda: volume_types.get_volume_type_encryption(CONTEXT, TYPED),
    "volume_types.get_volume_type_extra_specs": lambda: volume_types.get_volume_type_extra_specs(TYPED),
    "volume_types.get_volume_type_qos_specs": lambda: {
        name: volume_types.get_volume_type_qos_specs(TYPED)["qos_specs"][name] for name in ("consumer", "specs")
    },
    "volume_types.is_encrypted": lambda: volume_types.is_encrypted(CONTEXT, TYPED),
    "volume_types.volume_types_diff": lambda: volume_types.volume_types_diff(CONTEXT, TYPED, TYPED),
}
"""Every call of objects and types in drivers, with something to compare in the answer."""


def ids(found: Any) -> list[str]:
    return sorted(each.id for each in found)


def name_of_type() -> str:
    return str(objects.VolumeType.get_by_id(CONTEXT, TYPED).name)


def type_with_qos() -> Any:
    return volume_types.get_volume_type(CONTEXT, TYPED)


def made_and_gone(obj: Any) -> list[Any]:
    """What a driver's temporary volume or snapshot goes through."""
    obj.create()
    obj.status = "available"
    obj.save()
    seen = type(obj).get_by_id(CONTEXT, obj.id)
    obj.destroy()
    return [seen.status, type(obj).exists(CONTEXT, obj.id)]


def test_each_call_of_objects_in_drivers_is_tested(driver_sources: dict[str, Source]) -> None:
    assert set().union(*(source.calls for source in driver_sources.values())) == set(OBJECT_CALLS)


@pytest.mark.parametrize("name", OBJECT_CALLS)
def test_objects_and_types_answer_from_records_as_from_cinders_own_layer(
    stores: tuple[StoreDatabase, MemoryPersistence], name: str
) -> None:
    cinders = outcome(OBJECT_CALLS[name])
    database.use_store(stores[1])
    assert outcome(OBJECT_CALLS[name]) == cinders


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except exception.CinderException as error:
        return type(error).__name__


def test_each_answer_takes_the_arguments_of_cinders_function() -> None:
    import inspect

    for name in ANSWERED - {"volume_has_snapshots"}:
        function = inspect.unwrap(getattr(api, name))
        wanted = [parameter for parameter in inspect.signature(function).parameters.values() if parameter.kind == 1]
        offered = inspect.signature(getattr(StoreDatabase, name)).parameters
        takes_more = any(parameter.kind == inspect.Parameter.VAR_KEYWORD for parameter in offered.values())
        for parameter in wanted:
            assert parameter.name in offered or takes_more, f"{name}({parameter.name})"


@pytest.fixture
def memory(store: MemoryPersistence) -> MemoryPersistence:
    """The content, in the store that answers Cinder's calls."""
    for record in content():
        store.create(record)
    return store


def test_versioned_objects_load_save_and_refresh(memory: MemoryPersistence) -> None:
    volume = objects.Volume.get_by_id(CONTEXT, TYPED)
    assert (volume.name, volume.volume_type.extra_specs) == (f"volume-{TYPED}", {"thick": "yes"})
    assert volume.volume_type.qos_specs.specs == {"iops": "5"}
    assert volume_types.get_volume_type_qos_specs(TYPED)["qos_specs"]["consumer"] == "both"
    volume.provider_id = "set by the driver"
    volume.metadata["x"] = "y"
    volume.admin_metadata = {"z": "1"}
    volume.save()
    stored = memory.get(VolumeRecord, TYPED)
    assert stored is not None
    assert (stored.provider_id, stored.metadata, stored.admin_metadata) == ("set by the driver", {"x": "y"}, {"z": "1"})
    stored.display_name = "renamed"
    memory.update(stored)
    volume.refresh()
    assert volume.display_name == "renamed"


def test_relations_are_loaded_when_they_are_read(memory: MemoryPersistence) -> None:
    volume = objects.Volume.get_by_id(CONTEXT, PLAIN)
    assert [snapshot.metadata for snapshot in volume.snapshots] == [{"c": "d"}]
    assert volume.volume_attachment[0].connector == {"host": "node"}
    assert volume.volume_attachment[0].volume.id == PLAIN
    assert objects.Volume.get_by_id(CONTEXT, GROUPED).group.name == "group"
    snapshot = objects.Snapshot.get_by_id(CONTEXT, LATER)
    assert (snapshot.volume.id, snapshot.volume_name) == (GROUPED, f"volume-{GROUPED}")
    assert snapshot.group_snapshot.group.volumes[0].id == GROUPED
    group = objects.Group.get_by_id(CONTEXT, GROUP)
    assert volume_utils.is_group_a_cg_snapshot_type(group)
    assert group.group_snapshots[0].id == GROUP_SNAPSHOT


def test_group_types_carry_the_specs_of_their_group(memory: MemoryPersistence) -> None:
    group_type = objects.GroupType.get_by_id(CONTEXT, GROUP)
    assert group_type.group_specs == {"consistent_group_snapshot_enabled": "<is> True"}
    assert [found["id"] for found in api.group_type_get_all(CONTEXT).values()] == [GROUP]
    assert api.group_type_get_by_name(CONTEXT, GROUP)["id"] == GROUP
    assert api.group_type_specs_get(CONTEXT, GROUP) == group_type.group_specs
    with pytest.raises(exception.GroupTypeNotFound):
        objects.GroupType.get_by_id(CONTEXT, GONE)


def test_types_are_listed(memory: MemoryPersistence) -> None:
    assert {found.name for found in objects.VolumeTypeList.get_all(CONTEXT)} == {"__DEFAULT__", TYPED}
    assert api.qos_specs_get_by_name(CONTEXT, TYPED)["specs"] == {"iops": "5"}


def test_drivers_make_volumes_and_snapshots_of_their_own(memory: MemoryPersistence) -> None:
    """As BaseVD._create_temp_volume and _create_temp_snapshot do."""
    temporary = objects.Volume(CONTEXT, size=1, host=HOST, status="creating", volume_type_id=TYPED, **OWNER)
    temporary.create()
    record = memory.get(VolumeRecord, temporary.id)
    assert record is not None
    assert record.extra_specs == {"thick": "yes"}
    temporary.destroy()
    assert memory.get(VolumeRecord, temporary.id) is None
    untyped = objects.Volume(CONTEXT, size=1, host=HOST, status="creating", **OWNER)
    untyped.create()
    assert untyped.volume_type_id is None
    snapshot = objects.Snapshot(CONTEXT, volume_id=untyped.id, volume_size=1, status="creating", **OWNER)
    snapshot.create()
    assert [found.id for found in memory.find(SnapshotRecord, volume_id=untyped.id)] == [snapshot.id]
    snapshot.destroy()
    assert memory.get(SnapshotRecord, snapshot.id) is None


def test_a_write_that_meets_another_is_tried_again(memory: MemoryPersistence, monkeypatch: pytest.MonkeyPatch) -> None:
    update = memory.update

    def slow_update(record: Any) -> Any:
        monkeypatch.setattr(memory, "update", update)
        other = memory.get(VolumeRecord, PLAIN)
        assert other is not None
        other.display_name = "by another writer"
        memory.update(other)
        return update(record)

    monkeypatch.setattr(memory, "update", slow_update)
    api.volume_update(CONTEXT, PLAIN, {"provider_id": "mine"})
    stored = memory.get(VolumeRecord, PLAIN)
    assert stored is not None
    assert (stored.display_name, stored.provider_id) == ("by another writer", "mine")


def test_data_about_initiators_is_reserved_and_separate(memory: MemoryPersistence) -> None:
    api.driver_initiator_data_insert_by_key(CONTEXT, "iqn", "one", "k", "v")
    assert api.driver_initiator_data_get(CONTEXT, "iqn", "two") == []
    assert [found.id for found in memory.find(KeyValueRecord)] == ["cinderbox/initiator-data/one/iqn/k"]


def test_what_cannot_be_answered_says_which_plugin_can(memory: MemoryPersistence) -> None:
    with pytest.raises(exception.ProgrammingError, match="backup_get_all needs the persistence plugin 'db'"):
        api.backup_get_all(CONTEXT)
    with pytest.raises(exception.ProgrammingError, match="conditions in SQL"):
        objects.Volume.get_by_id(CONTEXT, PLAIN).conditional_update(
            {"status": "x"}, {"status": "available"}, filters=[api.volume_has_snapshots_filter()]
        )


def test_the_package_answers_for_its_module(memory: MemoryPersistence) -> None:
    """One driver calls cinder.db, which has had no functions of its own for some releases."""
    assert db.volume_get(CONTEXT, PLAIN)["size"] == 2


def test_the_active_store_can_change(memory: MemoryPersistence) -> None:
    other = MemoryPersistence()
    database.use_store(other)
    with pytest.raises(exception.VolumeNotFound):
        api.volume_get(CONTEXT, PLAIN)
    database.use_store(memory)
    assert api.volume_get(CONTEXT, PLAIN)["id"] == PLAIN
